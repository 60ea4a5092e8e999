"""Arrays of integers as few bytes: the narrowest type that holds them, and only what is not zero
where most of it is.

    type of the values, type of the places or `_DENSE`, length of the array, number of values, then
    the values and the places. Little-endian; exact for every 64-bit integer.
"""

from __future__ import annotations

import struct

import numpy as np

from streams.segments import Integers

_HEADER = struct.Struct("<BBII")
_TYPES = tuple(np.dtype(name) for name in ("<i1", "<i2", "<i4", "<i8"))
_DENSE = 255


def pack_integers(values: Integers) -> bytes:
    """A one-dimensional array as bytes; see `unpack_integers`."""
    length = len(values)
    places = np.flatnonzero(values)
    if 2 * len(places) >= length:
        kind = _type_of(values)
        return _HEADER.pack(kind, _DENSE, length, length) + values.astype(_TYPES[kind]).tobytes()
    found = values[places]
    kind, place_kind = _type_of(found), _type_of(places)
    return b"".join(
        (
            _HEADER.pack(kind, place_kind, length, len(places)),
            found.astype(_TYPES[kind]).tobytes(),
            places.astype(_TYPES[place_kind]).tobytes(),
        )
    )


def unpack_integers(packed: bytes) -> Integers:
    """The inverse of `pack_integers`."""
    kind, place_kind, length, count = _HEADER.unpack_from(packed)
    values = np.frombuffer(packed, _TYPES[kind], count, _HEADER.size).astype(np.int64)
    if place_kind == _DENSE:
        return values
    offset = _HEADER.size + count * _TYPES[kind].itemsize
    found = np.zeros(length, np.int64)
    found[np.frombuffer(packed, _TYPES[place_kind], count, offset)] = values
    return found


def _type_of(values: Integers) -> int:
    """The narrowest type that holds all of these."""
    if not len(values):
        return 0
    low, high = int(values.min()), int(values.max())
    for kind, bits in enumerate((7, 15, 31)):
        if -(1 << bits) <= low and high < 1 << bits:
            return kind
    return 3
