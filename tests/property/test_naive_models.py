"""Rules that are easily got wrong, each against a few naive lines: latest answers, moves, refunds, corrections.

The stories are those of `test_engine_stories`. A model is a loop over what was folded by a boundary, from the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings

from schemas.records import PublishedResult, Result
from streams.config import CoreConfig
from streams.metrics import BY_NAME
from streams.rollup import RollUp
from streams.segments import Segments, dimensions
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.oracle.lives import EPOCH_MS
from tests.oracle.rules import SOURCES, Arrival, Fate, Rules, folded, time_of
from tests.property.engine_runs import Run, fed, partials_of, results_at
from tests.property.test_engine_stories import (
    CARE,
    CONFIG,
    LONG,
    SHORT,
    SIZES,
    Step,
    stories_of,
    told,
)

pytestmark = pytest.mark.property

ACTIVITIES = ("page_viewed", "order_placed")
Asked = Callable[[str, str], Result]
"""The engine's result by metric and persona ('' for everyone)."""


class Fold(NamedTuple):
    """One folded event; `place` is where time stood: its own, or the watermark behind which it was."""

    place: int
    time: int
    event: dict[str, Any]
    is_late: bool


def folds_of(stream: list[Arrival]) -> list[Fold]:
    """What was folded, in the order in which it was."""
    return [
        Fold(place, time_of(one.arrival), dict(one.arrival.event), one.fate is Fate.LATE_COUNTED)
        for place, one in folded(Rules(out_of_orderness_ms=0).run(stream))
    ]


def asked(story: list[Step]) -> Iterator[tuple[int, int, list[Fold], Asked]]:
    """At boundaries around all that happened: t, w, what was folded by then, and what the engine says."""
    stream, end = told(story)
    engine = fed(CONFIG, ([one] for one in stream))
    folds = folds_of(stream)
    for w, hop in SIZES:
        around = {time // hop * hop + up for _, time, _, _ in folds for up in (hop, w)}
        inside = sorted(t for t in around if EPOCH_MS < t <= end)
        for t in inside[:: 1 + len(inside) // 10]:
            found = {
                (one.metric, one.segment.get("persona", "")): one
                for one in results_at(CONFIG, [engine], [(t, w, hop)])
                if not one.dimensions and "region" not in one.segment
            }

            def said(
                metric: str, persona: str, found: dict[tuple[str, str], Result] = found
            ) -> Result:
                return found[metric, persona]

            yield t, w, [fold for fold in folds if fold.place < t], said


def move(
    kind: str, stride: int = 0, persona: str | None = None, *, behind: bool = False, who: str = "x"
) -> Step:
    return (kind, stride, behind, who, persona, None)


@settings(max_examples=25)
@given(story=stories_of((*CARE, "pleased", "angry", "pleased", "angry"), SHORT + LONG))
@example(
    story=[move("angry", HOUR_MS), ("pass", 2 * HOUR_MS), move("pleased", HOUR_MS, behind=True)]
)
@example(story=[move("pleased"), move("angry"), ("pass", DAY_MS), move("pleased", 1, behind=True)])
def test_the_latest_answer_of_each_customer_counts(story: list[Step]) -> None:
    for t, w, folds, said in asked(story):
        latest: dict[str, tuple[int, int]] = {}
        for _, time, event, _ in folds:
            if event["type"] == "nps_answered":
                customer = event["customer_id"]
                if customer not in latest or time >= latest[customer][0]:
                    latest[customer] = (time, event["score"])
        scores = [score for time, score in latest.values() if time >= t - w]
        promoters, detractors = scores.count(9), scores.count(6)
        assert said("nps_promoters", "").value == promoters
        assert said("nps_detractors", "").value == detractors
        right = 100 * (promoters - detractors) / len(scores) if scores else None
        assert said("nps", "").value == right


@settings(max_examples=25)
@given(story=stories_of(CARE, SHORT))
@example(
    story=[move("page_viewed", persona="a"), move("like", 1, "b"), move("order_placed", DAY_MS)]
)
@example(
    story=[
        move("ticket_opened", persona="a"),
        move("like", 1, "b"),
        move("page_viewed", 1),
        move("like", 1, "a"),
        ("pass", DAY_MS),
        move("order_placed", HOUR_MS, behind=True),
    ]
)
def test_who_moves_takes_everything_along_but_what_was_counted(story: list[Step]) -> None:
    for t, w, folds, said in asked(story):
        cell: dict[str, str] = {}
        newest: dict[str, tuple[int, str]] = {}
        active: dict[str, int] = {}
        orders: Counter[str] = Counter()
        for _, time, event, is_late in folds:
            who, kind = event["customer_id"], event["type"]
            is_newer = who not in active or time > active[who]
            is_activity = kind in ACTIVITIES and (is_newer or not is_late)
            persona = event.get("persona")
            if persona and (who not in newest or time >= newest[who][0]):
                newest[who] = (time, persona)
            if is_activity or who not in active:
                cell[who] = newest[who][1] if who in newest else "unknown"
            if is_activity:
                active[who] = max(time, active.get(who, time))
            if kind == "order_placed" and t - w <= time < t:
                orders[cell[who]] += 1
        now_active = Counter(cell[who] for who, time in active.items() if time >= t - w)
        everybody = Counter(cell.values())
        for persona in ("a", "b", "other", "unknown"):
            assert said("active_customers", persona).value == now_active[persona]
            assert said("journey_customers", persona).value == everybody[persona]
            assert said("orders", persona).value == orders[persona]


@settings(max_examples=25)
@given(story=stories_of(("order_placed", "order_refunded", "order_refunded", "like"), SHORT))
@example(story=[move("order_refunded"), move("order_placed", 1, "b")])
@example(story=[move("order_refunded"), ("pass", DAY_MS), move("order_placed", 1, behind=True)])
def test_refunds_count_on_their_day_and_against_whoever_ever_ordered(story: list[Step]) -> None:
    for t, w, folds, said in asked(story):
        net: Counter[str] = Counter()
        buyers = set()
        revenue = refunded = 0
        for _, time, event, _ in folds:
            who, amount = event["customer_id"], event.get("amount", 0)
            inside = t - w <= time < t
            if event["type"] == "order_placed":
                buyers.add(who)
                net[who] += amount
                revenue += amount * inside
            elif event["type"] == "order_refunded":
                net[who] -= amount
                refunded += amount * inside
        assert said("revenue", "").value == revenue
        assert said("refunded", "").value == refunded
        assert said("net_revenue", "").value == revenue - refunded
        worth = said("clv_historic_mean", "")
        assert (worth.numerator, worth.n) == (sum(net[who] for who in buyers), len(buyers))


# -- corrections

HOURLY = CoreConfig(
    windows=WindowSet.of([Window.parse(text) for text in ("30m/10m", "2h/10m", "3h/1h")]),
    segments=Segments(customer=dimensions(persona=("a", "b"), region=())),
    max_out_of_orderness_ms=0,
    max_future_ms=1_000 * DAY_MS,
)
COUNTED = {
    "page_views": "page_viewed",
    "orders": "order_placed",
    "tickets_opened": "ticket_opened",
    "tickets_resolved": "ticket_resolved",
    "tickets_reopened": "ticket_reopened",
}
CLOSE = (0, 1, MINUTE_MS - 1, MINUTE_MS, 10 * MINUTE_MS, 30 * MINUTE_MS)


@settings(max_examples=40)
@given(story=stories_of(CARE, CLOSE))
@example(story=[move("like"), ("pass", HOUR_MS), move("like", 10 * MINUTE_MS, behind=True)])
@example(
    story=[
        move("order_placed", HOUR_MS),
        ("pass", 2 * HOUR_MS),
        move("order_placed", 90 * MINUTE_MS, behind=True),
    ]
)
def test_what_was_published_is_told_again_as_if_nothing_had_been_late(story: list[Step]) -> None:
    published = publish(story)
    folds = folds_of(told(story)[0])
    for revisions in published.values():
        first, last = revisions[0], revisions[-1]
        if first.segment or first.dimensions:
            continue
        if not BY_NAME[first.metric].is_revisable:
            assert (first.value, first.n, first.low) == (last.value, last.n, last.low)
            continue
        start = last.end_ms - Window(last.window, last.hop).size_ms
        inside = [fold.event for fold in folds if start <= fold.time < last.end_ms]
        kinds = Counter(event["type"] for event in inside)
        if first.metric in COUNTED:
            assert last.value == kinds[COUNTED[first.metric]]
        elif first.metric == "revenue":
            assert last.value == 2 * kinds["order_placed"]
        elif first.metric == "net_revenue":
            assert last.value == 2 * kinds["order_placed"] - kinds["order_refunded"]
        elif first.metric == "repeat_orders":
            firsts = firsts_of(folds)
            assert last.value == kinds["order_placed"] - sum(
                start <= moment < last.end_ms for moment in firsts
            )
        elif first.metric == "sentiment_mean":
            likes = sum(event.get("action") == "like" for event in inside)
            assert (last.numerator, last.n) == (likes / 2, likes)


def firsts_of(folds: list[Fold]) -> list[int]:
    """The moments of the first orders, by event time."""
    firsts: dict[str, int] = {}
    for _, time, event, _ in folds:
        if event["type"] == "order_placed":
            firsts[event["customer_id"]] = min(time, firsts.get(event["customer_id"], time))
    return list(firsts.values())


def publish(story: list[Step]) -> dict[str, list[PublishedResult]]:
    """All revisions of every result, the newest last; revisions only rise."""
    stream, end = told(story)
    for source in range(SOURCES):
        until = {"type": "time_passed", "until": end + HOUR_MS}
        stream.append(Arrival(source, len(stream), end + HOUR_MS, until))
    engine, roll_up = Run(HOURLY), RollUp(HOURLY, 1)
    published: dict[str, list[PublishedResult]] = {}
    known = 0
    for one in stream:
        engine.feed([one])
        for partial in partials_of(engine, 0, told=known):
            roll_up.add(partial)
        known = len(engine.ticks)
        for result in roll_up.due(0):
            revisions = published.setdefault(result.result_id, [])
            assert not revisions or result.revision > revisions[-1].revision
            revisions.append(result)
    return published
