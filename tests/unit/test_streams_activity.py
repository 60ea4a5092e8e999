"""What counts as activity is configurable, and every kind that counts, counts in the same way, on time and late."""

from __future__ import annotations

import functools
import random
from typing import Any

import msgspec
import pytest

from schemas.events import TYPE_NAMES
from schemas.records import Result
from streams.config import CoreConfig
from streams.segments import Segments, dimensions
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.hand import Hand, view

T0 = 20_000 * DAY_MS
END_MS = T0 + 4 * DAY_MS
DEFAULT = CoreConfig(
    windows=WindowSet.of([Window.parse("6h/1h"), Window.parse("1d/6h")]),
    segments=Segments(customer=dimensions(persona=("a", "b"), region=())),
    max_out_of_orderness_ms=0,
)
OF_ACTIVITY = (
    "active_customers",
    "new_customers",
    "returning_ratio",
    "active_days",
    "return_frequency",
    "base_customers",
    "retained_customers",
    "churn_ratio",
    "reactivated_customers",
)
FIELDS: dict[str, dict[str, Any]] = {
    "page_viewed": {"page": "/"},
    "order_placed": {"order_id": "o", "amount": 1, "currency": "USD"},
    "order_refunded": {"order_id": "o", "amount": 1, "currency": "USD"},
    "session_ended": {},
    "subscription_cancelled": {"plan": "gold"},
    "social_interacted": {"network": "fedi", "action": "like"},
    "nps_answered": {"score": 7},
}


@functools.cache
def figures(kind: str, seed: int, *, crash: bool = False) -> list[Result]:
    """A random history of events of one kind, a third of them late, where only this kind is activity."""
    hand = Hand(msgspec.structs.replace(DEFAULT, activity=frozenset({kind})))
    rng = random.Random(seed)
    now = T0
    for number in range(150):
        now += rng.choice((0, 1, MINUTE_MS, 20 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS)) // 2
        late = rng.choice((0, 0, 1, HOUR_MS, 7 * HOUR_MS))
        event = {
            "type": kind,
            "event_id": str(number),
            "customer_id": rng.choice("uvwxyz"),
            "occurred_at": max(T0, now - late),
            **FIELDS[kind],
        }
        if rng.random() < 0.3:
            event["persona"] = rng.choice("abc")
        hand.send(event, timestamp_ms=now)
        if rng.random() < 0.5:
            hand.pass_time(now)
        if crash and number % 20 == 7:
            hand.crash()
    hand.pass_time(max(now, END_MS))
    return [
        result
        for end_ms in range(T0, END_MS + 1, 6 * HOUR_MS)
        for result in hand.results_at(end_ms)
        if result.metric in OF_ACTIVITY
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [kind for kind in FIELDS if kind != "page_viewed"])
def test_whatever_kind_is_activity_counts_as_page_views_would(kind: str, seed: int) -> None:
    expected = figures("page_viewed", seed)
    assert any(result.value for result in expected)
    assert figures(kind, seed) == expected


@pytest.mark.parametrize("kind", ["page_viewed", "order_placed", "social_interacted"])
def test_crashes_change_nothing_of_it(kind: str) -> None:
    assert figures(kind, seed=5, crash=True) == figures(kind, seed=5)


def test_without_any_activity_nobody_is_active() -> None:
    hand = Hand(msgspec.structs.replace(DEFAULT, activity=frozenset()))
    for number, kind in enumerate(FIELDS):
        for late in (0, 1):
            event = {"type": kind, "event_id": f"{number}{late}", "customer_id": "c"}
            hand.send({**event, "occurred_at": T0 + 1 + number - late, **FIELDS[kind]})
            hand.pass_time(T0 + number + 2)
    hand.pass_time(T0 + 6 * HOUR_MS)
    end_ms = T0 + 6 * HOUR_MS
    assert hand.value_at("active_customers", end_ms) == 0
    assert hand.value_at("page_views", end_ms) == 2
    assert hand.value_at("orders", end_ms) == 2
    assert hand.value_at("cancellations", end_ms) == 2
    assert hand.value_at("refunded", end_ms) == 2
    assert set(FIELDS) <= set(TYPE_NAMES)


@pytest.mark.parametrize("apart_ms", [1, DAY_MS])
def test_two_views_that_are_no_activity_are_of_one_visitor(apart_ms: int) -> None:
    hand = Hand(
        CoreConfig(
            windows=WindowSet.of([Window.parse("7d/1h")]), activity=frozenset({"order_placed"})
        )
    )
    hand.send(view("c", T0, "1"))
    hand.send(view("c", T0 + apart_ms, "2"))
    hand.pass_time(T0 + 2 * DAY_MS)
    assert hand.value_at("page_views", T0 + 2 * DAY_MS) == 2
    assert hand.value_at("visitors", T0 + 2 * DAY_MS) == 1
    assert hand.value_at("active_customers", T0 + 2 * DAY_MS) == 0
