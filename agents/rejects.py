"""Records that did not become part of a number: dead letters and records later than allowed.

Both are keyed by their origin (topic, partition, offset), so a record that is read twice leaves one
letter under one key. The payload travels whole up to 64 KiB; a longer one is cut there and named by
its hash. Where raw bytes are not kept ([privacy] raw_bytes), neither key nor payload travels: origin,
length and hash are enough to find the record in its topic as long as that has it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from faust.types import TP

from agents.publisher import Outgoing
from schemas.decode import MAX_BYTES
from schemas.records import DeadLetter, LateRecord

_encode = msgspec.json.Encoder().encode


def dead_letter(
    tp: TP, record: Any, reason: str, detail: str, *, raw_bytes: bool = True
) -> Outgoing:
    """The dead letter of a record that could not become an event."""
    payload: bytes | None = record.value
    size = len(payload) if payload is not None else 0
    is_whole = raw_bytes and size <= MAX_BYTES
    letter = DeadLetter(
        topic=tp.topic,
        partition=tp.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        reason=str(reason),
        detail=detail,
        key=record.key[:MAX_BYTES] if raw_bytes and record.key is not None else None,
        payload=payload[:MAX_BYTES] if raw_bytes and payload is not None else None,
        payload_bytes=size,
        payload_sha256=hashlib.sha256(payload).hexdigest() if payload and not is_whole else None,
    )
    return Outgoing(letter.origin, _encode(letter))


def late_record(
    tp: TP, record: Any, event_time_ms: int, watermark_ms: int, *, raw_bytes: bool = True
) -> Outgoing:
    """An event that came later than the allowed lateness."""
    payload: bytes = record.value
    late = LateRecord(
        topic=tp.topic,
        partition=tp.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        event_time_ms=event_time_ms,
        watermark_ms=watermark_ms,
        key=record.key if raw_bytes else None,
        payload=payload if raw_bytes else None,
        payload_bytes=len(payload),
        payload_sha256=None if raw_bytes else hashlib.sha256(payload).hexdigest(),
    )
    return Outgoing(late.origin, _encode(late))
