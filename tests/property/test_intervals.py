"""Intervals and standard errors, held against scipy to 1e-9."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from streams.metrics import wilson
from tests.oracle import metrics as oracle

pytestmark = pytest.mark.property

proportions = st.integers(1, 10**9).flatmap(
    lambda n: st.tuples(
        st.one_of(st.integers(0, n), st.sampled_from(sorted({0, 1, n // 2, n - 1, n}))), st.just(n)
    )
)


@given(proportion=proportions)
@example(proportion=(0, 1))
@example(proportion=(1, 1))
@example(proportion=(1, 2))
@example(proportion=(10**9, 10**9))
def test_the_wilson_interval_is_that_of_scipy(proportion: tuple[int, int]) -> None:
    hits, n = proportion
    right = stats.binomtest(hits, n).proportion_ci(confidence_level=0.95, method="wilson")
    for found in (wilson(hits, n), oracle.wilson(hits, n)):
        assert found is not None
        assert math.isclose(found[0], right.low, rel_tol=0, abs_tol=1e-9)
        assert math.isclose(found[1], right.high, rel_tol=0, abs_tol=1e-9)
