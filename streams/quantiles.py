"""An invertible histogram of durations: quantiles within 1 %, panes that add and subtract exactly.

Bin 0 holds the value 0. Bin i >= 1 holds the integers in ``(g^(i-2), g^(i-1)]`` with g = 1.01^2,
and stands for its geometric middle, so the estimate differs from any value of the bin by at most 1
%. Bins are integers counted exactly: a pane that leaves a window takes out precisely what it put
in.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from streams.segments import Integers

RELATIVE_ERROR = 0.01
_LOG_GROWTH = 2 * math.log1p(RELATIVE_ERROR)
MAX_VALUE = 230 * 366 * 86_400_000
"""The longest duration in milliseconds: events lie between 1971 and 2200."""
BINS = 2 + math.ceil(math.log(MAX_VALUE) / _LOG_GROWTH)


def bins_of(values: Integers) -> Integers:
    """The bin of each value; values are >= 0 and at most `MAX_VALUE`."""
    positive = np.maximum(values, 1)
    found = 1 + np.ceil(np.log(positive) / _LOG_GROWTH - 1e-9).astype(np.int64)
    found[values == 0] = 0
    return found


class Histograms:
    """Sparse histograms, one a lane, of which quantiles are asked: each costs a bisection."""

    def __init__(self, rows: Integers, lanes: int) -> None:
        """``rows`` are ``lane * BINS + bin`` and count, ascending."""
        places = rows[:, 0]
        self._places: list[int] = places.tolist()
        self._sums: list[int] = np.concatenate(([0], np.cumsum(rows[:, 1]))).tolist()
        """How many values lie before each place, and at last how many there are."""
        starts = np.arange(lanes + 1) * BINS
        self._firsts: list[int] = np.searchsorted(places, starts).tolist()

    def count(self, lane: int) -> int:
        """How many values a lane has."""
        return self._sums[self._firsts[lane + 1]] - self._sums[self._firsts[lane]]

    def quantile(self, lane: int, q: float) -> float | None:
        """The value of rank ``ceil(q * n)`` (nearest rank), within 1 %; None without values."""
        first, last = self._firsts[lane], self._firsts[lane + 1]
        before = self._sums[first]
        total = self._sums[last] - before
        if total == 0:
            return None
        rank = max(1, math.ceil(round(q * total, 9)))
        at = self._places[bisect_left(self._sums, before + rank, first, last) - 1] - lane * BINS
        if at == 0:
            return 0.0
        return math.exp(_LOG_GROWTH * (at - 1.5))
