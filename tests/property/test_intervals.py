"""Intervals and standard errors, held against scipy to 1e-9."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from schemas.decode import Decoder
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.metrics import wilson
from streams.windows import Window, WindowSet
from tests.oracle import metrics as oracle
from tests.oracle.lives import EPOCH_MS, HOUR_MS

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


def score_of(answers: list[int]) -> Result:
    """The NPS result of these answers, each of another customer, by the engine."""
    decode = Decoder().decode
    decoded = [
        decode(
            json.dumps(
                {
                    "type": "nps_answered",
                    "event_id": str(number),
                    "customer_id": str(number),
                    "occurred_at": EPOCH_MS,
                    "score": score,
                }
            ).encode()
        )
        for number, score in enumerate(answers)
    ]
    config = CoreConfig(windows=WindowSet.of([Window.parse("1h/1h")]))
    (found,) = (
        one
        for one in evaluate(config, decoded, [EPOCH_MS + HOUR_MS])
        if one.metric == "nps" and not one.segment
    )
    return found


@given(answers=st.lists(st.integers(0, 10), min_size=1, max_size=60))
@example(answers=[10])
@example(answers=[0])
@example(answers=[10, 0])
@example(answers=[8])
def test_the_error_of_the_net_promoter_score_is_that_of_a_mean(answers: list[int]) -> None:
    """Of +1, 0 and -1: scipy's standard error of the mean over the whole population."""
    worth = np.array([1 if score >= 9 else -1 if score <= 6 else 0 for score in answers])
    # scipy refuses a single value, which has no spread.
    error = 100 * float(stats.sem(worth, ddof=0)) if len(worth) > 1 else 0.0
    value = 100 * float(worth.mean())
    found = score_of(answers)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert math.isclose(found.value, value, rel_tol=0, abs_tol=1e-9)
    assert math.isclose(found.low, value - 1.96 * error, rel_tol=0, abs_tol=1e-9)
    assert math.isclose(found.high, value + 1.96 * error, rel_tol=0, abs_tol=1e-9)
    assert (found.numerator, found.denominator, found.n) == (int(worth.sum()), *2 * (len(worth),))
