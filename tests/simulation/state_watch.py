"""The state topic as an independent reader sees it while it is written: who owns each partition, and
which marker counts. It reads keys alone and knows neither chunks nor manifests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from faust.types import TP

from schemas.topics import Source
from streams.claims import Claim
from tests.simulation.history import Recorder
from tests.simulation.log import Record


class _Marked(NamedTuple):
    offset: int
    key: bytes


@dataclass(slots=True)
class _Partition:
    owner: tuple[int, str] = (0, "")
    claimed_at: dict[tuple[int, str], int] = field(default_factory=dict)
    markers: list[_Marked] = field(default_factory=list)


class StateWatch:
    """Follows what is appended to the state topic, and what is committed."""

    def __init__(self, topic: str, sources: Iterable[str]) -> None:
        self.recorder = Recorder(self._newest_before)
        self.broken: list[tuple[str, str]] = []
        """Invariants that did not hold at some moment, and what was found."""
        self._topic = topic
        self._sources = list(sources)
        self._partitions: defaultdict[int, _Partition] = defaultdict(_Partition)

    def appended(self, tp: TP, record: Record) -> None:
        """A record has reached the log."""
        if tp.topic != self._topic or record.key is None or record.value is None:
            return
        partition = self._partitions[tp.partition]
        kind, epoch, writer, *_ = record.key.decode().split("|")
        if kind == "c":
            partition.claimed_at.setdefault((int(epoch), writer), record.offset)
            if int(epoch) > partition.owner[0]:
                partition.owner = int(epoch), writer
        elif kind == "m" and (int(epoch), writer) == partition.owner:
            self._marked(tp.partition, partition, _Marked(record.offset, record.key))

    def _marked(self, number: int, partition: _Partition, marked: _Marked) -> None:
        taken = self.recorder.taken
        if partition.markers:
            before = taken[number, partition.markers[-1].key].read_to
            after = taken[number, marked.key].read_to
            if any(now < then for now, then in zip(after, before, strict=True)):
                self.broken.append(
                    ("read_to_never_falls", f"partition {number}: {before}, then {after}")
                )
        partition.markers.append(marked)

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """Offsets of the inputs were committed: a marker must cover them."""
        for tp, offset in offsets.items():
            if tp.topic not in self._sources:
                continue
            source = Source(self._sources.index(tp.topic))
            markers = self._partitions[tp.partition].markers
            durable = 0
            if markers:
                durable = self.recorder.taken[tp.partition, markers[-1].key].resume[source]
            if offset > durable:
                self.broken.append(
                    (
                        "committed_never_ahead_of_marker",
                        f"{tp.topic}-{tp.partition}: {offset} committed, {durable} durable",
                    )
                )

    def newest(self, number: int) -> bytes | None:
        """The key of the marker that counts now."""
        markers = self._partitions[number].markers
        return markers[-1].key if markers else None

    def _newest_before(self, number: int, claim: Claim) -> bytes | None:
        """The key of the marker from which whoever wrote ``claim`` has to go on."""
        partition = self._partitions[number]
        limit = partition.claimed_at[claim.epoch, claim.writer]
        before = [marked for marked in partition.markers if marked.offset < limit]
        return before[-1].key if before else None
