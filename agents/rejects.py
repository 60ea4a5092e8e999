"""Records that did not become part of a number: dead letters and records later than allowed.

Both are keyed by their origin (topic, partition, offset), so a record that is read twice leaves one
letter under one key. The payload travels whole up to 64 KiB; a longer one is cut there and named by
its hash.
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


def dead_letter(tp: TP, record: Any, reason: str, detail: str) -> Outgoing:
    """The dead letter of a record that could not become an event."""
    payload: bytes | None = record.value
    size = len(payload) if payload is not None else 0
    letter = DeadLetter(
        topic=tp.topic,
        partition=tp.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        reason=str(reason),
        detail=detail,
        key=record.key if record.key is None else record.key[:MAX_BYTES],
        payload=payload if payload is None else payload[:MAX_BYTES],
        payload_bytes=size,
        payload_sha256=hashlib.sha256(payload).hexdigest()
        if payload and size > MAX_BYTES
        else None,
    )
    return Outgoing(letter.origin, _encode(letter))


def late_record(tp: TP, record: Any, event_time_ms: int, watermark_ms: int) -> Outgoing:
    """An event that came later than the allowed lateness."""
    late = LateRecord(
        topic=tp.topic,
        partition=tp.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        event_time_ms=event_time_ms,
        watermark_ms=watermark_ms,
        key=record.key,
        payload=record.value,
    )
    return Outgoing(late.origin, _encode(late))
