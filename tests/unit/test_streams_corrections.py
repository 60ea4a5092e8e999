"""Corrections: what late events change of results that are out, and what they leave alone."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from agents.partials import Reporter
from schemas.decode import Decoder
from schemas.records import Partial, PublishedResult
from streams.arrivals import Door
from streams.config import CoreConfig
from streams.metrics import BY_NAME
from streams.partition import TickSums
from streams.rollup import RollUp
from streams.segments import Segments, dimensions
from streams.state import State
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Window, WindowSet
from tests.rig.hand import Hand, order, view
from tests.rig.told import T0

CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse(text) for text in ("10m/1m", "30m/10m", "1h/10m", "6h/1h")]),
    segments=Segments(customer=dimensions(persona=("a",))),
    allowed_lateness_ms=3 * DAY_MS,
)
MINUTES, HALF, HOUR, SIX = range(4)


def at_noon(hours: int = 12) -> Hand:
    """A partition whose watermark stands at noon, half a minute past."""
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "first"))
    hand.pass_time(T0 + hours * HOUR_MS + 30 * SECOND_MS)
    hand.ticks.clear()
    return hand


def corrected(ticks: Iterable[TickSums], window: int) -> list[int]:
    """The corrected boundaries of a window, in minutes after noon."""
    noon = T0 + 12 * HOUR_MS
    return [
        (tick.end_ms - noon) // MINUTE_MS
        for tick in ticks
        if tick.is_correction and tick.window == window
    ]


def test_boundaries_whose_window_holds_the_pane_are_reported_again_in_the_next_minute() -> None:
    hand = at_noon()
    hand.send(view("c", T0 + 11 * HOUR_MS + 35 * MINUTE_MS, "late"))
    hand.pass_time(T0 + 12 * HOUR_MS + 59 * SECOND_MS + 999)
    assert not any(tick.is_correction for tick in hand.ticks)
    hand.pass_time(T0 + 12 * HOUR_MS + MINUTE_MS)

    assert corrected(hand.ticks, HOUR) == [-20, -10, 0]
    assert corrected(hand.ticks, SIX) == [0]
    assert corrected(hand.ticks, MINUTES) == [], "its hop is shorter than 10 minutes"
    by_end = {tick.end_ms: tick for tick in hand.ticks if tick.window == HOUR}
    assert by_end[T0 + 12 * HOUR_MS].sums[0, 0] == 1  # page views
    assert by_end[T0 + 12 * HOUR_MS].valid_through_ms == T0 + 12 * HOUR_MS


def test_many_late_events_of_a_minute_make_one_correction_each_boundary() -> None:
    hand = at_noon()
    for number in range(5):
        hand.send(view("c", T0 + 11 * HOUR_MS + 45 * MINUTE_MS + number, f"late {number}"))
    hand.pass_time(T0 + 12 * HOUR_MS + 2 * MINUTE_MS)
    (last,) = [t for t in hand.ticks if t.is_correction and t.window == SIX]

    assert corrected(hand.ticks, HALF) == [-10, 0]
    assert last.sums[0, 0] == 5
    hand.pass_time(T0 + 13 * HOUR_MS)
    assert corrected(hand.ticks, HALF) == [-10, 0], "once is enough"


@pytest.mark.parametrize("minutes, is_corrected", [(0, False), (10, True)])
def test_boundaries_less_than_24_hours_back_are_corrected(minutes: int, is_corrected: bool) -> None:
    hand = at_noon(hours=48)
    # The boundary of the end of its own pane lies exactly 24 hours back, or 10 minutes less.
    end = T0 + 24 * HOUR_MS + minutes * MINUTE_MS
    hand.send(view("c", end - 1, "late"))
    hand.pass_time(T0 + 48 * HOUR_MS + MINUTE_MS)

    ends = [tick.end_ms for tick in hand.ticks if tick.is_correction and tick.window == HOUR]
    assert (end in ends) is is_corrected
    assert min(ends) == T0 + 24 * HOUR_MS + 10 * MINUTE_MS
    assert max(ends) == end + 50 * MINUTE_MS


def test_what_lies_in_an_open_pane_needs_no_correction() -> None:
    hand = at_noon()
    hand.send(view("c", T0 + 12 * HOUR_MS + 1, "late, but nothing with it is out"))
    hand.pass_time(T0 + 12 * HOUR_MS + 5 * MINUTE_MS)

    assert not any(tick.is_correction for tick in hand.ticks)


def test_a_late_event_that_counts_in_no_pane_of_its_own_corrects_nothing() -> None:
    hand = at_noon()
    hand.send(
        {
            "type": "nps_answered",
            "event_id": "late",
            "customer_id": "c",
            "occurred_at": T0 + 11 * HOUR_MS,
            "score": 9,
        }
    )
    hand.pass_time(T0 + 12 * HOUR_MS + 5 * MINUTE_MS)

    assert not any(tick.is_correction for tick in hand.ticks)


def test_a_correction_that_waits_outlives_a_crash() -> None:
    hand = at_noon()
    hand.send(view("c", T0 + 11 * HOUR_MS + 35 * MINUTE_MS, "late"))
    hand.crash()
    hand.pass_time(T0 + 12 * HOUR_MS + MINUTE_MS)

    assert corrected(hand.ticks, HOUR) == [-20, -10, 0]


def test_a_state_that_reports_to_nobody_corrects_for_nobody() -> None:
    door, decode, state = Door(CONFIG.segments), Decoder().decode, State(CONFIG)
    on_time, late = (
        door.arrival_of(decode(json.dumps(view("c", at, name)).encode()), 0, at)
        for at, name in ((T0, "on time"), (T0 + 11 * HOUR_MS, "late"))
    )
    state.fold([on_time])
    state.timeline.advance(T0 + 12 * HOUR_MS)
    assert state.fold_late(late, T0 + 12 * HOUR_MS)
    assert state.timeline.dirty_minute is not None
    state.timeline.advance(T0 + 12 * HOUR_MS + MINUTE_MS)
    assert state.timeline.dirty_minute is None


# -- from there to the results


class Published:
    """A roll-up behind a partition, and the newest of what it published."""

    def __init__(self, partitions: int = 1) -> None:
        self.roll_up = RollUp(CONFIG, partitions)
        self.results: dict[str, PublishedResult] = {}
        self.news: list[PublishedResult] = []

    def take(self, partials: Iterable[Partial]) -> None:
        for partial in partials:
            self.roll_up.add(partial)
        self.news = self.roll_up.due(0)
        for result in self.news:
            known = self.results.get(result.result_id)
            assert known is None or known.revision < result.revision
            self.results[result.result_id] = result

    def figures(self, end_ms: int, hop: str = "10m") -> dict[str, tuple[object, ...]]:
        return {
            name: (one.value, one.numerator, one.denominator, one.low, one.high, one.complete)
            for name, one in self.results.items()
            if one.end_ms == end_ms and one.hop == hop
        }


def told_late() -> tuple[Hand, Reporter, Published, list[Partial]]:
    """Customers of one hour, all published; then late events of that hour, still to be reported."""
    hand, reporter, published = Hand(CONFIG), Reporter(CONFIG, 0), Published()
    hand.send(view("c", T0, "first"))
    hand.send(order("c", T0 + 11 * HOUR_MS + 31 * MINUTE_MS, "o1", amount=10, persona="a"))
    hand.pass_time(T0 + 12 * HOUR_MS + 30 * SECOND_MS)
    published.take(reporter.partials(hand.ticks, epoch=1))
    hand.ticks.clear()
    hand.send(order("d", T0 + 11 * HOUR_MS + 35 * MINUTE_MS, "o2", amount=4, persona="a"))
    hand.send(view("c", T0 + 11 * HOUR_MS + 36 * MINUTE_MS, "v2"))
    hand.pass_time(T0 + 12 * HOUR_MS + MINUTE_MS)
    late = [p for p in reporter.partials(hand.ticks, epoch=1) if p.is_correction]
    return hand, reporter, published, late


def test_revisable_results_are_corrected_and_all_others_stay_to_the_last_digit() -> None:
    _, _, published, late = told_late()
    noon = T0 + 12 * HOUR_MS
    before = published.figures(noon)
    published.take(late)
    after = published.figures(noon)

    assert before.keys() == after.keys()
    changed = {name.partition("|")[0] for name in before if before[name] != after[name]}
    assert changed == {"page_views", "orders", "revenue", "net_revenue", "average_order_value"}
    assert all(BY_NAME[name].is_revisable for name in changed)
    everyone = f"|1h|10m|{noon}"
    assert after[f"orders{everyone}"][0] == 2
    assert after[f"average_order_value{everyone}"][:3] == (7, 14, 2)
    assert after[f"revenue{everyone}|persona=a"][0] == 14
    assert after[f"buyers{everyone}"][0] == 1, "distinct customers are not revised"
    news = [one for one in published.news if one.end_ms == noon and one.window == "1h"]
    assert {one.revision for one in news} == {2}
    assert len(news) == news[0].results_in_tick


def test_a_correction_that_changes_nothing_is_not_published() -> None:
    _, _, published, late = told_late()
    published.take(late)
    again = [
        Partial(
            **{
                **{name: getattr(one, name) for name in Partial.__struct_fields__},
                "revision": one.revision + 1_000,
            }
        )
        for one in late
    ]
    published.take(again)

    assert published.news == []
    published.take(late)  # older than what is known
    assert published.news == []


def test_the_others_parts_of_a_corrected_boundary_stay_as_they_were() -> None:
    published = Published(partitions=2)
    hands = []
    for number in range(2):
        hand, reporter = Hand(CONFIG), Reporter(CONFIG, number)
        hand.send(view(f"c{number}", T0 + 11 * HOUR_MS + 31 * MINUTE_MS, "first"))
        hand.pass_time(T0 + 12 * HOUR_MS + 30 * SECOND_MS)
        published.take(reporter.partials(hand.ticks, epoch=1))
        hand.ticks.clear()
        hands.append((hand, reporter))
    noon, before = (
        f"page_views|1h|10m|{T0 + 12 * HOUR_MS - minutes * MINUTE_MS}" for minutes in (0, 10)
    )
    assert published.results[noon].value == 2
    hand, reporter = hands[1]
    hand.send(view("c1", T0 + 11 * HOUR_MS + 35 * MINUTE_MS, "late"))
    hand.pass_time(T0 + 12 * HOUR_MS + MINUTE_MS)
    published.take(reporter.partials(hand.ticks, epoch=1))

    assert (published.results[noon].value, published.results[noon].revision) == (3, 2)
    assert published.results[before].value == 3


def test_a_correction_splits_a_report_that_spoke_of_several_boundaries() -> None:
    """One partition falls silent, so one report of it holds for hours; the other goes on."""
    published = Published(partitions=2)
    silent, busy = Hand(CONFIG), Hand(CONFIG)
    reporters = Reporter(CONFIG, 0), Reporter(CONFIG, 1)
    silent.send(view("c", T0, "first"))
    for number in range(73):
        busy.send(view("d", T0 + number * 10 * MINUTE_MS, f"e{number}"))
    for hand, reporter in zip((silent, busy), reporters, strict=True):
        hand.pass_time(T0 + 12 * HOUR_MS + 30 * SECOND_MS)
        published.take(reporter.partials(hand.ticks, epoch=1))
        hand.ticks.clear()
    middle = T0 + 6 * HOUR_MS
    silent.send(view("c", middle - 1, "late"))
    silent.pass_time(T0 + 12 * HOUR_MS + MINUTE_MS)
    published.take(reporters[0].partials(silent.ticks, epoch=1))

    found = {
        minutes: published.results[f"page_views|30m|10m|{middle + minutes * MINUTE_MS}"]
        for minutes in (-10, 0, 10, 20, 30)
    }
    assert {m: (one.value, one.revision) for m, one in found.items()} == {
        -10: (3, 1),
        0: (4, 2),
        10: (4, 2),
        20: (4, 2),
        30: (3, 1),
    }


def test_a_boundary_inside_a_silence_that_was_never_published_is_not_corrected() -> None:
    hand, reporter, published = Hand(CONFIG), Reporter(CONFIG, 0), Published()
    hand.send(view("c", T0, "first"))
    hand.pass_time(T0 + 12 * HOUR_MS + 30 * SECOND_MS)
    published.take(reporter.partials(hand.ticks, epoch=1))
    hand.ticks.clear()
    hand.send(view("c", T0 + 6 * HOUR_MS - 1, "late"))
    hand.pass_time(T0 + 12 * HOUR_MS + MINUTE_MS)
    partials = list(reporter.partials(hand.ticks, epoch=1))
    published.take(partials)

    assert f"page_views|30m|10m|{T0 + 6 * HOUR_MS}" not in published.results
    assert published.roll_up.uncorrected == sum(
        one.is_correction
        and f"page_views|{one.window}|{one.hop}|{one.end_ms}" not in published.results
        for one in partials
    )


def test_a_partition_that_was_missing_has_nothing_to_correct() -> None:
    """It never spoke of the boundary that went out without it."""
    *_, late = told_late()
    noon = T0 + 12 * HOUR_MS
    hand, reporter = Hand(CONFIG), Reporter(CONFIG, 0)
    hand.send(view("c", T0, "first"))
    hand.pass_time(noon + 30 * SECOND_MS)
    roll_up = RollUp(CONFIG, 2, timeout_ms=0)
    for partial in reporter.partials(hand.ticks, epoch=1):
        roll_up.add(partial)
    assert {one.missing_partitions for one in roll_up.due(0) if one.end_ms == noon} == {1}
    for one in late:
        other = {name: getattr(one, name) for name in Partial.__struct_fields__} | {"partition": 1}
        roll_up.add(Partial(**other))

    assert roll_up.uncorrected == len(late)
    assert roll_up.due(0) == []


def test_a_boundary_that_is_not_remembered_is_not_corrected_but_counted() -> None:
    _, _, _, late = told_late()
    fresh = Published()
    fresh.take(late)

    assert fresh.news == []
    assert fresh.roll_up.uncorrected == len(late) > 0
