"""Marks counted by time: distinct customers of every trailing window from one histogram.

``counts[mark, slot, column]`` is the number of marks whose moment lies in the slot. A customer has
at most one entry of each mark (`Mark.DAY`: one a day), so the sum over the slots of a window is a
number of *distinct* customers, exactly, and no window keeps a set.

Slots are fine for young moments and coarse for old ones. Tier l has slots of hop e_l and reaches
back to its *horizon*, about twice the longest window of that hop (churn looks back twice); older
slots retire into the next tier, and beyond the last tier they are forgotten. A window's borders are
multiples of its hop, and up to its reach all slots are at least that fine, so a border never cuts a
slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streams.segments import Integers
from streams.sums import MARKS
from streams.windows import WindowSet

NEVER = -(1 << 60)
"""A moment that has not happened."""
FEW = 6
"""Up to so many marks are moved one by one (2 us each) rather than by numpy (15 us at the
least).
"""


class LastSeen:
    """The histogram of all marks of one partition."""

    def __init__(self, windows: WindowSet, *, columns_of_cells: Integers, columns: int) -> None:
        """Start empty; `advance` sets the horizons before the first use."""
        base = windows.base_ms
        hops = windows.hops_ms
        self._hops = hops if hops[0] == base else (base, *hops)
        reach = [
            max([2 * w.size_ms for w in windows.windows if w.hop_ms <= hop], default=2 * hops[0])
            for hop in self._hops
        ]
        self._reach = reach
        self._retire_by = (*self._hops[1:], self._hops[-1])
        youngest = (0, *reach[:-1])
        self._slots = [
            max(r - y, 0) // hop + 2 * (up // hop) + 2
            for r, y, hop, up in zip(reach, youngest, self._hops, self._retire_by, strict=True)
        ]
        self._offsets = [sum(self._slots[:tier]) for tier in range(len(self._slots))]
        self._horizons = [NEVER] * len(self._hops)
        self._until = NEVER
        """No mark lies at or after this moment."""
        self._columns_of_cells = columns_of_cells
        self._columns = columns
        self.counts = np.zeros((MARKS, sum(self._slots), columns), np.int64)

    def slot_of(self, moment_ms: int) -> int:
        """Where a mark of this moment sits now; -1 when it is forgotten or never happened."""
        for hop, horizon, offset, slots in zip(
            self._hops, self._horizons, self._offsets, self._slots, strict=True
        ):
            if moment_ms >= horizon:
                return offset + moment_ms // hop % slots
        return -1

    def slots_of(self, moments_ms: Integers, *, youngest: int = 0) -> Integers:
        """`slot_of` for many moments, among the tiers from ``youngest`` on."""
        # Nearly all are young: they are placed first, and no older tier looks at them again.
        found = np.full(len(moments_ms), -1, np.int64)
        left = np.arange(len(moments_ms))
        for tier in range(youngest, len(self._hops)):
            inside = moments_ms[left] >= self._horizons[tier]
            here, left = left[inside], left[~inside]
            found[here] = (
                self._offsets[tier] + moments_ms[here] // self._hops[tier] % self._slots[tier]
            )
            if not len(left):
                break
        return found

    def change(self, mark: int, moment_ms: int, cell: int, by: int) -> None:
        """Add ``by`` marks of one customer's cell; a moment that never happened changes nothing."""
        if moment_ms == NEVER:
            return
        slot = self.slot_of(moment_ms)
        if slot >= 0:
            self.counts[mark, slot, self._columns_of_cells[cell]] += by

    def take_out(self, marks: Sequence[int], moments_ms: Integers, cells: Integers) -> None:
        """Remove, for each moment and cell, one of each of the marks."""
        self._change_all(marks, moments_ms, cells, -1)

    def bring_in(self, mark: int, moments_ms: Integers, cells: Integers) -> None:
        """Add one mark for each moment and cell."""
        self._change_all((mark,), moments_ms, cells, 1)

    def _change_all(
        self, marks: Sequence[int], moments_ms: Integers, cells: Integers, by: int
    ) -> None:
        if len(cells) <= FEW:
            for moment, cell in zip(moments_ms.tolist(), cells.tolist(), strict=True):
                for mark in marks:
                    self.change(mark, moment, cell, by)
            return
        slots = self.slots_of(moments_ms)
        known = slots >= 0
        if not known.any():
            return
        # Of a pane's thousands of marks most share slot and cell with others.
        count = len(self._columns_of_cells)
        together, sizes = np.unique(slots[known] * count + cells[known], return_counts=True)
        slots, cells = np.divmod(together, count)
        places = slots[:, None] * self._columns + self._columns_of_cells[cells]
        sizes *= by
        for mark in marks:
            np.add.at(self.counts[mark].reshape(-1), places, sizes[:, None])

    def put_in(self, mark: int, moment_ms: int, by_column: Integers) -> None:
        """Add marks of one moment, already counted by column."""
        self.counts[mark, self.slot_of(moment_ms)] += by_column

    def advance(self, now_ms: int) -> None:
        """Let slots that are older than their tier's reach retire. ``now_ms`` is a boundary of the
        base pane.
        """
        self._until = now_ms + self._hops[0]
        # Coarse tiers first: after a long silence a slot may retire past the next tier.
        for tier in range(len(self._hops) - 1, -1, -1):
            up, horizon = self._retire_by[tier], self._horizons[tier]
            target = (now_ms - self._reach[tier]) // up * up
            if horizon == NEVER:
                self._horizons[tier] = target
            elif target > horizon:
                # Nothing lies further from the horizon than the ring is long.
                capacity = self._slots[tier] * self._hops[tier] // up * up
                self._horizons[tier] = target
                self._retire(tier, horizon, min(target, horizon + capacity))

    def _retire(self, tier: int, start_ms: int, end_ms: int) -> None:
        """Move the slots of ``[start, end)`` to the tiers that now cover their age."""
        starts = np.arange(start_ms, end_ms, self._hops[tier])
        slots = starts // self._hops[tier] % self._slots[tier] + self._offsets[tier]
        moved = self.counts[:, slots]
        if not moved.any():
            return
        self.counts[:, slots] = 0
        places = self.slots_of(starts, youngest=tier + 1)
        known = places >= 0
        np.add.at(self.counts.swapaxes(0, 1), places[known], moved[:, known].swapaxes(0, 1))

    def total(self, start_ms: int, end_ms: int, marks: slice = slice(None)) -> Integers:
        """``[marks, columns]``: marks in ``[start, end)``; both are borders of slots of their
        age.
        """
        found: Integers | None = None
        end_ms = min(end_ms, self._until)
        for tier, hop in enumerate(self._hops):
            lower = max(start_ms, self._horizons[tier])
            if lower < end_ms:
                slots, offset = self._slots[tier], self._offsets[tier]
                first, last = lower // hop % slots, (end_ms - 1) // hop % slots
                counts = self.counts[marks]
                if first <= last:
                    part = counts[:, offset + first : offset + last + 1].sum(1)
                else:
                    part = counts[:, offset + first : offset + slots].sum(1)
                    part += counts[:, offset : offset + last + 1].sum(1)
                found = part if found is None else found + part
                end_ms = lower
        if found is None:
            return np.zeros((len(range(MARKS)[marks]), self._columns), np.int64)
        return found

    def profile(self, mark: int, start_ms: int, end_ms: int, step_ms: int) -> Integers:
        """``[steps, columns]``: marks in each step of ``[start, end)``; a step is a hop whose
        windows reach so far.
        """
        found = np.zeros(((end_ms - start_ms) // step_ms, self._columns), np.int64)
        end_ms = min(end_ms, self._until)
        for tier, hop in enumerate(self._hops):
            lower = max(start_ms, self._horizons[tier])
            if lower < end_ms:
                starts = np.arange(lower // hop * hop, end_ms, hop)
                slots = starts // hop % self._slots[tier] + self._offsets[tier]
                np.add.at(found, (starts - start_ms) // step_ms, self.counts[mark, slots])
                end_ms = lower
        return found

    def values(self) -> Any:
        """What it takes beside `counts` to go on from here."""
        return self._horizons, self._until

    def take_values(self, values: Any) -> None:
        """The inverse of `values`."""
        self._horizons, self._until = values
