"""Everyone who has left memory: a compact row each, so that nobody is ever new twice.

A customer leaves when everything that looks back at single customers has let go of them (see
`State.put_away`). What is kept is what a figure may still need when they return; it is declared in
`KEPT`, what is not in `FORGOTTEN` with the reason. Rows are found by a 64-bit hash of the name: two
of a million customers are taken for one with a probability of 3e-8.

One array of rows, filled from the start, and an open-addressed index of their places: about 55 bytes
a customer, where an object takes 400. The array is durable in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from streams.customers import Customer
from streams.last_seen import NEVER
from streams.windows import MINUTE_MS

BLOCK = 16
"""Rows that are written together: few, because those who return leave a hole anywhere."""
_UNKNOWN = 0xFFFFFFFF
"""A moment that has not happened, in minutes."""

KEPT: tuple[tuple[str, str, bool], ...] = (
    ("cell", "<u2", False),
    ("target", "<u2", False),
    ("first_activity", "<u4", True),
    ("last_activity", "<u4", True),
    ("last_visit", "<u4", True),
    ("first_order", "<u4", True),
    ("last_order", "<u4", True),
    ("last_session_start", "<i8", False),
    ("stage", "i1", False),
    ("reached", "u1", False),
    ("stage_at", "<i8", False),
    ("net_micros", "<i8", False),
)
"""Field, type, and whether it is a moment of which the minute is enough: one so old that only whether
and about when it happened is ever asked.
"""
FORGOTTEN: Mapping[str, str] = {
    "id": "only its hash is kept: the name comes with the next event",
    "told_at": "whatever comes now is newer",
    "attributes_at": "whatever comes now is newer",
    "touched": "only says how long the customer has been silent, which is long enough",
    "first_order_cell": "for an order older than the first, which would come too late",
    "session_start": "no session is open",
    "session_last": "no session is open",
    "session_pages": "no session is open",
    "session_converted": "no session is open",
    "session_channel": "no session is open",
    "session_id": "no session is open",
    "is_armed": "no timer runs",
    "returns": "no window reaches back to them",
    "contact": "no ticket is known any more, and no window reaches back to the answer",
}
_HASH = "hash"
_ROW = np.dtype([(_HASH, "<u8"), *((name, kind) for name, kind, _ in KEPT)])
ROW_BYTES = _ROW.itemsize

_FIRST_CAPACITY = 1_024
_EMPTY, _GONE = -1, -2
_LOAD = 0.6
"""The index grows beyond this share of taken places."""

Kept = dict[str, int]


class Evicted:
    """The compact rows, and which of their blocks are still to be written."""

    def __init__(self) -> None:
        """Nobody has left."""
        self._rows = np.zeros(_FIRST_CAPACITY, _ROW)
        self._hashes = self._rows[_HASH]
        self._taken = 0
        """Places that were ever taken."""
        self._free: list[int] = []
        self._index = np.full(2 * _FIRST_CAPACITY, _EMPTY, np.int32)
        self._used = 0
        """Places of the index that are not empty."""
        self._changed: set[int] = set()

    def __len__(self) -> int:
        """How many have left."""
        return self._taken - len(self._free)

    def put(self, customer: Customer) -> None:
        """Keep what is kept of a customer who leaves and is not here yet."""
        place = self._free.pop() if self._free else self._next_place()
        digest = _hash_of(customer.id)
        values: list[int] = [digest]
        for name, _, is_moment in KEPT:
            value: int = getattr(customer, name)
            if is_moment:
                value = _UNKNOWN if value == NEVER else value // MINUTE_MS
            values.append(value)
        self._rows[place] = tuple(values)
        self._changed.add(place // BLOCK)
        if self._used >= _LOAD * len(self._index):
            self._reindex()
        else:
            self._enter(digest, place)

    def take(self, identity: str) -> Kept | None:
        """What was kept of somebody who returns, and is no longer here; None for a stranger."""
        found = self._find(_hash_of(identity))
        if found is None:
            return None
        at, place = found
        row = self._rows[place].item()
        kept: Kept = {}
        for (name, _, is_moment), value in zip(KEPT, row[1:], strict=True):
            if is_moment:
                kept[name] = NEVER if value == _UNKNOWN else value * MINUTE_MS
            else:
                kept[name] = value
        self._rows[place] = np.zeros((), _ROW)
        self._index[at] = _GONE
        self._free.append(place)
        self._changed.add(place // BLOCK)
        return kept

    def __contains__(self, identity: str) -> bool:
        """Whether this customer has left."""
        return self._find(_hash_of(identity)) is not None

    # -- durability

    def changes(self) -> dict[str, bytes | None]:
        """The blocks to be written now; they count as written from here on."""
        blocks = sorted(self._changed)
        self._changed.clear()
        names = [str(block) for block in blocks]
        return dict(zip(names, self.rows_of(names), strict=True))

    def rows_of(self, names: list[str]) -> list[bytes]:
        """These blocks as they are."""
        starts = [int(name) * BLOCK for name in names]
        return [self._rows[start : start + BLOCK].tobytes() for start in starts]

    def load(self, blocks: Mapping[str, bytes]) -> None:
        """Take these blocks, into an empty table."""
        if not blocks:
            return
        numbers = np.array([int(name) for name in blocks], np.int64)
        count = (int(numbers.max()) + 1) * BLOCK
        self._rows = np.zeros(max(count, _FIRST_CAPACITY), _ROW)
        found = np.frombuffer(b"".join(blocks.values()), _ROW).reshape(-1, BLOCK)
        self._rows[:count].reshape(-1, BLOCK)[numbers] = found
        self._hashes = self._rows[_HASH]
        self._taken = count
        self._free = np.flatnonzero(self._hashes[:count] == 0)[::-1].tolist()
        self._reindex()

    # -- places

    def _next_place(self) -> int:
        place = self._taken
        if place == len(self._rows):
            grown = np.zeros(place + place // 2 // BLOCK * BLOCK, _ROW)
            grown[:place] = self._rows
            self._rows, self._hashes = grown, grown[_HASH]
        self._taken += 1
        return place

    def _find(self, digest: int) -> tuple[int, int] | None:
        """Where the index has this hash, and its place."""
        index, hashes = self._index, self._hashes
        mask = len(index) - 1
        at = digest & mask
        while (place := index.item(at)) != _EMPTY:
            if place != _GONE and hashes.item(place) == digest:
                return at, place
            at = (at + 1) & mask
        return None

    def _enter(self, digest: int, place: int) -> None:
        index = self._index
        mask = len(index) - 1
        at = digest & mask
        while index.item(at) != _EMPTY:
            at = (at + 1) & mask
        index[at] = place
        self._used += 1

    def _reindex(self) -> None:
        """A new index of all rows, at most half full."""
        places = np.flatnonzero(self._hashes[: self._taken])
        size = 2 * _FIRST_CAPACITY
        while size < 2 * len(places) + 2:
            size *= 2
        self._index = index = np.full(size, _EMPTY, np.int32)
        self._used = len(places)
        at = (self._hashes[places] & np.uint64(size - 1)).astype(np.int64)
        while len(places):
            free = index[at] == _EMPTY
            index[at[free]] = places[free]
            # Of those who wanted one place the last has it; the others go on to the next.
            left: npt.NDArray[np.bool_] = index[at] != places
            places, at = places[left], (at[left] + 1) % size


def _hash_of(identity: str) -> int:
    """Never 0: that is an empty row."""
    return xxh3_64_intdigest(identity.encode()) or 1
