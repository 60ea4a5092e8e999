"""Tables and histograms that are mostly zero, as they travel: only what is there.

A window's sums are a thousand integers of which a few hundred are not zero, its histograms a
hundred thousand of which a few hundred are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.segments import Integers


def pairs_of(table: Integers) -> list[int]:
    """Place and value of each entry that is not zero, one behind the other; places count row by
    row.
    """
    flat = table.reshape(-1)
    places = np.flatnonzero(flat)
    return np.stack([places, flat[places]], axis=1).reshape(-1).tolist()


def table_of(pairs: Sequence[int], shape: tuple[int, int]) -> Integers:
    """The inverse of `pairs_of`. Raises IndexError for a place outside of ``shape``."""
    table = np.zeros(shape, np.int64)
    places, values = np.array(pairs, np.int64).reshape(-1, 2).T
    table.reshape(-1)[places] = values
    return table


def merged(histograms: Sequence[Integers]) -> Integers:
    """One histogram of several, each rows of place and count; ascending, each place once."""
    rows = np.concatenate([*histograms, np.zeros((0, 2), np.int64)])
    places, inverse = np.unique(rows[:, 0], return_inverse=True)
    counts = np.zeros(len(places), np.int64)
    np.add.at(counts, inverse, rows[:, 1])
    return np.stack([places, counts], axis=1)
