# noqa: INP001 - a program of its own, not part of a package
"""Writes the dashboard *Vital signs*; a test holds that the file is what this program would write.

    python -m deploy.grafana.vital_signs

Rules of the dashboard:
- Units and descriptions come from the metrics' declarations (`streams.metrics`), so they can't contradict them.
- A proportion is never shown without its interval (the band) and what it is a share of (n, on the right axis).
- Business figures carry `max without (instance, pod)`: however many `serve` processes run, a series is one.
- `all` stands for everyone, or for the total over channels. Segments do not combine, so panels by persona or region
  look at one of the two, and the variables `persona` and `region` are meant one at a time.
- Every query refers to the data source by the uid that provisioning gives it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.metrics import BY_NAME, Metric, Unit
from streams.segments import OWN_LABELS

FILE = Path(__file__).parent / "dashboards" / "vital-signs.json"
UID = "heartline-vital-signs"
PROMETHEUS = {"type": "prometheus", "uid": "heartline-prometheus"}
UNITS = {
    Unit.COUNT: "locale",
    Unit.RATIO: "percentunit",
    Unit.SECONDS: "s",
    Unit.CURRENCY: "locale",
}
"""Grafana's unit for each of ours. Money is a number: the currency is the one that [currencies] says."""

COLUMNS = 24
NUMBER = "locale"

EVERYONE = {"persona": "all", "region": "all"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """One line (or family of lines) of a panel; `legend` names it, with {{label}} for labels."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `band` draws the lines "low" and "high" as the edges of an area and "n" on the
    right axis.
    """

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]
    width: int = 8
    height: int = 8
    kind: str = "timeseries"
    decimals: int | None = None
    band: bool = False
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels."""

    title: str
    panels: tuple[Panel, ...] = field(default=())


# ------------------------------------------------------------------------------------- queries


def selector(metric: Metric, **labels: str) -> str:
    """The labels that pick one series: by default the chosen window and segment, over all channels.
    A label written `name="!value"` excludes the value.
    """
    wanted = {"window": "$window", "persona": "$persona", "region": "$region"}
    if metric.dimension is not None:
        wanted |= dict.fromkeys(OWN_LABELS[metric.dimension], "all")
    wanted |= labels
    parts = (
        f'{name}!="{value[1:]}"' if value.startswith("!") else f'{name}="{value}"'
        for name, value in wanted.items()
    )
    return "{" + ", ".join(parts) + "}"


def series(name: str, suffix: str = "", **labels: str) -> str:
    """The query of a metric, or of a part of it (`_low`, `_denominator`)."""
    return (
        f"max without (instance, pod) (heartline_{name}{suffix}{selector(BY_NAME[name], **labels)})"
    )


def words(name: str) -> str:
    """A metric's name as a title: "churn_ratio" -> "Churn ratio". The unit is on the axis."""
    return name.replace("_seconds", "").replace("_", " ").capitalize()


def unit_of(metric: Metric) -> str:
    """Grafana's unit: only a proportion is a percentage, not 1.4 active days per customer."""
    if metric.unit is Unit.RATIO and not metric.is_proportion:
        return "none"
    return UNITS[metric.unit]


def described(names: Iterable[str], *more: str) -> str:
    """What the panel's metrics are, from their declarations."""
    texts = [f"**{name}**: {BY_NAME[name].help}." for name in names]
    if any(BY_NAME[name].unit is Unit.CURRENCY for name in names):
        texts.append("In the reporting currency.")
    return "\n\n".join([*texts, *more])


# -------------------------------------------------------------------------------------- panels


def together(title: str, *names: str, note: str = "", width: int = 8) -> Panel:
    """Metrics of one unit in one panel."""
    (unit,) = {unit_of(BY_NAME[name]) for name in names}
    return Panel(
        title,
        unit,
        described(names, *([note] if note else [])),
        tuple(Query(series(name), words(name)) for name in names),
        width=width,
    )


def ratio(name: str, *, width: int = 8) -> Panel:
    """A ratio or mean with n, and with its interval where it has one."""
    metric = BY_NAME[name]
    queries = [Query(series(name), words(name))]
    note = "n, the denominator, is on the right axis."
    if metric.has_interval:
        queries += [Query(series(name, "_low"), "low"), Query(series(name, "_high"), "high")]
        kind = "Wilson" if metric.is_proportion else "normal"
        note = f"The band is the 95 % {kind} interval. {note}"
    queries.append(Query(series(name, "_denominator"), "n"))
    return Panel(
        words(name),
        unit_of(metric),
        described([name], note),
        tuple(queries),
        width=width,
        band=True,
    )


def by(label: str, name: str, *, width: int = 8) -> Panel:
    """One line for each value of a segment or channel, whatever segment is chosen above."""
    return Panel(
        f"{words(name)} by {label}",
        unit_of(BY_NAME[name]),
        described(
            [name], f"One line for each {label}; the choice of persona and region is not used."
        ),
        (Query(series(name, **{**EVERYONE, label: "!all"}), "{{" + label + "}}"),),
        width=width,
    )


def tile(name: str) -> Panel:
    """The newest value as a number."""
    metric = BY_NAME[name]
    return Panel(
        words(name),
        unit_of(metric),
        described([name], "Of the chosen window and segment; the area behind it is its course."),
        (Query(series(name), words(name)),),
        width=3,
        height=4,
        kind="stat",
        decimals=1 if metric.unit is Unit.RATIO else 0,
    )


def engine(
    title: str,
    unit: str,
    description: str,
    *queries: tuple[str, str],
    width: int = 8,
    stacked: bool = False,
) -> Panel:
    """A panel about the engine itself: (expression, legend) pairs."""
    return Panel(
        title,
        unit,
        description,
        tuple(Query(*query) for query in queries),
        width=width,
        stacked=stacked,
    )


FATES = ("folded", "late_counted", "too_late", "duplicate", "dead", "control")

ROWS: tuple[Row, ...] = (
    Row(
        "Now",
        (
            tile("active_customers"),
            tile("session_conversion_ratio"),
            tile("orders"),
            tile("net_revenue"),
            tile("returning_ratio"),
            tile("churn_ratio"),
            Panel(
                "Figures end",
                "s",
                "How long ago the shown window ends. It should stay below its hop plus a few seconds.",
                (Query('heartline:result_age_seconds{window="$window"}', "age"),),
                width=3,
                height=4,
                kind="stat",
                decimals=0,
            ),
            Panel(
                "Alerts",
                NUMBER,
                "Heartline alerts that fire now. docs/operations.md says what to do about each.",
                (
                    Query(
                        'count(ALERTS{alertname=~"Heartline.+", alertstate="firing"}) or vector(0)',
                        "firing",
                    ),
                ),
                width=3,
                height=4,
                kind="stat",
                decimals=0,
            ),
        ),
    ),
    Row(
        "Conversion",
        (
            ratio("session_conversion_ratio"),
            ratio("visitor_conversion_ratio"),
            by("channel", "session_conversion_ratio"),
            by("persona", "session_conversion_ratio", width=12),
            by("region", "session_conversion_ratio", width=12),
        ),
    ),
    Row(
        "Sessions",
        (
            together("Page views and visitors", "page_views", "visitors"),
            together("Sessions", "sessions_started", "sessions_closed", "sessions_converted"),
            ratio("bounce_ratio"),
            ratio("session_duration_seconds"),
            together(
                "Session duration, quantiles",
                "session_duration_seconds_p50",
                "session_duration_seconds_p90",
                "session_duration_seconds_p99",
            ),
            by("channel", "sessions_started"),
        ),
    ),
    Row(
        "Purchases",
        (
            together("Orders and buyers", "orders", "buyers", "new_buyers", "repeat_orders"),
            together("Revenue", "revenue", "refunded", "net_revenue"),
            ratio("average_order_value"),
            ratio("repeat_buyer_ratio"),
            by("persona", "net_revenue"),
            by("region", "net_revenue"),
            ratio("clv_historic_mean", width=24),
        ),
    ),
    Row(
        "Returns",
        (
            together(
                "Active customers", "active_customers", "new_customers", "returning_customers"
            ),
            ratio("returning_ratio"),
            ratio("return_frequency"),
            ratio("sessions_per_visitor"),
            ratio("visit_interval_seconds"),
            together("Active days", "active_days"),
        ),
    ),
    Row(
        "Retention and churn",
        (
            ratio("churn_ratio", width=12),
            ratio("retention_ratio", width=12),
            together(
                "The base and what became of it",
                "base_customers",
                "retained_customers",
                "churned_customers",
                "reactivated_customers",
                note="Empty until two windows have been observed.",
                width=12,
            ),
            together("Cancellations", "cancellations", width=12),
            by("persona", "churn_ratio", width=12),
            by("region", "churn_ratio", width=12),
        ),
    ),
    Row(
        "Social involvement",
        (
            together(
                "Interactions and customers",
                "social_interactions",
                "social_withdrawn",
                "social_customers",
            ),
            ratio("social_per_1000_active"),
            by("network", "social_interactions"),
            ratio("sentiment_mean", width=12),
            ratio("engagement_ratio", width=12),
        ),
    ),
    Row(
        "Satisfaction",
        (
            ratio("nps"),
            ratio("csat_ratio"),
            by("channel", "csat_ratio"),
            together("NPS answers", "nps_promoters", "nps_passives", "nps_detractors", width=12),
            together("CSAT answers", "csat_responses", "csat_satisfied", width=12),
        ),
    ),
    Row(
        "Support",
        (
            together("Tickets", "tickets_opened", "tickets_resolved", "tickets_reopened"),
            together("Backlog", "ticket_backlog"),
            ratio("tickets_per_1000_active"),
            ratio("first_reply_seconds"),
            together(
                "First reply, quantiles", "first_reply_seconds_p50", "first_reply_seconds_p90"
            ),
            by("channel", "tickets_opened"),
            ratio("resolution_seconds", width=12),
            together(
                "Resolution, quantiles",
                "resolution_seconds_p50",
                "resolution_seconds_p90",
                width=12,
            ),
        ),
    ),
    Row(
        "Journey",
        (
            by("stage", "journey_customers"),
            Panel(
                "Moves between stages",
                NUMBER,
                described(
                    ["journey_moves"],
                    "One line for each move; the choice of persona and region is not used.",
                ),
                (
                    Query(
                        series("journey_moves", **EVERYONE, **{"from": "!all", "to": "!all"}),
                        "{{from}} to {{to}}",
                    ),
                ),
            ),
            by("stage", "journey_stage_seconds_p50"),
        ),
    ),
    Row(
        "Engine health",
        (
            engine(
                "Age of the shown figures",
                "s",
                "How far behind the clock each window's shown end is: its hop at most, plus a few seconds. History "
                "that is replayed is old by nature.",
                ("heartline:result_age_seconds", "{{window}}"),
            ),
            engine(
                "Records read",
                "cps",
                "Records per second by topic, over all workers.",
                (
                    "sum by (topic) (rate(heartline_events_consumed_total[$__rate_interval]))",
                    "{{topic}}",
                ),
            ),
            engine(
                "What became of the records",
                "cps",
                "Every record read is folded, too late, a duplicate, dead, or control, or it still waits. late_counted "
                "is the part of folded that came behind the watermark.",
                *(
                    (
                        f"sum(rate(heartline_events_{fate}_total[$__rate_interval]))",
                        fate.replace("_", " "),
                    )
                    for fate in FATES
                ),
            ),
            engine(
                "Dead letters by reason",
                "cps",
                "Records that could not be used, by topic and reason. The raw bytes are in the dead-letters topic.",
                (
                    "sum by (topic, reason) (rate(heartline_dead_letters_total[$__rate_interval]))",
                    "{{topic}} {{reason}}",
                ),
            ),
            engine(
                "Records not yet read",
                NUMBER,
                "Records between the engine and the end of each topic. It should come back to 0.",
                ("sum by (topic) (heartline_input_lag_records)", "{{topic}}"),
            ),
            engine(
                "Events waiting for the watermark",
                NUMBER,
                "Events that were read and wait until everything before them has arrived. Bounded: an input that runs "
                "ahead is held.",
                ("sum by (topic) (heartline_events_waiting)", "{{topic}}"),
            ),
            engine(
                "Watermark behind the clock",
                "s",
                "By partition. The slowest one holds all results back.",
                (
                    "max by (partition) (time() - heartline_watermark_timestamp_seconds)",
                    "partition {{partition}}",
                ),
            ),
            engine(
                "Workers and partitions",
                NUMBER,
                "Workers that answer, the partitions that they own together, and how many of them add up the partials "
                "(one).",
                ('sum(up{job="heartline-worker"})', "workers"),
                ("sum(heartline_assigned_partitions)", "partitions"),
                ("sum(heartline_has_rollup)", "roll-up"),
            ),
            engine(
                "State",
                "bytes",
                "Live chunks in the state topic, by worker. It grows with the customers ever seen.",
                ("sum by (instance) (heartline_state_bytes)", "{{instance}}"),
            ),
            engine(
                "Customers in memory",
                NUMBER,
                "In memory, and evicted: silent for so long that only a compact row is left.",
                ("sum(heartline_customers)", "in memory"),
                ("sum(heartline_customers_evicted)", "evicted"),
            ),
            engine(
                "Checkpoint",
                "s",
                "From the first snapshot to the last acknowledgement. Above the interval (1 s) checkpoints follow one "
                "another without a pause.",
                (
                    (
                        "histogram_quantile(0.5, sum by (le) "
                        "(rate(heartline_checkpoint_seconds_bucket[$__rate_interval])))"
                    ),
                    "median",
                ),
                (
                    (
                        "histogram_quantile(0.99, sum by (le) "
                        "(rate(heartline_checkpoint_seconds_bucket[$__rate_interval])))"
                    ),
                    "99 %",
                ),
            ),
            engine(
                "Written to the state topic",
                "Bps",
                "What checkpoints write, and what changed in the rows: not more than twice as much is written.",
                (
                    "sum(rate(heartline_checkpoint_written_bytes_total[$__rate_interval]))",
                    "written",
                ),
                (
                    "sum(rate(heartline_checkpoint_changed_bytes_total[$__rate_interval]))",
                    "changed",
                ),
            ),
            engine(
                "Time by stage",
                "percentunit",
                "Share of one core's time that each stage of the workers takes.",
                (
                    "sum by (stage) (rate(heartline_stage_seconds_total[$__rate_interval]))",
                    "{{stage}}",
                ),
                stacked=True,
            ),
            engine(
                "Published",
                "cps",
                "Partials and results per second that Kafka has acknowledged.",
                ("sum(rate(heartline_partials_published_total[$__rate_interval]))", "partials"),
                ("sum(rate(heartline_results_published_total[$__rate_interval]))", "results"),
            ),
            engine(
                "Results in serve",
                "cps",
                "What became of the results that serve read. One with missing partitions is never shown.",
                (
                    "sum by (outcome) (rate(heartline_serve_results_total[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
            engine(
                "Memory",
                "bytes",
                "Resident memory of each worker.",
                ('process_resident_memory_bytes{job="heartline-worker"}', "{{instance}}"),
            ),
        ),
    ),
)


# -------------------------------------------------------------------------------- Grafana's JSON


def target(query: Query, number: int) -> Json:
    """A query of a panel."""
    return {
        "refId": chr(ord("A") + number),
        "datasource": PROMETHEUS,
        "expr": query.expression,
        "legendFormat": query.legend,
        "range": True,
    }


def override(name: str, **properties: object) -> Json:
    """Properties of the line of that name."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def band_overrides() -> list[Json]:
    """Lines "low" and "high" as the edges of an area, "n" on the right axis in the background."""
    unseen = {"legend": True, "tooltip": False, "viz": False}
    return [
        override(
            "high",
            **{
                "custom.lineWidth": 0,
                "custom.fillBelowTo": "low",
                "custom.fillOpacity": 20,
                "custom.hideFrom": unseen,
                "color": {"mode": "fixed", "fixedColor": "blue"},
            },
        ),
        override(
            "low",
            **{
                "custom.lineWidth": 0,
                "custom.fillOpacity": 0,
                "custom.hideFrom": unseen,
                "color": {"mode": "fixed", "fixedColor": "blue"},
            },
        ),
        override(
            "n",
            **{
                "unit": NUMBER,
                "decimals": 0,
                "custom.axisPlacement": "right",
                "custom.axisSoftMin": 0,
                "custom.lineStyle": {"fill": "dot", "dash": [2, 6]},
                "custom.fillOpacity": 0,
                "color": {"mode": "fixed", "fixedColor": "gray"},
            },
        ),
    ]


def panel_json(panel: Panel, *, identity: int, x: int, y: int) -> Json:
    """A panel at its place."""
    defaults: Json = {"unit": panel.unit, "noValue": "-"}
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    made: Json = {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": PROMETHEUS,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": [target(query, number) for number, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }
    if panel.kind == "stat":
        made["options"] = {
            "colorMode": "none",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
        return made
    defaults["custom"] = {
        "drawStyle": "line",
        "lineWidth": 2,
        "fillOpacity": 25 if panel.stacked else 0,
        "showPoints": "never",
        # An undefined ratio is a gap, not a line through it.
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
    }
    if panel.band:
        made["fieldConfig"]["overrides"] = band_overrides()
    else:
        defaults["min"] = 0
    made["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "none"},
    }
    return made


def laid_out(rows: Sequence[Row]) -> list[Json]:
    """Row titles and panels, filled from left to right."""
    made: list[Json] = []
    y = 0
    for row in rows:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }
        )
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            made.append(panel_json(panel, identity=len(made) + 1, x=x, y=y))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return made


def variable(name: str, query: str, default: str, description: str) -> Json:
    """A choice at the top of the dashboard, its values read from Prometheus."""
    return {
        "name": name,
        "label": name.capitalize(),
        "description": description,
        "type": "query",
        "datasource": PROMETHEUS,
        "definition": query,
        "query": {"query": query, "refId": name},
        # When the time range changes: segments and windows come and go with the configuration.
        "refresh": 2,
        "sort": 0,
        "multi": False,
        "includeAll": False,
        "current": {"selected": True, "text": default, "value": default},
        "options": [],
    }


def dashboard() -> Json:
    """The whole dashboard."""
    one = "Everyone is `all`. Segments do not combine: choose a persona or a region, not both."
    return {
        "uid": UID,
        "title": "Vital signs",
        "description": "The vital signs of a customer base: conversion, purchases, returns, churn.",
        "tags": ["heartline"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "graphTooltip": 1,
        "templating": {
            "list": [
                variable(
                    "window",
                    "label_values(heartline_active_customers, window)",
                    "1h",
                    "Size of the trailing window that every business figure is about.",
                ),
                variable(
                    "persona", "label_values(heartline_active_customers, persona)", "all", one
                ),
                variable("region", "label_values(heartline_active_customers, region)", "all", one),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": PROMETHEUS,
                    "enable": True,
                    "iconColor": "red",
                    "expr": 'ALERTS{alertname=~"Heartline.+", alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{reason}}{{windows}}",
                    "step": "30s",
                }
            ]
        },
        "panels": laid_out(ROWS),
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
