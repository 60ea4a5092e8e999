"""A late order converts the session that is still open at the watermark, and no other."""

from __future__ import annotations

import pytest

from schemas.events import OrderPlaced, PageViewed
from streams.config import CoreConfig
from streams.state import State
from streams.sums import Additive
from streams.windows import DAY_MS, MINUTE_MS, Window, WindowSet

T0 = 1_700_006_400_000
GAP = 30 * MINUTE_MS
CONFIG = CoreConfig(windows=WindowSet.of([Window.parse("7d/30m")], session_gap_ms=GAP))


@pytest.mark.parametrize(
    "views, beyond_ms, converted", [(1, 0, 1), (1, 1, 0), (48, 0, 1), (48, 1, 0)]
)
def test_a_session_takes_late_orders_until_the_watermark_passes_its_closing_moment(
    views: int, beyond_ms: int, converted: int
) -> None:
    """One view falls silent after 30 min; 48 views half an hour apart reach 24 h. The pair is at, and just behind."""
    state = State(CONFIG)
    for number in range(views):
        at = T0 + number * GAP
        view = PageViewed(event_id=str(number), customer_id="c", occurred_at=at, page="/")
        state.fold([(at, number, view, 0, at)])
    watermark = T0 + views * GAP + beyond_ms
    state.timeline.advance(watermark)
    at = T0 + views * GAP - 1
    order = OrderPlaced(
        event_id="order",
        customer_id="c",
        occurred_at=at,
        order_id="o",
        amount="1",  # type: ignore[arg-type]
        currency="USD",
    )
    state.fold_late((at, 99, order, 1_000_000, at), watermark)
    state.timeline.advance(T0 + 2 * DAY_MS)
    sums = state.timeline.report(0).sums
    assert sums[Additive.SESSIONS_CLOSED, 0] == 1
    assert sums[Additive.SESSIONS_CONVERTED, 0] == converted
