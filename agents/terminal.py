"""The vital signs in a terminal, drawn from the documents of `agents.results_api`.

Pure: it is handed the documents and the time, and gives something that rich can print.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agents.figures import figure, seconds, sparkline, window_ms

Document = Mapping[str, Any]

VITALS = (
    # title, metric, colour, +1 where more is better, -1 where less is
    ("Conversion", "session_conversion_ratio", "blue", 1),
    ("Session duration", "session_duration_seconds", "magenta", 0),
    ("Return frequency", "return_frequency", "cyan", 1),
    ("Retention", "retention_ratio", "green", 1),
    ("Churn", "churn_ratio", "red", -1),
    ("Revenue", "revenue", "yellow", 1),
    ("Orders", "orders", "bright_magenta", 1),
    ("Active customers", "active_customers", "bright_green", 1),
)
"""What is shown first: the same eight as on the live page."""

COLUMNS = (
    ("active_customers", "active"),
    ("orders", "orders"),
    ("revenue", "revenue"),
    ("session_conversion_ratio", "conversion"),
    ("retention_ratio", "retention"),
    ("churn_ratio", "churn"),
)
METRICS_SHOWN = (
    *(metric for _, metric, _, _ in VITALS),
    *("net_revenue", "buyers", "new_customers", "returning_customers", "active_days"),
    *("session_duration_seconds_p50", "session_duration_seconds_p90"),
)
PLOT_WIDTH = 36


def draw(status: Document, results: Document, chosen: str, *, width: int) -> RenderableType:
    """The main panel of one window for everyone, and one line for each window.

    ``results`` holds the totals of all windows with their history; ``chosen`` is a window's name.
    """
    windows = {one["name"]: one for one in results["windows"]}
    units = {one["name"]: one["unit"] for one in status["metrics"]}
    found: dict[str, dict[str, Document]] = {name: {} for name in windows}
    for one in results["results"]:
        found[f"{one['window']}/{one['hop']}"][one["metric"]] = one
    if chosen not in windows:
        return Panel(
            Text.assemble(("warming up", "bold yellow"), "  ", _why_nothing(status, chosen)),
            title="[bold red]♥[/] [bold]Heartline[/]",
            title_align="left",
            border_style="dim",
            padding=(1, 2),
        )
    window = windows[chosen]
    return Group(
        Panel(
            _vitals(window, found[chosen], units, width=width),
            title="[bold red]♥[/] [bold]Heartline[/]",
            title_align="left",
            subtitle=_as_of(window, results["now_ms"]),
            subtitle_align="left",
            border_style="red" if window["is_stale"] else "dim",
            padding=(1, 2),
        ),
        _windows(status, windows, found, units),
    )


def _why_nothing(status: Document, chosen: str) -> str:
    if status["trouble"]:
        return str(status["trouble"])
    for one in status["windows"]:
        if one["name"] == chosen and one.get("arriving"):
            arrived, size = one["arriving"]["of"]
            return f"{arrived} of {size} results of the first window have arrived"
    return "waiting for the first whole result"


def _as_of(window: Document, now_ms: int) -> Text:
    end = datetime.datetime.fromtimestamp(window["end_ms"] / 1000, datetime.UTC)
    age_s = (now_ms - window["end_ms"]) / 1000
    text = Text(" ")
    if window["is_stale"]:
        # First: a narrow terminal cuts the end of the line.
        silent_s = (now_ms - window["shown_at_ms"]) / 1000
        text.append(f"stale: nothing new for {seconds(silent_s)} · ", "bold red")
    text.append(f"{window['window']} up to {end:%Y-%m-%d %H:%M:%S} UTC", "dim")
    if abs(age_s) < 3_600:
        text.append(f", {seconds(max(age_s, 0.001))} ago", "dim")
    text.append(" ")
    return text


def _vitals(
    window: Document, found: Mapping[str, Document], units: Mapping[str, str], *, width: int
) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    roomy, wide = width >= 100, width >= 124
    if roomy:
        table.add_column(no_wrap=True)
    if wide:
        table.add_column(no_wrap=True, overflow="ellipsis")
    plot_width = PLOT_WIDTH if roomy else max(10, min(PLOT_WIDTH, width - 52))
    for title, metric, colour, good in VITALS:
        result = found.get(metric)
        history = result["history"] if result else []
        cells: list[RenderableType] = [
            Text(title),
            _value(metric, units.get(metric, ""), result, colour),
            _interval(result),
            Text(sparkline([point[1] for point in history], plot_width), colour),
        ]
        if roomy:
            cells.append(_change(metric, result, window, good))
        if wide:
            cells.append(Text(_detail(metric, found, units), "dim"))
        table.add_row(*cells)
    return table


def _value(metric: str, unit: str, result: Document | None, colour: str) -> Text:
    if result is None:
        return Text("—", "dim")
    if result["value"] is None:
        return Text("undefined" if result["complete"] else "warming up", "dim italic")
    style = f"bold {colour}" if result["complete"] else colour
    return Text(figure(metric, unit, result["value"]), style)


def _short(metric: str, unit: str, result: Document | None) -> Text:
    """A value where there is little room: ``…`` is warming up, a dash undefined."""
    if result is not None and result["value"] is None and not result["complete"]:
        return Text("…", "dim")
    value = result["value"] if result else None
    style = "dim" if value is None or (result and not result["complete"]) else ""
    return Text(figure(metric, unit, value).rjust(9), style)


def _interval(result: Document | None) -> Text:
    if result is None or result["low"] is None or result["high"] is None:
        return Text("")
    return Text(f"± {(result['high'] - result['low']) * 50:.1f}", "dim")


def _change(metric: str, result: Document | None, window: Document, good: int) -> Text:
    """Against the window that ended where this one begins, if it is still remembered."""
    if result is None or result["value"] is None:
        return Text("")
    before_ms = window["end_ms"] - window_ms(window["window"])
    before = next((one[1] for one in result["history"] if one[0] == before_ms), None)
    if not before:
        return Text("")
    change = result["value"] - before
    if change == 0:
        return Text("=", "dim")
    size = f"{abs(change) * 100:.1f} pt" if "_ratio" in metric else f"{abs(change / before):.0%}"
    style = "dim" if not good else "green" if change * good > 0 else "red"
    return Text(f"{'▲' if change > 0 else '▼'} {size}", style)


def _detail(metric: str, found: Mapping[str, Document], units: Mapping[str, str]) -> str:
    def show(name: str) -> str:
        one = found.get(name)
        return figure(name, units.get(name, ""), one["value"] if one else None)

    result = found.get(metric)
    if result is not None and result["denominator"] is not None and "_ratio" in metric:
        return f"{result['numerator']:,} of {result['denominator']:,}"
    details = {
        "session_duration_seconds": f"median {show('session_duration_seconds_p50')}"
        f" · p90 {show('session_duration_seconds_p90')}",
        "return_frequency": f"{show('active_days')} active days",
        "revenue": f"net {show('net_revenue')}",
        "orders": f"{show('buyers')} buyers",
        "active_customers": f"{show('new_customers')} new"
        f" · {show('returning_customers')} returning",
    }
    return details.get(metric, "")


def _windows(
    status: Document,
    windows: Mapping[str, Document],
    found: Mapping[str, Mapping[str, Document]],
    units: Mapping[str, str],
) -> Table:
    """One line for each configured window."""
    table = Table(box=None, padding=(0, 1), header_style="dim", show_edge=False)
    table.add_column("  window  ", no_wrap=True)
    for _, title in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for one in status["windows"]:
        name = one["name"]
        cells: list[Text] = []
        for metric, _ in COLUMNS:
            result = found[name].get(metric) if name in windows else None
            cells.append(_short(metric, units.get(metric, ""), result))
        table.add_row(Text(f"  {name}", "bold"), *cells)
    return table


def account_table(accounts: Mapping[str, Mapping[str, int]], parts: Sequence[str]) -> Table:
    """What became of every record: one column for each input and one for all."""
    table = Table(title="What became of every record", title_justify="left", title_style="bold")
    table.add_column("")
    for topic in accounts:
        table.add_column(topic.rpartition(".")[2], justify="right")
    table.add_column("all", justify="right", style="bold")
    for part in parts:
        counts = [account[part] for account in accounts.values()]
        name = "of them late" if part == "late_counted" else part.replace("_", " ")
        style = "bold" if part == "consumed" else "dim" if part == "late_counted" else None
        table.add_row(
            f"  {name}" if part == "late_counted" else name,
            *(f"{count:,}" for count in (*counts, sum(counts))),
            style=style,
            end_section=part == "consumed",
        )
    return table
