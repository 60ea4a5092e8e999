"""`heartline evaluate`, exactly as DESIGN.md 6.1 has it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result

from agents.cdnow import cdnow_events
from agents.cli import main

CDNOW = Path(__file__).parents[1] / "data" / "cdnow" / "CDNOW_sample.txt"
AT = "2026-03-01T00:00:00Z"
FIELDS = [
    "metric", "window", "hop", "at", "segment", "dimensions", "value", "numerator", "denominator",
    "n", "low", "high", "complete",
]  # fmt: skip

Event = dict[str, Any]
Run = Callable[..., Result]


def view(number: int, at: str, **fields: Any) -> Event:
    return {
        "type": "page_viewed", "event_id": f"v{number}", "customer_id": f"c{number}",
        "occurred_at": at, "page": "/", **fields,
    }  # fmt: skip


def order(number: int, at: str, **fields: Any) -> Event:
    return {
        "type": "order_placed", "event_id": f"o{number}", "customer_id": f"c{number}",
        "occurred_at": at, "order_id": f"{number}", "amount": 10.5, "currency": "USD", **fields,
    }  # fmt: skip


EVENTS = [
    order(1, "2026-02-28T23:00:00Z", persona="loyal"),
    view(1, "2026-02-28T22:00:00Z", persona="loyal", region="north"),
    view(2, "2026-02-28T22:30:00+01:00", persona="bargain", channel="email"),
    view(3, "2026-03-01T00:00:00Z"),
    {"type": "time_passed", "until": "2026-03-02T00:00:00Z"},
]


def lines(events: list[Event]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEARTLINE_CONFIG", raising=False)
    (tmp_path / "events.jsonl").write_bytes(lines(EVENTS))

    def run(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(
            main, ["evaluate", *arguments], input=stdin, prog_name="heartline"
        )

    return run


def value(result: Result, metric: str, **where: Any) -> Any:
    (found,) = [
        row
        for row in json.loads(result.stdout)
        if row["metric"] == metric
        and row["segment"] == where.get("segment", {})
        and row["dimensions"] == where.get("dimensions", {})
        and row["window"] == where.get("window", row["window"])
    ]
    return found["value"]


def test_the_output_is_one_array_of_objects_with_the_documented_fields(evaluate: Run) -> None:
    result = evaluate("events.jsonl", "--at", AT, "--window", "1d/1h")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert all(list(row) == FIELDS for row in rows)
    assert {(row["window"], row["hop"], row["at"]) for row in rows} == {("1d", "1h", AT)}
    assert value(result, "page_views") == 2
    assert value(result, "revenue") == 10.5
    assert result.stderr == ""


def test_an_event_at_the_instant_does_not_count_for_it(evaluate: Run) -> None:
    later = evaluate("events.jsonl", "--at", "2026-03-01T01:00:00Z", "--window", "1d/1h")
    assert value(later, "page_views") == 3


def test_time_moves_on_after_the_last_event_so_silent_sessions_close(evaluate: Run) -> None:
    result = evaluate("events.jsonl", "--at", "2026-03-01T01:00:00Z", "--window", "1d/1h")
    assert value(result, "sessions_started") == value(result, "sessions_closed") == 3


def test_the_same_events_in_any_order_and_packing_give_the_same_bytes(
    evaluate: Run, tmp_path: Path
) -> None:
    expected = evaluate("events.jsonl", "--at", AT, "--window", "1d/1h").stdout
    backwards = lines(EVENTS[::-1])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(backwards))
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(backwards))
    (tmp_path / "first.jsonl").write_bytes(lines(EVENTS[:2]))
    (tmp_path / "second.jsonl").write_bytes(lines(EVENTS[2:]))
    for files in (["b.jsonl.gz"], ["b.jsonl.zst"], ["second.jsonl", "first.jsonl"]):
        assert evaluate(*files, "--at", AT, "--window", "1d/1h").stdout == expected
    assert evaluate("-", "--at", AT, "--window", "1d/1h", stdin=backwards).stdout == expected


def test_an_instant_off_a_hop_names_the_nearest_two(evaluate: Run) -> None:
    result = evaluate("events.jsonl", "--at", "2026-03-01T00:30:00Z", "--window", "1d/1h")
    assert result.exit_code == 2
    assert "2026-03-01T00:00:00Z" in result.stderr
    assert "2026-03-01T01:00:00Z" in result.stderr
    assert result.stderr.count("\n") == 1


def test_windows_need_not_nest(evaluate: Run) -> None:
    result = evaluate("events.jsonl", "--at", AT, "--window", "6h/2h", "--window", "6h/3h")
    assert result.exit_code == 0
    hops = {
        row["hop"]: row["value"] for row in json.loads(result.stdout) if row["metric"] == "orders"
    }
    assert hops == {"2h": 1, "3h": 1}


def test_several_instants_and_windows_come_in_the_order_asked_for(evaluate: Run) -> None:
    result = evaluate(
        "events.jsonl", "--at", AT, "--at", "2026-02-28T00:00:00Z", "--at", AT,
        "--window", "7d/1d", "--window", "1d/1d", "--metric", "orders",
    )  # fmt: skip
    assert [(row["at"][:10], row["window"], row["value"]) for row in json.loads(result.stdout)] == [
        ("2026-03-01", "7d", 1), ("2026-03-01", "1d", 1), ("2026-02-28", "7d", 0), ("2026-02-28", "1d", 0),
    ]  # fmt: skip


def test_the_default_is_all_metrics_and_the_default_windows(evaluate: Run) -> None:
    rows = json.loads(evaluate("events.jsonl", "--at", AT).stdout)
    assert {f"{row['window']}/{row['hop']}" for row in rows} == {
        "5m/10s", "1h/1m", "24h/10m", "7d/1h", "30d/6h",
    }  # fmt: skip
    assert {row["metric"] for row in rows} >= {
        "churn_ratio",
        "visit_interval_seconds",
        "bounce_ratio",
    }


def test_without_by_there_is_everyone_and_the_channels(evaluate: Run) -> None:
    result = evaluate("events.jsonl", "--at", AT, "--window", "1d/1h")
    rows = json.loads(result.stdout)
    assert all(row["segment"] == {} for row in rows)
    assert value(result, "sessions_started", dimensions={"channel": "email"}) == 1
    assert value(result, "sessions_started", dimensions={"channel": "unknown"}) == 1
    channels = {row["metric"] for row in rows if row["dimensions"]}
    assert "visitors" not in channels
    assert "bounce_ratio" in channels


OWN = {
    ("channel",): {
        "sessions_started", "sessions_closed", "sessions_converted", "session_conversion_ratio",
        "bounce_ratio", "session_duration_seconds", "session_duration_seconds_p50",
        "session_duration_seconds_p90", "session_duration_seconds_p99", "csat_responses",
        "csat_satisfied", "csat_ratio", "tickets_opened", "tickets_resolved", "tickets_reopened",
    },
    ("network",): {"social_interactions", "social_withdrawn"},
    ("stage",): {"journey_customers", "journey_stage_seconds_p50"},
    ("from", "to"): {"journey_moves"},
}  # fmt: skip


def test_every_dimension_of_a_metrics_own_is_always_listed_whole(
    evaluate: Run, tmp_path: Path
) -> None:
    config = tmp_path / "my.toml"
    config.write_text('[networks]\nvalues = ["fedi"]\n[support]\nchannels = ["chat"]\n')
    result = evaluate(
        "events.jsonl", "--at", AT, "--window", "1d/1h", "--by", "persona", "--config", str(config)
    )
    rows = [row for row in json.loads(result.stdout) if row["dimensions"]]
    assert all(row["segment"] == {} for row in rows)
    by = {tuple(row["dimensions"]) for row in rows}
    assert by == set(OWN)
    for names, metrics in OWN.items():
        assert {row["metric"] for row in rows if tuple(row["dimensions"]) == names} == metrics
    labels = {
        metric: [tuple(row["dimensions"].values()) for row in rows if row["metric"] == metric]
        for metric in ("social_interactions", "csat_ratio", "journey_customers", "journey_moves")
    }
    assert labels["social_interactions"] == [("fedi",), ("other",), ("unknown",)]
    assert labels["csat_ratio"] == [("chat",), ("other",), ("unknown",)]
    stages = ["aware", "engaged", "customer", "loyal", "lapsed"]
    assert labels["journey_customers"] == [(stage,) for stage in stages]
    assert len(set(labels["journey_moves"])) == len(labels["journey_moves"]) == 14


def test_by_takes_its_values_from_the_file_sorted(evaluate: Run) -> None:
    result = evaluate("events.jsonl", "--at", AT, "--window", "1d/1h", "--by", "persona")
    segments = [
        row["segment"]["persona"]
        for row in json.loads(result.stdout)
        if row["segment"] and row["metric"] == "visitors"
    ]
    assert segments == ["bargain", "loyal", "other", "unknown"]
    assert value(result, "orders", segment={"persona": "loyal"}) == 1
    assert value(result, "visitors", segment={"persona": "bargain"}) == 1


def test_by_with_a_configuration_takes_the_values_from_there(evaluate: Run, tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('[segments]\npersona = ["loyal"]\nregion = ["north"]\n', encoding="utf-8")
    result = evaluate(
        "events.jsonl", "--at", AT, "--window", "1d/1h", "--by", "persona", "--config", str(config)
    )
    assert value(result, "visitors", segment={"persona": "loyal"}) == 1
    assert value(result, "visitors", segment={"persona": "other"}) == 1


def test_by_a_dimension_of_ones_own_that_the_events_carry(evaluate: Run) -> None:
    asked = ("-", "--at", AT, "--window", "1d/1h", "--by", "tier", "--by", "region")
    events = [{**event, "tier": f"t{place}"} for place, event in enumerate(EVENTS)]
    result = evaluate(*asked, stdin=lines(events))
    assert result.exit_code == 0
    found = [tuple(row["segment"].items()) for row in json.loads(result.stdout)]
    names = list(dict.fromkeys(name for of in found for name, _ in of))
    assert names == ["region", "tier"], "the common ones first"
    assert value(result, "visitors", segment={"tier": "t1"}) == 0, "t0 is newer"
    assert value(result, "visitors", segment={"tier": "t0"}) == 1
    assert value(result, "visitors", segment={"region": "north"}) == 1


def test_by_a_configured_dimension(evaluate: Run, tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('[segments]\ntier = ["gold"]\nregion = ["north"]\n', encoding="utf-8")
    asked = ("-", "--at", AT, "--window", "1d/1h", "--config", str(config))
    tiers = ("gold", "tin", "gold", 7, None)
    events = [{**event, "tier": tier} for event, tier in zip(EVENTS, tiers, strict=True)]
    result = evaluate(*asked, "--by", "region", "--by", "tier", stdin=lines(events))
    assert result.exit_code == 3
    assert result.stderr == "rejected lines: 1 (bad_type 1)\n"
    visitors = {
        tuple(row["segment"].items()): row["value"]
        for row in json.loads(result.stdout)
        if row["metric"] == "visitors"
    }
    assert visitors == {
        (): 2,
        (("tier", "gold"),): 2,
        (("tier", "other"),): 0,
        (("tier", "unknown"),): 0,
        (("region", "north"),): 1,
        (("region", "other"),): 0,
        (("region", "unknown"),): 1,
    }
    result = evaluate(*asked, "--by", "colour", stdin=lines(EVENTS))
    assert result.exit_code == 2
    assert "[segments] has no dimension 'colour'; configured: tier, region" in result.stderr
    result = evaluate(*asked, "--by", "persona", "--metric", "visitors", stdin=lines(EVENTS))
    assert value(result, "visitors", segment={"persona": "other"}) == 2


def test_more_than_64_values_are_cut_and_the_rest_is_other(evaluate: Run) -> None:
    events = [view(i, "2026-02-28T12:00:00Z", region=f"r{i:03}") for i in range(70)]
    result = evaluate(
        "-", "--at", AT, "--window", "1d/1h", "--by", "region", "--metric", "visitors",
        stdin=lines(events),
    )  # fmt: skip
    assert len(json.loads(result.stdout)) == 1 + 64 + 2
    assert value(result, "visitors", segment={"region": "other"}) == 6
    assert "6 more values" in result.stderr


def test_rejected_lines_are_counted_by_reason_and_the_good_ones_still_count(evaluate: Run) -> None:
    bad = b'{"type":\nnot json\n\n{"type":"page_viewed"}\n'
    result = evaluate("-", "--at", AT, "--window", "1d/1h", stdin=lines(EVENTS) + bad)
    assert result.exit_code == 3
    assert value(result, "page_views") == 2
    assert result.stderr == "rejected lines: 3 (missing_field 1, not_json 2)\n"


def test_an_undefined_ratio_is_null_and_never_0(evaluate: Run) -> None:
    result = evaluate("-", "--at", AT, "--window", "1d/1h", stdin=b"")
    assert result.exit_code == 0
    assert value(result, "orders") == 0
    assert value(result, "average_order_value") is None
    assert value(result, "base_customers") is None


def test_a_table_for_people(evaluate: Run) -> None:
    result = evaluate("events.jsonl", "--at", AT, "--window", "1d/1h", "--format", "table")
    assert result.exit_code == 0
    assert "1d/1h until 2026-03-01T00:00:00Z" in result.stdout
    assert "visitor_conversion_ratio" in result.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["events.jsonl"], "--at"),
        (["--at", AT], "FILE"),
        (["none.jsonl", "--at", AT], "none.jsonl: no such file"),
        ([".", "--at", AT], "directory"),
        (["-", "-", "--at", AT], "once"),
        (["events.jsonl", "--at", "yesterday"], "RFC 3339"),
        (["events.jsonl", "--at", "2026-03-01T00:00:00"], "offset"),
        (["events.jsonl", "--at", "2026-03-01"], "RFC 3339"),
        (["events.jsonl", "--at", "1960-01-01T00:00:00Z"], "1971"),
        (["events.jsonl", "--at", AT, "--window", "28d"], "SIZE/HOP"),
        (["events.jsonl", "--at", AT, "--window", "1h/7m"], "multiple"),
        (["events.jsonl", "--at", AT, "--window", "1h/1d"], "exceed"),
        (["events.jsonl", "--at", AT, "--metric", "revenu"], "did you mean revenue"),
        (["events.jsonl", "--at", AT, "--by", "colour"], "no event carries 'colour'"),
        (["events.jsonl", "--at", AT, "--by", "channel"], "a field that events have already"),
        (["events.jsonl", "--at", AT, "--by", "from"], "a label that results have already"),
        (["events.jsonl", "--at", AT, "--format", "xml"], "json"),
    ],
)
def test_unusable_arguments_are_one_line_and_status_2(
    evaluate: Run, arguments: list[str], said: str
) -> None:
    result = evaluate(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "cut.jsonl.zst"])
def test_a_file_that_is_cut_off_is_named(evaluate: Run, tmp_path: Path, name: str) -> None:
    pack = gzip.compress if name.endswith("gz") else zstandard.compress
    (tmp_path / name).write_bytes(pack(lines(EVENTS) * 50)[:60])
    result = evaluate(name, "--at", AT)
    assert result.exit_code == 2
    assert name in result.stderr
    assert result.stderr.count("\n") == 1


CDNOW_FIGURES = {
    "1997-04-01T00:00:00Z": {
        "28d": {
            "buyers": 851, "orders": 1084, "revenue": 39389.15, "base_customers": 987,
            "retained_customers": 157, "churned_customers": 830, "retention_ratio": 157 / 987,
        },
        "7d": {"revenue": 6695.67, "new_buyers": 30, "repeat_orders": 113},
    },
    "1998-07-01T00:00:00Z": {
        "28d": {
            "buyers": 131, "orders": 159, "revenue": 5244.73, "base_customers": 120,
            "retained_customers": 36, "churned_customers": 84, "retention_ratio": 0.3,
        },
        "7d": {"revenue": 992.50, "new_buyers": 0, "repeat_orders": 28},
    },
}  # fmt: skip


def test_the_published_figures_of_cdnow_in_less_than_5_seconds(
    evaluate: Run, tmp_path: Path
) -> None:
    events = list(cdnow_events(CDNOW.read_bytes().splitlines()))
    (tmp_path / "cdnow.jsonl").write_bytes(b"\n".join(events) + b"\n")
    began = time.monotonic()
    ats = [part for at in CDNOW_FIGURES for part in ("--at", at)]
    result = evaluate("cdnow.jsonl", *ats, "--window", "28d/1d", "--window", "7d/1d")
    assert time.monotonic() - began < 5
    assert result.exit_code == 0
    found = {
        (row["at"], row["window"], row["metric"]): row["value"]
        for row in json.loads(result.stdout)
        if not row["segment"] and not row["dimensions"]
    }
    for at, windows in CDNOW_FIGURES.items():
        for window, figures in windows.items():
            assert {metric: found[at, window, metric] for metric in figures} == figures
