"""The time of one partition: its open pane, its levels of panes, its windows.

Time is the start of the open base pane. It moves only in `Timeline.advance`: a pane closes (timers
fire, logs are counted, marks move, the pane rolls up level by level, every window whose hop ends
there steps and reports), or time jumps over a stretch in which nothing is due. A jump stops only
where a window reports something new.

Customers are not known here; whoever folds them hands in ``fire`` (what comes due before a moment)
and ``next_due``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from streams.cohorts import CohortMemory
from streams.config import CoreConfig
from streams.last_seen import NEVER, LastSeen
from streams.open_pane import OpenPane
from streams.panes import Level, Pane, check_limit
from streams.segments import Integers
from streams.sums import (
    ADDITIVES,
    COHORTS,
    MARKS,
    ROWS,
    STOCKS,
    Additive,
    Cohort,
    Distribution,
    Mark,
    row_of,
)
from streams.windows import DAY_MS, MINUTE_MS

_ACTIVE = slice(Mark.ACTIVE, Mark.ACTIVE + 1)
_STOCKS = slice(ADDITIVES + MARKS + COHORTS, ROWS)
CORRECTED_HOP_MS = 10 * MINUTE_MS
"""Windows with this hop or a longer one are corrected."""
CORRECTED_MS = DAY_MS
"""So far back are boundaries corrected."""
CORRECTION_STEP_MS = MINUTE_MS
"""Corrections wait for the next such step of event time, so that many late events make one."""
_CAME = (Mark.ACTIVE, Mark.VISITED)


class Report(msgspec.Struct, frozen=True):
    """What a window holds at a boundary.

    ``sums[row, column]`` has the rows of `streams.sums`; ``durations`` are the sparse histograms as
    rows of ``lane * BINS + bin, count``, ascending. Of a *correction* only the additive counters
    mean anything: it says what they were at a boundary already reported, late events included.
    """

    window: int
    end_ms: int
    sums: Integers
    durations: Integers
    observed_from_ms: int | None
    is_correction: bool = False


class Timeline:
    """Panes and windows of one partition, and the moment up to which they are complete."""

    def __init__(
        self,
        config: CoreConfig,
        *,
        fire: Callable[[int], None],
        next_due_ms: Callable[[], int | None],
        on_report: Callable[[Report], None] | None = None,
    ) -> None:
        """``on_report`` is called at every boundary that can report other sums than the one before
        it.

        ``fire(end)`` closes what comes due before ``end``, into the open pane; ``next_due_ms()`` is
        a moment before which nothing comes due.
        """
        segments, windows = config.segments, config.windows
        self.pane = OpenPane(segments)
        self.pane_start = NEVER
        self.pane_end = NEVER
        self.observed_from_ms: int | None = None
        """The earliest event, down to the base pane."""
        self._fire = fire
        self._next_due_ms = next_due_ms
        self.is_replay = False
        """Whether what is folded now is history, of which fewer boundaries are reported."""
        self._on_report = on_report
        self._report_step_ms = config.report_step_ms
        self._base = windows.base_ms
        self._width = segments.width
        self._customer_columns = segments.customer_columns
        columns_of_cells = segments.columns_of_cells()
        self.seen = LastSeen(
            windows, columns_of_cells=columns_of_cells, columns=self._customer_columns
        )
        self.stocks = np.zeros((STOCKS, self._width), np.int64)
        """What is there at the start of the open pane."""
        self.dirty_minute: int | None = None
        """The minute of event time in which the first late event came that is to be corrected."""
        shape = (ADDITIVES, self._width)
        self.levels: list[Level] = []
        self._members: list[list[int]] = []
        """For each level, the indexes of its windows in the configuration."""
        for hop in windows.hops_ms:
            members = [i for i, w in enumerate(windows.windows) if w.hop_ms == hop]
            sizes = [windows.windows[i].size_ms for i in members]
            corrected = CORRECTED_MS // hop if hop >= CORRECTED_HOP_MS else 0
            self.levels.append(
                Level(hop, sizes, shape, lanes=segments.lanes()[-1], corrected=corrected)
            )
            self._members.append(members)
        self.cohorts = [
            CohortMemory(
                size_ms=w.size_ms,
                hop_ms=w.hop_ms,
                columns_of_cells=columns_of_cells,
                columns=self._customer_columns,
            )
            for w in windows.windows
        ]
        # A return to a window is silence longer than its size, whatever part of a hop the pane cuts
        # off.
        self._shortest_silence = min(w.size_ms - w.hop_ms for w in windows.windows)

    def start(self, at_ms: int) -> None:
        """Time begins with the first event."""
        self.pane_start = self.observed_from_ms = at_ms // self._base * self._base
        self.pane_end = self.pane_start + self._base
        self.seen.advance(self.pane_start)
        for level in self.levels:
            level.boundary = self.pane_start // level.hop_ms
        for cohort in self.cohorts:
            cohort.start(self.pane_start // cohort.hop_ms)

    def advance(self, until_ms: int) -> None:
        """Close every pane that ends at or before ``until_ms``; nothing older will come on time."""
        if self.pane_start == NEVER:
            return
        base = self._base
        target = until_ms // base * base
        if self.dirty_minute is not None and until_ms // CORRECTION_STEP_MS > self.dirty_minute:
            self._correct_reports()
        while self.pane_start < target:
            due = self._next_due_ms()
            if self.pane.is_empty and (due is None or due >= self.pane_end):
                self._skip_to(target if due is None else min(target, due // base * base))
            else:
                self._close_pane()

    def boundary_ms(self, window: int) -> int:
        """The last boundary that window number ``window`` reached."""
        cohort = self.cohorts[window]
        return cohort.boundary * cohort.hop_ms

    def count(
        self,
        moment_ms: int,
        additive: Additive,
        cell: int,
        amount: int = 1,
        *,
        value: int | None = None,
    ) -> None:
        """An event counts in its own pane: the open one, or if it came late a closed one; at a
        value of the sum's own dimension too where there is one (then once).
        """
        if moment_ms < self.pane_start:
            self._correct(moment_ms, self.pane.late_counts(additive, cell, amount, value))
        elif value is None:
            self.pane.sum(additive, cell, amount)
        else:
            self.pane.count_own(additive, cell, value)

    def last(self, moment_ms: int, distribution: Distribution, cell: int, duration_ms: int) -> None:
        """A duration that an event ended, in the pane of the event."""
        if moment_ms < self.pane_start:
            self._correct(moment_ms, self.pane.late_duration(distribution, cell, duration_ms))
        else:
            self.pane.last(distribution, cell, duration_ms)

    def move_mark(
        self, old: Mark | None, new: Mark, cell: int, *, before_ms: int, at_ms: int
    ) -> None:
        """A customer's mark moves to ``at_ms``, from ``before_ms`` if it is there as ``old``."""
        if at_ms >= self.pane_start:
            self.pane.move_mark(old, new, cell, before_ms)
            return
        if old is not None:
            self.seen.change(old, before_ms, cell, -1)
        self.seen.change(new, at_ms, cell, 1)
        self.touch(at_ms)

    def _correct(self, moment_ms: int, change: Pane) -> None:
        for level in self.levels:
            if level.correct(moment_ms, change):
                return

    def note_late(self, watermark_ms: int) -> None:
        """A late event was counted: what it changed of past boundaries is reported again from the
        next minute of event time on.
        """
        if self.dirty_minute is None and any(level.dirty for level in self.levels):
            self.dirty_minute = watermark_ms // CORRECTION_STEP_MS

    def _correct_reports(self) -> None:
        """Report the boundaries again that late events changed since the last time."""
        self.dirty_minute = None
        for level, members in zip(self.levels, self._members, strict=True):
            dirty = level.take_dirty()
            if self._on_report is None:
                continue
            step = self._step(level)
            for place, member in enumerate(members):
                # A boundary further on than the window is long doesn't hold the late event's pane:
                # its counts come out as they were, and whoever adds them up sees no news in it.
                wanted = [index for index in dirty if not index % step]
                for index, counts in zip(wanted, level.counts_at(place, wanted), strict=True):
                    sums = np.zeros((ROWS, self._width), np.int64)
                    sums[:ADDITIVES] = counts
                    self._on_report(
                        Report(
                            member,
                            index * level.hop_ms,
                            sums,
                            np.zeros((0, 2), np.int64),
                            self.observed_from_ms,
                            is_correction=True,
                        )
                    )

    def touch(self, moment_ms: int) -> None:
        """Marks moved in this pane, after it closed: its windows may report something new when it
        leaves them.
        """
        for level in self.levels:
            level.touch(moment_ms)

    def _close_pane(self) -> None:
        end = self.pane_end
        self._fire(end)
        if not self.pane.is_empty:
            self._move_marks()
            changes = self.pane.stocks()
            if changes is not None:
                self.stocks += changes
                check_limit(self.stocks)
            self.levels[0].gather(self.pane.counts())
            self.pane.clear()
        self._set_time(end)
        for number, level in enumerate(self.levels):
            if end % level.hop_ms:
                break
            self._close_level(number)
        self.seen.advance(end)

    def _skip_to(self, target: int) -> None:
        """Nothing happens in ``[pane_start, target)``."""
        for number, level in enumerate(self.levels):
            boundary = target // level.hop_ms
            if boundary > level.boundary and level.open is not None:
                # What finer panes brought belongs to the pane that is open here: it closes first.
                self._close_level(number)
            if boundary > level.boundary:
                self._skip_level(level, self._members[number], boundary)
        self._set_time(target)
        self.seen.advance(target)

    def _close_level(self, number: int) -> None:
        level, members = self.levels[number], self._members[number]
        closed = level.close()
        if closed is not None and number + 1 < len(self.levels):
            self.levels[number + 1].gather(closed)
        for member in members:
            self.cohorts[member].step(self.seen)
        if self._on_report is not None and not level.boundary % self._step(level):
            for place, member in enumerate(members):
                self._on_report(self._report(level, place, member))

    def _step(self, level: Level) -> int:
        """Every how many boundaries of this level are reported."""
        return self._report_step_ms(level.hop_ms, is_replay=self.is_replay) // level.hop_ms

    def _skip_level(self, level: Level, members: list[int], boundary: int) -> None:
        if self._on_report is None:
            level.skip_to(boundary)
            for member in members:
                self.cohorts[member].skip_to(boundary, self.seen)
            return
        wanted = [self._changes(level, member, boundary) for member in members]
        for stop in sorted(set().union(*wanted)):
            level.skip_to(stop)
            for place, member in enumerate(members):
                self.cohorts[member].skip_to(stop, self.seen)
                if stop in wanted[place]:
                    self._on_report(self._report(level, place, member))
        if level.boundary < boundary:
            level.skip_to(boundary)
            for member in members:
                self.cohorts[member].skip_to(boundary, self.seen)

    def _changes(self, level: Level, member: int, boundary: int) -> set[int]:
        """The boundaries up to ``boundary`` whose report can differ from the one before, the next
        and the last.
        """
        cohort = self.cohorts[member]
        now = level.boundary
        found = {now + 1, boundary}
        found.update(k for k in cohort.changes() if now < k <= boundary)
        looks_back = [cohort.hops, 2 * cohort.hops]
        for hops in looks_back:
            found.update(k for pane in level.busy if now < (k := pane + 1 + hops) <= boundary)
        first = -(-(self.observed_from_ms or 0) // level.hop_ms)
        found.update(k for hops in looks_back if now < (k := first + hops) <= boundary)
        step = self._step(level)
        if step > 1:
            return {k for one in found if (k := -(-one // step) * step) <= boundary}
        return found

    def _set_time(self, start: int) -> None:
        self.pane_start = start
        self.pane_end = start + self._base

    def _move_marks(self) -> None:
        """Move the marks of everyone who was active, came or bought in the pane that closes."""
        pane, seen, start = self.pane, self.seen, self.pane_start
        for marks, first, cells, before in (
            (_CAME, Mark.FIRST_ACTIVE, pane.came_cells, pane.came_from),
            ((Mark.ACTIVE,), Mark.FIRST_ACTIVE, pane.active_cells, pane.active_from),
            ((Mark.VISITED,), None, pane.visited_cells, pane.visited_from),
            ((Mark.BOUGHT,), Mark.FIRST_BOUGHT, pane.bought_cells, pane.bought_from),
        ):
            if not cells:
                continue
            where, when = np.array(cells, np.int64), np.array(before, np.int64)
            by_column = pane.by_column(where)
            for mark in marks:
                seen.put_in(mark, start, by_column)
            if first is not None:
                new = when == NEVER
                if new.any():
                    seen.put_in(first, start, pane.by_column(where[new]))
            if Mark.ACTIVE in marks:
                seen.put_in(Mark.DAY, start, by_column)
                self._count_returns(start, when, where)
                today = when >= start // DAY_MS * DAY_MS
                seen.take_out((*marks, Mark.DAY), when[today], where[today])
                when, where = when[~today], where[~today]
            seen.take_out(marks, when, where)
        if pane.both_cells:
            where = np.array(pane.both_cells, np.int64)
            seen.take_out((Mark.VISITED_AND_BOUGHT,), np.array(pane.both_from, np.int64), where)
            seen.bring_in(Mark.VISITED_AND_BOUGHT, np.array(pane.both_to, np.int64), where)
        for mark_moved, into, out_of, moments in pane.marks():
            seen.take_out((mark_moved,), moments, out_of)
            seen.put_in(mark_moved, start, pane.by_column(into))

    def _count_returns(self, start: int, when: Integers, where: Integers) -> None:
        # Only who was silent for longer than the shortest window can have returned to any.
        gone = (when < start - self._shortest_silence) & (when != NEVER)
        if gone.any():
            when, where = when[gone], where[gone]
            for cohort in self.cohorts:
                cohort.count_returns(start, when, where)

    # What is durable, beside the panes of the levels and the logs of the open pane. Whatever is
    # declared here is in every checkpoint: see `streams.timeline_rows`.

    def arrays(self) -> dict[str, Integers]:
        """The arrays, by a name that stays; they are filled in place on recovery."""
        found = {"seen": self.seen.counts, "stocks": self.stocks}
        for number, cohort in enumerate(self.cohorts):
            found.update((f"{name}{number}", a) for name, a in cohort.arrays().items())
        return found

    def values(self) -> dict[str, Any]:
        """What is small, by a name that stays, as msgpack can write it."""
        return {
            "time": (self.pane_start, self.pane_end, self.observed_from_ms, self.is_replay),
            "dirty_minute": self.dirty_minute,
            "seen": self.seen.values(),
            "levels": [level.values() for level in self.levels],
            "cohorts": [cohort.boundary for cohort in self.cohorts],
        }

    def take_values(self, values: dict[str, Any]) -> None:
        """The inverse of `values`, at a fresh timeline of the same configuration."""
        self.pane_start, self.pane_end, self.observed_from_ms, self.is_replay = values["time"]
        self.dirty_minute = values["dirty_minute"]
        self.seen.take_values(values["seen"])
        for level, part in zip(self.levels, values["levels"], strict=True):
            level.take_values(part)
        for cohort, boundary in zip(self.cohorts, values["cohorts"], strict=True):
            cohort.boundary = boundary

    def empty_report(self, window: int) -> Report:
        """What a window holds of which nothing has been seen."""
        sums = np.zeros((ROWS, self._width), np.int64)
        return Report(window, 0, sums, np.zeros((0, 2), np.int64), None)

    def report(self, window: int) -> Report:
        """What window number ``window`` holds at its last boundary."""
        for level, members in zip(self.levels, self._members, strict=True):
            if window in members:
                return self._report(level, members.index(window), window)
        message = f"there is no window number {window}"
        raise IndexError(message)

    def _report(self, level: Level, place: int, member: int) -> Report:
        running, cohort = level.windows[place], self.cohorts[member]
        end, size = level.boundary * level.hop_ms, cohort.size_ms
        sums = np.zeros((ROWS, self._width), np.int64)
        sums[:ADDITIVES] = running.counts
        sums[_STOCKS] = self.stocks
        customers = sums[:, : self._customer_columns]
        customers[ADDITIVES : ADDITIVES + MARKS] = self.seen.total(end - size, end)
        customers[row_of(Cohort.BASE)] = cohort.base
        customers[row_of(Cohort.CHURNED)] = self.seen.total(end - 2 * size, end - size, _ACTIVE)[0]
        customers[row_of(Cohort.REACTIVATED)] = cohort.reactivated
        used = np.flatnonzero(running.durations)
        durations = np.stack([used, running.durations[used]], axis=1)
        return Report(member, end, sums, durations, self.observed_from_ms)
