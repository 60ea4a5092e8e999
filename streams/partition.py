"""One partition of the engine: four inputs merged by event time into one state. No I/O, no clock.

The way of a batch: `Admission` judges it, `Partition.receive` counts every record under exactly one
heading, moves the watermark record by record, and folds what has become older than it. What windows
report on the way is taken by `drain`.

    consumed = folded + too_late + duplicate + dead + control + waiting        (folded includes
    late_counted)

A record that forgets a customer waits like an event of its time and is counted as control when it
takes effect; it moves no watermark and wakes no input. Where time stands still (every input is
idle, and the clock doesn't move the watermark) it takes effect at once, because nothing that was
written before it is still to be read.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from schemas.events import CustomerForgotten, TimePassed
from schemas.topics import Source
from streams.admission import OFFSET_MASK, ORDER_BITS, Admitted
from streams.arrivals import Arrival, name_in
from streams.config import CoreConfig
from streams.forgetting import fold_and_forget, is_forgetting
from streams.last_seen import NEVER
from streams.merge import Watermark
from streams.segments import Integers
from streams.state import State
from streams.timeline import Report

FOREVER = 1 << 60
"""The end of a validity that has none."""


_order_of = itemgetter(1)


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
            **{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
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
    is_correction: bool = False
    """Only the additive counters, as late events have changed them at this one boundary."""


class _Counts:
    """The changing counters of one input."""

    __slots__ = ("consumed", "control", "dead", "duplicate", "folded", "late_counted", "too_late")

    def __init__(self) -> None:
        self.consumed = 0
        self.folded = 0
        self.late_counted = 0
        self.too_late = 0
        self.duplicate = 0
        self.dead = 0
        self.control = 0


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a partition stands in its inputs: what of its state is no row.

    ``read_to`` is the next offset to read of each input, ``resume`` the lowest still waiting. The
    waiting events are in no checkpoint: they are read again from ``resume``.
    """

    read_to: list[int]
    resume: list[int]
    counts: list[dict[str, int]]
    time: dict[str, Any]
    is_announced: bool
    announced_to: int
    forgotten_to: list[int]
    """Offsets of each input below which records that forget took effect before the watermark."""


class Partition:
    """Receives the batches of one partition's inputs and reports its windows."""

    def __init__(self, config: CoreConfig) -> None:
        """A partition that has seen nothing."""
        self.config = config
        self._reports: list[Report] = []
        self.state = State(config, on_report=self._reports.append)
        self._time = Watermark(config)
        self._waiting: list[Arrival] = []
        self._fresh: list[Arrival] = []
        self._waiting_of = [0] * len(Source)
        """How many wait of each input: a page of metrics asks often."""
        self._counts = [_Counts() for _ in Source]
        self._next = [0] * len(Source)
        self._is_announced = False
        self._announced_to = NEVER
        self._replay_to = [0] * len(Source)
        """Offsets below which records were read before the checkpoint that we went on from."""
        self._is_replaying = False
        self._forgets = 0
        """How many of the waiting arrivals forget a customer."""
        self._forgotten_to = [0] * len(Source)

    def resume(self, position: Position) -> None:
        """Go on from ``position``, as a fresh partition into whose state the rows of the same
        checkpoint have been put: feed every input again from its ``resume`` offset.
        """
        self._time.load(position.time)
        self._next = list(position.resume)
        self._replay_to = list(position.read_to)
        self._is_replaying = self._next != self._replay_to
        self._is_announced = position.is_announced
        self._announced_to = position.announced_to
        self._forgotten_to = list(position.forgotten_to)
        for counts, saved in zip(self._counts, position.counts, strict=True):
            for name, value in saved.items():
                setattr(counts, name, value)

    def position(self) -> Position:
        """Of everything folded, and nothing that only waits."""
        counts = [
            {name: getattr(counts, name) for name in _Counts.__slots__} for counts in self._counts
        ]
        # Vectorised: at 20,000 events a second 100,000 of them wait, and this is done every second.
        orders = np.fromiter(map(_order_of, self._waiting), np.int64, len(self._waiting))
        sources = orders >> ORDER_BITS
        resume = list(self._next)
        for source in np.unique(sources).tolist():
            offsets = orders[sources == source] & OFFSET_MASK
            resume[source] = int(offsets.min())
            counts[source]["consumed"] -= len(offsets)
        return Position(
            # What was read before stays read, also while it is read again.
            read_to=[max(pair) for pair in zip(self._next, self._replay_to, strict=True)],
            resume=resume,
            counts=counts,
            time=self._time.dump(),
            is_announced=self._is_announced,
            announced_to=self._announced_to,
            forgotten_to=list(self._forgotten_to),
        )

    # -- input

    @property
    def watermark(self) -> int:
        """Everything older has arrived; `NEVER` before the first mark of every input."""
        return self._time.value

    def next_offset(self, source: Source) -> int:
        """The next offset to read of an input."""
        return self._next[source]

    def receive(self, source: Source, admitted: Admitted[Any]) -> list[int]:
        """Take a judged batch; fold what the watermark passes. Returns the offsets of the records
        that came too late.

        Raises OverflowError when a sum would no longer be exact.
        """
        if admitted.next_offset is None:
            return []
        if self._is_replaying:
            admitted = self._take_replayed(source, admitted)
        counts, time = self._counts[source], self._time
        counts.consumed += admitted.records
        counts.dead += len(admitted.dead)
        self._next[source] = max(self._next[source], admitted.next_offset or 0)
        if not admitted.arrivals:
            return []
        if admitted.lag_ms is not None:
            time.wake(source)
            time.lag_ms = admitted.lag_ms
        limit = time.limit_of_others(source)
        if self._is_replaying:
            # The watermark stands still until every input is back where the snapshot had read to:
            # else "read before and older than the watermark" would not mean "folded".
            limit = NEVER
        too_late: list[int] = []
        if not self._take_at_once(source, admitted, limit):
            too_late = self._take_one_by_one(source, admitted, limit)
        self._release()
        self._settle_in()
        return too_late

    def _take_at_once(self, source: Source, admitted: Admitted[Any], limit: int) -> bool:
        """Where no record can be late, the watermark need not be taken along record by record."""
        time = self._time
        if admitted.has_control:
            return False
        highest = max(time.marks[source], admitted.highest_ms - self.config.max_out_of_orderness_ms)
        reached = max(time.value, min(highest, limit))
        if admitted.lowest_ms < (time.value if admitted.is_ordered else reached):
            return False
        self._fresh += admitted.arrivals
        time.marks[source], time.value = highest, reached
        return True

    def _take_one_by_one(self, source: Source, admitted: Admitted[Any], limit: int) -> list[int]:
        """Take the watermark along record by record, up to ``limit``; returns the offsets of those
        that came too late.
        """
        counts, time, disorder = (
            self._counts[source],
            self._time,
            self.config.max_out_of_orderness_ms,
        )
        mark, watermark = time.marks[source], time.value
        too_late: list[int] = []
        wait = self._fresh.append
        for arrival in admitted.arrivals:
            at = arrival[0]
            kind = arrival[2].kind
            if kind is CustomerForgotten:
                time.value = watermark
                self._receive_forgetting(source, arrival)
                continue
            if kind is TimePassed:
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
        time.marks[source], time.value = mark, watermark
        return too_late

    def _take_replayed(self, source: Source, admitted: Admitted[Any]) -> Admitted[Any]:
        """Of the records read before the snapshot only the events that waited still count; returns
        the later ones.
        """
        known, folded_to = self._replay_to[source], self._time.value
        later: Admitted[Any] = Admitted()
        later.next_offset, later.lag_ms = admitted.next_offset, admitted.lag_ms
        later.dead = [dead for dead in admitted.dead if dead[0].offset >= known]
        for arrival in admitted.arrivals:
            if arrival[1] & OFFSET_MASK >= known:
                later.arrivals.append(arrival)
            elif arrival[0] >= folded_to and arrival[2].kind is not TimePassed:
                if is_forgetting(arrival):
                    if arrival[1] & OFFSET_MASK < self._forgotten_to[source]:
                        continue
                    self._forgets += 1
                self._counts[source].consumed += 1
                self._fresh.append(arrival)
        self._settle_in()
        later.records = len(later.dead) + len(later.arrivals)
        self._next[source] = max(self._next[source], min(admitted.next_offset or 0, known))
        self._is_replaying = any(n < to for n, to in zip(self._next, self._replay_to, strict=True))
        return later

    def observe(self, source: Source, *, at_high_water: bool, now_ms: int) -> None:
        """Say whether everything of ``source`` has been read, by the wall clock ``now_ms``."""
        self._time.observe(source, at_high_water=at_high_water, now_ms=now_ms)

    def tick(self, now_ms: int) -> None:
        """Let idleness and, when all inputs are idle and live, the wall clock move the
        watermark.
        """
        if not self._is_replaying:
            self._time.settle(now_ms)
            self._release()
            if self._forgets and self._time.stands_still:
                self._forget_now()

    def ahead(self) -> set[Source]:
        """The inputs to hold: too many events wait, and another input is behind. Never all of
        them.
        """
        if self._is_replaying:
            return {s for s in Source if self._next[s] >= self._replay_to[s]}
        if len(self._waiting) <= self.config.buffer_limit:
            return set()
        return self._time.ahead()

    def account(self, source: Source) -> Account:
        """Where the records of an input went."""
        counts = self._counts[source]
        return Account(
            waiting=self._waiting_of[source],
            **{name: getattr(counts, name) for name in _Counts.__slots__},
        )

    @property
    def waiting(self) -> int:
        """How many events wait for the watermark."""
        return len(self._waiting)

    def read_to(self, source: Source) -> int:
        """The offset below which everything was read, by us or before our checkpoint was taken."""
        return max(self._next[source], self._replay_to[source])

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
            if report.is_correction:
                through: int | None = report.end_ms
            else:
                through = ends.get(report.window)
                ends[report.window] = report.end_ms - window.hop_ms
            found.append(
                TickSums(
                    report.window,
                    report.end_ms,
                    self.state.timeline.boundary_ms(report.window) if through is None else through,
                    report.sums,
                    report.durations,
                    report.observed_from_ms,
                    self._time.value,
                    self._time.is_replay,
                    is_correction=report.is_correction,
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
            # Not one record yet. Said again and again, because only a fresh word of it counts: see
            # `streams.rollup`.
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
        self.state.timeline.is_replay = self._time.is_replay
        if watermark == NEVER:
            return
        ready: list[Arrival] = []
        if waiting and waiting[0][0] < watermark:
            cut = bisect_left(waiting, (watermark,))
            ready = waiting[:cut]
            del waiting[:cut]
        if fresh := self._fresh:
            # Only these are sorted here: a batch may release often, and many events may wait.
            fresh.sort()
            if fresh[0][0] < watermark:
                cut = bisect_left(fresh, (watermark,))
                # They are of one batch, so of one input.
                self._waiting_of[fresh[0][1] >> ORDER_BITS] += cut
                ready += fresh[:cut]
                del fresh[:cut]
                ready.sort()
        if ready:
            self._fold(ready)
        self.state.timeline.advance(watermark)

    def _settle_in(self) -> None:
        """What of this batch is still to wait joins those that waited before, in order."""
        if not self._fresh:
            return
        self._waiting_of[self._fresh[0][1] >> ORDER_BITS] += len(self._fresh)
        self._fresh.sort()
        # Most are newer than all that wait: only the overlap is sorted again.
        overlap = bisect_left(self._waiting, self._fresh[0])
        tail = self._waiting[overlap:]
        del self._waiting[overlap:]
        if tail:
            self._fresh += tail
            self._fresh.sort()
        self._waiting += self._fresh
        self._fresh.clear()

    def _fold(self, ready: list[Arrival]) -> None:
        state, counts = self.state, self._counts
        forgetting = [one for one in ready if is_forgetting(one)] if self._forgets else []
        duplicates = fold_and_forget(state, ready) if forgetting else state.fold(ready)
        ranks = np.array([arrival[1] for arrival in ready], np.int64) >> ORDER_BITS
        for source, folded in enumerate(np.bincount(ranks, minlength=len(Source)).tolist()):
            counts[source].folded += folded
            self._waiting_of[source] -= folded
        for arrival in duplicates:
            source = arrival[1] >> ORDER_BITS
            counts[source].folded -= 1
            counts[source].duplicate += 1
        for arrival in forgetting:
            source = arrival[1] >> ORDER_BITS
            counts[source].folded -= 1
            counts[source].control += 1
        self._forgets -= len(forgetting)

    def _forget_now(self) -> None:
        """Everyone who is still to be forgotten is, at the moment at which time stands."""
        waiting = self._waiting
        for arrival in [one for one in waiting if is_forgetting(one)]:
            self.state.forget(name_in(arrival), self._time.value)
            self._counts[arrival[1] >> ORDER_BITS].control += 1
            self._waiting_of[arrival[1] >> ORDER_BITS] -= 1
        waiting[:] = [one for one in waiting if not is_forgetting(one)]
        self._forgets = 0
        self._forgotten_to = list(self._next)

    def _receive_forgetting(self, source: Source, arrival: Arrival) -> None:
        """Behind the watermark a customer is forgotten at once; else the record waits its turn."""
        if arrival[0] >= self._time.value:
            self._fresh.append(arrival)
            self._forgets += 1
            return
        self._release()
        self.state.forget(name_in(arrival), self._time.value)
        self._counts[source].control += 1

    def _receive_late(self, source: Source, arrival: Arrival, watermark: int) -> bool:
        """Fold an event behind the watermark, or say that it is too late."""
        counts = self._counts[source]
        if watermark - arrival[0] > self.config.allowed_lateness_ms:
            counts.too_late += 1
            return True
        self._release()
        if self.state.fold_late(arrival, watermark):
            counts.folded += 1
            counts.late_counted += 1
        else:
            counts.duplicate += 1
        return False
