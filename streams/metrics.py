"""Every metric, declared once: name, unit, kind, formula, help.

Exporters, results, documentation and dashboards are made from `METRICS`; a metric that is not here
does not exist. The definitions are those of METRICS.md 3; `help` is the short form.
"""

from __future__ import annotations

import enum
import math

import msgspec
import numpy as np

from schemas.records import Number, Result
from streams.config import CoreConfig
from streams.quantiles import BINS, quantile
from streams.segments import Column, Integers
from streams.sums import Additive, Cohort, Mark, row_of

WILSON_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
MICROS = 1_000_000
MILLIS = 1_000

Term = tuple[int, int]
"""A sum's row and the factor with which it enters."""


class Unit(enum.StrEnum):
    """What a value is measured in. ``count`` and ``ratio`` have no unit."""

    COUNT = "count"
    RATIO = "ratio"
    SECONDS = "seconds"
    CURRENCY = "currency"


class Kind(enum.StrEnum):
    """How a value follows from the sums."""

    COUNT = "count"
    """An integer, or money: a linear combination of sums."""
    RATIO = "ratio"
    """Numerator over denominator, both linear combinations."""
    QUANTILE = "quantile"
    """A rank in the histogram of session durations."""


class Group(enum.StrEnum):
    """What a metric speaks of; the values are headings, in the order of the groups."""

    SESSIONS = "Sessions and conversion"
    PURCHASES = "Purchases"
    RETURN = "Return frequency"
    RETENTION = "Retention and churn"


class Needs(enum.IntEnum):
    """How many windows must have been observed."""

    WINDOW = 1
    TWO_WINDOWS = 2


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of one metric."""

    name: str
    help: str
    pitfall: str
    """What the number is easily mistaken for; one or two sentences."""
    group: Group
    unit: Unit
    kind: Kind
    numerator: tuple[Term, ...] = ()
    denominator: tuple[Term, ...] = ()
    numerator_scale: int = 1
    """The numerator's integers are this many to one unit."""
    is_proportion: bool = False
    """The numerator counts a part of the denominator, so a Wilson interval belongs to the ratio."""
    by_channel: bool = False
    """Also reported by acquisition channel."""
    needs: Needs = Needs.WINDOW
    """`Result.complete` is false until this many windows have been observed."""
    is_null_until_complete: bool = False
    is_revisable: bool = False
    """Whether late events change results that were already published (METRICS: additive metrics and
    their ratios).
    """
    q: float = 0.0


def _terms(
    *members: Additive | Mark | Cohort, minus: tuple[Mark | Cohort, ...] = ()
) -> tuple[Term, ...]:
    return tuple((row_of(m), 1) for m in members) + tuple((row_of(m), -1) for m in minus)


def _count(
    name: str,
    text: str,
    *members: Additive | Mark | Cohort,
    group: Group,
    pitfall: str,
    minus: tuple[Mark | Cohort, ...] = (),
    by_channel: bool = False,
    needs: Needs = Needs.WINDOW,
    is_null_until_complete: bool = False,
) -> Metric:
    return Metric(
        name=name,
        help=text,
        pitfall=pitfall,
        group=group,
        unit=Unit.COUNT,
        kind=Kind.COUNT,
        numerator=_terms(*members, minus=minus),
        by_channel=by_channel,
        needs=needs,
        is_null_until_complete=is_null_until_complete,
        is_revisable=all(isinstance(m, Additive) for m in members) and not minus,
    )


def _money(name: str, text: str, terms: tuple[Term, ...], *, pitfall: str) -> Metric:
    return Metric(
        name=name,
        help=text,
        pitfall=pitfall,
        group=Group.PURCHASES,
        unit=Unit.CURRENCY,
        kind=Kind.COUNT,
        numerator=terms,
        numerator_scale=MICROS,
        is_revisable=True,
    )


def _ratio(  # noqa: PLR0913 - a declaration names what it has beyond the common
    name: str,
    text: str,
    numerator: tuple[Term, ...],
    denominator: tuple[Term, ...],
    *,
    group: Group,
    pitfall: str,
    unit: Unit = Unit.RATIO,
    scale: int = 1,
    is_proportion: bool = False,
    by_channel: bool = False,
    needs: Needs = Needs.WINDOW,
    is_null_until_complete: bool = False,
    is_revisable: bool = False,
) -> Metric:
    return Metric(
        name=name,
        help=text,
        pitfall=pitfall,
        group=group,
        unit=unit,
        kind=Kind.RATIO,
        numerator=numerator,
        denominator=denominator,
        numerator_scale=scale,
        is_proportion=is_proportion,
        by_channel=by_channel,
        needs=needs,
        is_null_until_complete=is_null_until_complete,
        is_revisable=is_revisable,
    )


def _duration_quantile(q: float, *, pitfall: str) -> Metric:
    return Metric(
        name=f"session_duration_seconds_p{round(q * 100)}",
        help=f"{round(q * 100)} % of the sessions that closed lasted at most this long (nearest rank, within 1 %)",
        pitfall=pitfall,
        group=Group.SESSIONS,
        unit=Unit.SECONDS,
        kind=Kind.QUANTILE,
        by_channel=True,
        q=q,
    )


_CLOSED = _terms(Additive.SESSIONS_CLOSED)
_TWO = Needs.TWO_WINDOWS

METRICS: tuple[Metric, ...] = (
    # Sessions and conversion
    _count(
        "page_views",
        "Page views",
        Additive.PAGE_VIEWS,
        group=Group.SESSIONS,
        pitfall="A reload is a page view, and so is a robot's unless the producer leaves it out.",
    ),
    _count(
        "visitors",
        "Distinct customers with a page view",
        Mark.VISITED,
        group=Group.SESSIONS,
        pitfall=(
            "Does not add up over windows: who comes on two days is one visitor of both. A person "
            "under two customer ids is two."
        ),
    ),
    _count(
        "sessions_started",
        "Sessions whose first page view lies in the window",
        Additive.SESSIONS_STARTED,
        by_channel=True,
        group=Group.SESSIONS,
        pitfall="A session that began before the window and goes on in it is not counted.",
    ),
    _count(
        "sessions_closed",
        "Sessions that closed in the window",
        Additive.SESSIONS_CLOSED,
        by_channel=True,
        group=Group.SESSIONS,
        pitfall=(
            "A silent session closes only when the session gap has passed, so the latest visits "
            "are not in it yet."
        ),
    ),
    _count(
        "sessions_converted",
        "Sessions that closed in the window and during which the customer placed an order",
        Additive.SESSIONS_CONVERTED,
        by_channel=True,
        group=Group.SESSIONS,
        pitfall="An order after the session has closed does not count, however soon it comes.",
    ),
    _ratio(
        "session_conversion_ratio",
        "Share of the closed sessions with an order",
        _terms(Additive.SESSIONS_CONVERTED),
        _CLOSED,
        is_proportion=True,
        by_channel=True,
        group=Group.SESSIONS,
        pitfall=(
            "Not orders per session: a session with two orders counts once. Visits still going on "
            "are in neither part."
        ),
    ),
    _ratio(
        "visitor_conversion_ratio",
        "Share of the visitors who also ordered in the window",
        _terms(Mark.VISITED_AND_BOUGHT),
        _terms(Mark.VISITED),
        is_proportion=True,
        group=Group.SESSIONS,
        pitfall=(
            "View and order need not belong to one visit, and it grows with the window: compare "
            "windows of one length only."
        ),
    ),
    _ratio(
        "bounce_ratio",
        "Share of the closed sessions with one page view",
        _terms(Additive.SESSIONS_BOUNCED),
        _CLOSED,
        is_proportion=True,
        by_channel=True,
        group=Group.SESSIONS,
        pitfall="One page that was read for long is a bounce too.",
    ),
    _ratio(
        "session_duration_seconds",
        "Mean time from first to last page view of the closed sessions",
        _terms(Additive.SESSION_MS),
        _CLOSED,
        unit=Unit.SECONDS,
        scale=MILLIS,
        by_channel=True,
        group=Group.SESSIONS,
        pitfall=(
            "Time on the last page is unknown and counts as nothing: the mean is a lower bound, "
            "and a session of one page lasts 0 s."
        ),
    ),
    _duration_quantile(
        0.5,
        pitfall="Half of the sessions lasted no longer. Quantiles of windows or segments cannot be averaged.",
    ),
    _duration_quantile(
        0.9,
        pitfall="Quantiles of windows or segments cannot be averaged.",
    ),
    _duration_quantile(
        0.99,
        pitfall="With fewer than 100 sessions this is the longest of them.",
    ),
    # Purchases
    _count(
        "orders",
        "Orders",
        Additive.ORDERS,
        group=Group.PURCHASES,
        pitfall="Orders of amount 0 and orders that are refunded later are orders.",
    ),
    _count(
        "buyers",
        "Distinct customers with an order",
        Mark.BOUGHT,
        group=Group.PURCHASES,
        pitfall="Does not add up over windows: who buys on two days is one buyer of both.",
    ),
    _count(
        "new_buyers",
        "Customers whose first order ever lies in the window",
        Mark.FIRST_BOUGHT,
        needs=_TWO,
        group=Group.PURCHASES,
        pitfall=(
            "First ever means first that Heartline has seen: without a replay of history "
            "everybody is new at the start."
        ),
    ),
    _count(
        "repeat_orders",
        "Orders that are not the customer's first",
        Additive.REPEAT_ORDERS,
        needs=_TWO,
        group=Group.PURCHASES,
        pitfall="Counts orders, not customers; a customer's first and second order may lie in the same window.",
    ),
    _money(
        "revenue",
        "Amount of the orders",
        _terms(Additive.REVENUE_MICROS),
        pitfall="Gross: no refund lowers it, and payments for subscriptions are no orders.",
    ),
    _money(
        "refunded",
        "Amount given back, on the day it was",
        _terms(Additive.REFUNDED_MICROS),
        pitfall="Counted when it is given back, not when the order was placed: it may exceed the window's revenue.",
    ),
    _money(
        "net_revenue",
        "Revenue less refunds",
        (*_terms(Additive.REVENUE_MICROS), (row_of(Additive.REFUNDED_MICROS), -1)),
        pitfall="Negative where more was given back than sold: the refunds may belong to orders of earlier windows.",
    ),
    _ratio(
        "average_order_value",
        "Revenue per order",
        _terms(Additive.REVENUE_MICROS),
        _terms(Additive.ORDERS),
        unit=Unit.CURRENCY,
        scale=MICROS,
        is_revisable=True,
        group=Group.PURCHASES,
        pitfall="A mean of gross amounts: one large order moves it, and refunds do not.",
    ),
    _ratio(
        "repeat_buyer_ratio",
        "Share of the buyers who had ordered before the window",
        _terms(Mark.BOUGHT, minus=(Mark.FIRST_BOUGHT,)),
        _terms(Mark.BOUGHT),
        is_proportion=True,
        needs=_TWO,
        group=Group.PURCHASES,
        pitfall="Who buys for the first time and again within the window is new, not repeat.",
    ),
    # Return frequency
    _count(
        "active_customers",
        "Distinct customers with an activity",
        Mark.ACTIVE,
        group=Group.RETURN,
        pitfall=(
            "Does not add up over windows. Events that are no activity, a support ticket for one, "
            "make nobody active."
        ),
    ),
    _count(
        "new_customers",
        "Customers whose first activity ever lies in the window",
        Mark.FIRST_ACTIVE,
        needs=_TWO,
        group=Group.RETURN,
        pitfall="New to Heartline, not to the business: without a replay of history everybody is new at the start.",
    ),
    _count(
        "returning_customers",
        "Active customers who are not new",
        Mark.ACTIVE,
        minus=(Mark.FIRST_ACTIVE,),
        needs=_TWO,
        group=Group.RETURN,
        pitfall="Not the retained: they may have been away for longer than a window.",
    ),
    _ratio(
        "returning_ratio",
        "Share of the active customers who are not new",
        _terms(Mark.ACTIVE, minus=(Mark.FIRST_ACTIVE,)),
        _terms(Mark.ACTIVE),
        is_proportion=True,
        needs=_TWO,
        group=Group.RETURN,
        pitfall=(
            "Rises when fewer new customers come, though nobody returns more often: read it "
            "beside its numerator."
        ),
    ),
    _count(
        "active_days",
        "Pairs of customer and UTC day with an activity",
        Mark.DAY,
        group=Group.RETURN,
        pitfall="A visit across midnight UTC is two days.",
    ),
    _ratio(
        "return_frequency",
        "Active days per active customer",
        _terms(Mark.DAY),
        _terms(Mark.ACTIVE),
        group=Group.RETURN,
        pitfall=(
            "Lies between 1 and the number of UTC days that the window touches: compare windows "
            "of one length only."
        ),
    ),
    _ratio(
        "sessions_per_visitor",
        "Sessions started per visitor",
        _terms(Additive.SESSIONS_STARTED),
        _terms(Mark.VISITED),
        group=Group.RETURN,
        pitfall="Can fall below 1: a session that goes on from before the window has a visitor in it and no start.",
    ),
    _ratio(
        "visit_interval_seconds",
        "Mean time between the starts of a customer's consecutive sessions, counted at the later one",
        _terms(Additive.VISIT_INTERVAL_MS),
        _terms(Additive.VISIT_INTERVALS),
        unit=Unit.SECONDS,
        scale=MILLIS,
        group=Group.RETURN,
        pitfall="Says nothing of those who did not come back: when the rare visitors leave, it falls.",
    ),
    # Retention and churn
    _count(
        "base_customers",
        "Customers active in the window before this one",
        Cohort.BASE,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Of the window before this one: it does not move with what happens in this window.",
    ),
    _count(
        "retained_customers",
        "Of the base, those active in this window",
        Cohort.BASE,
        minus=(Cohort.CHURNED,),
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Active at least once in each of the two windows; a single page view is enough.",
    ),
    _count(
        "churned_customers",
        "Of the base, those silent in this window",
        Cohort.CHURNED,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Silent, not necessarily lost: who comes back in the next window was counted all the same.",
    ),
    _count(
        "reactivated_customers",
        "Active in this window and before the base's, silent in between",
        Cohort.REACTIVATED,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Neither new nor retained: they count in no retention ratio.",
    ),
    _ratio(
        "retention_ratio",
        "Share of the base that is active in this window",
        _terms(Cohort.BASE, minus=(Cohort.CHURNED,)),
        _terms(Cohort.BASE),
        is_proportion=True,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Depends on the length of the window: never compare 7d with 30d. It is not (end - new) / start.",
    ),
    _ratio(
        "churn_ratio",
        "Share of the base that is silent in this window",
        _terms(Cohort.CHURNED),
        _terms(Cohort.BASE),
        is_proportion=True,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="The share that was silent for one window, not that cancelled, and not a forecast.",
    ),
    _count(
        "cancellations",
        "Subscriptions cancelled",
        Additive.CANCELLATIONS,
        group=Group.RETENTION,
        pitfall="Events, not customers, and no part of the churn ratio, which looks at activity alone.",
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}


class WindowTotals(msgspec.Struct, frozen=True, kw_only=True):
    """A window at a boundary, over all partitions: what results are computed from.

    ``sums[row][column]`` are exact integers; ``durations[column]`` is a dense histogram.
    ``observed_from_ms`` is the earliest event of all.
    """

    window: str
    hop: str
    size_ms: int
    end_ms: int
    at: str
    sums: Integers
    durations: Integers
    observed_from_ms: int | None


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """The Wilson score interval at 95 % of a proportion; None unless ``0 <= successes <= n`` and n
    > 0.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA
    22 (1927).
    """
    if n <= 0 or not 0 <= successes <= n:
        return None
    z2 = WILSON_Z * WILSON_Z
    p = successes / n
    centre = p + z2 / (2 * n)
    spread = WILSON_Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + spread) / scale)
    return low, high


def results_of(
    totals: WindowTotals, config: CoreConfig, metrics: tuple[Metric, ...] = METRICS
) -> list[Result]:
    """Every metric for every column that it is reported for, in declaration order."""
    columns = config.segments.columns()
    customer_columns = config.segments.customer_columns
    # Lists of Python integers: reading a numpy scalar costs four times as much.
    rows: list[list[int]] = totals.sums.tolist()
    return [
        _result(metric, totals, rows, columns[index], index)
        for metric in metrics
        for index in range(len(columns) if metric.by_channel else customer_columns)
    ]


def _result(
    metric: Metric, totals: WindowTotals, rows: list[list[int]], column: Column, index: int
) -> Result:
    observed = totals.observed_from_ms
    is_complete = observed is not None and totals.end_ms - metric.needs * totals.size_ms >= observed
    value: Number | None = None
    numerator: Number | None = None
    denominator: int | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    if metric.kind is Kind.QUANTILE:
        counts = totals.durations[index]
        n = int(counts.sum())
        found = quantile(counts, metric.q)
        value = None if found is None else found / MILLIS
    elif metric.is_null_until_complete and not is_complete:
        pass
    else:
        amount = _combine(metric.numerator, rows, index)
        if metric.kind is Kind.COUNT:
            value = _scaled(amount, metric.numerator_scale)
        else:
            denominator = n = _combine(metric.denominator, rows, index)
            numerator = _scaled(amount, metric.numerator_scale)
            if denominator:
                value = amount / (denominator * metric.numerator_scale)
                if metric.is_proportion:
                    interval = wilson(amount, denominator)
    return Result(
        metric=metric.name,
        window=totals.window,
        hop=totals.hop,
        at=totals.at,
        segment=column.segment,
        dimensions=column.dimensions,
        value=value,
        numerator=numerator,
        denominator=denominator,
        n=n,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        complete=is_complete,
    )


def _combine(terms: tuple[Term, ...], rows: list[list[int]], column: int) -> int:
    # Python integers: sums over partitions and differences cannot overflow here.
    total = 0
    for row, factor in terms:
        total += rows[row][column] * factor
    return total


def _scaled(amount: int, scale: int) -> Number:
    """An integer number of millionths or thousandths in whole units; exact to 2^53 of them."""
    if scale == 1:
        return amount
    return amount // scale if amount % scale == 0 else amount / scale


def dense_durations(sparse: Integers, columns: int) -> Integers:
    """``[columns, BINS]`` from rows of ``column * BINS + bin, count``."""
    dense = np.zeros(columns * BINS, np.int64)
    if len(sparse):
        dense[sparse[:, 0]] = sparse[:, 1]
    return dense.reshape(columns, BINS)
