"""Events of a made-up customer base for the benchmarks: quick to make, the same for the same seed.

Half of all events come from a tenth of the customers. Of 100 events 80 are page views, 10 orders, 6
social interactions and 4 support events; each carries persona and region, and `duplicates` of them
are sent twice. The simulator of the product knows the truth about its customers; this one knows
only speed.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import orjson

from schemas.topics import Source

START_MS = 1_772_323_200_000
"""2026-03-01T00:00:00Z, a boundary of every hop that divides a day."""

PERSONAS = ("newcomer", "regular", "loyal", "bargain")
REGIONS = ("north", "south", "east", "west")
CHANNELS = ("direct", "search", "social", "email", "referral", "ads")
_SHARES = (0.80, 0.10, 0.06, 0.04)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What to generate. `per_second` is event time: how densely the events lie."""

    events: int
    customers: int
    per_second: float = 5_000.0
    duplicates: float = 0.01
    start_ms: int = START_MS
    seed: int = 7
    rfc3339: bool = False

    @property
    def end_ms(self) -> int:
        """The event time just after the last event."""
        return self.start_ms + int(self.events / self.per_second * 1000) + 1


@dataclass(frozen=True, slots=True)
class Generated:
    """One record to be: its key, its payload and where it goes."""

    at_ms: int
    source: Source
    key: bytes
    payload: bytes


def generate(traffic: Traffic) -> Iterator[Generated]:
    """The events in order of event time; about 100,000 a second."""
    draw = np.random.default_rng(traffic.seed)
    number = 0
    chunk = 50_000
    while number < traffic.events:
        size = min(chunk, traffic.events - number)
        busy = draw.random(size) < 0.5
        customers = np.where(
            busy,
            draw.integers(0, max(1, traffic.customers // 10), size),
            draw.integers(0, traffic.customers, size),
        ).tolist()
        sources = draw.choice(4, size=size, p=_SHARES).tolist()
        variants = draw.integers(0, 1 << 30, size).tolist()
        repeated = (draw.random(size) < traffic.duplicates).tolist()
        previous: Generated | None = None
        for i in range(size):
            if repeated[i] and previous is not None:
                yield previous
                continue
            at_ms = traffic.start_ms + int((number + i) / traffic.per_second * 1000)
            customer, variant = customers[i], variants[i]
            event = _BODIES[sources[i]](variant)
            event["event_id"] = f"e{traffic.seed}-{number + i}"
            event["customer_id"] = name = f"customer-{customer}"
            event["occurred_at"] = _text(at_ms) if traffic.rfc3339 else at_ms
            event["persona"] = PERSONAS[customer & 3]
            event["region"] = REGIONS[customer >> 2 & 3]
            # A copy: what orjson returns keeps the kilobytes that it was written into.
            payload = bytes(memoryview(orjson.dumps(event)))
            previous = Generated(at_ms, Source(sources[i]), name.encode(), payload)
            yield previous
        number += size


def _text(at_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _view(variant: int) -> dict[str, object]:
    return {
        "type": "page_viewed",
        "page": f"/p/{variant % 997}",
        "channel": CHANNELS[variant % len(CHANNELS)],
    }


def _order(variant: int) -> dict[str, object]:
    if variant % 20 == 0:
        amount, kind = variant % 4_000 / 100, "order_refunded"
    else:
        amount, kind = variant % 20_000 / 100, "order_placed"
    return {"type": kind, "order_id": f"o{variant}", "amount": amount, "currency": "USD"}


def _social(variant: int) -> dict[str, object]:
    action = ("like", "share", "comment", "unlike")[variant & 3]
    return {"type": "social_interacted", "network": "fediverse", "action": action}


def _support(variant: int) -> dict[str, object]:
    if variant & 1:
        return {"type": "nps_answered", "score": variant % 11}
    return {"type": "ticket_opened", "ticket_id": f"t{variant}", "channel": "email"}


_BODIES = (_view, _order, _social, _support)
