"""What customers have been worth so far."""

from __future__ import annotations

import pytest

from streams.config import CoreConfig
from streams.segments import Segments, dimensions
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.told import T0, Told

CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m")]),
    segments=Segments(customer=dimensions(persona=("a", "b"), region=())),
)
END = T0 + HOUR_MS


@pytest.fixture
def told() -> Told:
    return Told(CONFIG)


def parts(told: Told, at_ms: int, **labels: str) -> tuple[object, object]:
    found = told.at("clv_historic_mean", at_ms, 0, **labels)
    return found.numerator, found.denominator


def test_it_is_over_all_orders_and_refunds_ever_and_over_those_who_ordered(told: Told) -> None:
    told.tell("order_placed", "c", T0 - 40 * DAY_MS, amount=10)
    told.tell("order_placed", "c", T0, amount=5)
    told.tell("order_refunded", "c", T0, amount="0.5")
    told.tell("order_placed", "d", T0, amount=0)
    told.tell("page_viewed", "e", T0)

    assert parts(told, END) == (14.5, 2)
    assert told.at("clv_historic_mean", END).value == 7.25


def test_an_order_at_the_boundary_is_not_before_it(told: Told) -> None:
    told.tell("page_viewed", "d", T0)
    told.tell("order_placed", "c", END, amount=10)

    assert parts(told, END) == (0, 0)
    assert told.at("clv_historic_mean", END).value is None
    assert parts(told, END + 10 * MINUTE_MS) == (10, 1)


def test_a_refund_of_somebody_without_an_order_waits_for_the_first(told: Told) -> None:
    told.tell("order_refunded", "c", T0, amount=7)
    told.tell("order_placed", "d", T0, amount=1)
    told.tell("order_placed", "c", T0 + 20 * MINUTE_MS, amount=3)

    assert parts(told, T0 + 20 * MINUTE_MS) == (1, 1)
    assert parts(told, T0 + 30 * MINUTE_MS) == (-3, 2)


def test_it_goes_with_the_customer(told: Told) -> None:
    told.tell("order_placed", "c", T0, amount=3, persona="a")
    told.tell("page_viewed", "c", T0 + 15 * MINUTE_MS, persona="b")
    told.tell("order_refunded", "c", T0 + 25 * MINUTE_MS, amount=1)

    assert parts(told, T0 + 10 * MINUTE_MS, persona="a") == (3, 1)
    assert parts(told, END, persona="a") == (0, 0)
    assert parts(told, END, persona="b") == (2, 1)


def test_late_money_counts_from_the_next_boundary_on(told: Told) -> None:
    told.pass_time(T0)
    told.send("page_viewed", "c", T0)
    told.pass_time(T0 + 35 * MINUTE_MS)
    told.send("order_placed", "c", T0 + 5 * MINUTE_MS, amount=4)
    told.send("order_refunded", "c", T0 + 6 * MINUTE_MS, amount=1)
    told.pass_time(T0 + 2 * HOUR_MS)

    found = [told.live("clv_historic_mean", T0 + m * MINUTE_MS).numerator for m in (30, 40)]
    assert found == [0, 3]
