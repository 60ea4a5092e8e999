"""Checkpoints of all partitions of this worker, and the order of their steps:

1. Each partition is snapshot in one synchronous step, together with the partials that it reports.
2. What was refused or signalled until then is flushed: it stands before the marker that covers it.
3. The chunks are acknowledged,
4. then the markers,
5. then the offsets are committed; a refusal means that the group has moved on without us.
6. Superseded records get their tombstones: only now, because until the commit another worker may have
to recover from them.
7. The partials go out, in their order; the next checkpoint drops those that were acknowledged.

The partitions go side by side through each step. Every send and the commit are under a deadline.
Whatever fails raises, and the caller ends the worker: nothing that comes later has been done then.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from faust.types import TP

from agents.outbox import Outbox
from agents.owned import Owned
from agents.publisher import Outgoing, Publisher
from schemas.topics import Source, Topics
from streams.checkpoint import Checkpoint, LogRecord

Commit = Callable[[Mapping[TP, int]], Awaitable[bool]]

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class CommitRefused(Exception):
    """The group did not take our offsets: another worker owns the partitions now, or will."""


class CommitFailed(Exception):
    """The commit was not answered in time: nobody knows whether it counts."""


class Taken(NamedTuple):
    """A snapshot on its way."""

    owned: Owned
    checkpoint: Checkpoint | None
    partials: list[LogRecord]


class CheckpointFigures:
    """What checkpoints have cost this process so far. Counters only rise."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.count = 0
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.snapshot_seconds = 0.0
        self.written_bytes = 0
        self.changed_bytes = 0
        self.written_records = 0
        self.tombstones = 0
        self.completed_at: float | None = None

    def note(self, seconds: float, snapshot_seconds: float) -> None:
        """A round of checkpoints is complete."""
        self.count += 1
        self.seconds += seconds
        self.snapshot_seconds += snapshot_seconds
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self.completed_at = time.monotonic()

    def cumulative(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus wants them: how many took at most so long."""
        found: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.buckets, strict=True):
            total += count
            found.append((bound, total))
        return found


class Checkpoints:
    """Writes the checkpoints of one worker."""

    def __init__(
        self, publisher: Publisher, outbox: Outbox, topics: Topics, *, deadline_s: float
    ) -> None:
        self._publisher = publisher
        self._outbox = outbox
        self._topics = topics
        self._deadline_s = deadline_s
        self.figures = CheckpointFigures()

    async def write(
        self, partitions: Iterable[Owned], collect: Callable[[Owned], None], commit: Commit
    ) -> dict[int, int]:
        """Checkpoint ``partitions``; the offset of each new marker, by partition.

        ``collect`` drains what a partition reports. The offsets are those of markers that a commit
        has confirmed: nobody had claimed these partitions before them. Raises PublishFailed,
        CommitFailed, CommitRefused.
        """
        started = time.monotonic()
        snapshot_s = 0.0
        round_: list[Taken] = []
        for owned in partitions:
            before = time.perf_counter()
            collect(owned)
            round_.append(Taken(owned, *owned.checkpoint()))
            snapshot_s += time.perf_counter() - before
            # A snapshot takes milliseconds: others run in between.
            await asyncio.sleep(0)
        await self._outbox.flush()
        new = [(taken.owned, taken.checkpoint) for taken in round_ if taken.checkpoint is not None]
        if not new:
            return {}
        await asyncio.gather(*(self._write_state(owned, found.chunks) for owned, found in new))
        markers = await self._publisher.publish(
            self._topics.state,
            [Outgoing(found.marker.key, found.marker.value, owned.number) for owned, found in new],
        )
        await self._commit(new, commit)
        self._count(new)
        await asyncio.gather(
            *(self._bury(owned, owned.keeper.committed(found)) for owned, found in new)
        )
        await self.send_partials([(taken.owned, taken.partials) for taken in round_])
        self.figures.note(time.monotonic() - started, snapshot_s)
        return markers

    async def send_partials(self, found: Sequence[tuple[Owned, Sequence[LogRecord]]]) -> None:
        """Send partials that a marker covers, in the order given. Raises PublishFailed."""
        topic = self._topics.partials
        records = [Outgoing(one.key, one.value) for _, partials in found for one in partials]
        if records:
            await self._publisher.publish(topic, records)
            self._outbox.published[topic] += len(records)
        for owned, partials in found:
            if partials:
                owned.keeper.partials_acknowledged([one.key for one in partials])

    async def _write_state(self, owned: Owned, records: Sequence[LogRecord]) -> None:
        if records:
            await self._publisher.publish(
                self._topics.state, [Outgoing(r.key, r.value, owned.number) for r in records]
            )

    async def _bury(self, owned: Owned, tombstones: Sequence[LogRecord]) -> None:
        self.figures.tombstones += len(tombstones)
        await self._write_state(owned, tombstones)

    async def _commit(self, new: Sequence[tuple[Owned, Checkpoint]], commit: Commit) -> None:
        offsets = {
            TP(topic, owned.number): max(found.resume[source], owned.first_offset[source])
            for owned, found in new
            for source, topic in zip(Source, self._topics.sources, strict=True)
        }
        try:
            async with asyncio.timeout(self._deadline_s):
                # Also those that haven't changed: the commit is the proof that no other worker had
                # claimed one of these partitions before its marker.
                is_taken = await commit(offsets)
        except TimeoutError:
            raise CommitFailed(
                f"the commit of the offsets was not answered in {self._deadline_s:g} s"
            ) from None
        if not is_taken:
            raise CommitRefused(
                "the group refused a commit: it has moved on without this worker, which was paused or "
                "cut off for longer than [engine] session_timeout. Nothing is lost: whoever has its "
                "partitions goes on from their last checkpoint. Start it again"
            )

    def _count(self, new: Sequence[tuple[Owned, Checkpoint]]) -> None:
        for _, found in new:
            self.figures.changed_bytes += found.changed_bytes
            for record in (*found.chunks, found.marker):
                self.figures.written_records += 1
                self.figures.written_bytes += len(record.key) + len(record.value or b"")
