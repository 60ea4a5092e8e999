"""Moments as text, and the edges of the histogram of durations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streams.moments import from_text, to_text
from streams.quantiles import BINS, MAX_VALUE, Histograms, bins_of
from streams.segments import Integers


@pytest.mark.parametrize(
    "text, moment_ms",
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1998-07-01T00:00:00Z", 899_251_200_000),
        ("1998-07-01T00:00:00.001Z", 899_251_200_001),
        ("1998-07-01T00:00:01Z", 899_251_201_000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2199-12-31T23:59:59.999Z", 7_258_118_399_999),
    ],
)
def test_moments_go_to_text_and_back(text: str, moment_ms: int) -> None:
    assert to_text(moment_ms) == text
    assert from_text(text) == moment_ms


def test_any_offset_is_read() -> None:
    assert from_text("1998-07-01T02:00:00+02:00") == from_text("1998-07-01T00:00:00Z")


def test_a_moment_without_offset_is_refused_and_shown_how() -> None:
    with pytest.raises(ValueError, match="has no offset: write it as"):
        from_text("1998-07-01T00:00:00")


def quantile(counts: Integers, q: float) -> float | None:
    """The quantile of a dense histogram."""
    used = np.flatnonzero(counts)
    # Between two other lanes, which must not matter.
    places = np.concatenate([[3], BINS + used, [2 * BINS]])
    rows = np.stack([places, np.concatenate([[7], counts[used], [9]])], axis=1)
    histograms = Histograms(rows, 3)
    assert [histograms.count(lane) for lane in range(3)] == [7, counts.sum(), 9]
    return histograms.quantile(1, q)


def counts_of(*values: int) -> Integers:
    return np.bincount(bins_of(np.array(values, np.int64)), minlength=BINS)


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile(np.zeros(BINS, np.int64), 0.5) is None


def test_zero_has_a_bin_of_its_own() -> None:
    assert bins_of(np.array([0, 1], np.int64)).tolist() == [0, 1]
    assert quantile(counts_of(0, 0, 1_000), 0.5) == 0.0
    assert quantile(counts_of(0, 1_000, 1_000), 0.5) == pytest.approx(1_000, rel=0.01)


def test_the_rank_is_the_nearest_and_never_below_the_first() -> None:
    ten = counts_of(*(10**i for i in range(8)), 0, 0)
    assert quantile(ten, 0.2) == 0.0
    assert quantile(ten, 0.3) == pytest.approx(1, rel=0.01)
    assert quantile(ten, 0.9) == pytest.approx(10**6, rel=0.01)
    assert quantile(ten, 0.99) == pytest.approx(10**7, rel=0.01)
    assert quantile(ten, 0.0) == 0.0
    # 0.07 * 100 is 7.000000000000001 as a float: still the seventh.
    assert quantile(counts_of(*[0] * 7, *[1_000] * 93), 0.07) == 0.0


def test_the_longest_duration_falls_into_the_last_bin() -> None:
    assert bins_of(np.array([MAX_VALUE], np.int64)).tolist() == [BINS - 1]
    assert quantile(counts_of(MAX_VALUE), 0.5) == pytest.approx(MAX_VALUE, rel=0.01)


def test_every_value_is_within_one_percent_also_at_the_borders_of_bins() -> None:
    growth = 1.01**2
    values = {1, 2, 3, 60_000, 1_800_000, MAX_VALUE}
    values |= {math.floor(growth**i) + d for i in range(1_500) for d in (0, 1)}
    for value in sorted(v for v in values if v <= MAX_VALUE):
        assert quantile(counts_of(value), 0.5) == pytest.approx(value, rel=0.0100001)
