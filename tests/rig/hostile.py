"""Records that are no events, each with the one reason for which it has to be refused.

Mutations of good events, seeded: what real producers break (truncated, re-encoded, a field of
another type) and what attackers try (huge, deep). The expectation stands beside each mutation and
is written down from the documentation of events, not computed by the decoder under test.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kafka.partitioner.default import murmur2

from schemas.reasons import Reason
from schemas.topics import Source

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hostile:
    """One record, where it goes (`partition` None: where its key belongs), and why it must be
    refused.
    """

    source: Source
    key: bytes | None
    payload: bytes
    partition: int
    reason: Reason


def partition_of(key: bytes, partitions: int) -> int:
    """Where the Java clients put this key."""
    positive: int = murmur2(key) & 0x7FFFFFFF
    return positive % partitions


def good_event(
    draw: random.Random, number: int, at_ms: int, *, prefix: str
) -> tuple[Source, Event]:
    """A valid event of any source."""
    event: Event = {
        "event_id": f"{prefix}{number}",
        "customer_id": f"c{draw.randrange(300)}",
        "occurred_at": at_ms,
    }
    source = draw.choice(list(Source))
    if source is Source.SESSIONS:
        event |= {"type": "page_viewed", "page": "/", "session_id": "s"}
    elif source is Source.PURCHASES:
        event |= {"type": "order_placed", "order_id": "o", "amount": 10.25, "currency": "USD"}
    elif source is Source.SOCIAL:
        event |= {"type": "social_interacted", "network": "fediverse", "action": "like"}
    else:
        event |= {"type": "csat_answered", "channel": "email", "score": 4, "scale_max": 5}
    return source, event


_REQUIRED = {
    Source.SESSIONS: ("event_id", "customer_id", "occurred_at", "page"),
    Source.PURCHASES: ("event_id", "customer_id", "occurred_at", "order_id", "amount", "currency"),
    Source.SOCIAL: ("event_id", "customer_id", "occurred_at", "network", "action"),
    Source.SUPPORT: ("event_id", "customer_id", "occurred_at", "channel", "score", "scale_max"),
}
_OUT_OF_RANGE: dict[Source, tuple[tuple[str, Any], ...]] = {
    Source.SESSIONS: (("event_id", ""), ("customer_id", "x" * 129), ("event_id", "y" * 129)),
    Source.PURCHASES: (("amount", -0.01), ("amount", 1.1234567), ("amount", 1_000_000_001)),
    Source.SOCIAL: (("action", "poke"), ("sentiment", 1.01), ("impressions", -1)),
    Source.SUPPORT: (("score", 11), ("score", 6), ("scale_max", 7), ("score", -1)),
}
_BAD_TIMES = ("yesterday", "2026-03-01 00:00", "2026-03-01T00:00:00", "2026-13-01T00:00:00Z", "")
_OUTSIDE = (
    0,
    -5,
    31_535_999_999,
    7_258_118_400_000,
    "1970-06-01T00:00:00Z",
    "2200-01-01T00:00:00Z",
)


def _encode(event: Event) -> bytes:
    return json.dumps(event).encode()


def _truncated(draw: random.Random, _: Source, event: Event) -> bytes:
    whole = _encode(event)
    return whole[: draw.randrange(1, len(whole))]


def _trailing(draw: random.Random, _: Source, event: Event) -> bytes:
    return _encode(event) + draw.choice([b"}", b"{}", b"\x00", b" null"])


def _not_a_number(draw: random.Random, _: Source, event: Event) -> bytes:
    return _encode(event | {"sentiment": float(draw.choice(["nan", "inf", "-inf"]))})


def _not_utf8(draw: random.Random, _: Source, event: Event) -> bytes:
    broken = draw.choice([b"\xff", b"\xc3(", b"\xed\xa0\x80"])
    return _encode(event | {"region": "@"}).replace(b'"@"', b'"' + broken + b'"')


def _huge(draw: random.Random, _: Source, event: Event) -> bytes:
    return _encode(event | {"padding": "x" * draw.randrange(65_536, 120_000)})


def _deep(draw: random.Random, _: Source, event: Event) -> bytes:
    depth = draw.randrange(5_000, 20_000)
    nested = "[" * depth + "]" * depth
    return _encode(event | {"nested": "@"}).replace(b'"@"', nested.encode())


def _no_object(draw: random.Random, _: Source, event: Event) -> bytes:
    return draw.choice(
        [b"[]", b"null", b"17", b'"page_viewed"', b"true", b"[" + _encode(event) + b"]"]
    )


def _version(draw: random.Random, _: Source, event: Event) -> bytes:
    return _encode(event | {"schema_version": draw.choice([0, 2, 99, -1])})


def _no_type(_: random.Random, __: Source, event: Event) -> bytes:
    return _encode({name: value for name, value in event.items() if name != "type"})


def _other_type(draw: random.Random, _: Source, event: Event) -> bytes:
    return _encode(event | {"type": draw.choice(["", "PAGE_VIEWED", "page viewed", "drop table"])})


def _wrong_topic(draw: random.Random, source: Source, event: Event) -> bytes:
    other = draw.choice([each for each in Source if each is not source])
    while True:
        found, stranger = good_event(draw, 0, event["occurred_at"], prefix="w")
        if found is other:
            return _encode(stranger | {name: event[name] for name in ("event_id", "customer_id")})


def _missing(draw: random.Random, source: Source, event: Event) -> bytes:
    absent = draw.choice(_REQUIRED[source])
    return _encode({name: value for name, value in event.items() if name != absent})


def _other_json_type(draw: random.Random, source: Source, event: Event) -> bytes:
    field = draw.choice([name for name in _REQUIRED[source] if name != "occurred_at"])
    return _encode(event | {field: draw.choice([None, True, [1], {"a": 1}])})


def _out_of_range(draw: random.Random, source: Source, event: Event) -> bytes:
    field, value = draw.choice(_OUT_OF_RANGE[source])
    return _encode(event | {field: value})


def _bad_time(draw: random.Random, _: Source, event: Event) -> bytes:
    return _encode(event | {"occurred_at": draw.choice(_BAD_TIMES)})


def _outside(draw: random.Random, _: Source, event: Event) -> bytes:
    return _encode(event | {"occurred_at": draw.choice(_OUTSIDE)})


def _currency(draw: random.Random, _: Source, event: Event) -> bytes:
    order = {"type": "order_placed", "order_id": "o", "amount": 1}
    common = {name: event[name] for name in ("event_id", "customer_id", "occurred_at")}
    return _encode({**common, **order, "currency": draw.choice(["XXX", "usd", ""])})


_MUTATIONS: tuple[tuple[Reason, Callable[[random.Random, Source, Event], bytes]], ...] = (
    (Reason.EMPTY, lambda _, __, ___: b""),
    (Reason.NOT_JSON, _truncated),
    (Reason.NOT_JSON, _trailing),
    (Reason.NOT_JSON, _not_a_number),
    (Reason.NOT_UTF8, _not_utf8),
    (Reason.OVERSIZE, _huge),
    (Reason.TOO_DEEP, _deep),
    (Reason.NOT_AN_OBJECT, _no_object),
    (Reason.UNKNOWN_VERSION, _version),
    (Reason.MISSING_TYPE, _no_type),
    (Reason.UNKNOWN_TYPE, _other_type),
    (Reason.WRONG_TOPIC, _wrong_topic),
    (Reason.MISSING_FIELD, _missing),
    (Reason.BAD_TYPE, _other_json_type),
    (Reason.BAD_VALUE, _out_of_range),
    (Reason.BAD_TIME, _bad_time),
    (Reason.TIME_OUT_OF_RANGE, _outside),
    (Reason.UNKNOWN_CURRENCY, _currency),
)
_RARE = {Reason.OVERSIZE, Reason.TOO_DEEP}
"""Mutations of tens of kilobytes: one in ten of what the others are, to bound the volume."""


def hostile(
    count: int, *, at_ms: int, future_ms: int, partitions: int, seed: int
) -> Iterator[Hostile]:
    """`count` records that must all be refused.

    Their event time, where it is valid, is `at_ms`; `future_ms` is one too far ahead of any record
    timestamp that they will get.
    """
    draw = random.Random(seed)
    envelope = (Reason.WRONG_KEY, Reason.WRONG_PARTITION, Reason.FUTURE)
    made = 0
    while made < count:
        source, event = good_event(draw, made, at_ms, prefix="hostile-")
        key = str(event["customer_id"]).encode()
        home = partition_of(key, partitions)
        turn = draw.randrange(len(_MUTATIONS) + len(envelope))
        if turn >= len(_MUTATIONS):
            reason = envelope[turn - len(_MUTATIONS)]
            if reason is Reason.WRONG_KEY:
                other = draw.choice([None, b"", b"somebody-else", key + b" "])
                yield Hostile(source, other, _encode(event), home, reason)
            elif reason is Reason.WRONG_PARTITION:
                elsewhere = (home + draw.randrange(1, partitions)) % partitions
                yield Hostile(source, key, _encode(event), elsewhere, reason)
            else:
                yield Hostile(
                    source, key, _encode(event | {"occurred_at": future_ms}), home, reason
                )
        else:
            reason, mutate = _MUTATIONS[turn]
            if reason in _RARE and draw.random() > 0.1:
                continue
            if reason is Reason.UNKNOWN_CURRENCY:
                source = Source.PURCHASES
            yield Hostile(source, key, mutate(draw, source, event), home, reason)
        made += 1
