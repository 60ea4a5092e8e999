"""Events told one by one, and the figures that follow, by metric and label."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from schemas.decode import Decoder
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.windows import DAY_MS
from tests.rig.hand import Hand

T0 = 20_000 * DAY_MS
"""The start of a UTC day."""
FIELDS: dict[str, dict[str, Any]] = {
    "page_viewed": {"page": "/"},
    "order_placed": {"order_id": "o", "amount": 1, "currency": "USD"},
    "order_refunded": {"order_id": "o", "amount": 1, "currency": "USD"},
    "subscription_renewed": {"plan": "gold"},
    "social_interacted": {"network": "x", "action": "like"},
    "csat_answered": {"channel": "chat", "score": 5, "scale_max": 5},
    "nps_answered": {"score": 9},
    "ticket_opened": {"ticket_id": "t", "channel": "chat"},
    "ticket_replied": {"ticket_id": "t"},
    "ticket_resolved": {"ticket_id": "t"},
    "ticket_reopened": {"ticket_id": "t"},
}


class Told:
    """A story in the order of its events: what is complete, and what a partition makes of it live."""

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.hand = Hand(config)
        self.events: list[dict[str, Any]] = []

    def event(self, kind: str, customer: str, at_ms: int, **fields: Any) -> dict[str, Any]:
        """The next event, with an id of its own."""
        event = {
            "type": kind,
            "event_id": f"e{len(self.events)}",
            "customer_id": customer,
            "occurred_at": at_ms,
            **FIELDS.get(kind, {}),
            **fields,
        }
        self.events.append(event)
        return event

    def tell(self, kind: str, customer: str, at_ms: int, **fields: Any) -> None:
        """An event of a complete history."""
        self.event(kind, customer, at_ms, **fields)

    def at(self, metric: str, at_ms: int, window: int = 0, **labels: str) -> Result:
        """The figure of everyone, a segment or a value of the metric's own dimension, all known."""
        decode = Decoder().decode
        decoded = [decode(json.dumps(event).encode()) for event in self.events]
        return _only(evaluate(self.config, decoded, [at_ms]), self.config, metric, window, labels)

    def send(self, kind: str, customer: str, at_ms: int, **fields: Any) -> None:
        """An event as it arrives, on time or late; the watermark is moved by `pass_time`."""
        self.hand.send(self.event(kind, customer, at_ms, **fields))

    def pass_time(self, until_ms: int) -> None:
        """Nothing older will come on time."""
        self.hand.pass_time(until_ms)

    def live(self, metric: str, at_ms: int, window: int = 0, **labels: str) -> Result:
        """The figure as the partition first reported it."""
        return _only(self.hand.results_at(at_ms), self.config, metric, window, labels)


def _only(
    results: Iterable[Result],
    config: CoreConfig,
    metric: str,
    window: int,
    labels: dict[str, str],
) -> Result:
    wanted = config.windows.windows[window]
    (found,) = (
        one
        for one in results
        if one.metric == metric
        and (one.window, one.hop) == (wanted.size, wanted.hop)
        and (one.segment | one.dimensions) == labels
    )
    return found
