"""Additive counters in panes, rolled up into coarser hops; a window is a running sum.

The base pane that closes is added to every level's open pane; a level whose boundary is reached
closes its own pane, which enters each of its windows and leaves each of them once, w later. All of
it is 64-bit integers, so what leaves is exactly what entered. Sums are kept below 2^62 by a check
at every entry; an overflow is an error, never a wrap.

A pane without counts is not stored: empty time costs nothing.
"""

from __future__ import annotations

from bisect import insort
from typing import Any

import msgspec
import numpy as np

from streams.narrow import pack_integers, unpack_integers
from streams.quantiles import BINS
from streams.segments import Integers

LIMIT = 1 << 62
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes]).decode


def check_limit(sums: Integers) -> None:
    """Raise OverflowError when a sum would no longer be exact."""
    if (sums >= LIMIT).any() or (sums <= -LIMIT).any():
        message = "a window's sum exceeds 2^62: amounts of this size cannot be summed exactly"
        raise OverflowError(message)


class Pane:
    """Counts of one pane: ``counts[additive, column]`` and sparse histograms of durations."""

    __slots__ = ("_sparse", "counts", "durations", "version")

    def __init__(self, counts: Integers, durations: dict[int, int]) -> None:
        """``durations`` maps ``lane * BINS + bin`` to a number of durations; a lane is a column of
        a distribution (`Segments.lanes`).
        """
        self.counts = counts
        self.durations = durations
        self.version = 0
        """Rises with every change, so that a checkpoint sees it."""
        self._sparse: tuple[Integers, Integers] | None = None

    def sparse(self) -> tuple[Integers, Integers]:
        """The durations as places and counts."""
        if self._sparse is None:
            self._sparse = (
                np.fromiter(self.durations, np.int64, len(self.durations)),
                np.fromiter(self.durations.values(), np.int64, len(self.durations)),
            )
        return self._sparse

    def pack(self) -> bytes:
        """All of it as bytes."""
        places, counts = self.sparse()
        return _encode([pack_integers(a) for a in (self.counts.reshape(-1), places, counts)])

    @classmethod
    def unpack(cls, packed: bytes, shape: tuple[int, int]) -> Pane:
        """The inverse of `pack`."""
        counts, places, durations = map(unpack_integers, _decode(packed))
        found = dict(zip(places.tolist(), durations.tolist(), strict=True))
        return cls(counts.reshape(shape), found)

    def add(self, other: Pane) -> None:
        """Add another pane's counts to these."""
        self.version += 1
        self.counts += other.counts
        if other.durations:
            mine, self._sparse = self.durations, None
            for place, count in other.durations.items():
                mine[place] = mine.get(place, 0) + count


class WindowSum:
    """The running sum of one window: what its panes hold together."""

    __slots__ = ("counts", "durations", "size_panes")

    def __init__(self, size_panes: int, shape: tuple[int, int], lanes: int) -> None:
        """A window of ``size_panes`` panes, with counts of a ``shape`` and so many lanes of
        durations.
        """
        self.size_panes = size_panes
        self.counts = np.zeros(shape, np.int64)
        self.durations = np.zeros(lanes * BINS, np.int64)

    def enter(self, pane: Pane) -> None:
        """A pane comes in. Raises OverflowError when a sum would no longer be exact."""
        self.counts += pane.counts
        check_limit(self.counts)
        if pane.durations:
            places, counts = pane.sparse()
            self.durations[places] += counts

    def leave(self, pane: Pane) -> None:
        """A pane goes out."""
        self.counts -= pane.counts
        if pane.durations:
            places, counts = pane.sparse()
            self.durations[places] -= counts


class Level:
    """All panes of one hop and the windows made of them.

    Pane k covers ``[k * hop, (k + 1) * hop)``. ``boundary`` is the index of the first pane that has
    not closed: every window ends at ``boundary * hop``.
    """

    def __init__(
        self,
        hop_ms: int,
        sizes_ms: list[int],
        shape: tuple[int, int],
        *,
        lanes: int,
        corrected: int = 0,
    ) -> None:
        """``sizes_ms`` are the sizes of the windows of this hop, in the caller's order;
        ``corrected`` is how many boundaries back the sums may still be asked for.
        """
        self.hop_ms = hop_ms
        self.windows = [WindowSum(size // hop_ms, shape, lanes) for size in sizes_ms]
        self.reach = max(window.size_panes for window in self.windows)
        self.corrected = corrected
        self.kept = self.reach + corrected
        """So many closed panes are remembered."""
        self.panes: dict[int, Pane] = {}
        self.busy: list[int] = []
        """Indexes of the panes in which anything happened, ascending, back to twice the reach."""
        self.open: Pane | None = None
        self.boundary = 0
        self.dirty: set[int] = set()
        """Indexes of the boundaries behind us whose counters a late event changed; `take_dirty`
        clears them.
        """
        self.shape = shape

    def gather(self, pane: Pane) -> None:
        """Take a finer pane that closed into the open pane."""
        if self.open is None:
            self.open = Pane(pane.counts.copy(), dict(pane.durations))
        else:
            self.open.add(pane)

    def close(self) -> Pane | None:
        """The open pane closes and enters the windows; what is w old leaves them. Returns it,
        unless it is empty.
        """
        pane, self.open = self.open, None
        index = self.boundary
        self.boundary = index + 1
        if pane is not None:
            self.panes[index] = pane
            self._note_busy(index)
            for window in self.windows:
                window.enter(pane)
        for window in self.windows:
            leaving = self.panes.get(index - window.size_panes)
            if leaving is not None:
                window.leave(leaving)
        self.panes.pop(index - self.kept, None)
        self._forget()
        return pane

    def skip_to(self, boundary: int) -> None:
        """Panes up to ``boundary`` closed empty."""
        before, self.boundary = self.boundary, boundary
        for window in self.windows:
            size = window.size_panes
            for index in self._stored(before - size, boundary - size):
                window.leave(self.panes[index])
        for index in self._stored(before - self.kept, boundary - self.kept):
            del self.panes[index]
        self._forget()

    def correct(self, moment_ms: int, change: Pane) -> bool:
        """A late event changes the pane it belongs to, and every window that still holds that pane.

        Returns whether that pane is still open: then coarser levels get the change when it closes.
        """
        index = moment_ms // self.hop_ms
        if index >= self.boundary:
            self.gather(change)
            return True
        self._note_busy(index)
        for window in self.windows:
            if index >= self.boundary - window.size_panes:
                window.enter(change)
        if self.corrected:
            first = max(index + 1, self.boundary - self.corrected + 1)
            final = min(index + self.reach, self.boundary)
            self.dirty.update(range(first, final + 1))
        if index < self.boundary - self.kept:
            return False
        known = self.panes.get(index)
        if known is None:
            self.panes[index] = Pane(change.counts.copy(), dict(change.durations))
        else:
            known.add(change)
        return False

    def take_dirty(self) -> list[int]:
        """The boundaries that a late event changed since the last call and that lie less than
        ``corrected`` boundaries back, ascending.
        """
        found = sorted(index for index in self.dirty if index > self.boundary - self.corrected)
        self.dirty.clear()
        return found

    def counts_at(self, place: int, boundaries: list[int]) -> list[Integers]:
        """The counters of window ``place`` at boundaries at most ``corrected`` back, ascending, of
        everything that has been counted by now.
        """
        size = self.windows[place].size_panes
        counts, at = self.windows[place].counts.copy(), self.boundary
        found: list[Integers] = []
        for boundary in reversed(boundaries):
            for index in self._stored(boundary, at):
                counts -= self.panes[index].counts
            for index in self._stored(boundary - size, at - size):
                counts += self.panes[index].counts
            found.append(counts.copy())
            at = boundary
        return found[::-1]

    def touch(self, moment_ms: int) -> None:
        """Something that is no counter changed in this pane: its boundaries may report other
        sums.
        """
        self._note_busy(moment_ms // self.hop_ms)

    def values(self) -> Any:
        """What is small and no pane; see `streams.timeline_rows`."""
        busy, dirty = (
            pack_integers(np.array(indexes, np.int64))
            for indexes in (self.busy, sorted(self.dirty))
        )
        return self.boundary, busy, dirty

    def take_values(self, values: Any) -> None:
        """The inverse of `values`, at a fresh level."""
        self.boundary, busy, dirty = values
        self.busy = unpack_integers(busy).tolist()
        self.dirty = set(unpack_integers(dirty).tolist())

    def take_panes(self, panes: dict[int, Pane]) -> None:
        """Go on with these closed panes; the windows' sums follow from them."""
        for index in sorted(panes):
            pane = self.panes[index] = panes[index]
            for window in self.windows:
                if index >= self.boundary - window.size_panes:
                    window.enter(pane)

    def _stored(self, start: int, stop: int) -> list[int]:
        if stop - start > len(self.panes):
            return [index for index in self.panes if start <= index < stop]
        return [index for index in range(start, stop) if index in self.panes]

    def _note_busy(self, index: int) -> None:
        busy = self.busy
        if not busy or index > busy[-1]:
            busy.append(index)
        elif index not in busy:
            insort(busy, index)

    def _forget(self) -> None:
        busy, limit = self.busy, self.boundary - 2 * self.reach - 1
        if len(busy) > 1 and busy[0] < limit:
            keep = next((i for i, index in enumerate(busy) if index >= limit), len(busy))
            del busy[:keep]
