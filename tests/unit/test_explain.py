"""`heartline explain`: the parts add up to the number that `heartline evaluate` gives."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from agents import explain_view
from agents.cli import main
from agents.explain import Explanation, explain
from agents.explain_question import Course, Question, config_for
from agents.settings import Settings
from schemas.decode import Decoder
from streams.evaluate import Evaluated
from streams.metrics import BY_NAME, METRICS, Kind, Metric
from streams.moments import from_text
from streams.pseudonyms import Pseudonyms
from streams.windows import Window
from tests.oracle.generate import DAYS, history
from tests.oracle.lives import EPOCH_MS
from tests.oracle.rules import DAY_MS

pytestmark = pytest.mark.unit

AT_MS = EPOCH_MS + 11 * DAY_MS
AT = "2023-11-26T00:00:00Z"
WINDOW = "3d/3h"
EVENTS = [
    event for event in history(replace(DAYS, customers=5), 5) if event.get("currency") != "EUR"
]
SETTINGS = Settings()

Run = Callable[..., Result]


def decoded() -> list[Evaluated]:
    decode = Decoder().decode
    return [decode(json.dumps(event).encode()) for event in EVENTS if event["occurred_at"] < AT_MS]


def explained(metric: str, *, hash_key: bytes | None = None, **where: str) -> Explanation:
    question = Question(BY_NAME[metric], Window.parse(WINDOW), AT_MS, where)
    events = decoded()
    config = config_for(SETTINGS, question, events)
    return explain(config, question, events, hash_key=hash_key)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEARTLINE_CONFIG", raising=False)
    lines = b"".join(json.dumps(event).encode() + b"\n" for event in EVENTS)
    (tmp_path / "events.jsonl").write_bytes(lines)

    def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, prog_name="heartline")

    return invoke


# -- the number and its panes


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_panes_add_up_to_the_number(metric: Metric) -> None:
    told = explained(metric.name)
    assert told.result is not None
    numerators = [pane.numerator or 0 for pane in told.panes]
    if told.course == Course.HISTORY:
        assert told.panes[-1].numerator == told.result.value
        assert told.panes[-1].until == told.at
    elif metric.kind is Kind.QUANTILE:
        assert sum(numerators) == told.result.n
    elif metric.kind is Kind.COUNT:
        assert sum(numerators) == pytest.approx(told.result.value, abs=1e-6)
    else:
        assert sum(numerators) == pytest.approx(told.result.numerator, abs=1e-6)
        assert sum(pane.denominator or 0 for pane in told.panes) == told.result.denominator


@pytest.mark.parametrize("metric", ["visitors", "churn_ratio", "retained_customers"])
def test_no_pane_of_distinct_customers_is_negative(metric: str) -> None:
    panes = explained(metric).panes
    assert all((pane.numerator or 0) >= 0 and (pane.denominator or 0) >= 0 for pane in panes)


def test_panes_follow_each_other_through_the_window() -> None:
    told = explained("orders")
    assert told.panes[0].start == told.start
    assert told.panes[-1].until == told.at
    assert all(a.until == b.start for a, b in zip(told.panes, told.panes[1:], strict=False))
    assert len(told.panes) == 24


@pytest.mark.parametrize(
    "metric, needed_ms",
    [
        ("orders", AT_MS - 4 * DAY_MS),
        ("churn_ratio", AT_MS - 7 * DAY_MS),
        ("new_customers", None),
        ("ticket_backlog", None),
        ("resolution_seconds", None),
        ("journey_moves", None),
        ("clv_historic_mean", None),
    ],
)
def test_what_has_a_past_needs_all_events(metric: str, needed_ms: int | None) -> None:
    question = Question(BY_NAME[metric], Window.parse(WINDOW), AT_MS, {})
    assert question.needed_from_ms == needed_ms


def test_those_of_the_base_lie_in_the_window_before() -> None:
    told = explained("churn_ratio")
    assert told.panes[-1].until == told.start


@pytest.mark.parametrize("hops, panes", [(60, 60), (61, 31), (120, 60), (7, 7)])
def test_there_are_at_most_sixty_panes_and_the_oldest_may_be_short(hops: int, panes: int) -> None:
    window = Window(f"{hops}h", "1h")
    question = Question(BY_NAME["orders"], window, AT_MS, {})
    config = config_for(SETTINGS, question)
    told = explain(config, question, decoded())
    assert len(told.panes) == panes
    assert told.panes[0].start == told.start


def test_a_segment_is_explained_by_its_own_events() -> None:
    told = explained("orders", persona="hunter")
    assert told.segment == {"persona": "hunter"}
    assert told.result is not None
    assert told.result.segment == {"persona": "hunter"}
    ids = {event["customer_id"] for event in EVENTS if event.get("persona") == "hunter"}
    assert {sample["customer_id"] for sample in told.samples} <= ids


def test_a_dimension_of_ones_own_is_asked_for_as_a_persona_is(run: Run, tmp_path: Path) -> None:
    told = [
        event
        | {"tier": "gold" if event["customer_id"] == "customer-2" else 7 if place == 0 else "tin"}
        for place, event in enumerate(EVENTS)
    ]
    (tmp_path / "told.jsonl").write_bytes(
        b"".join(json.dumps(one).encode() + b"\n" for one in told)
    )
    config = tmp_path / "my.toml"
    config.write_text('[segments]\ntier = ["gold"]\n', encoding="utf-8")
    asked = ("page_views", "told.jsonl", "--at", AT, "--window", WINDOW, "--format", "json")
    ids = {event["customer_id"] for event in told if event["tier"] == "gold"}
    for more in ((), ("--config", str(config))):
        result = run("explain", *asked, "--by", "tier=gold", *more)
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        assert found["segment"] == found["result"]["segment"] == {"tier": "gold"}
        assert found["result"]["value"] > 0
        assert {sample["customer_id"] for sample in found["samples"]} == ids
        assert {sample["tier"] for sample in found["samples"]} == {"gold"}
        assert found["reads"][0]["in_window"] > 0
    said = mistake(run, *asked, "--by", "tier=goldd", "--config", str(config))
    assert "did you mean gold?" in said
    said = mistake(run, *asked, "--by", "mood=good", "--config", str(config))
    assert "page_views is not reported by mood; it is by tier" in said
    assert "no event carries 'mood'" in mistake(run, *asked, "--by", "mood=good")
    assert "a field that events have already" in mistake(run, *asked, "--by", "plan=a")


def test_samples_are_spread_over_the_window_and_of_the_types_that_count() -> None:
    told = explained("session_duration_seconds")
    times = [from_text(str(sample["occurred_at"])) for sample in told.samples]
    assert len(times) == 5
    assert times == sorted(times)
    assert times[0] >= AT_MS - 3 * DAY_MS
    assert times[-1] < AT_MS
    assert {sample["type"] for sample in told.samples} <= {"page_viewed", "session_ended"}


def test_customers_go_by_their_pseudonyms_where_ids_are_hashed() -> None:
    key = b"k" * 32
    plain, hashed = explained("orders"), explained("orders", hash_key=key)
    names = [Pseudonyms(key).of(str(sample["customer_id"])) for sample in plain.samples]
    assert names == [sample["customer_id"] for sample in hashed.samples]


# -- the command


def test_the_number_is_that_of_evaluate(run: Run) -> None:
    asked = ("--at", AT, "--window", WINDOW)
    (row,) = json.loads(
        run("evaluate", "events.jsonl", *asked, "--metric", "retention_ratio").stdout
    )
    told = run("explain", "retention_ratio", "events.jsonl", *asked, "--format", "json")
    assert told.exit_code == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["result"] == row
    assert document["recomputed"] is None
    assert document["formula"] == "(base - churned) / base" or "/" in document["formula"]
    assert {"parts", "reads", "panes", "rejected", "late", "samples", "notes"} <= set(document)


def test_the_picture_shows_number_formula_parts_and_events(run: Run) -> None:
    told = run("explain", "bounce_ratio", "events.jsonl", "--at", AT, "--window", WINDOW)
    assert told.exit_code == 0, told.stderr
    for words in (
        "bounce_ratio", "95 % between", "sessions_bounced / sessions_closed", "numerator",
        "denominator", "█", "made from", "rejected", "some of the events",
        "3d/3h until 2023-11-26T00:00:00Z, everyone",
    ):  # fmt: skip
        assert words in told.stdout


def test_an_own_dimension_is_asked_for_by_its_name(run: Run) -> None:
    asked = ("--at", AT, "--window", WINDOW, "--by", "channel=unknown", "--format", "json")
    told = run("explain", "sessions_closed", "events.jsonl", *asked)
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["dimensions"] == {"channel": "unknown"}


def test_rejected_lines_are_counted_by_reason_if_they_may_lie_in_the_window(run: Run) -> None:
    inside = {**EVENTS[0], "type": "page_veiwed", "occurred_at": AT_MS - 1}
    outside = {**inside, "occurred_at": AT_MS}
    text = {**inside, "occurred_at": "2023-11-25T23:59:59Z"}
    lines = [json.dumps(one).encode() for one in (inside, outside, text, EVENTS[0])]
    told = run(
        "explain", "orders", "-", "--at", AT, "--window", WINDOW, "--format", "json",
        stdin=b"\n".join([*lines, b"{"]),
    )  # fmt: skip
    assert told.exit_code == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["rejected"] == {"not_json": 1, "unknown_type": 2}
    assert any("1 of the rejected lines tell no time" in note for note in document["notes"])


def mistake(run: Run, *arguments: str) -> str:
    told = run("explain", *arguments)
    assert told.exit_code == 2
    assert not told.stdout
    assert told.stderr.count("\n") == 1
    return told.stderr


def test_mistakes_are_told_in_one_line_with_what_is_near(run: Run) -> None:
    asked = ("events.jsonl", "--at", AT, "--window", WINDOW)
    said = mistake(run, "retentoin_ratio", *asked)
    assert "there is no metric 'retentoin_ratio'; did you mean retention_ratio" in said
    assert "known: page_views" in mistake(run, "xyzzy", *asked)
    assert "did you mean hunter?" in mistake(run, "orders", *asked, "--by", "persona=huntr")
    assert "known: " in mistake(run, "orders", *asked, "--by", "persona=xyzzy")
    said = mistake(run, "orders", *asked, "--by", "channel=email")
    assert "orders is not reported by channel; it is by persona, region" in said
    said = mistake(run, "bounce_ratio", *asked, "--by", "channel=unknown", "--by", "persona=other")
    assert "it is by persona, region, channel" in said
    assert "not DIMENSION=VALUE" in mistake(run, "orders", *asked, "--by", "persona")
    twice = ("--by", "region=north", "--by", "region=south")
    assert "region is named twice" in mistake(run, "orders", *asked, *twice)
    off = ("events.jsonl", "--at", "2023-11-26T00:30:00Z", "--window", WINDOW)
    assert "the nearest are" in mistake(run, "orders", *off)
    assert "no such file" in mistake(run, "orders", "absent.jsonl", *asked[1:])
    assert "leave one of them out" in mistake(run, "orders", *asked, "--bootstrap", "localhost:1")
    assert "can be read once only" in mistake(run, "orders", "-", "-", *asked[1:])


def test_the_help_has_examples(run: Run) -> None:
    told = run("explain", "--help")
    assert "heartline explain churn_ratio --at" in told.stdout
    assert "--by from=aware --by to=engaged" in told.stdout


def test_without_kafka_it_says_so_in_one_line(run: Run) -> None:
    told = run(
        "explain", "orders", "--at", AT, "--window", WINDOW, "--bootstrap", "127.0.0.1:1"
    )  # fmt: skip
    assert told.exit_code == 1
    assert "127.0.0.1:1" in told.stderr
    assert "Traceback" not in told.stderr


# -- the picture


def drawn(values: list[float | None], *, width: int = 100) -> list[str]:
    rows = explain_view.bars("value", values, 4, "cyan", width=width)
    console = Console(width=width, record=True, file=io.StringIO())
    for row in rows:
        console.print(row)
    return console.export_text().rstrip("\n").split("\n")


def test_bars_grow_from_zero_and_little_is_not_nothing() -> None:
    rows = drawn([0, 1, 400])
    assert len(rows) == 4
    assert [row[22:].rstrip() for row in rows] == [" " * 8 + "████"] * 3 + ["    ▁▁▁▁████"]
    assert rows[0].startswith("           value 400  ")


def test_what_is_below_zero_hangs_from_it() -> None:
    rows = drawn([2, -2, None])
    assert [row[22:].rstrip() for row in rows] == ["████", "████", "    ████", "    ████"]
    assert rows[-1].lstrip().startswith("value -2")


def test_nothing_but_zeros_is_a_flat_line() -> None:
    (row,) = drawn([0, 0, None])
    assert row[22:] == "▁" * 12
