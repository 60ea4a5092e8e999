"""What really happened to a partition, through all its owners, and the same thing again without a
fault.

Each `Partition` object keeps a history of what it was told. A restored one continues the history of
another, as far as that had come when the checkpoint was taken. So the *effective* history of a
partition is a line through crashes and owners; whatever happened beside it must have left no trace.
`recompute` tells the whole of it to one fresh Partition that is never saved nor restored: the input
from its first record to its last, each once. Read again after a restore is left out there, and the
watermark stands still where the rule says that it does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from agents.engine import Engine
from agents.owned import Owned
from schemas.decode import Decoder
from schemas.topics import Source
from streams.admission import Admission
from streams.claims import Claim
from streams.config import CoreConfig
from streams.last_seen import NEVER
from streams.open_pane import LOGS
from streams.partition import Partition, TickSums
from streams.state_log import StateLog
from tests.simulation.log import Record
from tests.simulation.workload import partition_of

_EVERYBODY = 1 << 30


class Received(NamedTuple):
    """Records ``[start, end)`` of an input, and whether the partition was in its replay before and
    after them.
    """

    source: Source
    start: int
    end: int
    was_replaying: bool
    is_replaying: bool


class Observed(NamedTuple):
    """An input stood, or didn't stand, at its high water."""

    source: Source
    at_high_water: bool
    now_ms: int


class Ticked(NamedTuple):
    """The clock was told."""

    now_ms: int
    is_replaying: bool


class Drained(NamedTuple):
    """The windows' reports were taken."""


class Restored(NamedTuple):
    """Here another object went on from a checkpoint."""


Entry = Received | Observed | Ticked | Drained | Restored


@dataclass(eq=False)
class History:
    """What one Partition object was told, and whose history it continues."""

    partition: Partition
    entries: list[Entry] = field(default_factory=list)
    parent: tuple[History, int] | None = None

    def whole(self) -> list[Entry]:
        """From the first record on."""
        if self.parent is None:
            return list(self.entries)
        before, length = self.parent
        return [*before.whole()[: before.depth() + length], Restored(), *self.entries]

    def depth(self) -> int:
        """How many entries precede our own in `whole`."""
        if self.parent is None:
            return 0
        before, length = self.parent
        return before.depth() + length + 1


class Taken(NamedTuple):
    """A checkpoint that was taken: of whose history, how far that had come, what is to be committed."""

    history: History
    length: int
    resume: list[int]
    read_to: list[int]


class Recorder:
    """Keeps the histories of all Partition objects while it is recording.

    ``newest_marker(number)`` names the marker from which a partition has to be restored now.
    """

    def __init__(self, newest_marker: Callable[[int, Claim], bytes | None]) -> None:
        self._newest_marker = newest_marker
        self._histories: dict[int, History] = {}
        self.taken: dict[tuple[int, bytes], Taken] = {}
        """By partition and marker key."""
        self.damaged: set[int] = set()
        """Partitions whose durable state nobody may restore from."""
        self.restored_damaged = False

    def of(self, partition: Partition) -> History:
        """The history of ``partition``, which is kept alive by it."""
        return self._histories.setdefault(id(partition), History(partition))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        receive, observe = Partition.receive, Partition.observe
        tick, drain = Partition.tick, Partition.drain
        checkpoint, restore, begin = Owned.checkpoint, Engine._restore, Engine._begin

        def note_received(partition: Partition, source: Source, admitted: Any) -> list[int]:
            before = partition._is_replaying
            found = receive(partition, source, admitted)
            if admitted.next_offset is not None:
                start, end = admitted.next_offset - admitted.records, admitted.next_offset
                entry = Received(source, start, end, before, partition._is_replaying)
                self.of(partition).entries.append(entry)
            return found

        def note_observed(
            partition: Partition, source: Source, *, at_high_water: bool, now_ms: int
        ) -> None:
            self.of(partition).entries.append(Observed(source, at_high_water, now_ms))
            observe(partition, source, at_high_water=at_high_water, now_ms=now_ms)

        def note_ticked(partition: Partition, now_ms: int) -> None:
            self.of(partition).entries.append(Ticked(now_ms, partition._is_replaying))
            tick(partition, now_ms)

        def note_drained(partition: Partition) -> list[TickSums]:
            self.of(partition).entries.append(Drained())
            return drain(partition)

        def note_checkpoint(owned: Owned) -> Any:
            found = checkpoint(owned)
            if found[0] is not None:
                history = self.of(owned.state)
                self.taken[owned.number, found[0].marker.key] = Taken(
                    history,
                    len(history.entries),
                    list(found[0].resume),
                    list(owned.state.position().read_to),
                )
            return found

        def note_restored(engine: Engine, number: int, log: StateLog, claim: Claim) -> Owned:
            owned = restore(engine, number, log, claim)
            marker = self._newest_marker(number, claim)
            if marker is not None:
                taken = self.taken[number, marker]
                self.of(owned.state).parent = taken.history, taken.length
            return owned

        def note_begun(engine: Engine, generation: int, mine: list[int], fresh: list[int]) -> None:
            self.restored_damaged |= not self.damaged.isdisjoint(fresh)
            begin(engine, generation, mine, fresh)

        patches = {
            (Partition, "receive"): note_received,
            (Partition, "observe"): note_observed,
            (Partition, "tick"): note_ticked,
            (Partition, "drain"): note_drained,
            (Owned, "checkpoint"): note_checkpoint,
            (Engine, "_restore"): note_restored,
            (Engine, "_begin"): note_begun,
        }
        with contextlib.ExitStack() as stack:
            for (owner, name), replacement in patches.items():
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield


@dataclass(slots=True)
class Recomputed:
    """One partition after the whole input, computed without a fault."""

    partition: Partition
    reports: list[TickSums]
    too_late: set[tuple[Source, int]]
    dead: set[tuple[Source, int]]
    gaps: list[str]
    """Records that no owner of the effective history has read."""


def recompute(
    config: CoreConfig,
    number: int,
    partitions: int,
    inputs: Sequence[Sequence[Record]],
    entries: Sequence[Entry],
) -> Recomputed:
    """See the module. ``inputs`` holds, by Source, every record of the partition."""
    partition = Partition(config)
    admission = Admission(
        config,
        Decoder(),
        partition=number,
        partitions=partitions,
        partition_of=partition_of,
    )
    found = Recomputed(partition, [], set(), set(), [])
    time = partition._time
    others = time.limit_of_others
    for entry in entries:
        match entry:
            case Received(source, start, end, was_replaying, is_replaying):
                due = partition.next_offset(source)
                if start > due:
                    found.gaps.append(f"{source.name} {due} to {start}")
                    continue
                admitted = admission.admit(source, inputs[source][due:end])
                found.dead |= {(source, dead[0].offset) for dead in admitted.dead}
                if was_replaying:
                    # In a replay the watermark is taken along record by record.
                    admitted.has_control = True
                if is_replaying:
                    time.limit_of_others = _standing_still  # type: ignore[method-assign]
                late = partition.receive(source, admitted)
                time.limit_of_others = others  # type: ignore[method-assign]
                found.too_late |= {(source, offset) for offset in late}
            case Observed(source, at_high_water, now_ms):
                partition.observe(source, at_high_water=at_high_water, now_ms=now_ms)
            case Ticked(now_ms, is_replaying):
                if not is_replaying:
                    partition.tick(now_ms)
            case Drained():
                found.reports += partition.drain()
            case Restored():
                # Idleness is observed anew by who takes over.
                time._caught_up_since = [None] * len(Source)
                time._is_idle = [False] * len(Source)
    return found


def _standing_still(source: Source) -> int:
    return NEVER


def picture(partition: Partition) -> dict[str, Any]:
    """All that a partition knows, in an order that depends on nothing but that.

    When the silent are put away depends on the checkpoints, and changes no figure: here they all are.
    """
    state, timeline = partition.state, partition.state.timeline
    for _ in range(2):
        state._sweep, state._next_sweep_ms = [], NEVER
        state.put_away(looked_at=_EVERYBODY, moved=_EVERYBODY)
    names = sorted(state.customers.keys() | state.packed.keys())
    rows = state.rows_of(names)
    return {
        "position": plain(partition.position()),
        "customers": {n: row.hex() for n, row in zip(names, rows, strict=True) if row is not None},
        "evicted": sorted(row.tobytes().hex() for row in state.evicted._rows if any(row.item())),
        "values": plain(timeline.values()),
        "arrays": plain(timeline.arrays()),
        "logs": {name: plain(getattr(timeline.pane, name)) for name in LOGS},
        "levels": [
            {
                "panes": {index: _pane(pane) for index, pane in level.panes.items()},
                "open": None if level.open is None else _pane(level.open),
                "windows": [plain((w.counts, np.flatnonzero(w.durations))) for w in level.windows],
            }
            for level in timeline.levels
        ],
    }


def _pane(pane: Any) -> Any:
    return [pane.counts.tolist(), sorted(pane.durations.items())]


def plain(value: Any) -> Any:
    """A value that can be compared: arrays and tuples as lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "__struct_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two plain values differ."""
    if left == right:
        return []
    if isinstance(left, dict) and isinstance(right, dict):
        return [
            line
            for key in sorted(left.keys() | right.keys(), key=str)
            for line in differences(left.get(key), right.get(key), f"{path}.{key}")
        ]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [
            line
            for place, (one, other) in enumerate(zip(left, right, strict=True))
            for line in differences(one, other, f"{path}[{place}]")
        ]
    return [f"{path.lstrip('.')}: {left!r} is not {right!r}"]
