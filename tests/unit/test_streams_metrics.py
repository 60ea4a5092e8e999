"""What a number says when there is nothing to divide by, not enough has been seen, or money is summed."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from schemas.records import Result
from streams.config import CoreConfig
from streams.metrics import (
    BY_NAME,
    METRICS,
    WILSON_Z,
    Kind,
    Needs,
    Unit,
    WindowTotals,
    results_of,
    wilson,
)
from streams.quantiles import BINS, bins_of
from streams.segments import Own, Segments, Values, dimensions
from streams.sums import ROWS, Additive, Cohort, Mark, row_of
from streams.windows import DAY_MS

CONFIG = CoreConfig(
    segments=Segments(customer=dimensions(persona=("a",), region=()), channel=Values(("email",)))
)
COLUMNS = CONFIG.segments.columns(Own.CHANNEL)
WIDTH = CONFIG.segments.width
EMAIL = 1 + 3 + 2
END_MS = 1_000 * DAY_MS
SIZE_MS = 7 * DAY_MS


def results(
    *sums: tuple[Additive | Mark | Cohort, int],
    observed_from_ms: int | None = 0,
    durations: tuple[int, ...] = (),
    column: int = 0,
) -> dict[str, Result]:
    """The results of one column by metric, where the sums are these and all others are zero."""
    table = np.zeros((ROWS, WIDTH), np.int64)
    for member, amount in sums:
        table[row_of(member), column] = amount
    bins, counts = np.unique(bins_of(np.array(durations, np.int64)), return_counts=True)
    totals = WindowTotals(
        window="7d",
        hop="1d",
        size_ms=SIZE_MS,
        end_ms=END_MS,
        at="1972-09-27T00:00:00Z",
        sums=table,
        durations=np.stack([column * BINS + bins, counts], axis=1),
        observed_from_ms=observed_from_ms,
    )
    found = results_of(totals, CONFIG)
    wanted = COLUMNS[column]
    return {
        one.metric: one
        for one in found
        if (one.segment, one.dimensions) == (wanted.segment, wanted.dimensions)
    }


# -- Wilson

# By scipy.stats.binomtest(k, n).proportion_ci(method="wilson").
INTERVALS = (
    (0, 1, 0.0, 0.7934506856227626),
    (1, 1, 0.20654931437723745, 1.0),
    (1, 2, 0.09453120573423074, 0.9054687942657693),
    (0, 20, 0.0, 0.16112515805281935),
    (15, 148, 0.06238639953073629, 0.16048724172330803),
    (81, 263, 0.2552885198782742, 0.36620957698280004),
    (1, 29, 0.006113214292762667, 0.17175521879320282),
    (50, 100, 0.4038315303659956, 0.5961684696340044),
    (999, 1_000, 0.9943574414020421, 0.9998234536293739),
    (3, 1_000_000, 1.0202712409681223e-06, 8.821149774312435e-06),
    (123_456, 999_983, 0.1228147851466348, 0.12410430540720688),
)


@pytest.mark.parametrize("successes, n, low, high", INTERVALS)
def test_the_wilson_interval_is_that_of_scipy(
    successes: int, n: int, low: float, high: float
) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), rel=0, abs=1e-9)


@pytest.mark.parametrize("successes, n", [(1, 3), (15, 148), (10**8 - 7, 10**8), (5, 10**12)])
def test_a_bound_is_where_the_score_test_just_rejects(successes: int, n: int) -> None:
    """By Wilson's definition: (k/n - p)^2 = z^2 p (1 - p) / n, in exact arithmetic."""
    bounds = wilson(successes, n)
    assert bounds is not None
    for bound in bounds:
        p = Fraction(bound)
        score = (Fraction(successes, n) - p) ** 2 * n / (p * (1 - p))
        assert math.sqrt(score) == pytest.approx(WILSON_Z, rel=1e-6)


@pytest.mark.parametrize("n", [1, 3, 10, 1_000, 10**15])
def test_none_and_all_reach_zero_and_one_exactly(n: int) -> None:
    nothing, everything = wilson(0, n), wilson(n, n)
    assert nothing is not None
    assert everything is not None
    assert (nothing[0], everything[1]) == (0.0, 1.0)
    assert 0 < nothing[1] < 1
    assert nothing[1] == pytest.approx(1 - everything[0])


@pytest.mark.parametrize("successes, n", [(0, 0), (1, 0), (-1, 5), (6, 5), (1, -1)])
def test_what_is_no_proportion_has_no_interval(successes: int, n: int) -> None:
    assert wilson(successes, n) is None


# -- declarations


def test_each_metric_is_declared_once_and_completely() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert metric.help
        assert (metric.kind is Kind.RATIO) == bool(metric.denominator)
        assert bool(metric.numerator) == (metric.kind is not Kind.QUANTILE)
        assert not metric.is_proportion or metric.unit is Unit.RATIO
        assert not metric.is_null_until_complete or metric.needs is Needs.TWO_WINDOWS
        # Interactions are no part of the impressions.
        is_named = metric.name.endswith("_ratio") and metric.name != "engagement_ratio"
        assert is_named == metric.is_proportion
        assert not (metric.is_proportion and metric.spread)
        assert (metric.kind is Kind.QUANTILE) == (metric.distribution is not None)


def test_what_late_events_count_in_their_own_panes_is_revised_and_nothing_else() -> None:
    assert {metric.name for metric in METRICS if metric.is_revisable} == {
        "page_views",
        "orders",
        "repeat_orders",
        "revenue",
        "refunded",
        "net_revenue",
        "average_order_value",
        "cancellations",
        "social_interactions",
        "social_withdrawn",
        "sentiment_mean",
        "engagement_ratio",
        "csat_responses",
        "csat_satisfied",
        "csat_ratio",
        "tickets_opened",
        "tickets_resolved",
        "tickets_reopened",
        "first_reply_seconds",
        "resolution_seconds",
    }


def test_every_sum_is_used_by_some_metric() -> None:
    used = {row for m in METRICS for row, _ in (*m.numerator, *m.denominator)}
    assert used == set(range(ROWS))


# -- null and complete


def test_counts_of_nothing_are_zero_and_ratios_of_nothing_are_null() -> None:
    for name, result in results().items():
        if BY_NAME[name].kind is Kind.COUNT:
            assert (result.value, result.numerator, result.denominator, result.n) == (
                0,
                None,
                None,
                None,
            )
        else:
            assert result.value is result.low is result.high is None
            assert result.n == 0
        assert result.complete


@pytest.mark.parametrize("observed_from_ms, is_complete", [(0, True), (1, False), (None, False)])
def test_a_plain_figure_is_complete_when_the_window_begins_at_or_after_the_first_event(
    observed_from_ms: int | None, is_complete: bool
) -> None:
    """The first event lies at the window's very start, or a millisecond after it."""
    first = None if observed_from_ms is None else END_MS - SIZE_MS + observed_from_ms
    found = results((Additive.ORDERS, 3), (Additive.REVENUE_MICROS, 1), observed_from_ms=first)
    for name in ("orders", "average_order_value", "buyers", "active_days", "bounce_ratio"):
        assert found[name].complete is is_complete
        assert BY_NAME[name].needs is Needs.WINDOW
    assert found["orders"].value == 3


@pytest.mark.parametrize("late_ms, is_complete", [(0, True), (1, False)])
def test_what_looks_back_twice_is_complete_after_two_windows(
    late_ms: int, is_complete: bool
) -> None:
    sums: list[tuple[Additive | Mark | Cohort, int]] = [
        (Cohort.BASE, 10),
        (Cohort.CHURNED, 4),
        (Cohort.REACTIVATED, 2),
        (Mark.ACTIVE, 9),
        (Mark.FIRST_ACTIVE, 1),
        (Mark.BOUGHT, 5),
        (Mark.FIRST_BOUGHT, 2),
        (Additive.REPEAT_ORDERS, 3),
    ]
    found = results(*sums, observed_from_ms=END_MS - 2 * SIZE_MS + late_ms)
    expected = {
        "base_customers": 10,
        "retained_customers": 6,
        "churned_customers": 4,
        "reactivated_customers": 2,
        "retention_ratio": 0.6,
        "churn_ratio": 0.4,
    }
    for name, value in expected.items():
        assert found[name].value == (value if is_complete else None)
        assert found[name].complete is is_complete
    for name, value in {
        "new_customers": 1,
        "returning_customers": 8,
        "returning_ratio": 8 / 9,
        "new_buyers": 2,
        "repeat_orders": 3,
        "repeat_buyer_ratio": 0.6,
    }.items():
        assert found[name].value == value
        assert found[name].complete is is_complete
    retention = found["retention_ratio"]
    if is_complete:
        assert (retention.numerator, retention.denominator, retention.n) == (6, 10, 10)
        assert (retention.low, retention.high) == wilson(6, 10)
    else:
        assert retention.numerator is retention.denominator is retention.n is retention.low is None


def test_exactly_the_figures_that_follow_from_the_base_are_null_until_two_windows() -> None:
    found = results(observed_from_ms=None)
    assert {name for name, one in found.items() if one.value is None and one.n is None} == {
        "base_customers",
        "retained_customers",
        "churned_customers",
        "reactivated_customers",
        "retention_ratio",
        "churn_ratio",
    }


# -- arithmetic


@pytest.mark.parametrize(
    "micros, value", [(0, 0), (1, 0.000001), (1_500_000, 1.5), (3_000_000, 3), (10**18, 10**12)]
)
def test_money_is_millionths_shown_in_units(micros: int, value: float) -> None:
    assert results((Additive.REVENUE_MICROS, micros))["revenue"].value == value


def test_net_revenue_may_be_negative_and_gross_revenue_never_falls() -> None:
    found = results((Additive.REVENUE_MICROS, 1_000_000), (Additive.REFUNDED_MICROS, 3_500_000))
    assert found["revenue"].value == 1
    assert found["refunded"].value == 3.5
    assert found["net_revenue"].value == -2.5


def test_the_average_order_counts_orders_of_zero() -> None:
    found = results((Additive.REVENUE_MICROS, 10_000_000), (Additive.ORDERS, 4))
    average = found["average_order_value"]
    assert (average.value, average.numerator, average.n) == (2.5, 10, 4)
    assert average.low is average.high is None


def test_durations_are_seconds_and_their_numerator_is_the_exact_total() -> None:
    found = results(
        (Additive.SESSION_MS, 1_500), (Additive.SESSIONS_CLOSED, 3), durations=(0, 500, 1_000)
    )
    mean = found["session_duration_seconds"]
    assert (mean.value, mean.numerator, mean.denominator, mean.n) == (0.5, 1.5, 3, 3)
    median = found["session_duration_seconds_p50"]
    assert median.value == pytest.approx(0.5, rel=0.01)
    assert (median.numerator, median.denominator, median.n) == (None, None, 3)
    assert found["session_duration_seconds_p99"].value == pytest.approx(1, rel=0.01)


def test_a_ratio_over_a_segment_that_others_left_has_a_value_and_no_interval() -> None:
    """Additive counts stay and marks move: buyers may exceed visitors in one segment, never in total."""
    found = results((Mark.VISITED_AND_BOUGHT, 3), (Mark.VISITED, 2), column=1)
    ratio = found["visitor_conversion_ratio"]
    assert (ratio.value, ratio.low, ratio.high) == (1.5, None, None)


def test_channels_carry_what_belongs_to_sessions_and_nothing_about_distinct_customers() -> None:
    assert set(results(column=EMAIL)) == {
        "sessions_started",
        "sessions_closed",
        "sessions_converted",
        "session_conversion_ratio",
        "bounce_ratio",
        "session_duration_seconds",
        "session_duration_seconds_p50",
        "session_duration_seconds_p90",
        "session_duration_seconds_p99",
    }


def test_results_come_in_the_order_of_declaration_and_columns() -> None:
    found = results_of(
        WindowTotals(
            window="7d",
            hop="1d",
            size_ms=SIZE_MS,
            end_ms=END_MS,
            at="x",
            sums=np.zeros((ROWS, WIDTH), np.int64),
            durations=np.zeros((0, 2), np.int64),
            observed_from_ms=None,
        ),
        CONFIG,
        (BY_NAME["orders"], BY_NAME["sessions_closed"]),
    )
    assert [one.metric for one in found] == ["orders"] * 6 + ["sessions_closed"] * len(COLUMNS)
    assert [one.segment for one in found[:2]] == [{}, {"persona": "a"}]
