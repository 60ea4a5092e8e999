"""Figures, sparklines and the terminal picture: nothing undefined is ever shown as 0."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console, RenderableType

from agents.figures import figure, seconds, sparkline
from agents.tail import Filters, result_line
from agents.terminal import account_table, draw


@pytest.mark.parametrize(
    "metric,unit,value,shown",
    [
        ("orders", "count", 1234, "1,234"),
        ("orders", "count", None, "—"),
        ("revenue", "currency", 17058.5, "17,058.50"),
        ("churn_ratio", "ratio", 0.0994, "9.94 %"),
        ("churn_ratio", "ratio", 0.1, "10.0 %"),
        ("churn_ratio", "ratio", 1.0, "100.0 %"),
        ("return_frequency", "ratio", 1, "1.00"),
        ("session_duration_seconds", "seconds", 59.94, "59.9 s"),
        ("session_duration_seconds", "seconds", 60, "1 m 00 s"),
    ],
)
def test_a_figure_carries_its_unit(metric: str, unit: str, value: float | None, shown: str) -> None:
    assert figure(metric, unit, value) == shown


@pytest.mark.parametrize(
    "value,shown",
    [(0.5, "500 ms"), (3_599, "59 m 59 s"), (3_600, "1 h 00 m"), (172_800, "2.0 d")],
)
def test_a_duration_has_the_units_that_matter(value: float, shown: str) -> None:
    assert seconds(value) == shown


def test_a_sparkline_spans_its_own_range_and_leaves_gaps() -> None:
    assert sparkline([0, None, 7], 5) == "  ▁ █"
    assert sparkline([3, 3], 2) == "▄▄"
    assert sparkline([None], 3) == "   "
    assert sparkline([9, 0, 1], 2) == "▁█"


def result(metric: str, value: float | None, *, complete: bool = True) -> dict[str, Any]:
    """A total as the API gives it."""
    return {
        "metric": metric,
        "window": "5m",
        "hop": "10s",
        "at": "2026-03-01T00:00:00Z",
        "segment": {},
        "dimensions": {},
        "value": value,
        "numerator": None,
        "denominator": None,
        "n": None,
        "low": None,
        "high": None,
        "complete": complete,
        "revision": 1,
        "missing_partitions": 0,
        "history": [[300_000, value, None, None]],
    }


def documents(*results: dict[str, Any], stale: bool = False) -> tuple[dict[str, Any], ...]:
    """Status and results."""
    window = {
        "name": "5m/10s",
        "window": "5m",
        "hop": "10s",
        "end_ms": 300_000,
        "shown_at_ms": 301_000,
        "is_stale": stale,
    }
    status = {
        "trouble": None,
        "metrics": [{"name": "orders", "unit": "count"}, {"name": "churn_ratio", "unit": "ratio"}],
        "windows": [window, {"name": "1h/1m", "window": "1h", "hop": "1m", "end_ms": None}],
    }
    shown = {"now_ms": 361_000, "windows": [window] if results else [], "results": list(results)}
    return status, shown


def printed(picture: RenderableType, width: int = 130) -> str:
    """What a terminal of this width shows."""
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(picture)
    return captured.get()


@pytest.mark.parametrize("width", [72, 80, 104, 160])
def test_the_picture_fits_and_tells_warming_up_from_undefined(width: int) -> None:
    status, results = documents(
        result("orders", 1234), result("churn_ratio", None, complete=False), stale=True
    )
    text = printed(draw(status, results, "5m/10s", width=width), width)
    assert "1,234" in text
    assert "warming up" in text
    assert "stale: nothing new for 1 m 00 s" in text
    assert "1970-01-01 00:05:00 UTC" in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_an_empty_board_says_what_it_waits_for() -> None:
    status, results = documents()
    assert "waiting for the first whole result" in printed(
        draw(status, results, "5m/10s", width=80), 80
    )
    status["trouble"] = "no Kafka answers"
    assert "no Kafka answers" in printed(draw(status, results, "5m/10s", width=80), 80)


def test_the_account_adds_up_over_inputs() -> None:
    accounts = {
        "heartline.sessions": {"consumed": 5, "folded": 4, "late_counted": 1},
        "heartline.purchases": {"consumed": 2, "folded": 2, "late_counted": 0},
    }
    text = printed(account_table(accounts, ("consumed", "folded", "late_counted")), 80)
    assert "of them late" in text
    assert [line.split() for line in text.splitlines() if "consumed" in line] == [
        ["│", "consumed", "│", "5", "│", "2", "│", "7", "│"]
    ]


def test_filters_of_tail() -> None:
    total, loyal = result("orders", 1), result("orders", 1) | {"segment": {"persona": "loyal"}}
    assert Filters().lets_through({"anything": 1})
    assert Filters(metrics=frozenset({"orders"})).lets_through(total)
    assert not Filters(metrics=frozenset({"buyers"})).lets_through(total)
    assert Filters(windows=frozenset({"5m"})).lets_through(total)
    assert Filters(windows=frozenset({"5m/10s"})).lets_through(total)
    assert not Filters(windows=frozenset({"5m/1s"})).lets_through(total)
    assert Filters(segment="everyone").lets_through(total)
    assert not Filters(segment="everyone").lets_through(loyal)
    assert Filters(segment="persona=loyal").lets_through(loyal)


def test_a_line_of_tail_names_what_is_unusual() -> None:
    unusual = result("orders", None, complete=False) | {"revision": 3, "missing_partitions": 2}
    line = result_line(unusual, {})
    assert "—" in line
    assert "revision 3, 2 partitions missing, warming up" in line
    assert result_line(result("orders", 5), {"orders": "count"}).endswith(" 5")
