"""The input of a run: small seeded streams of four topics and one or two partitions.

Every kind of record is there: on time, out of order within the bound, late, too late, twice, dead,
control. An item says what it is meant to be where that does not depend on the order in which the
topics are read; whether an event is late or too late does.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from schemas.topics import Source
from tests.simulation.cluster import EPOCH_MS

LASTS_S = 14.0
END_MS = EPOCH_MS + 60_000
"""Event time at the end of every input, on a boundary of every window."""
FAR_MS = END_MS + 120 * 86_400_000
"""Where it goes on to in some runs, at one stroke."""
_MOST_EVENTS = 14
"""Of a customer: every copy of an event comes while the customer's last 16 are remembered."""
_HISTORY_MS = 2 * 3_600_000
_SOURCES = (Source.SESSIONS, Source.SESSIONS, Source.PURCHASES, Source.SOCIAL, Source.SUPPORT)


@dataclass(frozen=True, slots=True)
class Item:
    """One record of the input. ``kind`` is the event's type, "dead" or "control"."""

    at_s: float
    source: Source
    partition: int
    key: bytes | None
    value: bytes
    timestamp: int
    kind: str
    event_id: str = ""
    customer: str = ""
    micros: int = 0


def partition_of(key: bytes, partitions: int) -> int:
    """The partitioner of every producer here."""
    return sum(key) % partitions


@dataclass(frozen=True, slots=True)
class Workload:
    """The whole input in the order in which it is appended, and where event time ends."""

    items: list[Item]
    end_ms: int
    has_forgotten: bool
    """Customers were forgotten, so nobody knows any more how many there are."""


def workload(seed: int, partitions: int) -> Workload:
    """The input of a seed."""
    rng = random.Random(f"workload {seed}")
    items: list[Item] = []
    customers = [f"c{i}" for i in range(rng.randint(2, 6) * partitions)]
    count: Counter[str] = Counter()
    number = rng.choice((8, 30, 60, 100))
    late, dead = rng.choice((0.0, 0.1, 0.3)), rng.choice((0.0, 0.05, 0.2))
    twice, control = rng.choice((0.0, 0.1, 0.3)), rng.choice((0.0, 0.05))
    forgotten = rng.choice((0.0, 0.0, 0.0, 0.0, 0.1))
    if forgotten:
        twice = 0.0  # whose ids are forgotten too, so that a copy would count
    # Some inputs are there before the first worker is: big batches, inputs that run ahead.
    backlog = rng.choice((0.0, 0.0, 0.5, 1.0))
    sources = _SOURCES if rng.random() < 0.8 else (Source.SESSIONS, Source.PURCHASES)
    for index in range(number):
        moment = LASTS_S * index / number
        at_s = 0.0 if index < backlog * number else moment
        now_ms = EPOCH_MS + round(moment * 1_000)
        source = rng.choice(sources)
        customer = rng.choice(customers)
        count[customer] += 1
        if count[customer] >= _MOST_EVENTS:
            customers.remove(customer)
            customers.append(f"{customer}x")
        delay = rng.random() ** 3 * 1_300
        if rng.random() < late:
            delay = rng.choice((rng.uniform(1_000, 8_000), rng.uniform(8_000, 30_000)))
        item = _event(rng, at_s, source, partitions, customer, index, now_ms, now_ms - int(delay))
        if rng.random() < dead:
            item = _dead(rng, item, partitions)
        items.append(item)
        if item.kind != "dead" and rng.random() < twice:
            again = at_s + rng.choice((0.0, rng.uniform(0, 3)))
            items.append(_moved(item, again, now_ms + round((again - at_s) * 1_000)))
            count[customer] += 1
        if rng.random() < forgotten:
            items.append(_forgotten(customer, partitions, at_s, now_ms, rng))
        if rng.random() < control:
            items.append(
                _time_passed(at_s, source, rng.randrange(partitions), now_ms - 500, now_ms)
            )
    items.sort(key=lambda item: item.at_s)
    # History, by its timestamp: from here on no clock moves the time.
    ends = [(LASTS_S + 1, END_MS)]
    if rng.random() < 0.2:
        # Everybody falls silent for good: sessions, stages and the memory of customers run out.
        ends.append((LASTS_S + 2, FAR_MS))
    items += [
        _time_passed(at_s, source, n, end_ms, end_ms + _HISTORY_MS)
        for at_s, end_ms in ends
        for source in Source
        for n in range(partitions)
    ]
    return Workload(items, ends[-1][1], forgotten > 0)


def _event(
    rng: random.Random,
    at_s: float,
    source: Source,
    partitions: int,
    customer: str,
    index: int,
    now_ms: int,
    at_ms: int,
) -> Item:
    fields: dict[str, Any] = {
        "event_id": f"e{index}",
        "customer_id": customer,
        "occurred_at": at_ms,
    }
    if rng.random() < 0.5:
        fields["persona"] = rng.choice(("a", "b"))
    micros = 0
    if source is Source.SESSIONS:
        kind = rng.choice(("page_viewed", "page_viewed", "page_viewed", "session_ended"))
        if kind == "page_viewed":
            fields["page"] = "/"
            if rng.random() < 0.3:
                fields["session_id"] = rng.choice("xy")
    elif source is Source.PURCHASES:
        kind = rng.choice(("order_placed", "order_placed", "order_refunded"))
        micros = rng.randint(0, 5_000) * 10_000
        fields |= {"order_id": f"o{index}", "amount": f"{micros / 1e6:.2f}", "currency": "USD"}
    elif source is Source.SOCIAL:
        kind = "social_interacted"
        fields |= {"network": "x", "action": rng.choice(("like", "share", "unlike"))}
        if rng.random() < 0.5:
            fields |= {"sentiment": 0.5, "impressions": 10}
    else:
        kind = rng.choice(("ticket_opened", "ticket_replied", "ticket_resolved", "nps_answered"))
        if kind == "nps_answered":
            fields["score"] = rng.randint(0, 10)
        else:
            fields["ticket_id"] = rng.choice("pqr")
            if kind == "ticket_opened":
                fields["channel"] = "email"
    key = customer.encode()
    return Item(
        at_s=at_s,
        source=source,
        partition=partition_of(key, partitions),
        key=key,
        value=json.dumps({"type": kind, **fields}).encode(),
        timestamp=now_ms,
        kind=kind,
        event_id=f"e{index}",
        customer=customer,
        micros=micros,
    )


def _forgotten(
    customer: str, partitions: int, at_s: float, now_ms: int, rng: random.Random
) -> Item:
    """The record that has a customer forgotten, on any input."""
    key = customer.encode()
    fields = {"type": "customer_forgotten", "customer_id": customer, "occurred_at": now_ms}
    return Item(
        at_s=at_s,
        source=rng.choice(tuple(Source)),
        partition=partition_of(key, partitions),
        key=key,
        value=json.dumps(fields).encode(),
        timestamp=now_ms,
        kind="control",
    )


def _moved(item: Item, at_s: float, timestamp: int) -> Item:
    return Item(
        at_s,
        item.source,
        item.partition,
        item.key,
        item.value,
        timestamp,
        item.kind,
        item.event_id,
        item.customer,
        item.micros,
    )


def _dead(rng: random.Random, item: Item, partitions: int) -> Item:
    """The same record, spoilt in one of several ways."""
    key, value, partition, timestamp = item.key, item.value, item.partition, item.timestamp
    how = rng.randrange(6 if partitions > 1 else 5)
    if how == 0:
        value = b"{not json"
    elif how == 1:
        key = b"somebody else"
    elif how == 2:
        key = None
    elif how == 3:
        value = value.replace(b'"type": "', b'"type": "un')
    elif how == 4:
        timestamp -= 3_600_000
    else:
        partition = (partition + 1) % partitions
    return Item(item.at_s, item.source, partition, key, value, timestamp, "dead")


def _time_passed(at_s: float, source: Source, partition: int, until: int, timestamp: int) -> Item:
    value = json.dumps({"type": "time_passed", "until": until}).encode()
    return Item(at_s, source, partition, None, value, timestamp, "control")
