"""A customer as a row: bytes that stay packed until the customer is touched.

One msgpack array: when the timer comes due, the newest event time, how many event ids were
remembered, their ring of hashes, the `ROW_FIELDS`. The two moments are at a fixed place, so that
timers are armed, and the silent are found, without decoding a million rows. A row does not repeat
its key, the customer's id.

Rows are packed many at once, without a line of Python for each: 20,000 of them a second are packed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from streams.customers import FIELDS, Customer
from streams.recent_ids import RecentIds
from streams.segments import Integers

NOT_DUE = 1 << 62
"""No timer runs."""
ELSEWHERE = ("id", "touched", "is_armed")
"""In the key, in front of the row, and never true of a customer who comes out of a row."""
ROW_FIELDS = tuple(name for name in FIELDS if name not in ELSEWHERE)
_DUE = slice(2, 10)
_TOUCHED = slice(11, 19)
"""A moment of more than 32 bits is written as one byte and eight."""
_BIG_ENDIAN = np.dtype(">i8")

_values = attrgetter(*ROW_FIELDS)
_slot_of, _touched_of = attrgetter("slot"), attrgetter("touched")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, int, bytes, list[Any]]).decode


def pack(customers: Sequence[Customer], dues_ms: Integers, recent: RecentIds | None) -> list[bytes]:
    """The rows of customers whose timers come due at ``dues_ms`` (or `NOT_DUE`); without ``recent``
    their event ids are left out.
    """
    counts: Iterable[int] = repeat(0, len(customers))
    rings: Iterable[bytes] = repeat(b"", len(customers))
    if recent is not None:
        slots = np.fromiter(map(_slot_of, customers), np.int64, len(customers))
        counts, rings = recent.dump(slots)
    touched = map(_touched_of, customers)
    values = map(_values, customers)
    return list(map(_encode, zip(dues_ms.tolist(), touched, counts, rings, values, strict=True)))


def unpack(identity: str, row: bytes, recent: RecentIds) -> Customer:
    """The customer of a row, with a ring in ``recent``."""
    _, touched, count, ring, values = _decode(row)
    named = dict(zip(ROW_FIELDS, values, strict=True), touched=touched)
    slot = recent.take_slot()
    recent.restore(slot, count, ring, touched)
    return Customer.restored(identity, named, slot=slot, is_armed=False)


def touched_of(row: bytes) -> int:
    """The newest event time of the customer of a row."""
    return int.from_bytes(row[_TOUCHED], "big", signed=True)


def dues_of(rows: Iterable[bytes]) -> Integers:
    """When the timer of each row comes due."""
    return np.frombuffer(b"".join([row[_DUE] for row in rows]), _BIG_ENDIAN).astype(np.int64)
