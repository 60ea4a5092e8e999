"""Every metric from its counts: the arithmetic of ratios, units and intervals. The counts are `tests.oracle.queries`.

Columns are spelled (dimension, label): ('', '') is everyone. A dimension of the metric's own comes by its name;
moves between stages have two, spelled ('from+to', 'aware+engaged').
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeAlias

from tests.oracle.customers import OTHER, UNKNOWN, OracleConfig, derive
from tests.oracle.journey import MOVES, STAGES
from tests.oracle.queries import Spot, count
from tests.oracle.rules import Judged

Z95 = 1.959963984540054
MICROS = 1_000_000

Number: TypeAlias = int | float
Key: TypeAlias = tuple[str, int, int, str, str]
"""(metric, t, w, dimension, label)"""


class Expected(NamedTuple):
    """What a result must say. There are many of them: a tuple is made in a third of the time."""

    value: Number | None
    numerator: Number | None = None
    denominator: Number | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    complete: bool = False


class Counts:
    """The integer counts of one spot, and whether one or two windows have been observed."""

    def __init__(self, counts: Mapping[str, int], *, once: bool, twice: bool) -> None:
        self._counts = counts
        self.once = once
        self.twice = twice

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)


@dataclass(frozen=True, slots=True)
class _Metric:
    """`wide`: complete only after 2w. `base`: null until then. `by`: its own labels, a key of `own_labels`."""

    of: Callable[[Counts], Expected]
    wide: bool = False
    base: bool = False
    by: str = ""


def compute(
    judged: Sequence[Judged],
    config: OracleConfig,
    ticks: Iterable[tuple[int, int]],
) -> dict[Key, Expected]:
    """Compute all metrics for each (t, w) of `ticks`: everyone, by each customer dimension, by their own."""
    wanted = sorted(set(ticks))
    counted = count(derive(judged, config), wanted, tuple(config.segments))
    observed = _observed_from(counted, config)
    customers = [("", "")]
    for name, values in config.segments.items():
        customers += [(name, label) for label in (*values, OTHER, UNKNOWN)]
    own = own_labels(config)
    columns = {*customers, *chain.from_iterable(own.values())}
    expected: dict[Key, Expected] = {}
    for t, w in wanted:
        start = observed.get(t)
        once = start is not None and t - w >= start
        twice = start is not None and t - 2 * w >= start
        counts = {
            column: Counts(counted[t, w, *column], once=once, twice=twice)
            for column in columns
            if (t, w, *column) in counted
        }
        nothing = Counts({}, once=once, twice=twice)
        for name, metric in METRICS.items():
            of_nothing = _evaluate(metric, nothing)
            for column in (*customers, *own[metric.by]):
                found = counts.get(column)
                expected[name, t, w, *column] = _evaluate(metric, found) if found else of_nothing
    return expected


def own_labels(config: OracleConfig) -> dict[str, list[tuple[str, str]]]:
    """The columns that belong to single metrics; all of them are always given."""
    return {
        "": [],
        "channel": [("channel", label) for label in (*config.channels, OTHER, UNKNOWN)],
        "support": [("channel", label) for label in (*config.support_channels, OTHER, UNKNOWN)],
        "network": [("network", label) for label in (*config.networks, OTHER, UNKNOWN)],
        "stage": [("stage", stage) for stage in STAGES],
        "moves": [("from+to", f"{left}+{stage}") for left, stage in MOVES],
    }


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval at 95 %: E. B. Wilson, JASA 22 (1927) 209-212."""
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _evaluate(metric: _Metric, counts: Counts) -> Expected:
    complete = counts.twice if metric.wide else counts.once
    if metric.base and not counts.twice:
        return Expected(value=None, complete=False)
    return metric.of(counts)._replace(complete=complete)


def _count_of(name: str) -> Callable[[Counts], Expected]:
    return lambda counts: Expected(counts[name])


def _money(name: str) -> Callable[[Counts], Expected]:
    return lambda counts: Expected(counts[name] / MICROS)


def _ratio(
    over: str, under: str, *, minus: str = "", unit: int = 1
) -> Callable[[Counts], Expected]:
    """(over - minus) / under, where over is held in 1/unit."""

    def of(counts: Counts) -> Expected:
        numerator: Number = counts[over] - (counts[minus] if minus else 0)
        if unit != 1:
            numerator /= unit
        n = counts[under]
        return Expected(numerator / n if n else None, numerator, n, n)

    return of


def _proportion(over: str, under: str, *, minus: str = "") -> Callable[[Counts], Expected]:
    plain = _ratio(over, under, minus=minus)

    def of(counts: Counts) -> Expected:
        found = plain(counts)
        if not found.n:
            return found
        low, high = wilson(counts[over] - (counts[minus] if minus else 0), found.n)
        return Expected(found.value, found.numerator, found.denominator, found.n, low, high)

    return of


def _quantile(name: str, n_of: str) -> Callable[[Counts], Expected]:
    def of(counts: Counts) -> Expected:
        n = counts[n_of]
        return Expected(counts[name] / 1000 if n else None, n=n)

    return of


def _per_1000_active(name: str) -> Callable[[Counts], Expected]:
    def of(counts: Counts) -> Expected:
        n = counts["active"]
        return Expected(1000 * counts[name] / n if n else None, counts[name], n, n)

    return of


def net_promoter_score(counts: Counts) -> Expected:
    """100 (p - d) / n, give or take 1.96 standard errors of a mean of +1, 0 and -1."""
    p, d = counts["nps_promoters"], counts["nps_detractors"]
    n = p + d + counts["nps_passives"]
    if not n:
        return Expected(None, 0, 0, 0)
    value = 100 * (p - d) / n
    error = 100 * math.sqrt(p + d - (p - d) ** 2 / n) / n
    return Expected(value, p - d, n, n, value - 1.96 * error, value + 1.96 * error)


METRICS: dict[str, _Metric] = {
    "page_views": _Metric(_count_of("page_views")),
    "visitors": _Metric(_count_of("visitors")),
    "sessions_started": _Metric(_count_of("sessions_started"), by="channel"),
    "sessions_closed": _Metric(_count_of("sessions_closed"), by="channel"),
    "sessions_converted": _Metric(_count_of("sessions_converted"), by="channel"),
    "session_conversion_ratio": _Metric(
        _proportion("sessions_converted", "sessions_closed"), by="channel"
    ),
    "visitor_conversion_ratio": _Metric(_proportion("visitors_who_bought", "visitors")),
    "bounce_ratio": _Metric(_proportion("bounces", "sessions_closed"), by="channel"),
    "session_duration_seconds": _Metric(
        _ratio("session_ms", "sessions_closed", unit=1000), by="channel"
    ),
    "session_duration_seconds_p50": _Metric(
        _quantile("session_ms_p50", "sessions_closed"), by="channel"
    ),
    "session_duration_seconds_p90": _Metric(
        _quantile("session_ms_p90", "sessions_closed"), by="channel"
    ),
    "session_duration_seconds_p99": _Metric(
        _quantile("session_ms_p99", "sessions_closed"), by="channel"
    ),
    "orders": _Metric(_count_of("orders")),
    "buyers": _Metric(_count_of("buyers")),
    "new_buyers": _Metric(_count_of("new_buyers"), wide=True),
    "repeat_orders": _Metric(_count_of("repeat_orders"), wide=True),
    "revenue": _Metric(_money("revenue")),
    "refunded": _Metric(_money("refunded")),
    "net_revenue": _Metric(lambda c: Expected((c["revenue"] - c["refunded"]) / MICROS)),
    "average_order_value": _Metric(_ratio("revenue", "orders", unit=MICROS)),
    "repeat_buyer_ratio": _Metric(_proportion("buyers", "buyers", minus="new_buyers"), wide=True),
    "active_customers": _Metric(_count_of("active")),
    "new_customers": _Metric(_count_of("new"), wide=True),
    "returning_customers": _Metric(lambda c: Expected(c["active"] - c["new"]), wide=True),
    "returning_ratio": _Metric(_proportion("active", "active", minus="new"), wide=True),
    "active_days": _Metric(_count_of("active_days")),
    "return_frequency": _Metric(_ratio("active_days", "active")),
    "sessions_per_visitor": _Metric(_ratio("sessions_started", "visitors")),
    "visit_interval_seconds": _Metric(_ratio("interval_ms", "intervals", unit=1000)),
    "base_customers": _Metric(_count_of("base"), wide=True, base=True),
    "retained_customers": _Metric(_count_of("retained"), wide=True, base=True),
    "churned_customers": _Metric(_count_of("churned"), wide=True, base=True),
    "reactivated_customers": _Metric(_count_of("reactivated"), wide=True, base=True),
    "retention_ratio": _Metric(_proportion("retained", "base"), wide=True, base=True),
    "churn_ratio": _Metric(_proportion("churned", "base"), wide=True, base=True),
    "cancellations": _Metric(_count_of("cancellations")),
    "social_interactions": _Metric(_count_of("social_interactions"), by="network"),
    "social_withdrawn": _Metric(_count_of("social_withdrawn"), by="network"),
    "social_customers": _Metric(_count_of("social_customers")),
    "social_per_1000_active": _Metric(_per_1000_active("social_interactions")),
    "sentiment_mean": _Metric(_ratio("sentiment", "sentiments", unit=MICROS)),
    "engagement_ratio": _Metric(_ratio("shown", "impressions")),
    "csat_responses": _Metric(_count_of("csat_responses"), by="support"),
    "csat_satisfied": _Metric(_count_of("csat_satisfied"), by="support"),
    "csat_ratio": _Metric(_proportion("csat_satisfied", "csat_responses"), by="support"),
    "nps_promoters": _Metric(_count_of("nps_promoters")),
    "nps_passives": _Metric(_count_of("nps_passives")),
    "nps_detractors": _Metric(_count_of("nps_detractors")),
    "nps": _Metric(net_promoter_score),
    "tickets_opened": _Metric(_count_of("tickets_opened"), by="support"),
    "tickets_resolved": _Metric(_count_of("tickets_resolved"), by="support"),
    "tickets_reopened": _Metric(_count_of("tickets_reopened"), by="support"),
    "ticket_backlog": _Metric(_count_of("backlog")),
    "tickets_per_1000_active": _Metric(_per_1000_active("tickets_opened")),
    "first_reply_seconds": _Metric(_ratio("first_reply_ms", "first_reply_n", unit=1000)),
    "first_reply_seconds_p50": _Metric(_quantile("first_reply_ms_p50", "first_reply_n")),
    "first_reply_seconds_p90": _Metric(_quantile("first_reply_ms_p90", "first_reply_n")),
    "resolution_seconds": _Metric(_ratio("resolution_ms", "resolution_n", unit=1000)),
    "resolution_seconds_p50": _Metric(_quantile("resolution_ms_p50", "resolution_n")),
    "resolution_seconds_p90": _Metric(_quantile("resolution_ms_p90", "resolution_n")),
    "journey_customers": _Metric(_count_of("stage"), by="stage"),
    "journey_moves": _Metric(_count_of("moves"), by="moves"),
    "journey_stage_seconds_p50": _Metric(_quantile("dwell_p50", "moves"), by="stage"),
    "clv_historic_mean": _Metric(_ratio("net_ever", "buyers_ever", unit=MICROS)),
}


def _observed_from(
    counted: Mapping[Spot, Mapping[str, int]], config: OracleConfig
) -> dict[int, int]:
    return {
        t: counts["observed_from"] // config.base_ms * config.base_ms
        for (t, w, _, _), counts in counted.items()
        if w == 0
    }
