"""docs/metrics.md says what the declarations say, and its examples are true."""

import json

import msgspec
import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.exported import exported_metrics
from agents.metric_docs import (
    OF_GROUP,
    PAGE,
    ROOT,
    Example,
    formula_of,
    page_with,
    reference,
)
from schemas.decode import Decoder
from schemas.events import SOURCE_OF, TYPE_NAMES
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.metrics import BY_NAME, METRICS, Group
from streams.provenance import CELL, COMMON, PROVENANCE, SUM_NAMES, reads_of
from streams.segments import Segments
from streams.sums import ROWS
from streams.windows import Window, WindowSet

EXAMPLES = pytest.mark.parametrize("example", OF_GROUP.values(), ids=lambda e: e.file)


def outcome(example: Example, lines: list[bytes]) -> dict[str, Result]:
    """The metrics for everyone and by channel, without the metrics' own names repeated."""
    config = CoreConfig(
        windows=WindowSet.of((Window.parse(example.window),), session_gap_ms=1_800_000),
        segments=Segments(customer=()),
    )
    decoded = [Decoder().decode(line) for line in lines]
    results = evaluate(config, decoded, [example.at_ms])
    return {f"{r.metric} {r.dimensions}": r for r in results}


def changed(example: Example, lines: list[bytes]) -> set[str]:
    before, after = outcome(example, example.lines), outcome(example, lines)
    return {name.split()[0] for name in before if _figures(before[name]) != _figures(after[name])}


def _figures(result: Result) -> tuple[object, ...]:
    return (result.value, result.numerator, result.denominator)


def test_the_page_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page_with(reference(), page) == page, "run `python -m agents.metric_docs`"


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        page_with("x", "no markers")


def test_every_metric_stands_in_the_group_of_its_neighbours() -> None:
    groups = [metric.group for metric in METRICS]

    assert list(dict.fromkeys(groups)) == list(Group) == list(OF_GROUP)
    assert groups == sorted(groups, key=list(Group).index)
    assert [one.group for one in exported_metrics()] == [group.value for group in groups]


@pytest.mark.parametrize(
    "name, formula",
    [
        ("page_views", "number of page views in `[t - w, t)`"),
        ("net_revenue", "`revenue - refunded`"),
        ("repeat_buyer_ratio", "`(buyers - new_buyers) / buyers`"),
        ("average_order_value", "`revenue / orders`"),
        ("session_duration_seconds", "`session_ms / 1000 / sessions_closed`"),
    ],
)
def test_a_formula_speaks_of_other_metrics(name: str, formula: str) -> None:
    assert formula_of(BY_NAME[name]) == formula


def test_every_sum_says_what_it_is_made_from() -> None:
    assert len(PROVENANCE) == len(SUM_NAMES) == ROWS
    for provenance in PROVENANCE:
        for kind, fields in provenance.reads.items():
            assert set(fields) <= set(kind.__struct_fields__) - set(COMMON) - set(CELL)


@EXAMPLES
def test_every_example_gives_a_figure_that_is_complete(example: Example) -> None:
    (group,) = [group for group, one in OF_GROUP.items() if one == example]
    results = example.results()

    for metric in METRICS:
        if metric.group is group:
            assert results[metric.name].value is not None
            assert results[metric.name].complete


@EXAMPLES
def test_the_command_on_the_page_gives_the_numbers_on_the_page(
    example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("HEARTLINE_CONFIG", raising=False)
    shown = CliRunner().invoke(main, [*example.command.split()[1:], "--format", "json"])

    assert shown.exit_code == 0
    found = {row["metric"]: row for row in json.loads(shown.stdout) if not row["dimensions"]}
    assert found == {name: msgspec.to_builtins(r) for name, r in example.results().items()}


@EXAMPLES
@pytest.mark.parametrize("name", [name for name, kind in TYPE_NAMES.items() if kind in SOURCE_OF])
def test_a_type_of_event_changes_only_metrics_that_say_so(example: Example, name: str) -> None:
    # What was seen first, by anybody, decides about null and stays.
    first, *rest = example.lines
    lines = [first, *(line for line in rest if json.loads(line)["type"] != name)]
    told = {metric.name for metric in METRICS if TYPE_NAMES[name] in reads_of(metric)}

    assert changed(example, lines) <= told


@EXAMPLES
@pytest.mark.parametrize("field", ["session_id", "channel", "page", "order_id", "plan"])
def test_a_field_changes_only_metrics_that_say_so(example: Example, field: str) -> None:
    events = [json.loads(line) for line in example.lines]
    for event in events:
        if field in event:
            event[field] = "another"
    told = {m.name for m in METRICS if any(field in fields for fields in reads_of(m).values())}

    assert changed(example, [json.dumps(event).encode() for event in events]) <= told
