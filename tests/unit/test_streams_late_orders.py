"""A late order converts the session that is still open at the watermark, and no other."""

from __future__ import annotations

import pytest

from streams.config import CoreConfig
from streams.windows import DAY_MS, MINUTE_MS, Window, WindowSet
from tests.rig.hand import Hand, order, view

T0 = 1_700_006_400_000
GAP = 30 * MINUTE_MS
CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("7d/30m")], session_gap_ms=GAP), max_out_of_orderness_ms=0
)


@pytest.mark.parametrize(
    "views, beyond_ms, converted", [(1, 0, 1), (1, 1, 0), (48, 0, 1), (48, 1, 0)]
)
def test_a_session_takes_late_orders_until_the_watermark_passes_its_closing_moment(
    views: int, beyond_ms: int, converted: int
) -> None:
    """One view falls silent after 30 min; 48 views half an hour apart reach 24 h. The pair is at, and just behind."""
    hand = Hand(CONFIG)
    for number in range(views):
        hand.send(view("c", T0 + number * GAP, str(number)))
    closing_ms = T0 + views * GAP
    hand.pass_time(closing_ms + beyond_ms)
    hand.send(order("c", closing_ms - 1, "late"))
    end_ms = T0 + 2 * DAY_MS
    hand.pass_time(end_ms)
    assert hand.value_at("sessions_closed", end_ms) == 1
    assert hand.value_at("sessions_converted", end_ms) == converted


def test_a_late_order_of_nothing_is_an_order() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0 + MINUTE_MS)
    hand.send(order("c", T0, "free", amount=0))
    end_ms = T0 + DAY_MS
    hand.pass_time(end_ms)
    assert hand.value_at("orders", end_ms) == 1
    assert hand.value_at("revenue", end_ms) == 0
