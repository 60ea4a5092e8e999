"""CDNOW as events, and the published facts about it (tests/data/cdnow/README.md)."""

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[1] / "data" / "cdnow" / "CDNOW_sample.txt"
WINDOWS = ("28d/1d", "7d/1d")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the moment `at`."""

    at: str
    values: dict[tuple[str, str], float]
    """(metric, window) -> value"""

    @property
    def at_ms(self) -> int:
        """The moment in epoch milliseconds."""
        return int(datetime.datetime.fromisoformat(self.at).timestamp() * 1000)


FACTS = (
    Facts(
        "1997-04-01T00:00:00Z",
        {
            ("buyers", "28d"): 851,
            ("orders", "28d"): 1084,
            ("revenue", "28d"): 39389.15,
            ("revenue", "7d"): 6695.67,
            ("new_buyers", "7d"): 30,
            # 7-day orders of others than those whose first line it is.
            ("repeat_orders", "7d"): 113,
            ("base_customers", "28d"): 987,
            ("retained_customers", "28d"): 157,
            ("churned_customers", "28d"): 987 - 157,
            ("retention_ratio", "28d"): 157 / 987,
        },
    ),
    Facts(
        "1998-07-01T00:00:00Z",
        {
            ("buyers", "28d"): 131,
            ("orders", "28d"): 159,
            ("revenue", "28d"): 5244.73,
            ("revenue", "7d"): 992.50,
            ("new_buyers", "7d"): 0,
            ("repeat_orders", "7d"): 28,
            ("base_customers", "28d"): 120,
            ("retained_customers", "28d"): 36,
            ("churned_customers", "28d"): 120 - 36,
            ("retention_ratio", "28d"): 36 / 120,
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Order:
    """One purchase as a record."""

    customer: str
    at_ms: int
    payload: bytes


def orders() -> Iterator[Order]:
    """All purchases in the order of the file, which is by customer: heavily out of event-time
    order.
    """
    for number, line in enumerate(FILE.read_text().splitlines()):
        _, customer, date, _, amount = line.split()
        day = datetime.datetime.strptime(date, "%Y%m%d").replace(tzinfo=datetime.UTC)
        event = {
            "type": "order_placed",
            "event_id": f"cdnow-{number}",
            "customer_id": customer,
            "occurred_at": day.isoformat().replace("+00:00", "Z"),
            "order_id": f"cdnow-{number}",
            # As text: 29.33 is no binary fraction.
            "amount": amount,
            "currency": "USD",
        }
        yield Order(customer, int(day.timestamp() * 1000), json.dumps(event).encode())
