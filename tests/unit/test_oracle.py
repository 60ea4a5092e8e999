"""The oracle held against figures worked out by hand: who checks the checker."""

from __future__ import annotations

from typing import Any

import pytest

from tests.oracle.customers import OracleConfig
from tests.oracle.metrics import Expected, compute, wilson
from tests.oracle.rules import DAY_MS, Arrival, Fate, Judged, Quiet, Rules, account, milliseconds

pytestmark = pytest.mark.unit

MINUTE = 60_000
GAP = 30 * MINUTE
T0 = 1_700_006_400_000  # a UTC day begins
CONFIG = OracleConfig(
    segments={"persona": ("a", "b"), "region": ("n",)}, channels=("email",), rates={"EUR": "1.25"}
)
SOURCE_OF = {"page_viewed": 0, "session_ended": 0, "social_interacted": 2}


def event(kind: str, at: int, customer: str = "c", **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "event_id": f"{kind} {at} {customer} {fields}",
        "customer_id": customer,
        "occurred_at": T0 + at,
        **fields,
    }


def view(at: int, customer: str = "c", **fields: Any) -> dict[str, Any]:
    return event("page_viewed", at, customer, page="/", **fields)


def order(at: int, customer: str = "c", amount: object = 1, **fields: Any) -> dict[str, Any]:
    return event("order_placed", at, customer, amount=amount, **{"currency": "USD", **fields})


def on_time(*events: dict[str, Any]) -> list[Judged]:
    return [
        Judged(Arrival(SOURCE_OF.get(one["type"], 1), offset, 0, one), Fate.FOLDED)
        for offset, one in enumerate(events)
    ]


def late(one: dict[str, Any], watermark: int) -> Judged:
    arrival = Arrival(SOURCE_OF.get(one["type"], 1), 10**6, 0, one)
    return Judged(arrival, Fate.LATE_COUNTED, T0 + watermark)


class Window:
    """The metrics of the window of `w` that ends at `t`."""

    def __init__(self, judged: list[Judged], t: int, w: int) -> None:
        self._t, self._w = T0 + t, w
        self._found = compute(judged, CONFIG, [(self._t, w)])

    def expected(self, metric: str, dimension: str = "", label: str = "") -> Expected:
        return self._found[metric, self._t, self._w, dimension, label]

    def __call__(self, metric: str, dimension: str = "", label: str = "") -> float | None:
        return self.expected(metric, dimension, label).value


@pytest.mark.parametrize("off, closed, bounces", [(0, 1, 0), (1, 2, 2)])
def test_the_gap_must_be_exceeded(off: int, closed: int, bounces: int) -> None:
    window = Window(on_time(view(0), view(GAP + off)), 4 * GAP, 4 * GAP)
    assert window("sessions_closed") == closed
    assert window.expected("bounce_ratio").numerator == bounces


@pytest.mark.parametrize("at, converted", [(0, 1), (GAP, 1), (GAP + 1, 0)])
def test_a_silent_session_takes_orders_up_to_and_with_its_closing_moment(
    at: int, converted: int
) -> None:
    window = Window(on_time(view(0), order(at)), 4 * GAP, 4 * GAP)
    assert window("sessions_converted") == converted


@pytest.mark.parametrize("at, converted", [(MINUTE - 1, 1), (MINUTE, 0)])
def test_an_ended_session_takes_orders_before_its_end(at: int, converted: int) -> None:
    events = on_time(view(0), event("session_ended", MINUTE), order(at))
    assert Window(events, 4 * GAP, 4 * GAP)("sessions_converted") == converted


def test_a_session_is_counted_where_it_closes() -> None:
    events = on_time(view(0, channel="email"))
    assert Window(events, GAP, GAP)("sessions_closed") == 0
    assert Window(events, GAP, GAP)("sessions_started") == 1
    assert Window(events, 2 * GAP, GAP)("sessions_closed") == 1
    assert Window(events, 2 * GAP, GAP)("sessions_closed", "channel", "email") == 1


def test_other_ids_end_a_session_and_foreign_ends_do_not() -> None:
    events = on_time(
        view(0, session_id="1"),
        view(1_000),
        event("session_ended", 2_000, session_id="2"),
        view(3_000, session_id="2"),
    )
    window = Window(events, 4 * GAP, 4 * GAP)
    assert window("sessions_closed") == 2
    assert window.expected("session_duration_seconds").numerator == 1.0
    assert window("visit_interval_seconds") == 3.0
    assert window("session_duration_seconds_p50") == 0.0
    assert window("session_duration_seconds_p90") == 1.0


def test_a_session_lasts_a_day_at_most() -> None:
    events = on_time(*(view(number * GAP) for number in range(50)), order(DAY_MS))
    window = Window(events, 2 * DAY_MS, 2 * DAY_MS)
    assert window("sessions_started") == 2
    assert window.expected("session_duration_seconds").numerator == (47 + 1) * 1800
    assert window("sessions_converted") == 1  # the order at 24 h belongs to the second


def test_money_is_rounded_half_to_even_once_an_event() -> None:
    events = on_time(
        order(0, amount="0.000002", currency="EUR"),  # 2.5 millionths
        order(1, amount=0),
        event("order_refunded", 2, amount=5, currency="USD"),
    )
    window = Window(events, DAY_MS, DAY_MS)
    assert (window("revenue"), window("refunded")) == (0.000002, 5.0)
    assert window("net_revenue") == -4.999998
    assert window.expected("average_order_value").denominator == 2


def test_the_four_kinds_of_customers() -> None:
    w = DAY_MS
    events = on_time(
        view(0, "returned"),
        view(0, "stayed"),
        view(2 * w, "stayed"),
        view(2 * w, "left"),
        view(3 * w, "returned"),
        view(3 * w, "stayed"),
        view(3 * w, "fresh"),
    )
    window = Window(events, 4 * w, w)
    assert window("active_customers") == 3
    assert window("base_customers") == 2
    assert window("retained_customers") == 1
    assert window("churned_customers") == 1
    assert window("reactivated_customers") == 1
    assert window("new_customers") == 1
    assert window("churn_ratio") == 0.5


def test_the_base_is_unknown_until_two_windows_were_observed() -> None:
    events = on_time(view(MINUTE))
    assert Window(events, 2 * DAY_MS + MINUTE - 1, DAY_MS)("base_customers") is None
    assert Window(events, 2 * DAY_MS + MINUTE, DAY_MS)("base_customers") == 1
    assert Window(events, DAY_MS, DAY_MS).expected("page_views").complete is False


def test_days_are_counted_even_where_the_window_cuts_them() -> None:
    noon = DAY_MS // 2
    events = on_time(view(0), view(noon - 1), view(DAY_MS), view(DAY_MS + noon + 1))
    assert Window(events, DAY_MS + noon, DAY_MS)("active_days") == 1
    assert Window(events, DAY_MS + noon + MINUTE, DAY_MS)("active_days") == 1
    assert Window(events, DAY_MS + noon - 1, DAY_MS)("active_days") == 2


def test_a_move_takes_effect_at_the_next_activity() -> None:
    tell = event("social_interacted", MINUTE, persona="b", network="fedi", action="like")
    events = on_time(view(0, persona="a"), tell, view(DAY_MS), order(DAY_MS + 1, persona="b"))
    before = Window(events, DAY_MS, DAY_MS)
    assert before("visitors", "persona", "a") == 1
    assert before("sessions_closed", "persona", "a") == 1
    after = Window(events, 2 * DAY_MS, DAY_MS)
    assert after("visitors", "persona", "b") == 1
    assert after("retained_customers", "persona", "a") == 1
    assert after("retained_customers", "persona", "b") == 0


def test_a_session_that_expired_before_a_move_closes_in_the_old_cell() -> None:
    for off, cell in ((0, "b"), (1, "a")):
        events = on_time(view(0, persona="a"), order(GAP + off, persona="b"))
        assert Window(events, DAY_MS, DAY_MS)("sessions_closed", "persona", cell) == 1


def test_a_late_event_counts_only_for_ticks_after_its_fold() -> None:
    events = [*on_time(view(0)), late(order(MINUTE, amount=3), 10 * MINUTE)]
    assert Window(events, 10 * MINUTE, DAY_MS)("revenue") == 0
    assert Window(events, 11 * MINUTE, DAY_MS)("revenue") == 3


def test_a_late_event_older_than_the_last_activity_is_no_activity() -> None:
    events = [
        *on_time(view(0), view(DAY_MS + MINUTE)),
        late(view(DAY_MS // 2), DAY_MS + 2 * MINUTE),
    ]
    window = Window(events, DAY_MS + 3 * MINUTE, DAY_MS)
    assert (window("page_views"), window("active_days"), window("base_customers")) == (2, 1, None)
    assert window("sessions_started") == 1


def test_a_late_first_order_makes_the_former_first_a_repeat() -> None:
    first = order(DAY_MS + MINUTE, persona="b")
    events = [*on_time(view(0, persona="a"), first), late(order(MINUTE), DAY_MS + 2 * MINUTE)]
    window = Window(events, DAY_MS + 2 * MINUTE, DAY_MS)
    assert (window("new_buyers"), window("repeat_orders")) == (1, 0)
    window = Window(events, DAY_MS + 3 * MINUTE, DAY_MS)
    assert (window("new_buyers"), window("repeat_orders", "persona", "b")) == (0, 1)


def test_a_late_order_marks_a_session_that_is_still_open() -> None:
    for watermark, converted in ((GAP, 1), (GAP + 1, 0)):
        events = [*on_time(view(0)), late(order(MINUTE), watermark)]
        assert Window(events, DAY_MS, DAY_MS)("sessions_converted") == converted


def test_the_interval_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def fates(*steps: Arrival | Quiet) -> list[str]:
    return [str(one.fate) for one in Rules(out_of_orderness_ms=5_000).run(steps)]


def arrival(at: int, name: str = "", source: int = 0, record_ms: int | None = None) -> Arrival:
    named = {**view(at), "event_id": name or f"event {at}"}
    return Arrival(source, 0, T0 + at if record_ms is None else T0 + record_ms, named)


ALONE = Quiet(frozenset({1, 2, 3}))


@pytest.mark.parametrize("at, fate", [(5_000, "waiting"), (4_999, "late_counted")])
def test_late_is_what_lies_behind_the_watermark(at: int, fate: str) -> None:
    assert fates(ALONE, arrival(10_000), arrival(at)) == ["waiting", fate]


def test_a_fast_clock_does_not_drag_the_watermark() -> None:
    assert fates(ALONE, arrival(90_000, record_ms=10_000), arrival(5_000)) == ["waiting", "waiting"]


def test_the_slowest_input_that_is_not_idle_holds_the_watermark() -> None:
    quiet = Quiet(frozenset({2, 3}))
    steps = (arrival(10_000), arrival(8_000, source=1), arrival(4_000))
    assert fates(quiet, *steps) == ["waiting"] * 3
    assert fates(quiet, *steps, arrival(2_000)) == ["waiting"] * 3 + ["late_counted"]


@pytest.mark.parametrize("at, fate", [(0, "late_counted"), (-1, "too_late")])
def test_later_than_allowed_is_too_late(at: int, fate: str) -> None:
    assert fates(ALONE, arrival(DAY_MS + 5_000), arrival(at)) == ["waiting", fate]


@pytest.mark.parametrize("others, fate", [(15, "duplicate"), (16, "folded")])
def test_the_last_sixteen_ids_are_remembered(others: int, fate: str) -> None:
    steps = [
        arrival(0, "x"),
        *(arrival(10 + number) for number in range(others)),
        arrival(100, "x"),
    ]
    end = Arrival(0, 0, T0 + MINUTE, {"type": "time_passed", "until": T0 + MINUTE})
    assert fates(ALONE, *steps, end)[-2:] == [fate, "control"]


@pytest.mark.parametrize("off, fate", [(0, "duplicate"), (1, "folded")])
def test_ids_are_forgotten_after_a_day_of_silence(off: int, fate: str) -> None:
    end = Arrival(0, 0, T0 + 3 * DAY_MS, {"type": "time_passed", "until": T0 + 3 * DAY_MS})
    steps = (arrival(0, "x"), arrival(DAY_MS + off, "x"), end)
    assert fates(ALONE, *steps) == ["folded", fate, "control"]


def test_the_account_balances() -> None:
    dead = Arrival(0, 0, 0, {}, dead=True)
    judged = Rules().run((ALONE, arrival(0), dead, arrival(10_000), arrival(1), arrival(-DAY_MS)))
    counted = account(judged, 0)
    assert counted == {
        "consumed": 5,
        "folded": 2,
        "late_counted": 1,
        "too_late": 1,
        "duplicate": 0,
        "dead": 1,
        "control": 0,
        "waiting": 1,
    }


def test_times_are_read_to_the_millisecond() -> None:
    assert milliseconds("2023-11-15T01:00:00.5+01:00") == T0 + 500
    assert milliseconds("2023-11-15T00:00:00Z") == T0
