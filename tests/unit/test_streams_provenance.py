"""What is said to enter a number is what enters it: events of any other type leave it as it is."""

from __future__ import annotations

import functools
import json
import random
from typing import Any

import pytest

from schemas.decode import Decoder
from schemas.events import TYPE_NAMES, CustomerEvent, OrderPlaced, OrderRefunded, PageViewed
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.metrics import BY_NAME, METRICS, Metric
from streams.provenance import COMMON, PROVENANCE, SUM_NAMES, reads_of, rows_of
from streams.segments import Segments, Values
from streams.sums import ROWS, Additive, row_of
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet

T0 = 20_000 * DAY_MS
ATS_MS = tuple(T0 + hours * HOUR_MS for hours in (24, 36, 60))
CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("6h/1h"), Window.parse("12h/12h")]),
    segments=Segments(channel=Values(("email", "search"))),
)
OWN: dict[str, dict[str, Any]] = {
    "page_viewed": {"page": "/"},
    "session_ended": {},
    "order_placed": {"order_id": "o", "amount": 3, "currency": "USD"},
    "order_refunded": {"order_id": "o", "amount": 1, "currency": "USD"},
    "subscription_cancelled": {"plan": "gold"},
    "social_interacted": {"network": "fedi", "action": "like"},
    "nps_answered": {"score": 9},
    "csat_answered": {"channel": "chat", "score": 5, "scale_max": 5},
    "ticket_opened": {"ticket_id": "t", "channel": "chat"},
    "ticket_replied": {"ticket_id": "t"},
    "ticket_resolved": {"ticket_id": "t"},
    "ticket_reopened": {"ticket_id": "t"},
}
VARIED: dict[str, list[dict[str, Any]]] = {
    "social_interacted": [
        {"action": "unfollow"},
        {"action": "share", "sentiment": -0.5, "impressions": 7},
    ],
    "nps_answered": [{"score": 3}, {"score": 7}],
    "csat_answered": [{"score": 2}],
}


def history() -> list[dict[str, Any]]:
    """Two days of customers who come and go.

    One event of each type lies at the very start, by somebody of whom nothing more is heard, so that every part of
    the history is observed from there.
    """
    rng = random.Random(7)
    found = [
        {"type": name, "event_id": name, "customer_id": "first", "occurred_at": T0, **own}
        for name, own in OWN.items()
    ]
    now = T0
    while now < ATS_MS[-1]:
        now += rng.randrange(1, 7 * MINUTE_MS)
        name = rng.choice([*OWN, "page_viewed", "page_viewed", "order_placed"])
        newest = (now - T0) // (2 * HOUR_MS) + 9
        customer = (
            rng.randrange(newest - 9, newest) if rng.random() < 0.9 else rng.randrange(newest)
        )
        event = {"type": name, "event_id": str(now), "customer_id": str(customer)}
        if name == "page_viewed":
            event |= {"channel": rng.choice(("email", "search", "fax"))}
            event |= {"session_id": rng.choice("12")} if rng.random() < 0.5 else {}
        varied = rng.choice([{}, *VARIED.get(name, [])])
        found.append({**event, "occurred_at": now, **OWN[name], **varied})
    return found


@functools.cache
def everyones_figures(kinds: frozenset[type]) -> dict[tuple[str, str, str, str], Result]:
    """The totals and channels, computed from events of these types alone."""
    decode = Decoder().decode
    events = [
        decode(json.dumps(one).encode()) for one in history() if TYPE_NAMES[one["type"]] in kinds
    ]
    return {
        (one.metric, one.at, one.window, str(one.dimensions)): one
        for one in evaluate(CONFIG, events, ATS_MS)
        if not one.segment
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_events_of_other_types_leave_a_metric_as_it_is(metric: Metric) -> None:
    everything = everyones_figures(frozenset(TYPE_NAMES[name] for name in OWN))
    alone = everyones_figures(frozenset(reads_of(metric)))
    expected = {key: one for key, one in everything.items() if key[0] == metric.name}
    assert expected == {key: one for key, one in alone.items() if key[0] == metric.name}
    assert any(one.value or one.n for one in expected.values())


def test_every_sum_has_a_name_and_a_definition() -> None:
    assert len(PROVENANCE) == len(SUM_NAMES) == len(set(SUM_NAMES)) == ROWS
    assert all(one.what and one.reads for one in PROVENANCE)


def test_the_fields_that_are_read_exist_and_are_not_the_common_ones() -> None:
    for one in PROVENANCE:
        for kind, fields in one.reads.items():
            assert issubclass(kind, CustomerEvent)
            assert set(fields) <= set(kind.__struct_fields__) - set(COMMON)


def test_a_channel_is_read_by_metrics_that_are_given_by_channel() -> None:
    assert "channel" in reads_of(BY_NAME["sessions_started"])[PageViewed]
    assert "channel" not in reads_of(BY_NAME["sessions_per_visitor"])[PageViewed]


def test_the_sums_of_a_metric_are_those_of_its_formula() -> None:
    assert rows_of(BY_NAME["net_revenue"]) == (
        row_of(Additive.REVENUE_MICROS),
        row_of(Additive.REFUNDED_MICROS),
    )
    assert reads_of(BY_NAME["net_revenue"]) == {
        OrderPlaced: ("amount", "currency"),
        OrderRefunded: ("amount", "currency"),
    }
    assert rows_of(BY_NAME["session_duration_seconds_p90"]) == (row_of(Additive.SESSION_MS),)
