"""Every metric of the first four groups, by DuckDB over whole tables of events.

Each count is a set-based definition: the window is [t - w, t), a row takes part when its place lies before t (see
`tests.oracle.customers`), and nothing is carried from one tick to the next. Only the arithmetic of a finished
count (ratios, units, intervals) is done in Python.

Segment columns are spelled (dimension, label): ('', '') is everyone. Channels come as dimension 'channel'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import duckdb

from tests.oracle.customers import OTHER, UNKNOWN, Facts, OracleConfig, derive
from tests.oracle.rules import Judged

Z95 = 1.959963984540054
MICROS = 1_000_000

Number: TypeAlias = int | float
Spot: TypeAlias = tuple[int, int, str, str]
"""(t, w, dimension, label)"""
Key: TypeAlias = tuple[str, int, int, str, str]
"""(metric, t, w, dimension, label)"""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a result must say."""

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
    """`wide`: complete only after 2w. `base`: null until then. `by_channel`: given by channel too."""

    of: Callable[[Counts], Expected]
    wide: bool = False
    base: bool = False
    by_channel: bool = False


def compute(
    judged: Sequence[Judged],
    config: OracleConfig,
    ticks: Iterable[tuple[int, int]],
) -> dict[Key, Expected]:
    """Compute all metrics for each (t, w) of `ticks`, for everyone, by persona, region and channel."""
    wanted = sorted(set(ticks))
    counted = _count(derive(judged, config), wanted)
    observed = _observed_from(counted, config)
    labels = [("", "")]
    labels += [("persona", label) for label in (*config.personas, OTHER, UNKNOWN)]
    labels += [("region", label) for label in (*config.regions, OTHER, UNKNOWN)]
    labels += [("channel", label) for label in (*config.channels, OTHER, UNKNOWN)]
    expected: dict[Key, Expected] = {}
    for t, w in wanted:
        start = observed.get(t)
        once = start is not None and t - w >= start
        twice = start is not None and t - 2 * w >= start
        for dimension, label in labels:
            counts = Counts(
                counted.get((t, w, dimension, label), {}),
                once=once,
                twice=twice,
            )
            for name, metric in METRICS.items():
                if dimension != "channel" or metric.by_channel:
                    expected[name, t, w, dimension, label] = _evaluate(metric, counts)
    return expected


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
    found = metric.of(counts)
    return Expected(
        found.value,
        found.numerator,
        found.denominator,
        found.n,
        found.low,
        found.high,
        complete,
    )


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


def _quantile(name: str) -> Callable[[Counts], Expected]:
    def of(counts: Counts) -> Expected:
        n = counts["sessions_closed"]
        return Expected(counts[name] / 1000 if n else None, n=n)

    return of


METRICS: dict[str, _Metric] = {
    "page_views": _Metric(_count_of("page_views")),
    "visitors": _Metric(_count_of("visitors")),
    "sessions_started": _Metric(_count_of("sessions_started"), by_channel=True),
    "sessions_closed": _Metric(_count_of("sessions_closed"), by_channel=True),
    "sessions_converted": _Metric(_count_of("sessions_converted"), by_channel=True),
    "session_conversion_ratio": _Metric(
        _proportion("sessions_converted", "sessions_closed"), by_channel=True
    ),
    "visitor_conversion_ratio": _Metric(_proportion("visitors_who_bought", "visitors")),
    "bounce_ratio": _Metric(_proportion("bounces", "sessions_closed"), by_channel=True),
    "session_duration_seconds": _Metric(
        _ratio("session_ms", "sessions_closed", unit=1000), by_channel=True
    ),
    "session_duration_seconds_p50": _Metric(_quantile("session_ms_p50"), by_channel=True),
    "session_duration_seconds_p90": _Metric(_quantile("session_ms_p90"), by_channel=True),
    "session_duration_seconds_p99": _Metric(_quantile("session_ms_p99"), by_channel=True),
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
}

SCHEMA = """
CREATE TABLE ticks (t BIGINT, w BIGINT);
CREATE TABLE events (customer VARCHAR, seq BIGINT, type VARCHAR, moment BIGINT, place BIGINT,
                     micros BIGINT, persona VARCHAR, region VARCHAR);
CREATE TABLE activities (customer VARCHAR, seq BIGINT, moment BIGINT, place BIGINT,
                         persona VARCHAR, region VARCHAR);
CREATE TABLE cells (customer VARCHAR, seq BIGINT, place BIGINT, persona VARCHAR, region VARCHAR);
CREATE TABLE started (customer VARCHAR, moment BIGINT, previous BIGINT,
                      persona VARCHAR, region VARCHAR, channel VARCHAR);
CREATE TABLE closed (customer VARCHAR, moment BIGINT, length BIGINT, views BIGINT, converted BOOLEAN,
                     persona VARCHAR, region VARCHAR, channel VARCHAR);
"""

PREPARE = """
CREATE TABLE cell_at AS  -- each customer's cell as the tick at t knows it
  SELECT t, customer, arg_max(persona, seq) AS persona, arg_max(region, seq) AS region
  FROM (SELECT DISTINCT t FROM ticks) JOIN cells ON place < t GROUP BY t, customer;
CREATE TABLE first_order AS  -- by event time, ties by fold order
  SELECT t, customer, min(moment) AS moment, arg_min(seq, (moment, seq)) AS seq
  FROM (SELECT DISTINCT t FROM ticks) JOIN events ON place < t AND type = 'order_placed'
  GROUP BY t, customer;
CREATE TABLE first_activity AS
  SELECT t, customer, min(moment) AS moment
  FROM (SELECT DISTINCT t FROM ticks) JOIN activities ON place < t GROUP BY t, customer;
CREATE TABLE now AS  -- what each customer did in the window, by any event however late
  SELECT t, w, customer, bool_or(type = 'page_viewed') AS visited,
         bool_or(type = 'order_placed') AS bought
  FROM ticks JOIN events ON moment >= t - w AND moment < t AND place < t GROUP BY t, w, customer;
CREATE TABLE active AS  -- the activities of the window, and of the one before
  SELECT t, w, customer, seq, activities.moment, persona, region, activities.moment >= t - w AS this
  FROM ticks JOIN activities ON moment >= t - 2 * w AND moment < t AND place < t;
CREATE TABLE touched AS
  SELECT t, w, customer, bool_or(this) AS this, bool_or(NOT this) AS previous,
         arg_max(persona, seq) FILTER (NOT this) AS persona,
         arg_max(region, seq) FILTER (NOT this) AS region
  FROM active GROUP BY t, w, customer;
"""

# Each entry: rows with (t, w, persona, region[, channel], ...), and the counts over them.
QUERIES: tuple[tuple[str, dict[str, str], bool], ...] = (
    (
        (
            "SELECT t, w, e.type, e.micros, e.persona, e.region, e.seq <> f.seq AS repeated"
            " FROM ticks JOIN events e ON e.moment >= t - w AND e.moment < t AND e.place < t"
            " LEFT JOIN first_order f USING (t, customer)"
        ),
        {
            "page_views": "count(*) FILTER (type = 'page_viewed')",
            "orders": "count(*) FILTER (type = 'order_placed')",
            "repeat_orders": "count(*) FILTER (type = 'order_placed' AND repeated)",
            "revenue": "sum(micros) FILTER (type = 'order_placed')",
            "refunded": "sum(micros) FILTER (type = 'order_refunded')",
            "cancellations": "count(*) FILTER (type = 'subscription_cancelled')",
        },
        False,
    ),
    (
        "SELECT * FROM ticks JOIN started ON moment >= t - w AND moment < t",
        {
            "sessions_started": "count(*)",
            "intervals": "count(previous)",
            "interval_ms": "sum(moment - previous)",
        },
        True,
    ),
    (
        "SELECT * FROM ticks JOIN closed ON moment >= t - w AND moment < t",
        {
            "sessions_closed": "count(*)",
            "sessions_converted": "count(*) FILTER (converted)",
            "bounces": "count(*) FILTER (views = 1)",
            "session_ms": "sum(length)",
            # Nearest rank: the ceil(q * n)-th smallest, in integers.
            "session_ms_p50": "list_sort(list(length))[(count(*) * 50 + 99) // 100]",
            "session_ms_p90": "list_sort(list(length))[(count(*) * 90 + 99) // 100]",
            "session_ms_p99": "list_sort(list(length))[(count(*) * 99 + 99) // 100]",
        },
        True,
    ),
    (
        (
            "SELECT t, w, visited, bought, persona, region, first_order.moment AS first"
            " FROM now JOIN cell_at USING (t, customer) LEFT JOIN first_order USING (t, customer)"
        ),
        {
            "visitors": "count(*) FILTER (visited)",
            "buyers": "count(*) FILTER (bought)",
            "visitors_who_bought": "count(*) FILTER (visited AND bought)",
            "new_buyers": "count(*) FILTER (bought AND first >= t - w)",
        },
        False,
    ),
    (
        (
            "SELECT t, w, this, previous, cell_at.persona, cell_at.region, first_activity.moment AS first"
            " FROM touched JOIN cell_at USING (t, customer) JOIN first_activity USING (t, customer)"
        ),
        {
            "active": "count(*) FILTER (this)",
            "new": "count(*) FILTER (this AND first >= t - w)",
            "reactivated": "count(*) FILTER (this AND NOT previous AND first < t - 2 * w)",
        },
        False,
    ),
    (
        "SELECT * FROM touched WHERE previous",
        {
            "base": "count(*)",
            "retained": "count(*) FILTER (this)",
            "churned": "count(*) FILTER (NOT this)",
        },
        False,
    ),
    (
        (
            "SELECT t, w, customer, moment // 86400000 AS day, arg_max(persona, seq) AS persona,"
            " arg_max(region, seq) AS region FROM active WHERE this GROUP BY t, w, customer, day"
        ),
        {"active_days": "count(*)"},
        False,
    ),
)


def _count(facts: Facts, ticks: Sequence[tuple[int, int]]) -> dict[Spot, dict[str, int]]:
    counted: dict[Spot, dict[str, int]] = {}
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        database.execute(SCHEMA)
        _load(database, "ticks", list(ticks))
        for table in ("events", "activities", "cells", "started", "closed"):
            _load(database, table, getattr(facts, table))
        database.execute(PREPARE)
        for rows, counts, by_channel in QUERIES:
            dimensions = ("", "persona", "region", *(("channel",) if by_channel else ()))
            chosen = ", ".join(f"{formula} AS {name}" for name, formula in counts.items())
            parts = [
                f"SELECT t, w, '{dimension}', {dimension or repr('')}, {chosen} FROM facts"
                f" GROUP BY t, w{', ' + dimension if dimension else ''}"
                for dimension in dimensions
            ]
            query = f"WITH facts AS MATERIALIZED ({rows}) {' UNION ALL '.join(parts)}"
            for t, w, dimension, label, *found in database.execute(query).fetchall():
                spot = counted.setdefault((t, w, dimension, label), {})
                spot.update(zip(counts, (int(one or 0) for one in found), strict=True))
        observed = database.execute(
            "SELECT t, min(moment) FROM (SELECT DISTINCT t FROM ticks) JOIN events ON place < t GROUP BY t"
        )
        for t, earliest in observed.fetchall():
            counted[t, 0, "", ""] = {"observed_from": earliest}
    return counted


def _observed_from(
    counted: Mapping[Spot, Mapping[str, int]], config: OracleConfig
) -> dict[int, int]:
    return {
        t: counts["observed_from"] // config.base_ms * config.base_ms
        for (t, w, _, _), counts in counted.items()
        if w == 0
    }


def _load(
    database: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Insert in big statements: row-wise `executemany` takes milliseconds a row."""
    for start in range(0, len(rows), 500):
        values = ", ".join(
            "(" + ", ".join(_literal(cell) for cell in row) + ")"
            for row in rows[start : start + 500]
        )
        database.execute(f"INSERT INTO {table} VALUES {values}")


def _literal(cell: object) -> str:
    if cell is None:
        return "NULL"
    if isinstance(cell, str):
        return "'" + cell.replace("'", "''") + "'"
    return str(cell)
