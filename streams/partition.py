"""One partition of the engine: four inputs merged by event time into one state. No I/O, no clock.

The way of a batch: `Admission` judges it, `Partition.receive` counts every record under exactly one heading, moves the
watermark record by record, and folds what has become older than it. What windows report on the way is taken by `drain`.

    consumed = folded + too_late + duplicate + dead + control + waiting        (folded includes late_counted)
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import msgspec

from schemas.events import TimePassed
from schemas.topics import Source
from streams.admission import OFFSET_MASK, ORDER_BITS, Admitted
from streams.config import CoreConfig
from streams.last_seen import NEVER
from streams.merge import Watermark
from streams.segments import Integers
from streams.state import Arrival, State
from streams.timeline import Report

FOREVER = 1 << 60
"""The end of a validity that has none."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where every consumed record of one input went."""

    consumed: int = 0
    folded: int = 0
    late_counted: int = 0
    too_late: int = 0
    duplicate: int = 0
    dead: int = 0
    control: int = 0
    waiting: int = 0

    @property
    def balances(self) -> bool:
        """Whether no record is missing and none is counted twice."""
        return self.consumed == (
            self.folded + self.too_late + self.duplicate + self.dead + self.control + self.waiting
        )

    def __add__(self, other: Account) -> Account:
        """The account of both."""
        return Account(
            **{
                name: getattr(self, name) + getattr(other, name)
                for name in self.__struct_fields__
            }
        )


class TickSums(msgspec.Struct, frozen=True):
    """What a window of this partition holds at every boundary in ``[end_ms, valid_through_ms]``."""

    window: int
    end_ms: int
    valid_through_ms: int
    sums: Integers
    durations: Integers
    observed_from_ms: int | None
    watermark_ms: int
    is_replay: bool
    is_untouched: bool = False
    """Nothing at all has been read of this partition: zero until further notice."""


class _Counts:
    """The changing counters of one input."""

    __slots__ = ("consumed", "control", "dead", "duplicate", "folded", "late_counted", "too_late")

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)


class Partition:
    """Receives the batches of one partition's inputs and reports its windows."""

    def __init__(self, config: CoreConfig) -> None:
        """A partition that has seen nothing."""
        self.config = config
        self._reports: list[Report] = []
        self.state = State(config, on_report=self._reports.append)
        self._time = Watermark(config)
        self._waiting: list[Arrival] = []
        self._is_sorted = True
        self._counts = [_Counts() for _ in Source]
        self._next = [0] * len(Source)
        self._is_announced = False
        self._announced_to = NEVER

    # -- input

    @property
    def watermark(self) -> int:
        """Everything older has arrived; `NEVER` before the first mark of every input."""
        return self._time.value

    def next_offset(self, source: Source) -> int:
        """The next offset to read of an input."""
        return self._next[source]

    def receive(self, source: Source, admitted: Admitted[Any]) -> list[int]:
        """Take a judged batch; fold what the watermark passes. Returns the offsets of the records that came too late.

        Raises OverflowError when a sum would no longer be exact.
        """
        if admitted.next_offset is None:
            return []
        counts, time = self._counts[source], self._time
        counts.consumed += admitted.records
        counts.dead += len(admitted.dead)
        self._next[source] = admitted.next_offset
        too_late: list[int] = []
        if not admitted.arrivals:
            return too_late
        time.wake(source)
        if admitted.lag_ms is not None:
            time.lag_ms = admitted.lag_ms
        limit = time.limit_of_others(source)
        mark, watermark, disorder = time.marks[source], time.value, self.config.max_out_of_orderness_ms
        wait = self._waiting.append
        for arrival in admitted.arrivals:
            at = arrival[0]
            if arrival[2].__class__ is TimePassed:
                counts.control += 1
                contribution = arrival[4]
            else:
                if at < watermark:
                    time.value = watermark
                    if self._receive_late(source, arrival, watermark):
                        too_late.append(arrival[1] & OFFSET_MASK)
                else:
                    wait(arrival)
                contribution = arrival[4] - disorder
            if contribution > mark:
                mark = contribution
                if mark > watermark:
                    watermark = mark if mark < limit else max(limit, watermark)
        self._is_sorted = False
        time.marks[source], time.value = mark, watermark
        self._release()
        return too_late

    def observe(self, source: Source, *, at_high_water: bool, now_ms: int) -> None:
        """Say whether everything of ``source`` has been read, by the wall clock ``now_ms``."""
        self._time.observe(source, at_high_water=at_high_water, now_ms=now_ms)

    def tick(self, now_ms: int) -> None:
        """Let idleness and, when all inputs are idle and live, the wall clock move the watermark."""
        self._time.settle(now_ms)
        self._release()

    def ahead(self) -> set[Source]:
        """The inputs to hold: too many events wait, and another input is behind. Never all of them."""
        if len(self._waiting) <= self.config.buffer_limit:
            return set()
        return self._time.ahead()

    def account(self, source: Source) -> Account:
        """Where the records of an input went."""
        counts = self._counts[source]
        waiting = sum(1 for arrival in self._waiting if arrival[1] >> ORDER_BITS == source)
        return Account(
            waiting=waiting, **{name: getattr(counts, name) for name in _Counts.__slots__}
        )

    @property
    def waiting(self) -> int:
        """How many events wait for the watermark."""
        return len(self._waiting)

    def resume_offset(self, source: Source) -> int:
        """The lowest offset still waiting, or the next to read: from here a reader misses nothing."""
        return min(
            (a[1] & OFFSET_MASK for a in self._waiting if a[1] >> ORDER_BITS == source),
            default=self._next[source],
        )

    # -- output

    def drain(self) -> list[TickSums]:
        """What the windows report since the last call, in order of time for each window.

        The first report of a window is preceded by one that says that there was nothing before.
        """
        if not self._is_announced:
            if self.state.timeline.pane_start == NEVER:
                return self._announce_silence()
            self._is_announced = True
            first = [self._silence(i, self._first_boundary(i)) for i in range(self._windows)]
        else:
            first = []
        reports, self._reports[:] = list(self._reports), []
        ends: dict[int, int] = {}
        found: list[TickSums] = []
        for report in reversed(reports):
            window = self.config.windows.windows[report.window]
            through = ends.get(report.window)
            ends[report.window] = report.end_ms - window.hop_ms
            found.append(
                TickSums(
                    report.window,
                    report.end_ms,
                    self.state.timeline.boundary_ms(report.window) if through is None else through,
                    report.sums,
                    report.durations,
                    self.state.timeline.observed_from_ms,
                    self._time.value,
                    self._time.is_replay,
                )
            )
        return first + found[::-1]

    @property
    def _windows(self) -> int:
        return len(self.config.windows.windows)

    def _announce_silence(self) -> list[TickSums]:
        """A partition without any event holds zero at every boundary that time has reached."""
        reached = self._time.value
        windows = self.config.windows.windows
        if reached == NEVER:
            # Not one record yet. Said again and again, because only a fresh word of it counts: see `streams.rollup`.
            if not self._time.is_idle:
                return []
            return [self._silence(i, FOREVER, is_untouched=True) for i in range(self._windows)]
        if reached == self._announced_to:
            return []
        self._announced_to = reached
        return [
            self._silence(i, reached // window.hop_ms * window.hop_ms)
            for i, window in enumerate(windows)
        ]

    def _silence(self, window: int, through_ms: int, *, is_untouched: bool = False) -> TickSums:
        report = self.state.timeline.empty_report(window)
        return TickSums(
            window,
            0,
            through_ms,
            report.sums,
            report.durations,
            None,
            self._time.value,
            self._time.is_replay,
            is_untouched,
        )

    def _first_boundary(self, window: int) -> int:
        observed = self.state.timeline.observed_from_ms or 0
        hop = self.config.windows.windows[window].hop_ms
        return observed // hop * hop

    # -- folding

    def _release(self) -> None:
        """Fold every waiting event older than the watermark and let time reach it."""
        watermark, waiting = self._time.value, self._waiting
        if watermark == NEVER:
            return
        if not self._is_sorted:
            waiting.sort()
            self._is_sorted = True
        if waiting and waiting[0][0] < watermark:
            cut = bisect_left(waiting, (watermark,))
            ready = waiting[:cut]
            del waiting[:cut]
            self._fold(ready)
        self.state.timeline.advance(watermark)

    def _fold(self, ready: list[Arrival]) -> None:
        state = self.state
        duplicates = state.fold(ready)
        counts = self._counts
        by_source = [0] * len(Source)
        for arrival in ready:
            by_source[arrival[1] >> ORDER_BITS] += 1
        for source, folded in enumerate(by_source):
            counts[source].folded += folded
        for arrival in duplicates:
            source = arrival[1] >> ORDER_BITS
            counts[source].folded -= 1
            counts[source].duplicate += 1

    def _receive_late(self, source: Source, arrival: Arrival, watermark: int) -> bool:
        """Fold an event behind the watermark, or say that it is too late."""
        counts = self._counts[source]
        if watermark - arrival[0] > self.config.allowed_lateness_ms:
            counts.too_late += 1
            return True
        self._is_sorted = False
        self._release()
        if self.state.fold_late(arrival, watermark):
            counts.folded += 1
            counts.late_counted += 1
        else:
            counts.duplicate += 1
        return False
