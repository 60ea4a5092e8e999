"""A customer as a row: bytes that stay packed until the customer is touched.

One msgpack array: when a timer comes due, the newest event time, how many event ids were
remembered, their ring of hashes, then the `ROW_FIELDS`. The two moments are at a fixed place, so that
timers are armed, and the silent are found, without decoding a million rows. A row does not repeat
its key, the customer's id.

Tens of thousands of rows a second are packed, so the code that takes a customer apart and puts one
together is generated from `ROW_FIELDS`, as that of a dataclass is: attributes that stand in the code
cost 10 ns each, those that are looked up by name 50.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
_DUE = slice(4, 12)
_TOUCHED = slice(13, 21)
"""An array of more than 15 begins with three bytes; a moment of more than 32 bits is one byte and
eight.
"""
_BIG_ENDIAN = np.dtype(">i8")

_slot_of = attrgetter("slot")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


def _generated(name: str, lines: str) -> Callable[..., Any]:
    """The function ``name`` that these lines define."""
    found: dict[str, Any] = {"encode": _encode}
    exec(lines, found)  # noqa: S102 - from the names of our own fields, once, at import
    function: Callable[..., Any] = found[name]
    return function


_rows: Callable[..., list[bytes]] = _generated(
    "rows",
    "def rows(customers, dues, counts, rings):\n"
    f"    return [encode((due, c.touched, count, ring, {', '.join(f'c.{f}' for f in ROW_FIELDS)}))\n"
    "        for c, due, count, ring in zip(customers, dues, counts, rings, strict=True)]\n",
)
_fill: Callable[..., tuple[int, bytes]] = _generated(
    "fill",
    "def fill(c, values):\n"
    f"    _, c.touched, count, ring, {', '.join(f'c.{f}' for f in ROW_FIELDS)} = values\n"
    "    return count, ring\n",
)


def pack(
    customers: Sequence[Customer], dues_ms: Sequence[int], recent: RecentIds | None
) -> list[bytes]:
    """The rows of customers whose timers come due at ``dues_ms`` (or `NOT_DUE`); without ``recent``
    their event ids are left out.
    """
    counts: Iterable[int] = repeat(0, len(customers))
    rings: Iterable[bytes] = repeat(b"", len(customers))
    if recent is not None:
        slots = np.fromiter(map(_slot_of, customers), np.int64, len(customers))
        counts, rings = recent.dump(slots)
    return _rows(customers, dues_ms, counts, rings)


def unpack(identity: str, row: bytes, recent: RecentIds) -> Customer:
    """The customer of a row, with a ring in ``recent``."""
    slot = recent.take_slot()
    customer = Customer.bare(identity, slot)
    count, ring = _fill(customer, _decode(row))
    customer.take_shape()
    recent.restore(slot, count, ring, customer.touched)
    return customer


def touched_of(row: bytes) -> int:
    """The newest event time of the customer of a row."""
    return int.from_bytes(row[_TOUCHED], "big", signed=True)


def dues_of(rows: Iterable[bytes]) -> Integers:
    """When the timer of each row comes due."""
    return np.frombuffer(b"".join([row[_DUE] for row in rows]), _BIG_ENDIAN).astype(np.int64)
