"""Events of a small shop in which everything happens that the metrics count.

Seeded. Sessions with and without ids, explicit ends, purchases inside and outside of them, refunds,
subscriptions, posts and what is taken back of them, tickets that are answered, solved and opened again, answers
to surveys, customers who change persona or region. No duplicates,
no late events: what stands here is folded, wherever it is folded.
"""

import datetime
import random
from collections.abc import Iterator
from typing import Any

from schemas.topics import Source

PERSONAS = ("newcomer", "regular", "loyal", "bargain", "astronaut", None)
"""One that is configured nowhere, and none."""
REGIONS = ("north", "south", "east", "west", "moon", None)
NETWORKS = ("instagram", "x", "fediverse")
ACTIONS = ("mention", "like", "share", "comment", "follow", "unlike", "unfollow", "delete")
SUPPORT_CHANNELS = ("email", "chat", "carrier pigeon")
CHANNELS = ("direct", "search", "social", "email", "carrier pigeon", None)

Event = dict[str, Any]


def _attributes(draw: random.Random) -> Event:
    found: Event = {}
    if draw.random() < 0.3:
        found["persona"] = draw.choice(PERSONAS)
    if draw.random() < 0.3:
        found["region"] = draw.choice(REGIONS)
    return {name: value for name, value in found.items() if value is not None}


def _body(draw: random.Random, customer: int) -> tuple[Source, Event]:
    turn = draw.random()
    if turn < 0.62:
        view: Event = {"type": "page_viewed", "page": "/"}
        if draw.random() < 0.5:
            view["session_id"] = f"s{customer}-{draw.randrange(4)}"
        channel = draw.choice(CHANNELS)
        return Source.SESSIONS, view | ({"channel": channel} if channel else {})
    if turn < 0.68:
        return Source.SESSIONS, {"type": "session_ended"}
    if turn < 0.84:
        kind = "order_refunded" if turn > 0.82 else "order_placed"
        amount = f"{draw.randrange(0, 30_000) / 100:.2f}"
        return Source.PURCHASES, {
            "type": kind,
            "order_id": "o",
            "amount": amount,
            "currency": "USD",
        }
    if turn < 0.87:
        kind = draw.choice(["started", "renewed", "cancelled"])
        return Source.PURCHASES, {"type": f"subscription_{kind}", "plan": "basic"}
    if turn < 0.94:
        return Source.SOCIAL, _social(draw)
    return Source.SUPPORT, _support(draw)


def _social(draw: random.Random) -> Event:
    found: Event = {
        "type": "social_interacted",
        "network": draw.choice(NETWORKS),
        "action": draw.choice(ACTIONS),
    }
    if draw.random() < 0.5:
        found["sentiment"] = draw.choice((-1, 0, 0.5, draw.uniform(-1, 1)))
    if draw.random() < 0.5:
        found["impressions"] = draw.randrange(500)
    return found


def _support(draw: random.Random) -> Event:
    turn = draw.random()
    if turn < 0.3:
        return {"type": "nps_answered", "score": draw.randrange(11)}
    channel = draw.choice(SUPPORT_CHANNELS)
    if turn < 0.5:
        scale = draw.choice((5, 10))
        answer: Event = {"type": "csat_answered", "channel": channel}
        return {**answer, "score": draw.randrange(scale + 1), "scale_max": scale}
    ticket = f"t{draw.randrange(3)}"
    if turn < 0.7:
        return {"type": "ticket_opened", "ticket_id": ticket, "channel": channel}
    kind = draw.choice(("replied", "resolved", "resolved", "reopened"))
    return {"type": f"ticket_{kind}", "ticket_id": ticket}


def event(draw: random.Random, number: int, at_ms: int, *, customers: int) -> tuple[Source, Event]:
    """One event; a third of them by a twentieth of the customers."""
    customer = draw.randrange(max(1, customers // 20) if draw.random() < 0.33 else customers)
    source, body = _body(draw, customer)
    # Both spellings of a time, for the same instant.
    moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    when = at_ms if number % 3 else moment.isoformat(timespec="milliseconds")
    common: Event = {"event_id": f"e{number}", "customer_id": f"c{customer}", "occurred_at": when}
    return source, {**body, **common, **_attributes(draw)}


def shop(
    count: int, *, start_ms: int, end_ms: int, customers: int, seed: int
) -> Iterator[tuple[int, Source, Event]]:
    """`count` events in order of event time, all in [start, end), in bursts and lulls."""
    draw = random.Random(seed)
    weights = [draw.random() ** 3 for _ in range(48)]
    slice_ms = (end_ms - start_ms) / len(weights)
    times = sorted(
        int(start_ms + (slot + draw.random()) * slice_ms)
        for slot in draw.choices(range(len(weights)), weights, k=count)
    )
    for number, at_ms in enumerate(times):
        source, body = event(draw, number, at_ms, customers=customers)
        yield at_ms, source, body
