"""The state topic as the engine reads it: by position, outside of any group.

`StateSource` is all that ownership needs of it. `StateTopicReader` reads up to given
offsets, under a deadline on *progress*: how long a recovery takes depends on the size of the state,
but a broker that sends nothing more is noticed. `StateTopic` is the source on Kafka.

The embedded broker reports wrong end offsets, so a takeover never asks for the end of the log: one's
own claim is the end. Who has no claim of his own (`heartline state`) uses `agents.bounded_reader`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from agents.kafka_client import reader, stop

log = logging.getLogger(__name__)

POLL_S = 0.5
"""A poll that finds nothing returns after this."""
_TELL_EVERY_S = 5.0

Apply = Callable[[int, int, bytes, bytes | None], None]
"""Takes (partition, offset, key, value)."""


class StateUnreadable(Exception):
    """The state topic can't be read: the worker must not go on."""


class StateRecord(Protocol):
    """What is read of a record."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class StateSource(Protocol):
    """The state topic, read by position."""

    async def poll(self, positions: Mapping[int, int]) -> Mapping[int, Sequence[StateRecord]]:
        """Records of each partition ``n`` from offset ``positions[n]`` on, in offset order.

        As many as are at hand; nothing after a short wait if there are none. Compaction leaves gaps
        in the offsets. Raises StateUnreadable.
        """
        ...

    async def stop(self) -> None:
        """Disconnect."""
        ...


class Progress:
    """How far a reading of the log has come. Offsets that compaction removed count as read."""

    def __init__(self, starts: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """From ``starts`` up to and with ``ends``, by partition."""
        self.total = sum(max(0, end - starts[n] + 1) for n, end in ends.items())
        self.done = 0
        self.bytes = 0

    @property
    def ratio(self) -> float:
        """What is read of what is to be read: 1 at the end."""
        return 1.0 if self.total <= 0 else min(1.0, self.done / self.total)

    def __str__(self) -> str:
        """In words, for the log and the readiness check."""
        return f"{self.ratio:.0%}, {self.bytes / 1_048_576:.1f} MiB"


class StateTopicReader:
    """Reads a source up to given offsets."""

    def __init__(self, source: StateSource, *, topic: str, deadline_s: float) -> None:
        """``deadline_s``: the longest silence of the broker that is waited for."""
        self._source = source
        self._topic = topic
        self._deadline_s = deadline_s
        self.progress: Progress | None = None
        """Of the reading that goes on; None while there is none."""

    async def read(
        self,
        starts: Mapping[int, int],
        ends: Mapping[int, int],
        apply: Apply,
        *,
        wanted: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Hand every record of partition ``n`` in ``[starts[n], ends[n]]`` to ``apply``, in order.

        Records behind an end may be handed over too. False if it was given up because it is
        ``wanted`` no more. Raises StateUnreadable when nothing came for the
        deadline, and what ``apply`` raises.
        """
        at = {n: starts[n] for n in ends}
        self.progress = progress = Progress(starts, ends)
        loop = asyncio.get_running_loop()
        moved_at = told_at = loop.time()
        try:
            while left := [n for n, end in ends.items() if at[n] <= end]:
                if not wanted():
                    return False
                # All of them to the last: another set of partitions would cost what was prefetched.
                found = await self._source.poll(at)
                for n, records in found.items():
                    for record in records:
                        apply(n, record.offset, record.key or b"", record.value)
                        progress.bytes += len(record.value or b"")
                    if records:
                        at[n] = records[-1].offset + 1
                        moved_at = loop.time()
                progress.done = sum(min(at[n], end + 1) - starts[n] for n, end in ends.items())
                if loop.time() - moved_at > self._deadline_s:
                    waits = ", ".join(f"{n} stands at {at[n]} of {ends[n]}" for n in sorted(left))
                    raise StateUnreadable(
                        f"{self._topic}: nothing read for {self._deadline_s:g} s (partition {waits}); "
                        "does the broker have a leader for every partition?"
                    )
                if loop.time() - told_at > _TELL_EVERY_S:
                    told_at = loop.time()
                    log.info("reading the state: %s", progress)
                # A backlog is at hand without waiting: others must run in between.
                await asyncio.sleep(0)
        finally:
            self.progress = None
        return True


class StateTopic:
    """The state topic on Kafka, read by one consumer without a group. Connects at the first poll."""

    def __init__(self, client: dict[str, Any], topic: str) -> None:
        """``client``: the arguments of `agents.kafka_client.client_arguments`."""
        self._client = client
        self._topic = topic
        self._consumer: aiokafka.AIOKafkaConsumer | None = None
        self._at: dict[int, int] = {}

    async def poll(self, positions: Mapping[int, int]) -> Mapping[int, Sequence[StateRecord]]:
        """See `StateSource`."""
        try:
            consumer = await self._positioned(positions)
            fetched = await consumer.getmany(timeout_ms=int(POLL_S * 1_000))
        except KafkaError as error:
            raise StateUnreadable(f"{self._topic}: {type(error).__name__}: {error}") from error
        found: dict[int, Sequence[StateRecord]] = {}
        for tp, records in fetched.items():
            if records and records[0].offset < positions[tp.partition]:
                # aiokafka starts again at the beginning when an offset is out of range.
                raise StateUnreadable(
                    f"{self._topic}-{tp.partition}: offset {positions[tp.partition]} is gone, the log "
                    f"goes back to {records[0].offset}: the topic was recreated or lost records"
                )
            if records:
                found[tp.partition] = records
                self._at[tp.partition] = records[-1].offset + 1
        return found

    async def _positioned(self, positions: Mapping[int, int]) -> aiokafka.AIOKafkaConsumer:
        consumer = self._consumer
        if consumer is None:
            consumer = reader(self._client, poll_ms=round(POLL_S * 1_000))
            await consumer.start()
            self._consumer = consumer
        if positions.keys() != self._at.keys():
            consumer.assign([TopicPartition(self._topic, n) for n in positions])
            self._at = {}
        for n, position in positions.items():
            if self._at.get(n) != position:
                consumer.seek(TopicPartition(self._topic, n), position)
                self._at[n] = position
        return consumer

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            self._at = {}
            await stop(consumer)
