"""Who owns a partition: claims in the state topic, and how a worker takes a partition over.

Records of the state topic. No two writers share a key, so compaction can't put one writer's record
in the place of another's:

    c|epoch|writer      "this partition is mine from here on"; of one epoch the first in the log
    wins anything else       `KIND|epoch|writer|...`, valid only from the owner of the last valid
    claim

Readers go through the log in offset order and ignore what the owner of the last valid claim did not
write. That fences a paused worker that wakes up: whatever it still writes stands behind somebody
else's claim.

Takeover: prove by a commit that the group counts us in; write a claim with epoch + 1; read the log
up to one's own claim. If another claim with that epoch came first, do it again. The commit comes
before each claim, so a late claim can't have a higher epoch than that of the worker which took over
meanwhile.

The embedded broker reports wrong end offsets, so the end of the log is never asked for: one's own
claim is the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import aiokafka
from aiokafka import TopicPartition

from agents.kafka_client import stop
from agents.publisher import Outgoing, Publisher

CLAIM = "c"
_READ_BYTES = 4 * 1_048_576
_POLL_MS = 500


class Claim(NamedTuple):
    """An owner: its epoch and the name under which it writes."""

    epoch: int
    writer: str

    @property
    def key(self) -> bytes:
        """The record key of this claim."""
        return f"{CLAIM}|{self.epoch}|{self.writer}".encode()


NOBODY = Claim(0, "")


class TakeoverFailed(Exception):
    """The state topic could not be read up to our claim in time: the worker must not go on."""


class ClaimLog:
    """The state topic of one partition, as far as it was read: who owns it, and who did before."""

    def __init__(self) -> None:
        self.offset = -1
        self.owner = NOBODY
        self.previous = NOBODY

    def apply(self, offset: int, key: bytes) -> bool:
        """Take the next record of the log. True if it is the owner's and no claim.

        Raises TakeoverFailed for a key that Heartline did not write.
        """
        self.offset = offset
        try:
            kind, epoch, writer, *_ = key.decode().split("|")
            claim = Claim(int(epoch), writer)
        except ValueError:
            raise TakeoverFailed(
                f"the state topic has a foreign record at offset {offset}"
            ) from None
        if kind == CLAIM:
            if claim.epoch > self.owner.epoch:
                self.previous, self.owner = self.owner, claim
            return False
        return claim == self.owner


class Ownership:
    """The claims of this worker, under one writer's name, and its reader of the state topic."""

    def __init__(
        self,
        *,
        topic: str,
        writer: str,
        publisher: Publisher,
        client: dict[str, Any],
        deadline_s: float,
    ) -> None:
        self._topic = topic
        self._writer = writer
        self._publisher = publisher
        self._client = client
        self._deadline_s = deadline_s
        self.logs: dict[int, ClaimLog] = {}

    async def take_over(
        self,
        partitions: Iterable[int],
        *,
        tenure: int,
        prove: Callable[[], Awaitable[bool]],
        on_record: Callable[[int, bytes, bytes | None], None],
    ) -> dict[int, tuple[Claim, Claim]] | None:
        """Claim ``partitions`` for the tenure numbered ``tenure``.

        Returns, for each, our claim and the one that it replaces; None if the group has moved on.
        Valid records of the log that are no claims go to ``on_record(partition, key, value)`` in
        log order. Raises TakeoverFailed, PublishFailed.
        """
        name = f"{self._writer}.{tenure}"
        wanted = set(partitions)
        done = frozenset(wanted)
        try:
            async with asyncio.timeout(self._deadline_s):
                while wanted:
                    if not await prove():
                        return None
                    claims = {n: Claim(self._log(n).owner.epoch + 1, name) for n in wanted}
                    ends = await self._publisher.publish(
                        self._topic, [Outgoing(c.key, b"{}", n) for n, c in claims.items()]
                    )
                    await self._read(ends, on_record)
                    wanted = {n for n in wanted if self._log(n).owner.writer != name}
        except TimeoutError:
            raise TakeoverFailed(
                f"{self._topic}: not read up to our own claim in {self._deadline_s:g} s"
            ) from None
        return {n: (self._log(n).owner, self._log(n).previous) for n in done}

    def forget(self, partitions: Iterable[int]) -> None:
        """Read these from the start at their next takeover."""
        for n in partitions:
            self.logs.pop(n, None)

    def _log(self, partition: int) -> ClaimLog:
        return self.logs.setdefault(partition, ClaimLog())

    async def _read(
        self,
        until: Mapping[int, int],
        on_record: Callable[[int, bytes, bytes | None], None],
    ) -> None:
        """Apply the log up to and with offset ``until[partition]``."""
        reader = aiokafka.AIOKafkaConsumer(
            **self._client, enable_auto_commit=False, max_partition_fetch_bytes=_READ_BYTES
        )
        await reader.start()
        try:
            reader.assign([TopicPartition(self._topic, n) for n in until])
            for n in until:
                at = TopicPartition(self._topic, n)
                if self._log(n).offset < 0:
                    await reader.seek_to_beginning(at)
                else:
                    reader.seek(at, self._log(n).offset + 1)
            while any(self._log(n).offset < end for n, end in until.items()):
                for tp, records in (await reader.getmany(timeout_ms=_POLL_MS)).items():
                    log = self._log(tp.partition)
                    for record in records:
                        if log.apply(record.offset, record.key or b""):
                            on_record(tp.partition, record.key, record.value)
        finally:
            await stop(reader)
