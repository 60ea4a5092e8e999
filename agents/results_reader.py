"""Tail a topic from the past to now, and onward: no consumer group, all partitions, no commits.

Rules:

* Stateless: every start reads again. It begins `lookback_ms` before the newest record (so after a
  pause of days the last results are still found), or at the beginning where the broker can't find
  offsets by time.
* A missing topic or an absent broker is waited for, with the reason in `trouble`.
* `is_caught_up` turns true when every partition was read to its high water, and stays true: from
  then on the reader follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from agents.failures import CommandFailed
from agents.kafka_client import let_go, reader
from agents.kafka_probe import Refused

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord

_LOG = logging.getLogger(__name__)
_RETRY_S = 1.0
_REFUSED_RETRY_S = 15.0
_METADATA_S = 0.3
_POLL_MS = 250
_BATCH = 5_000
_TAIL_DEADLINE_S = 3.0


class TopicTail:
    """Reads one topic in batches, forever. One task iterates `batches`."""

    def __init__(
        self,
        topic: str,
        options: dict[str, Any],
        *,
        lookback_ms: int | None = None,
        probe: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """``lookback_ms`` None: from the beginning; 0: only what comes from now on. ``probe`` is
        asked before connecting; the CommandFailed that it raises is the trouble.
        """
        self.topic = topic
        self.is_caught_up = False
        self.trouble: str | None = "not connected yet"
        self.records_read = 0
        self.last_record_at: float | None = None
        self._options = options
        self._lookback_ms = lookback_ms
        self._probe = probe

    async def batches(self) -> AsyncIterator[Sequence[ConsumerRecord[bytes, bytes]]]:
        """Records as they come; an empty batch now and then, so that the caller may look around."""
        while True:
            if (pause_s := await self._shut_out_for()) is not None:
                yield ()
                await asyncio.sleep(pause_s)
                continue
            consumer = reader(self._options, poll_ms=_POLL_MS)
            try:
                await consumer.start()
                partitions = await self._partitions(consumer)
                if partitions:
                    async for batch in self._follow(consumer, partitions):
                        yield batch
            except (KafkaError, OSError) as error:
                where = self._options["bootstrap_servers"]
                self.trouble = (
                    f"no Kafka answers at {where}: start it, or set [kafka] bootstrap (or --bootstrap)"
                    if isinstance(error, KafkaConnectionError)
                    else f"Kafka at {where}: {error}"
                )
                _LOG.warning("%s; trying again", self.trouble)
            finally:
                await let_go(consumer)
            yield ()
            await asyncio.sleep(_RETRY_S)

    async def _shut_out_for(self) -> float | None:
        """How long to wait, because Kafka is away or doesn't let us in; `trouble` says why."""
        if self._probe is None:
            return None
        try:
            await self._probe()
        except CommandFailed as error:
            if self.trouble != str(error):
                _LOG.warning("%s; trying again", error)
            self.trouble = str(error)
            # Wrong credentials shown again and again look like an attack, and may lock the user.
            return _REFUSED_RETRY_S if isinstance(error, Refused) else _RETRY_S
        return None

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """The partitions of the topic; none if it doesn't exist."""
        # Asking for the list of topics creates none; asking for a topic's partitions may.
        if self.topic in await consumer.topics():
            # Apache Kafka tells a consumer only about the topics that it reads: partition 0 is there in
            # any case, and reading it brings the others to our knowledge.
            consumer.assign([TopicPartition(self.topic, 0)])
            await asyncio.sleep(_METADATA_S)
            found = consumer.partitions_for_topic(self.topic)
            if found:
                return [TopicPartition(self.topic, number) for number in sorted(found)]
        self.trouble = (
            f"topic {self.topic} does not exist yet (create it with: heartline topics create)"
        )
        return []

    async def _follow(
        self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
    ) -> AsyncIterator[Sequence[ConsumerRecord[bytes, bytes]]]:
        consumer.assign(partitions)
        await self._seek(consumer, partitions)
        self.trouble = None
        while True:
            found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH)
            # In the order of production as far as the batch shows it: partitions are read in turn.
            batch = sorted(
                (record for records in found.values() for record in records),
                key=lambda record: record.timestamp,
            )
            if batch:
                self.records_read += len(batch)
                self.last_record_at = time.time()
            if not self.is_caught_up:
                self.is_caught_up = await self._at_the_end(consumer, partitions)
            yield batch

    async def _seek(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        if self._lookback_ms == 0:
            await consumer.seek_to_end(*partitions)
            return
        await consumer.seek_to_beginning(*partitions)
        if self._lookback_ms is None:
            return
        newest = await self._newest_timestamp(consumer, partitions)
        if newest is None:
            await consumer.seek_to_beginning(*partitions)
            return
        from_ms = max(newest - self._lookback_ms, 0)
        offsets = await consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            found = offsets.get(partition)
            consumer.seek(partition, ends[partition] if found is None else found.offset)

    async def _newest_timestamp(
        self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
    ) -> int | None:
        """Timestamp of the newest record; None if there is none within the deadline."""
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        filled = [one for one in partitions if ends[one] > begins[one]]
        for partition in filled:
            consumer.seek(partition, ends[partition] - 1)
        newest: dict[TopicPartition, int] = {}
        deadline = time.monotonic() + _TAIL_DEADLINE_S
        while len(newest) < len(filled) and time.monotonic() < deadline:
            for partition, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                newest[partition] = max(record.timestamp for record in records)
        return max(newest.values(), default=None)

    async def _at_the_end(
        self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
    ) -> bool:
        # The high water of a fetch is right on every broker; ListOffsets(latest) is not.
        for partition in partitions:
            high_water = consumer.highwater(partition)
            if high_water is None or await consumer.position(partition) < high_water:
                return False
        return True
