"""Duplicates: the last 16 folded event ids of every customer, as 64-bit hashes, in arrays.

A batch is judged at once, before any of it is folded. Whether an id *may* be known is one comparison
of arrays (about 0.2 us an event at 100,000 customers; a string of hashes on each customer took
0.8): known to the customer's ring, twice in the batch, or a customer who may have been silent for
too long. Nearly always nothing is. Only the customers of whom something is are gone through event
by event, by the rule itself:

    an event is a duplicate if its id is among the customer's last 16 folded ones; they are
    forgotten when the event comes more than `SILENCE_MS` after the newest folded before it.

A duplicate refreshes nothing. A match across two ids is as improbable as one of their hashes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from streams.arrivals import DIGEST, Arrival
from streams.customers import NO_SLOT, Customer
from streams.segments import Integers
from streams.windows import DAY_MS

REMEMBERED = 16
_PLACES = REMEMBERED - 1
"""Mask of a place in the ring."""
SILENCE_MS = DAY_MS
HASH_BYTES = 8
_RING_BYTES = REMEMBERED * HASH_BYTES
_FIRST_CAPACITY = 1_024
_INDEX_BITS = 24
"""A batch holds fewer events than this many bits can number."""
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_NEVER_SILENT = np.int64(1 << 62)
"""An empty ring has nothing to forget."""
FEW = 24
"""Up to so many events the rule itself is faster than the arrays."""


class RecentIds:
    """A ring of hashes per slot; who holds which slot is the caller's business."""

    def __init__(self) -> None:
        """No slot is taken."""
        self._rings = np.zeros((_FIRST_CAPACITY, REMEMBERED), np.uint64)
        self._memory = memoryview(self._rings.data).cast("B")
        """The same as bytes."""
        self._counts = np.zeros(_FIRST_CAPACITY, np.int64)
        """How many ids went into each ring since it was last empty."""
        self._touched = np.full(_FIRST_CAPACITY, _NEVER_SILENT)
        """No slot's newest event time lies before this: it may be newer."""
        self._marks = np.zeros(_FIRST_CAPACITY, np.bool_)
        self._free: list[int] = []
        self._taken = 0

    def take_slot(self) -> int:
        """A slot with an empty ring."""
        if self._free:
            return self._free.pop()
        slot = self._taken
        if slot == len(self._counts):
            self._grow()
        self._taken += 1
        return slot

    def release(self, customer: Customer) -> None:
        """Forget the ring of a customer who leaves memory; its slot may be another's from now
        on.
        """
        self._clear(customer.slot)
        self._free.append(customer.slot)
        customer.slot = NO_SLOT

    def ids(self, slot: int) -> bytes:
        """The hashes in the ring, the oldest first."""
        count = int(self._counts[slot])
        ring: bytes = self._rings[slot].tobytes()
        if count <= REMEMBERED:
            return ring[: count * HASH_BYTES]
        oldest = (count & _PLACES) * HASH_BYTES
        return ring[oldest:] + ring[:oldest]

    def dump(self, slots: Integers) -> tuple[list[int], list[bytes]]:
        """What `restore` needs of each of these rings."""
        counts = self._counts.take(slots)
        rings = self._rings.take(slots, 0).tobytes()
        held = np.minimum(counts, REMEMBERED) * HASH_BYTES
        starts = np.arange(0, len(rings), _RING_BYTES)
        ends = (starts + held).tolist()
        return counts.tolist(), [
            rings[start:end] for start, end in zip(starts.tolist(), ends, strict=True)
        ]

    def restore(self, slot: int, count: int, ring: bytes, touched_ms: int) -> None:
        """The inverse of `dump`, for an empty ring."""
        start = slot * _RING_BYTES
        self._memory[start : start + len(ring)] = ring
        self._counts[slot] = count
        self._touched[slot] = touched_ms

    def accept(self, slot: int, *, touched_ms: int, now_ms: int, digest: bytes) -> bool:
        """The rule, for one event: remember its id and say True, or False for a duplicate.

        ``touched_ms`` is the newest event time of any folded event of the customer, ``now_ms`` the
        moment at which the event is folded: its own time, or the watermark behind which it came.
        """
        count = self._counts.item(slot)
        start = slot * _RING_BYTES
        if count:
            if now_ms - touched_ms > SILENCE_MS:
                self._clear(slot)
                count = 0
            else:
                held = min(count * HASH_BYTES, _RING_BYTES)
                if digest in bytes(self._memory[start : start + held]):
                    return False
        place = start + (count & _PLACES) * HASH_BYTES
        self._memory[place : place + HASH_BYTES] = digest
        self._counts[slot] = count + 1
        self._touched[slot] = max(touched_ms, 0)
        return True

    def duplicates(
        self, slots: list[int], arrivals: Sequence[Arrival], customers: Sequence[Customer]
    ) -> list[int]:
        """Which of ``arrivals`` are duplicates, as indexes; the ids of the others are remembered.

        The arrivals are on time and in order, ``slots[i]`` and ``customers[i]`` those of
        ``arrivals[i]``; a customer's `touched` is from before the batch. It may be the newer one
        afterwards that the fold is about to set.
        """
        if len(slots) <= FEW:
            return self._by_the_rule(range(len(slots)), slots, arrivals, customers)
        if arrivals[-1][0] - arrivals[0][0] > SILENCE_MS:
            return self._through_silences(slots, arrivals, customers)
        where = np.array(slots, np.int64)
        ids = np.frombuffer(b"".join(map(itemgetter(DIGEST), arrivals)), np.uint64)
        suspect = (self._rings.take(where, 0) == ids[:, None]).any(1)
        suspect |= self._touched[where] < arrivals[-1][0] - SILENCE_MS
        in_order = ids.argsort()
        twice = np.flatnonzero(ids[in_order[1:]] == ids[in_order[:-1]])
        # All but one of several with the same id: whoever has two of them is among these.
        suspect[in_order[1:][twice]] = True
        found: list[int] = []
        if suspect.any():
            slow = self._everything_of(where, suspect)
            found = self._by_the_rule(np.flatnonzero(slow).tolist(), slots, arrivals, customers)
            where, ids = where[~slow], ids[~slow]
        self._remember(where, ids, arrivals[0][0])
        return found

    def _through_silences(
        self, slots: list[int], arrivals: Sequence[Arrival], customers: Sequence[Customer]
    ) -> list[int]:
        """`duplicates` of a batch of history within which ids may have been forgotten: in parts that are
        too short for it.
        """
        found: list[int] = []
        start = 0
        while start < len(slots):
            end = bisect_left(arrivals, (arrivals[start][0] + SILENCE_MS + 1,), start)
            part = self.duplicates(slots[start:end], arrivals[start:end], customers[start:end])
            found += [start + place for place in part]
            left_out = set(part)
            for place, customer in enumerate(customers[start:end]):
                if place not in left_out:
                    customer.touched = arrivals[start + place][0]
            start = end
        return found

    def _everything_of(
        self, where: Integers, suspect: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Marks all events of the customers of whom one is suspect."""
        marks = self._marks
        marks[where[suspect]] = True
        found = marks[where]
        marks[where[suspect]] = False
        return found

    def _by_the_rule(
        self,
        indexes: Iterable[int],
        slots: list[int],
        arrivals: Sequence[Arrival],
        customers: Sequence[Customer],
    ) -> list[int]:
        found: list[int] = []
        newest: dict[int, int] = {}
        for i in indexes:
            slot = slots[i]
            at, _, _, _, _, _, digest, _ = arrivals[i]
            touched = newest.get(slot)
            if touched is None:
                touched = customers[i].touched
            if self.accept(slot, touched_ms=touched, now_ms=at, digest=digest):
                newest[slot] = at
            else:
                found.append(i)
        for slot, at in newest.items():
            self._touched[slot] = at
        return found

    def _remember(self, where: Integers, ids: npt.NDArray[np.uint64], touched_ms: int) -> None:
        """Append each id to its ring, those of one ring in the order given."""
        # One sort of plain integers, slot above index: stable, and a third of the price of argsort.
        keys = (where << _INDEX_BITS) | np.arange(len(where))
        keys.sort()
        slots, order = keys >> _INDEX_BITS, keys & _INDEX_MASK
        is_first = np.empty(len(slots), np.bool_)
        is_first[:1] = True
        np.not_equal(slots[1:], slots[:-1], out=is_first[1:])
        starts = np.flatnonzero(is_first)
        sizes = np.diff(starts, append=len(slots))
        places = self._counts[slots] + np.arange(len(slots)) - np.repeat(starts, sizes)
        # Of more than 16 ids of one ring the last ones are written last.
        self._rings[slots, places & _PLACES] = ids[order]
        self._counts[slots[starts]] += sizes
        self._touched[slots[starts]] = touched_ms

    def _clear(self, slot: int) -> None:
        self._counts[slot] = 0
        self._rings[slot] = 0
        self._touched[slot] = _NEVER_SILENT

    def _grow(self) -> None:
        more = len(self._counts)
        self._rings = np.concatenate([self._rings, np.zeros((more, REMEMBERED), np.uint64)])
        self._memory = memoryview(self._rings.data).cast("B")
        self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])
        self._touched = np.concatenate([self._touched, np.full(more, _NEVER_SILENT)])
        self._marks = np.concatenate([self._marks, np.zeros(more, np.bool_)])
