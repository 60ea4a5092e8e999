"""Every incremental structure of a window against a recount of everything that was ever put in."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cohorts import CohortMemory
from streams.last_seen import NEVER, LastSeen
from streams.panes import Level, Pane
from streams.quantiles import Histograms, bins_of
from streams.sums import Mark
from streams.windows import Window, WindowSet

pytestmark = pytest.mark.property

COLUMNS = 2
SIZES = (1, 3, 7)
HOP_MS = 10


def pane_of(entries: list[tuple[int, int, int]]) -> Pane:
    """Entries are (column, amount, bin)."""
    pane = Pane(np.zeros((1, COLUMNS), np.int64), {})
    for column, amount, bin_ in entries:
        pane.counts[0, column] += amount
        place = column * 4 + bin_
        pane.durations[place] = pane.durations.get(place, 0) + 1
    return pane


entries = st.lists(
    st.tuples(st.integers(0, COLUMNS - 1), st.integers(-50, 50), st.integers(0, 3)), max_size=3
)
pane_steps = st.lists(
    st.one_of(
        st.tuples(st.just("close"), entries, st.just(0)),
        st.tuples(st.just("skip"), st.just([]), st.integers(1, 9)),
        st.tuples(st.just("late"), entries, st.integers(0, 9)),
    ),
    max_size=40,
)


@given(steps=pane_steps)
def test_a_window_is_the_sum_of_its_panes_whatever_skips_and_corrections_came(
    steps: list[tuple[str, list[tuple[int, int, int]], int]],
) -> None:
    level = Level(
        HOP_MS, [size * HOP_MS for size in SIZES], (1, COLUMNS), lanes=COLUMNS, corrected=4
    )
    everything: list[tuple[int, list[tuple[int, int, int]]]] = []
    first = level.boundary
    for what, found, number in steps:
        if what == "close":
            if found:
                everything.append((level.boundary, found))
                level.gather(pane_of(found))
            level.close()
        elif what == "skip" and level.open is None:
            level.skip_to(level.boundary + number)
        elif what == "late" and found and level.boundary >= number:
            # Number 0 lies in the open pane.
            everything.append((level.boundary - number, found))
            level.correct((level.boundary - number) * HOP_MS, pane_of(found))
        for window in level.windows:
            inside = range(level.boundary - window.size_panes, level.boundary)
            counts = np.zeros(COLUMNS, np.int64)
            bins: dict[int, int] = defaultdict(int)
            for index, put in everything:
                if index in inside:
                    for column, amount, bin_ in put:
                        counts[column] += amount
                        bins[column * 4 + bin_] += 1
            assert window.counts[0].tolist() == counts.tolist()
            held = {
                int(place): int(window.durations[place]) for place in window.durations.nonzero()[0]
            }
            assert held == {place: count for place, count in bins.items() if count}
        back = range(max(level.boundary - 3, first), level.boundary + 1)
        for place, window in enumerate(level.windows):
            for end, counts in zip(back, level.counts_at(place, list(back)), strict=True):
                inside = range(end - window.size_panes, end)
                naive = np.zeros(COLUMNS, np.int64)
                for index, put in everything:
                    if index in inside:
                        for column, amount, _ in put:
                            naive[column] += amount
                assert counts[0].tolist() == naive.tolist()


WINDOWS = WindowSet.of([Window.parse(text) for text in ("2s/1s", "5s/1s", "12s/4s", "48s/12s")])
CELLS = 3
COLUMNS_OF_CELLS = np.array([[0, 1], [0, 2], [0, 3]], np.int64)

activity_steps = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 2_500), st.integers(0, 130_000)),  # silence before it
        st.integers(0, 4),  # customer
        st.integers(0, CELLS - 1),
    ),
    max_size=30,
)


@given(steps=activity_steps)
def test_the_histogram_counts_distinct_customers_of_every_window(
    steps: list[tuple[int, int, int]],
) -> None:
    seen = LastSeen(WINDOWS, columns_of_cells=COLUMNS_OF_CELLS, columns=4)
    now, pane = 10**9, 10**9
    seen.advance(pane)
    last: dict[int, tuple[int, int]] = {}
    for silence, customer, cell in steps:
        now += silence
        while pane + 1_000 <= now:
            pane += 1_000
            seen.advance(pane)
            check_totals(seen, pane, last)
        before, old_cell = last.get(customer, (NEVER, 0))
        seen.change(Mark.ACTIVE, before, old_cell, -1)
        seen.change(Mark.ACTIVE, now, cell, 1)
        last[customer] = (now, cell)
    end = (pane + 200_000) // 12_000 * 12_000
    seen.advance(end)
    check_totals(seen, end, {})


def check_totals(seen: LastSeen, now: int, last: dict[int, tuple[int, int]]) -> None:
    for window in WINDOWS.windows:
        if now % window.hop_ms:
            continue
        w = window.size_ms
        for start, end in ((now - w, now), (now - 2 * w, now - w)):
            counted = np.zeros(4, np.int64)
            for moment, cell in last.values():
                if start <= moment < end:
                    counted[COLUMNS_OF_CELLS[cell]] += 1
            assert seen.total(start, end)[Mark.ACTIVE].tolist() == counted.tolist()


late_steps = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 6_000), st.integers(0, 60_000)),
        st.integers(0, 3),
        st.one_of(st.just(0), st.integers(1, 9_000)),  # how late
        st.booleans(),  # skip silent boundaries in one jump
    ),
    max_size=25,
)


@given(steps=late_steps)
def test_base_and_reactivated_are_what_the_activities_say(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    window = Window.parse("12s/4s")
    windows = WindowSet.of([window])
    w, hop = window.size_ms, window.hop_ms
    seen = LastSeen(windows, columns_of_cells=np.array([[0]]), columns=1)
    memory = CohortMemory(size_ms=w, hop_ms=hop, columns_of_cells=np.array([[0]]), columns=1)
    now = 10**9 // hop * hop
    memory.start(now // hop)
    seen.advance(now)
    activities: dict[int, list[int]] = defaultdict(list)
    for silence, customer, late, jump in [*steps, (5 * w, 0, 0, False)]:
        moment = now + silence
        target = moment // hop
        while memory.boundary < target:
            seen.advance((memory.boundary + 1) * hop)
            memory.step(seen)
            check_cohorts(memory, activities, w)
            if jump:  # from here on the time is silent
                memory.skip_to(target, seen)
                seen.advance(target * hop)
                check_cohorts(memory, activities, w)
        now = moment
        at = now - late
        last = activities[customer][-1] if activities[customer] else NEVER
        if at <= last or at < 10**9:
            continue
        seen.change(Mark.ACTIVE, last, 0, -1)
        seen.change(Mark.ACTIVE, at, 0, 1)
        memory.change_return(back_ms=at, last_ms=last, cell=0, by=1)
        if late:
            memory.change_distinct(after_ms=max(at, last + w), until_ms=at + w, cell=0, by=1)
        activities[customer].append(at)


def check_cohorts(memory: CohortMemory, activities: dict[int, list[int]], w: int) -> None:
    t = memory.boundary * memory.hop_ms
    base = reactivated = 0
    for moments in activities.values():
        this = any(t - w <= moment < t for moment in moments)
        previous = any(t - 2 * w <= moment < t - w for moment in moments)
        base += previous
        reactivated += this and not previous and any(moment < t - 2 * w for moment in moments)
    assert (memory.base.tolist(), memory.reactivated.tolist()) == ([base], [reactivated])


@given(
    values=st.lists(
        st.one_of(st.integers(0, 20), st.integers(0, 10_000), st.integers(0, 86_400_000)),
        min_size=1,
    ),
    percent=st.sampled_from((50, 90, 99)),
)
def test_a_quantile_is_the_nearest_rank_within_one_percent(values: list[int], percent: int) -> None:
    bins, counts = np.unique(bins_of(np.array(values, np.int64)), return_counts=True)
    exact = sorted(values)[math.ceil(percent * len(values) / 100 - 1e-9) - 1]
    found = Histograms(np.stack([bins, counts], axis=1), 1).quantile(0, percent / 100)
    assert found == pytest.approx(exact, rel=0.0100001, abs=0)
