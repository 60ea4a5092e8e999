"""The part of docs/metrics.md that is made from the declarations: ``python -m agents.metric_docs``.

Each metric of `streams.metrics` gets its unit, formula, inputs, behaviour over the window and
pitfall, and a worked example. The examples are the events of docs/examples, one file a group, put
through `streams.evaluate` while the page is written: no number on it is typed by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from agents.evaluation import read_events
from schemas.decode import Decoder
from schemas.events import CustomerEvent
from schemas.records import Number, Result
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.metrics import METRICS, SCORE_Z, Group, Kind, Metric, Needs, Term, Unit
from streams.moments import to_text
from streams.provenance import PROVENANCE, SUM_NAMES, reads_of, rows_of
from streams.segments import OWN_LABELS, Segments
from streams.sums import ADDITIVES, COHORTS, MARKS, Additive, Distribution, Mark, Stock, row_of
from streams.windows import Window, WindowSet

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
EXAMPLES = ROOT / "docs" / "examples"
BEGIN = (
    "<!-- Made by `python -m agents.metric_docs` from streams/metrics.py: do not edit by hand. -->"
)
END = "<!-- End of what is made from the declarations. -->"

GAP_MS = 1_800_000
_IN_SESSIONS = frozenset(
    row_of(member)
    for member in (
        Additive.SESSIONS_STARTED,
        Additive.SESSIONS_CLOSED,
        Additive.SESSIONS_CONVERTED,
        Additive.SESSIONS_BOUNCED,
        Additive.SESSION_MS,
        Additive.VISIT_INTERVALS,
        Additive.VISIT_INTERVAL_MS,
    )
)
_FIRSTS = frozenset({row_of(Mark.FIRST_ACTIVE), row_of(Mark.FIRST_BOUGHT)})
"""Marks of which a customer has one for ever."""
_OF_DISTRIBUTION = {
    Distribution.SESSION: "`sessions_closed`",
    Distribution.FIRST_REPLY: "the first replies",
    Distribution.RESOLUTION: "the resolutions",
    Distribution.STAGE: "`journey_moves`",
}
_UNITS = {
    Unit.COUNT: "none: an exact integer",
    Unit.RATIO: "none: a ratio",
    Unit.SECONDS: "seconds",
    Unit.CURRENCY: "the reporting currency",
}


class Example(msgspec.Struct, frozen=True):
    """The events of a group's worked example, the window that is worked out, and its end."""

    file: str
    window: str
    at_ms: int

    @property
    def lines(self) -> list[bytes]:
        """One event each, as `heartline evaluate` reads them."""
        return (EXAMPLES / self.file).read_bytes().splitlines()

    @property
    def command(self) -> str:
        """What gives these numbers."""
        return (
            f"heartline evaluate docs/examples/{self.file} --at {to_text(self.at_ms)}"
            f" --window {self.window}"
        )

    def results(self) -> dict[str, Result]:
        """The metrics over everyone, by name. Raises `ValueError` if a line is no event."""
        reading = read_events(self.lines, Decoder())
        if reading.rejected:
            raise ValueError(f"{self.file} holds lines that are no events: {reading.rejected}")
        config = CoreConfig(
            windows=WindowSet.of((Window.parse(self.window),), session_gap_ms=GAP_MS),
            segments=Segments(customer=()),
        )
        return {
            result.metric: result
            for result in evaluate(config, reading.events, [self.at_ms])
            if not result.dimensions
        }


_MIDNIGHT_MS, _NOON_MS = 1_772_582_400_000, 1_772_625_600_000
"""4 March 2026, the start and the middle of the day."""
OF_GROUP = {
    Group.SESSIONS: Example("sessions.jsonl", "1d/1d", _MIDNIGHT_MS),
    Group.PURCHASES: Example("purchases.jsonl", "1d/1d", _MIDNIGHT_MS),
    Group.RETURN: Example("return.jsonl", "1d/12h", _NOON_MS),
    Group.RETENTION: Example("churn.jsonl", "1d/1d", _MIDNIGHT_MS),
    Group.LIFETIME: Example("lifetime.jsonl", "1d/1d", _MIDNIGHT_MS),
    Group.SOCIAL: Example("social.jsonl", "1d/1d", _MIDNIGHT_MS),
    Group.SATISFACTION: Example("satisfaction.jsonl", "1d/1d", _MIDNIGHT_MS),
    Group.SUPPORT: Example("support.jsonl", "1d/1d", _MIDNIGHT_MS),
    Group.JOURNEY: Example("journey.jsonl", "1d/1d", _MIDNIGHT_MS),
}


# Sums that are metrics themselves go by the metric's name.
_NAMED = {
    metric.numerator[0][0]: (metric.name, metric.numerator_scale)
    for metric in METRICS
    if metric.kind is Kind.COUNT and len(metric.numerator) == 1
}


def formula_of(metric: Metric) -> str:
    """The formula in Markdown, in terms of other metrics and of named sums."""
    if metric.distribution is not None:
        of = _OF_DISTRIBUTION[metric.distribution]
        return f"the `ceil({metric.q:g} * n)`-th smallest duration, n = {of}"
    if metric.kind is Kind.COUNT and len(metric.numerator) == 1:
        ((row, _),) = metric.numerator
        is_sum = metric.numerator_scale > 1
        scale = f", divided by {metric.numerator_scale:,}" if is_sum else ""
        return f"{'sum' if is_sum else 'number'} of {_described(row)}{scale}"
    numerator = _expression(metric.numerator, metric.numerator_scale)
    if metric.kind is Kind.COUNT:
        return f"`{numerator}`"
    if len(metric.numerator) > 1:
        numerator = f"({numerator})"
    factor = f"{metric.factor:,} * " if metric.factor > 1 else ""
    denominator = _expression(metric.denominator, 1)
    if len(metric.denominator) > 1:
        denominator = f"({denominator})"
    return f"`{factor}{numerator} / {denominator}`"


def _described(row: int) -> str:
    """What a sum holds, and by which moment it lies in the window."""
    provenance = PROVENANCE[row]
    if row >= ADDITIVES + MARKS:  # These name their own times.
        return provenance.what
    moment = f" whose {provenance.moment} lies" if provenance.moment else ""
    return f"{provenance.what}{moment} in `[t - w, t)`"


def _expression(terms: Sequence[Term], scale: int) -> str:
    text = ""
    for row, factor in terms:
        name, own_scale = _NAMED.get(row, (SUM_NAMES[row], 1))
        sign = "" if not text else " + "
        text += f"{' - ' if factor < 0 else sign}{name}"
        text += "" if own_scale == scale else f" / {scale}"
    return text


def _unnamed(metric: Metric) -> str:
    """What the names in the formula mean that are no metrics."""
    if metric.kind is Kind.QUANTILE:
        return ""
    return "".join(
        f"; `{SUM_NAMES[row]}` = {_described(row)}" for row in rows_of(metric) if row not in _NAMED
    )


def _inputs(metric: Metric) -> str:
    parts = []
    for kind, fields in reads_of(metric).items():
        listed = f" ({', '.join(f'`{name}`' for name in fields)})" if fields else ""
        parts.append(f"`{_type_name(kind)}`{listed}")
    return ", ".join(parts)


def _type_name(kind: type[CustomerEvent]) -> str:
    return str(kind.__struct_config__.tag)


def _over_time(metric: Metric) -> str:
    rows = rows_of(metric)
    is_ratio = metric.kind is Kind.RATIO
    if metric.kind is Kind.QUANTILE:
        text = "not additive: counted anew from the histogram of the window"
    elif all(row >= ADDITIVES + MARKS + COHORTS for row in rows):
        text = "what is there at `t`, the same for every window; segments add up, times do not"
        if is_ratio:
            text = "what is so at `t`, the same for every window; its parts add up over segments"
    elif any(row >= ADDITIVES + MARKS for row in rows):
        text = "compares `[t - w, t)` with `[t - 2w, t - w)`"
    elif all(row < ADDITIVES or row in _FIRSTS for row in rows):
        text = "additive: windows that follow each other add up, and so do segments"
        if is_ratio:
            text = "its parts add up over windows and over segments; the ratio does not"
    else:
        text = "over distinct customers or days: windows do not add up, segments do"
        if is_ratio:
            text = "over distinct customers or days: it does not add up over windows"
    if metric.needs is Needs.TWO_WINDOWS:
        text += "; complete when two windows have been observed"
        if metric.is_null_until_complete:
            text += ", null before"
    return text


def _late(metric: Metric) -> str:
    rows = rows_of(metric)
    if any(row in _IN_SESSIONS for row in rows):
        text = "a late view neither opens nor extends a session"
        if row_of(Additive.SESSIONS_CONVERTED) in rows:
            text += "; a late order marks a session that is still open"
        return text
    if row_of(Additive.JOURNEY_MOVES) in rows or row_of(Stock.CUSTOMERS) in rows:
        return "what they change in the journey happens when they arrive, at the watermark"
    if metric.is_revisable:
        return (
            "enter the pane of their own time; results already published of windows with a hop of "
            "10 m or more are published again"
        )
    if all(row < ADDITIVES for row in rows):
        return "enter the pane of their own time"
    return "count from the next boundary on, where newer than what is known of the customer"


def _reported(metric: Metric) -> str:
    if metric.dimension is None:
        return "for everyone, by each segment"
    labels = " and ".join(f"`dimensions.{label}`" for label in OWN_LABELS[metric.dimension])
    return f"for everyone, by each segment and by {labels}"


def _number(value: Number | None) -> str:
    return "null" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _worked(metric: Metric, result: Result) -> str:
    value = f"**{_number(result.value)}**"
    if metric.kind is Kind.QUANTILE:
        return f"{value}, within 1 %; n = {result.n}"
    if metric.kind is Kind.COUNT:
        return value
    factor = f"{metric.factor:,} * " if metric.factor > 1 else ""
    text = f"{factor}{_number(result.numerator)} / {_number(result.denominator)} = {value}"
    if result.low is not None and result.high is not None:
        text += f", 95 % interval {result.low:.4f} to {result.high:.4f}"
    return text


def _facts(metric: Metric, result: Result) -> Iterator[tuple[str, str]]:
    yield "unit", _UNITS[metric.unit]
    yield "formula", formula_of(metric) + _unnamed(metric)
    yield "made from", _inputs(metric)
    yield "over time", _over_time(metric)
    yield "late events", _late(metric)
    yield "reported", _reported(metric)
    if metric.is_proportion:
        yield "interval", "Wilson, 95 % (E. B. Wilson, JASA 22, 1927)"
    if metric.spread:
        parts = f"s = `{_expression(metric.spread, 1)}`, d = the numerator, n = the denominator"
        error = "`100 * sqrt(s - d^2 / n) / n`"
        yield "interval", f"value -/+ {SCORE_Z} standard errors of {error}, with {parts}"
    yield "pitfall", metric.pitfall
    yield "example", _worked(metric, result)


_TOLD_ELSEWHERE = ("type", "event_id", "customer_id", "occurred_at", "note")


def _story(example: Example) -> Iterator[str]:
    """The events of an example as a table."""
    yield "| at | customer | event | |"
    yield "|---|---|---|---|"
    for line in example.lines:
        event = msgspec.json.decode(line)
        fields = ", ".join(f"{k} {v}" for k, v in event.items() if k not in _TOLD_ELSEWHERE)
        what = f"`{event['type']}`" + (f" {fields}" if fields else "")
        at = event["occurred_at"].replace("T", " ").removesuffix("Z")
        yield f"| {at} | {event['customer_id']} | {what} | {event['note']} |"


def reference() -> str:
    """Everything between the markers."""
    lines: list[str] = []
    for group, example in OF_GROUP.items():
        results = example.results()
        lines += [
            "",
            f"### {group.value}",
            "",
            f"Worked out below, of [these events](examples/{example.file}):",
        ]
        lines += ["", f"    {example.command}", "", *_story(example)]
        for metric in METRICS:
            if metric.group is group:
                lines += [
                    "",
                    f"#### `{metric.name}`",
                    "",
                    f"{metric.help}.",
                    "",
                    "| | |",
                    "|---|---|",
                ]
                lines += [
                    f"| {name} | {text} |" for name, text in _facts(metric, results[metric.name])
                ]
    return "\n".join(lines) + "\n\n"


def page_with(reference: str, page: str) -> str:
    """``page`` with ``reference`` between its markers. Raises `ValueError` where they are not."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/metrics.md has lost one of its markers: {BEGIN!r}, {END!r}")
    return f"{before}{BEGIN}\n{reference}{END}{after}"


@click.command()
def main() -> None:
    """Write the generated part of docs/metrics.md anew."""
    PAGE.write_text(page_with(reference(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
