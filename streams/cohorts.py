"""Retention and churn of one window: what it remembers of its own past.

``D(t)`` is the number of distinct customers active in ``[t - w, t)``. The window remembers it for
the last w/e boundaries, so the base at t, the customers active in ``[t - 2w, t - w)``, is ``S(t) =
D(t - w)``: no set is kept.

A customer who returns at u after a last activity at p counts as *reactivated* at the boundaries in
``(max(u, p + 2w), u + w]``: active now, active before ``t - 2w``, silent between. The interval is
entered into a difference ring when the return is folded.

Boundaries are counted by index: boundary k is the moment ``k * hop``.
"""

from __future__ import annotations

import numpy as np

from streams.last_seen import NEVER, LastSeen
from streams.segments import Integers
from streams.sums import Mark


class CohortMemory:
    """Remembered distinct counts and the reactivation ring of one window."""

    def __init__(
        self, *, size_ms: int, hop_ms: int, columns_of_cells: Integers, columns: int
    ) -> None:
        """Start with nothing remembered at boundary 0."""
        self.size_ms = size_ms
        self.hop_ms = hop_ms
        self.hops = size_ms // hop_ms
        self.boundary = 0
        """Index of the last boundary that was stepped to."""
        self.base = np.zeros(columns, np.int64)
        """``D(boundary - w)`` by column."""
        self.reactivated = np.zeros(columns, np.int64)
        self._distinct = np.zeros((self.hops, columns), np.int64)
        self._changes = np.zeros((self.hops + 2, columns), np.int64)
        self._columns_of_cells = columns_of_cells

    def start(self, boundary: int) -> None:
        """Begin at a boundary; nothing was active before it."""
        self.boundary = boundary

    def step(self, seen: LastSeen) -> None:
        """Go on to the next boundary, at which ``seen`` is complete."""
        boundary = self.boundary = self.boundary + 1
        end_ms = boundary * self.hop_ms
        distinct = seen.total(end_ms - self.size_ms, end_ms, slice(Mark.ACTIVE, Mark.ACTIVE + 1))[0]
        self._remember(boundary, distinct)
        self._react(boundary)

    def skip_to(self, boundary: int, seen: LastSeen) -> None:
        """Go on to a later boundary; nothing was active since the last one."""
        before = self.boundary
        silent = boundary - before
        if silent <= 0:
            return
        # Whoever is in [before - w, before) leaves one by one; after w nobody is left.
        now_ms = before * self.hop_ms
        leaving = seen.profile(Mark.ACTIVE, now_ms - self.size_ms, now_ms, self.hop_ms)
        if leaving.any():
            staying = np.zeros((self.hops + 1, leaving.shape[1]), np.int64)
            staying[:-1] = leaving[::-1].cumsum(0)[::-1]
            # staying[j] = distinct customers j boundaries on
            self._remember_run(before, silent, staying)
        else:
            self._remember_run(before, silent, None)
        if self._changes.any():
            for index in range(before + 1, min(boundary, before + self.hops + 2) + 1):
                self._react(index)
        self.boundary = boundary

    def changes(self) -> list[int]:
        """The boundaries ahead at which the reactivated change by themselves, ascending."""
        if not self._changes.any():
            return []
        ring = len(self._changes)
        places = np.flatnonzero(self._changes.any(1))
        first = self.boundary + 1
        return sorted(int(first + (place - first) % ring) for place in places)

    def count_returns(self, back_ms: int, last_ms: Integers, cells: Integers) -> None:
        """Customers who were last active at ``last_ms`` returned in the pane that begins at
        ``back_ms``.
        """
        gone = back_ms - last_ms > self.size_ms - self.hop_ms
        gone &= last_ms != NEVER
        if not gone.any():
            return
        last_ms, cells = last_ms[gone], cells[gone]
        final = (back_ms + self.size_ms) // self.hop_ms
        first = np.maximum(back_ms // self.hop_ms, (last_ms + 2 * self.size_ms) // self.hop_ms) + 1
        counted = first <= final
        if not counted.any():
            return
        columns = self._columns_of_cells[cells[counted]]
        ring = len(self._changes)
        np.add.at(self._changes, (first[counted, None] % ring, columns), 1)
        np.subtract.at(self._changes[(final + 1) % ring], columns.reshape(-1), 1)

    def change_return(self, *, back_ms: int, last_ms: int, cell: int, by: int) -> None:
        """Add ``by`` returns at ``back_ms`` after ``last_ms``, from the next boundary on.

        For a late return, and for one whose customer moves to another cell.
        """
        if last_ms == NEVER:
            return
        hop = self.hop_ms
        final = (back_ms + self.size_ms) // hop
        first = max(back_ms // hop, (last_ms + 2 * self.size_ms) // hop) + 1
        if first > final or final < self.boundary:
            return
        columns, ring = self._columns_of_cells[cell], len(self._changes)
        if first <= self.boundary:
            self.reactivated[columns] += by
        else:
            self._changes[first % ring, columns] += by
        self._changes[(final + 1) % ring, columns] -= by

    def change_distinct(self, *, after_ms: int, until_ms: int, cell: int, by: int) -> None:
        """Correct ``D(t)`` for the past boundaries t in ``(after, until]``."""
        first = max(after_ms // self.hop_ms + 1, self.boundary - self.hops + 1)
        final = min(until_ms // self.hop_ms, self.boundary)
        columns = self._columns_of_cells[cell]
        for index in range(first, final + 1):
            self._distinct[index % self.hops, columns] += by

    def arrays(self) -> dict[str, Integers]:
        """All that is remembered, beside `boundary`."""
        return {
            "base": self.base,
            "reactivated": self.reactivated,
            "distinct": self._distinct,
            "changes": self._changes,
        }

    def _remember(self, boundary: int, distinct: Integers) -> None:
        place = boundary % self.hops
        self.base = self._distinct[place].copy()
        self._distinct[place] = distinct

    def _remember_run(self, before: int, silent: int, staying: Integers | None) -> None:
        """Remember ``silent`` boundaries; ``staying[j]`` is D at ``before + j``, zero beyond (None:
        zero at all).
        """
        hops, memory = self.hops, self._distinct
        if silent <= hops:
            self.base = memory[(before + silent) % hops].copy()
        elif staying is None or silent - hops >= len(staying):
            self.base = np.zeros_like(self.base)
        else:
            self.base = staying[silent - hops].copy()
        # Only the last w/e boundaries are kept.
        first = max(1, silent - hops + 1)
        places = np.arange(before + first, before + silent + 1) % hops
        memory[places] = 0
        if staying is not None and first < len(staying):
            kept = staying[first : silent + 1]
            memory[places[: len(kept)]] = kept

    def _react(self, boundary: int) -> None:
        changes = self._changes[boundary % len(self._changes)]
        self.reactivated += changes
        changes[:] = 0
