"""An invertible histogram of durations: quantiles within 1 %, panes that add and subtract exactly.

Bin 0 holds the value 0. Bin i >= 1 holds the integers in ``(g^(i-2), g^(i-1)]`` with g = 1.01^2,
and stands for its geometric middle, so the estimate differs from any value of the bin by at most 1
%. Bins are integers counted exactly: a pane that leaves a window takes out precisely what it put
in.
"""

from __future__ import annotations

import math

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


def quantile(bins: Integers, counts: Integers, q: float) -> float | None:
    """The value of rank ``ceil(q * n)`` (nearest rank), within 1 %, of ``counts`` values in each of
    ascending ``bins``; None when there are none.
    """
    total = int(counts.sum())
    if total == 0:
        return None
    rank = math.ceil(round(q * total, 9))
    at = int(bins[np.searchsorted(np.cumsum(counts), max(rank, 1))])
    if at == 0:
        return 0.0
    return math.exp(_LOG_GROWTH * (at - 1.5))
