"""The definitions as SQL: every count of every window, by DuckDB over whole tables.

A window is [t - w, t), a row takes part when its place lies before t (see `tests.oracle.customers`), and nothing
is carried from one tick to the next. Levels are asked at t itself and are the same for every window.

Every table that says where a customer counts has a column for each customer dimension, `in_` and its name. In the
texts here `$cell` stands for these columns, `$typed` for them and their type, `$newest` for the newest of each,
each with a comma before it; `_filled` puts them in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

import duckdb

from tests.oracle.customers import Facts

Spot: TypeAlias = tuple[int, int, str, str]
"""(t, w, dimension, label)"""

SCHEMA = {
    "ticks": "t BIGINT, w BIGINT",
    "events": (
        "customer VARCHAR, seq BIGINT, type VARCHAR, moment BIGINT, place BIGINT,"
        " micros BIGINT$typed"
    ),
    "activities": "customer VARCHAR, seq BIGINT, moment BIGINT, place BIGINT$typed",
    "cells": "customer VARCHAR, seq BIGINT, place BIGINT$typed",
    "started": "customer VARCHAR, moment BIGINT, previous BIGINT$typed, channel VARCHAR",
    "closed": (
        "customer VARCHAR, moment BIGINT, length BIGINT, views BIGINT, converted BOOLEAN$typed,"
        " channel VARCHAR"
    ),
    "social": (
        "customer VARCHAR, seq BIGINT, moment BIGINT, place BIGINT$typed,"
        " network VARCHAR, withdrawn BOOLEAN, sentiment BIGINT, impressions BIGINT"
    ),
    "csat": (
        "customer VARCHAR, seq BIGINT, moment BIGINT, place BIGINT$typed,"
        " channel VARCHAR, satisfied BOOLEAN"
    ),
    "answers": "customer VARCHAR, seq BIGINT, moment BIGINT, place BIGINT$typed, score BIGINT",
    "tickets": (
        "customer VARCHAR, seq BIGINT, moment BIGINT, place BIGINT$typed,"
        " type VARCHAR, channel VARCHAR"
    ),
    "durations": (
        "customer VARCHAR, seq BIGINT, moment BIGINT, place BIGINT$typed,"
        " what VARCHAR, length BIGINT"
    ),
    "backlog": "customer VARCHAR, place BIGINT, change BIGINT",
    "stages": (
        "customer VARCHAR, seq BIGINT, moment BIGINT, before VARCHAR, stage VARCHAR, dwell BIGINT$typed"
    ),
}

PREPARE = """
CREATE TABLE instants AS SELECT DISTINCT t FROM ticks;
CREATE TABLE cell_at AS  -- each customer's cell as the tick at t knows it
  SELECT t, customer$newest
  FROM instants JOIN cells ON place < t GROUP BY t, customer;
CREATE TABLE first_order AS  -- by event time, ties by fold order
  SELECT t, customer, min(moment) AS moment, arg_min(seq, (moment, seq)) AS seq
  FROM instants JOIN events ON place < t AND type = 'order_placed'
  GROUP BY t, customer;
CREATE TABLE first_activity AS
  SELECT t, customer, min(moment) AS moment
  FROM instants JOIN activities ON place < t GROUP BY t, customer;
CREATE TABLE now AS  -- what each customer did in the window, by any event however late
  SELECT t, w, customer, bool_or(type = 'page_viewed') AS visited,
         bool_or(type = 'order_placed') AS bought
  FROM ticks JOIN events ON moment >= t - w AND moment < t AND place < t GROUP BY t, w, customer;
CREATE TABLE active AS  -- the activities of the window, and of the one before
  SELECT t, w, customer, seq, activities.moment$cell, activities.moment >= t - w AS this
  FROM ticks JOIN activities ON moment >= t - 2 * w AND moment < t AND place < t;
CREATE TABLE touched AS
  SELECT t, w, customer, bool_or(this) AS this, bool_or(NOT this) AS previous
         $newest_before
  FROM active GROUP BY t, w, customer;
CREATE TABLE answered AS  -- the latest answer by event time, ties by fold order
  SELECT t, customer, max(moment) AS moment, arg_max(score, (moment, seq)) AS score
  FROM instants JOIN answers ON place < t GROUP BY t, customer;
CREATE TABLE stage_at AS
  SELECT t, customer, arg_max(stage, seq) AS stage
  FROM instants JOIN stages ON moment < t GROUP BY t, customer;
CREATE TABLE waiting_at AS
  SELECT t, customer, sum(change) AS open FROM instants JOIN backlog ON place < t GROUP BY t, customer;
CREATE TABLE worth_at AS  -- of everybody who ever ordered
  SELECT t, customer, sum(micros * CASE type WHEN 'order_placed' THEN 1 ELSE -1 END) AS net
  FROM instants JOIN events ON place < t AND type IN ('order_placed', 'order_refunded')
  GROUP BY t, customer HAVING bool_or(type = 'order_placed');
"""


def ranks(name: str, column: str, filtered: str, percents: Sequence[int]) -> dict[str, str]:
    """Nearest rank: the ceil(q * n)-th smallest, in integers."""
    n = f"(count(*) FILTER ({filtered}))"
    listed = f"list_sort(list({column}) FILTER ({filtered}))"
    return {
        f"{name}_p{percent}": f"{listed}[({n} * {percent} + 99) // 100]" for percent in percents
    }


@dataclass(frozen=True, slots=True)
class Query:
    """Rows with (t, w, the cell, ...), the counts over them, and by which columns of their own.

    `own` names, for each dimension of the metrics' own, the column that holds its label.
    """

    rows: str
    counts: dict[str, str]
    own: dict[str, str] = field(default_factory=dict)


WINDOW = "moment >= t - w AND moment < t"
SEEN = f"{WINDOW} AND place < t"
QUERIES = (
    Query(
        "SELECT t, w, e.type, e.micros$cell, e.seq <> f.seq AS repeated"
        " FROM ticks JOIN events e ON e.moment >= t - w AND e.moment < t AND e.place < t"
        " LEFT JOIN first_order f USING (t, customer)",
        {
            "page_views": "count(*) FILTER (type = 'page_viewed')",
            "orders": "count(*) FILTER (type = 'order_placed')",
            "repeat_orders": "count(*) FILTER (type = 'order_placed' AND repeated)",
            "revenue": "sum(micros) FILTER (type = 'order_placed')",
            "refunded": "sum(micros) FILTER (type = 'order_refunded')",
            "cancellations": "count(*) FILTER (type = 'subscription_cancelled')",
        },
    ),
    Query(
        f"SELECT * FROM ticks JOIN started ON {WINDOW}",
        {
            "sessions_started": "count(*)",
            "intervals": "count(previous)",
            "interval_ms": "sum(moment - previous)",
        },
        {"channel": "channel"},
    ),
    Query(
        f"SELECT * FROM ticks JOIN closed ON {WINDOW}",
        {
            "sessions_closed": "count(*)",
            "sessions_converted": "count(*) FILTER (converted)",
            "bounces": "count(*) FILTER (views = 1)",
            "session_ms": "sum(length)",
            **ranks("session_ms", "length", "true", (50, 90, 99)),
        },
        {"channel": "channel"},
    ),
    Query(
        "SELECT t, w, visited, bought$cell, first_order.moment AS first"
        " FROM now JOIN cell_at USING (t, customer) LEFT JOIN first_order USING (t, customer)",
        {
            "visitors": "count(*) FILTER (visited)",
            "buyers": "count(*) FILTER (bought)",
            "visitors_who_bought": "count(*) FILTER (visited AND bought)",
            "new_buyers": "count(*) FILTER (bought AND first >= t - w)",
        },
    ),
    Query(
        "SELECT t, w, this, previous$cell_at, first_activity.moment AS first"
        " FROM touched JOIN cell_at USING (t, customer) JOIN first_activity USING (t, customer)",
        {
            "active": "count(*) FILTER (this)",
            "new": "count(*) FILTER (this AND first >= t - w)",
            "reactivated": "count(*) FILTER (this AND NOT previous AND first < t - 2 * w)",
        },
    ),
    Query(
        "SELECT * FROM touched WHERE previous",
        {
            "base": "count(*)",
            "retained": "count(*) FILTER (this)",
            "churned": "count(*) FILTER (NOT this)",
        },
    ),
    Query(
        "SELECT t, w, customer, moment // 86400000 AS day$newest"
        " FROM active WHERE this GROUP BY t, w, customer, day",
        {"active_days": "count(*)"},
    ),
    Query(
        f"SELECT * FROM ticks JOIN social ON {SEEN}",
        {
            "social_interactions": "count(*) FILTER (NOT withdrawn)",
            "social_withdrawn": "count(*) FILTER (withdrawn)",
            "sentiments": "count(sentiment) FILTER (NOT withdrawn)",
            "sentiment": "sum(sentiment) FILTER (NOT withdrawn)",
            "shown": "count(impressions) FILTER (NOT withdrawn)",
            "impressions": "sum(impressions) FILTER (NOT withdrawn)",
        },
        {"network": "network"},
    ),
    Query(
        "SELECT DISTINCT t, w, customer$cell_at"
        f" FROM ticks JOIN social ON {SEEN} AND NOT withdrawn JOIN cell_at USING (t, customer)",
        {"social_customers": "count(*)"},
    ),
    Query(
        f"SELECT * FROM ticks JOIN csat ON {SEEN}",
        {"csat_responses": "count(*)", "csat_satisfied": "count(*) FILTER (satisfied)"},
        {"channel": "channel"},
    ),
    Query(
        f"SELECT * FROM ticks JOIN answered USING (t) JOIN cell_at USING (t, customer) WHERE {WINDOW}",
        {
            "nps_promoters": "count(*) FILTER (score >= 9)",
            "nps_passives": "count(*) FILTER (score IN (7, 8))",
            "nps_detractors": "count(*) FILTER (score <= 6)",
        },
    ),
    Query(
        f"SELECT * FROM ticks JOIN tickets ON {SEEN}",
        {
            "tickets_opened": "count(*) FILTER (type = 'ticket_opened')",
            "tickets_resolved": "count(*) FILTER (type = 'ticket_resolved')",
            "tickets_reopened": "count(*) FILTER (type = 'ticket_reopened')",
        },
        {"channel": "channel"},
    ),
    Query(
        f"SELECT * FROM ticks JOIN durations ON {SEEN}",
        {
            name: formula
            for what in ("first_reply", "resolution")
            for name, formula in {
                f"{what}_n": f"count(*) FILTER (what = '{what}')",
                f"{what}_ms": f"sum(length) FILTER (what = '{what}')",
                **ranks(f"{what}_ms", "length", f"what = '{what}'", (50, 90)),
            }.items()
        },
    ),
    Query(
        "SELECT * FROM ticks JOIN waiting_at USING (t) JOIN cell_at USING (t, customer)",
        {"backlog": "sum(open)"},
    ),
    Query(
        "SELECT * FROM ticks JOIN stage_at USING (t) JOIN cell_at USING (t, customer)",
        {"stage": "count(*)"},
        {"stage": "stage"},
    ),
    Query(
        "SELECT *, before || '+' || stage AS move"
        f" FROM ticks JOIN stages ON {WINDOW} AND before IS NOT NULL",
        {"moves": "count(*)", **ranks("dwell", "dwell", "true", (50,))},
        {"from+to": "move", "stage": "before"},
    ),
    Query(
        "SELECT * FROM ticks JOIN worth_at USING (t) JOIN cell_at USING (t, customer)",
        {"buyers_ever": "count(*)", "net_ever": "sum(net)"},
    ),
)


def count(
    facts: Facts, ticks: Sequence[tuple[int, int]], dimensions: tuple[str, ...]
) -> dict[Spot, dict[str, int]]:
    """All counts by spot, the customer dimensions by these names; `observed_from` stands at (t, 0, '', '')."""
    counted: dict[Spot, dict[str, int]] = {}
    with _empty_tables(dimensions) as database:
        for table, columns in SCHEMA.items():
            rows = ticks if table == "ticks" else getattr(facts, table)
            if rows:
                _load(database, table, _filled(columns, dimensions), rows)
        database.execute(_filled(PREPARE, dimensions))
        for query in QUERIES:
            for t, w, dimension, label, *found in database.execute(
                _sql(query, dimensions)
            ).fetchall():
                spot = counted.setdefault((t, w, dimension, label), {})
                spot.update(zip(query.counts, (int(one or 0) for one in found), strict=True))
        observed = database.execute(
            "SELECT t, min(moment) FROM instants JOIN events ON place < t GROUP BY t"
        )
        for t, earliest in observed.fetchall():
            counted[t, 0, "", ""] = {"observed_from": earliest}
    return counted


def _filled(text: str, dimensions: tuple[str, ...]) -> str:
    """A text about the cell as one about these dimensions."""

    def listed(form: str) -> str:
        return "".join(f", {form.format(f'in_{name}')}" for name in dimensions)

    return (
        text.replace("$typed", listed("{} VARCHAR"))
        .replace("$newest_before", listed("arg_max({0}, seq) FILTER (NOT this) AS {0}"))
        .replace("$newest", listed("arg_max({0}, seq) AS {0}"))
        .replace("$cell_at", listed("cell_at.{}"))
        .replace("$cell", listed("{}"))
    )


@cache
def _opened(dimensions: tuple[str, ...]) -> duckdb.DuckDBPyConnection:
    """One for all counts: most of them take less time than opening it."""
    database = duckdb.connect(":memory:", config={"threads": 1})
    # The tables are small: to look for the best plan takes longer than to follow any.
    database.execute("PRAGMA disable_optimizer")
    for table, columns in SCHEMA.items():
        database.execute(f"CREATE TABLE {table} ({_filled(columns, dimensions)})")
    return database


@contextmanager
def _empty_tables(dimensions: tuple[str, ...]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Nothing of what is done with them stays."""
    database = _opened(dimensions)
    database.begin()
    try:
        yield database
    finally:
        database.rollback()


def _sql(query: Query, dimensions: tuple[str, ...]) -> str:
    """Over everyone, and by each value of each dimension."""
    columns = {**{name: f"in_{name}" for name in dimensions}, **query.own}
    chosen = ", ".join(f"{formula} AS {name}" for name, formula in query.counts.items())
    dimension = " ".join(f"WHEN grouping({column}) THEN '{by}'" for by, column in columns.items())
    sets = ", ".join(f"(t, w, {column})" for column in columns.values())
    return (
        f"SELECT t, w, CASE 0 {dimension} ELSE '' END, coalesce({', '.join(columns.values())}, ''),"
        f" {chosen} FROM ({_filled(query.rows, dimensions)})"
        f" GROUP BY GROUPING SETS ((t, w), {sets})"
    )


def _load(
    database: duckdb.DuckDBPyConnection,
    table: str,
    columns: str,
    rows: Sequence[tuple[object, ...]],
) -> None:
    """Insert column by column: row-wise `executemany` takes milliseconds a row."""
    lists = ", ".join(f"unnest(?::{column.split()[1]}[])" for column in columns.split(", "))
    database.execute(
        f"INSERT INTO {table} SELECT {lists}", list(map(list, zip(*rows, strict=True)))
    )
