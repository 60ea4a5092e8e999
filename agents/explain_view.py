"""An explanation as a picture for the terminal. Pure: it gives something that rich can print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agents.explain import Explanation
from agents.explain_panes import Pane
from agents.explain_question import Course
from agents.figures import figure, seconds
from schemas.records import Number, Result

WIDE = 120
"""Where there is no terminal."""
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_HEIGHT = 6
_LOW_HEIGHT = 3
_MAX_FIELD = 60


def draw(explanation: Explanation, *, width: int) -> RenderableType:
    """The number, what it is made of, its course, and events; for a terminal of ``width`` columns."""
    sections: list[RenderableType] = [
        _number(explanation),
        Text(""),
        _formula(explanation),
        Text(""),
        *_plots(explanation, width=width - 6),
        Text(""),
        _in_the_window(explanation),
    ]
    if explanation.samples:
        sections += [Text(""), _samples(explanation)]
    sections += [Text(f"note: {note}", "yellow") for note in explanation.notes]
    return Panel(
        Group(*sections),
        title=f"[bold]{explanation.metric}[/]",
        title_align="left",
        subtitle=_whose(explanation),
        subtitle_align="left",
        border_style="dim",
        padding=(1, 2),
    )


def _whose(explanation: Explanation) -> str:
    labels = explanation.segment | explanation.dimensions
    whose = ", ".join(f"{name}={value}" for name, value in labels.items()) or "everyone"
    return f"{explanation.window}/{explanation.hop} until {explanation.at}, {whose}"


def _number(explanation: Explanation) -> RenderableType:
    result, again = explanation.result, explanation.recomputed
    text = Text()
    if result is None:
        text.append("not published", "bold yellow")
    else:
        text.append(figure(explanation.metric, explanation.unit, result.value), "bold green")
        if result.low is not None and result.high is not None:
            low = figure(explanation.metric, explanation.unit, result.low)
            high = figure(explanation.metric, explanation.unit, result.high)
            text.append(f"   95 % between {low} and {high}", "dim")
        if not result.complete:
            text.append("   the window was not observed whole", "yellow")
    text.append(f"\n{explanation.help}. {explanation.pitfall}", "dim")
    if again is not None:
        text.append("\n")
        text.append(*_agreement(explanation, result, again))
    return text


def _agreement(explanation: Explanation, result: Result | None, again: Result) -> tuple[str, str]:
    found = figure(explanation.metric, explanation.unit, again.value)
    if result is not None and (result.value, result.n) == (again.value, again.n):
        return f"recomputed from the events read back: {found}, the same", "green"
    return f"recomputed from the events read back: {found}", "yellow"


def _formula(explanation: Explanation) -> RenderableType:
    result = explanation.result or explanation.recomputed
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("formula", explanation.formula)
    if result is not None and result.denominator is not None:
        parts = f"{_plain(result.numerator)} / {_plain(result.denominator)}"
        table.add_row("", Text(parts, "bold"))
    elif result is not None and result.n is not None:
        table.add_row("n", Text(f"{result.n:,}", "bold"))
    for part in explanation.parts:
        table.add_row(part.name, Text(part.meaning, "dim"))
    return table


def _plots(explanation: Explanation, *, width: int) -> list[RenderableType]:
    panes = explanation.panes
    if not panes:
        return []
    is_history = explanation.course == Course.HISTORY.value
    has_parts = any(pane.denominator is not None for pane in panes)
    result = explanation.result
    is_quantile = result is not None and result.numerator is None and result.n is not None
    name = "numerator" if has_parts else "n" if is_quantile and not is_history else "value"
    caption = f"{explanation.course}; every {seconds(explanation.step_seconds)}"
    found: list[RenderableType] = [Text(caption, "dim")]
    found += bars(name, [pane.numerator for pane in panes], _HEIGHT, "cyan", width=width)
    if has_parts:
        values = [pane.denominator for pane in panes]
        found += bars("denominator", values, _LOW_HEIGHT, "blue", width=width)
    found.append(_axis(panes, width=width))
    return found


def bars(
    name: str, values: Sequence[Number | None], height: int, colour: str, *, width: int
) -> list[RenderableType]:
    """Columns on a common zero; what is below zero hangs from it, in red."""
    across = _across(len(values), width)
    known = [value for value in values if value is not None] or [0]
    top, bottom = max(*known, 0), min(*known, 0)
    span = (top - bottom) or 1
    below = 0 if bottom == 0 else max(1, round(height * -bottom / span))
    above = height - below if top > 0 else 0
    rows: list[RenderableType] = []
    for row in range(above, 0, -1):
        line = Text(_label(name, top, row == above))
        for value in values:
            full = 0.0 if value is None or value <= 0 else value / top * above
            eighths = min(8, max(0, round((full - row + 1) * 8)))
            if row == 1 and full > 0:
                eighths = max(1, eighths)  # little is not nothing
            line.append(_EIGHTHS[eighths] * across, colour)
        rows.append(line)
    for row in range(1, below + 1):
        line = Text(_label(name, bottom, row == below))
        for value in values:
            depth = 0.0 if value is None or value >= 0 else value / bottom * below
            line.append(("█" if depth > row - 1 else " ") * across, "red")
        rows.append(line)
    if not rows:
        rows.append(Text(_label(name, 0, is_first=True)).append("▁" * across * len(values), "dim"))
    return rows


_LABEL_WIDTH = 22


def _label(name: str, extreme: Number, is_first: bool) -> str:
    return f"{name + ' ' + _plain(extreme) if is_first else '':>{_LABEL_WIDTH - 2}}  "


def _across(count: int, width: int) -> int:
    return max(1, min(4, (width - _LABEL_WIDTH) // max(count, 1)))


def _axis(panes: Sequence[Pane], *, width: int) -> Text:
    first, last = panes[0].start, panes[-1].until
    room = _across(len(panes), width) * len(panes)
    gap = max(2, room - len(first) - len(last))
    return Text(" " * _LABEL_WIDTH + first + " " * gap + last, "dim")


def _in_the_window(explanation: Explanation) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for number, read in enumerate(explanation.reads):
        fields = f" ({', '.join(read.fields)})" if read.fields else ""
        where = "both windows" if explanation.course == Course.BASE.value else "the window"
        counted = f"{read.in_window:,} {read.type}{fields} in {where}"
        table.add_row("made from" if number == 0 else "", counted)
    for heading, counts in (("rejected", explanation.rejected), ("late", explanation.late)):
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        table.add_row(heading, listed or "none")
    return table


def _samples(explanation: Explanation) -> RenderableType:
    table = Table(title="some of the events", title_justify="left", title_style="dim", box=None)
    for name in ("at", "customer", "event", ""):
        table.add_column(name, overflow="fold", header_style="dim")
    told = {"occurred_at", "customer_id", "type", "event_id"}
    for event in explanation.samples:
        fields = (f"{name} {_cut(value)}" for name, value in event.items() if name not in told)
        table.add_row(
            str(event["occurred_at"]),
            _cut(event["customer_id"]),
            str(event["type"]),
            Text(", ".join(fields), "dim"),
        )
    return table


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_FIELD else text[: _MAX_FIELD - 1] + "…"


def _plain(value: Number | None) -> str:
    if value is None:
        return "—"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
