"""The oracle on late posts, answers and tickets, by hand. What is on time is told by tests/golden."""

from __future__ import annotations

from typing import Any

import pytest

from tests.oracle.customers import OracleConfig
from tests.oracle.metrics import Expected, compute
from tests.oracle.rules import DAY_MS, Arrival, Fate, Judged, source_of

pytestmark = pytest.mark.unit

HOUR = 3_600_000
T0 = 1_700_006_400_000
CONFIG = OracleConfig(
    segments={"persona": ("a", "b"), "region": ()},
    networks=("fedi",),
    support_channels=("chat", "phone"),
)


class Story:
    """Events of one customer, on time or late, and what a tick makes of them."""

    def __init__(self) -> None:
        self._judged: list[Judged] = []

    def on_time(self, kind: str, at: int, **fields: Any) -> Story:
        self._judged.append(Judged(self._arrival(kind, at, fields), Fate.FOLDED))
        return self

    def late(self, kind: str, at: int, watermark: int, **fields: Any) -> Story:
        arrival = self._arrival(kind, at, fields)
        self._judged.append(Judged(arrival, Fate.LATE_COUNTED, T0 + watermark))
        return self

    def expected(self, metric: str, t: int, dimension: str = "", label: str = "") -> Expected:
        """In the window of two days that ends at `t`."""
        found = compute(self._judged, CONFIG, [(T0 + t, 2 * DAY_MS)])
        return found[metric, T0 + t, 2 * DAY_MS, dimension, label]

    def value(self, metric: str, t: int, dimension: str = "", label: str = "") -> float | None:
        return self.expected(metric, t, dimension, label).value

    def _arrival(self, kind: str, at: int, fields: dict[str, Any]) -> Arrival:
        number = len(self._judged)
        event = {"type": kind, "event_id": str(number), "customer_id": "c", "occurred_at": T0 + at}
        return Arrival(source_of(event), number, 0, event | fields)


@pytest.mark.parametrize("at, promoters", [(HOUR - 1, 0), (HOUR, 1), (HOUR + 1, 1)])
def test_a_late_answer_counts_unless_a_newer_one_is_known(at: int, promoters: int) -> None:
    story = Story().on_time("nps_answered", HOUR, score=3)
    story.late("nps_answered", at, 3 * HOUR, score=9)
    assert story.value("nps_promoters", 3 * HOUR) == 0
    assert story.value("nps_promoters", 4 * HOUR) == promoters
    assert story.value("nps_detractors", 4 * HOUR) == 1 - promoters
    assert story.value("journey_customers", 4 * HOUR, "stage", "loyal") == promoters


def test_a_late_reply_is_the_first_even_behind_the_tickets_newest_event() -> None:
    story = Story().on_time("ticket_opened", 0, ticket_id="t", channel="chat")
    story.on_time("ticket_resolved", 3 * HOUR, ticket_id="t")
    story.late("ticket_replied", HOUR, 4 * HOUR, ticket_id="t")
    assert story.value("first_reply_seconds", 4 * HOUR) is None
    assert story.value("first_reply_seconds", 5 * HOUR) == 3_600


@pytest.mark.parametrize("at, backlog, resolutions", [(HOUR - 1, 1, 0), (HOUR, 0, 1)])
def test_a_late_resolve_older_than_the_tickets_newest_event_is_only_counted(
    at: int, backlog: int, resolutions: int
) -> None:
    story = Story().on_time("ticket_opened", 0, ticket_id="t", channel="chat")
    story.on_time("ticket_replied", HOUR, ticket_id="t")
    story.late("ticket_resolved", at, 2 * HOUR, ticket_id="t")
    assert story.value("ticket_backlog", 2 * HOUR) == 1
    assert story.value("ticket_backlog", 3 * HOUR) == backlog
    assert story.value("tickets_resolved", 3 * HOUR, "channel", "chat") == 1
    assert story.expected("resolution_seconds", 3 * HOUR).n == resolutions


def test_what_came_before_a_late_opening_stays_unknown() -> None:
    story = Story().on_time("ticket_resolved", 2 * HOUR, ticket_id="t")
    story.late("ticket_opened", HOUR, 3 * HOUR, ticket_id="t", channel="phone")
    story.on_time("ticket_replied", 4 * HOUR, ticket_id="t")
    assert story.value("tickets_resolved", 5 * HOUR, "channel", "unknown") == 1
    assert story.value("ticket_backlog", 5 * HOUR) == 1
    assert story.value("first_reply_seconds", 5 * HOUR) == 3 * 3_600


@pytest.mark.parametrize("beyond, backlog", [(0, 1), (1, 0)])
def test_a_late_event_asks_what_is_known_at_the_watermark(beyond: int, backlog: int) -> None:
    story = Story().on_time("ticket_opened", 0, ticket_id="t", channel="chat")
    story.on_time("ticket_resolved", 0, ticket_id="t")
    watermark = 90 * DAY_MS + beyond
    story.late("ticket_reopened", 90 * DAY_MS - HOUR, watermark, ticket_id="t")
    assert story.value("ticket_backlog", 91 * DAY_MS) == backlog
    label = "chat" if backlog else "unknown"
    assert story.value("tickets_reopened", 91 * DAY_MS, "channel", label) == 1


def test_a_late_order_moves_the_stage_at_the_watermark() -> None:
    story = Story().on_time("page_viewed", 0, page="/")
    story.late("order_placed", HOUR, 5 * HOUR, amount=1, currency="USD")
    assert story.value("journey_moves", 5 * HOUR) == 0
    assert story.value("journey_moves", 5 * HOUR + 1, "from+to", "aware+customer") == 1
    assert story.value("journey_stage_seconds_p50", 6 * HOUR) == 5 * 3_600


@pytest.mark.parametrize("watermark, lapses", [(30 * DAY_MS, 0), (30 * DAY_MS + 1, 1)])
def test_a_late_activity_postpones_a_lapse_that_is_not_over(watermark: int, lapses: int) -> None:
    story = Story().on_time("page_viewed", 0, page="/")
    story.late("page_viewed", 30 * DAY_MS - HOUR, watermark, page="/")
    assert story.value("journey_moves", 31 * DAY_MS, "from+to", "aware+lapsed") == lapses
    assert story.value("journey_moves", 31 * DAY_MS, "from+to", "lapsed+aware") == lapses
    assert story.value("journey_customers", 31 * DAY_MS, "stage", "aware") == 1


def test_late_money_is_in_the_lifetime_value_from_the_next_tick_on() -> None:
    story = Story().on_time("order_refunded", 0, amount=3, currency="USD")
    story.late("order_placed", -HOUR, HOUR, amount=10, currency="USD")
    assert story.expected("clv_historic_mean", HOUR) == Expected(None, 0, 0, 0)
    assert story.expected("clv_historic_mean", HOUR + 1).numerator == 7


@pytest.mark.parametrize("at, cell", [(HOUR, "a"), (2 * HOUR + 1, "b")])
def test_levels_move_with_the_customer(at: int, cell: str) -> None:
    story = Story().on_time("page_viewed", 0, page="/", persona="a")
    story.on_time("ticket_opened", 1, ticket_id="t", channel="chat")
    story.on_time("order_placed", 2, amount=1, currency="USD")
    story.on_time("nps_answered", 3, score=9)
    story.on_time("page_viewed", 2 * HOUR, page="/", persona="b")
    for metric in ("ticket_backlog", "journey_customers", "nps_promoters", "clv_historic_mean"):
        assert story.value(metric, at, "persona", cell) == 1
    assert story.value("tickets_opened", at, "persona", "a") == 1
    assert story.value("journey_moves", at, "persona", "a") == 2  # to customer, to loyal
