"""The CDNOW sample as events: each line an order, at 00:00Z of its day. See tests/data/cdnow/README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.oracle.rules import DAY_MS, Judged, on_time

FILE = Path(__file__).parent.parent / "data" / "cdnow" / "CDNOW_sample.txt"

# at -> buyers, orders and revenue of 28 days; revenue, new buyers and orders of others of 7 days;
# base and retained of 28 days. From the README beside the file.
FIGURES = {
    "1997-04-01T00:00:00Z": (851, 1084, 39389.15, 6695.67, 30, 113, 987, 157),
    "1998-07-01T00:00:00Z": (131, 159, 5244.73, 992.50, 0, 28, 120, 36),
}
WEEK_MS = 7 * DAY_MS
MONTH_MS = 28 * DAY_MS


def events() -> list[dict[str, Any]]:
    """All 6,919 orders, in the order of the file."""
    found = []
    for number, line in enumerate(FILE.read_text().splitlines()):
        _, customer, day, _, amount = line.split()
        found.append(
            {
                "type": "order_placed",
                "event_id": f"cdnow-{number}",
                "customer_id": customer,
                "occurred_at": f"{day[:4]}-{day[4:6]}-{day[6:]}T00:00:00Z",
                "order_id": f"cdnow-{number}",
                "amount": amount,
                "currency": "USD",
            }
        )
    return found


def judged() -> list[Judged]:
    """The orders, all on time."""
    return on_time(events())
