"""A whole file of events at chosen instants: their hops, their order, and windows that share no panes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from schemas.decode import Decoder
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import Evaluated, check_instants, evaluate
from streams.metrics import BY_NAME, METRICS
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, ConfigurationError, Window, WindowSet
from tests.rig.hand import order, view

T0 = 20_000 * DAY_MS
NESTED = CoreConfig(windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("6h/1h")]))


def decoded(*events: dict[str, Any]) -> list[Evaluated]:
    decode = Decoder().decode
    return [decode(json.dumps(event).encode()) for event in events]


HISTORY = decoded(
    *(view(f"c{n % 5}", T0 + n * 11 * MINUTE_MS, f"v{n}") for n in range(60)),
    *(order(f"c{n % 4}", T0 + n * 37 * MINUTE_MS, f"o{n}") for n in range(20)),
)


def apart(*windows: str) -> CoreConfig:
    """A configuration whose windows need not nest: only a file can be evaluated with it."""
    parsed = tuple(Window.parse(text) for text in windows)
    return CoreConfig(windows=msgspec.structs.replace(NESTED.windows, windows=parsed))


def figures(results: list[Result], metric: str) -> list[tuple[str, str, int | float | None]]:
    return [
        (one.at, one.window, one.value)
        for one in results
        if one.metric == metric and not one.segment and not one.dimensions
    ]


def test_an_instant_off_a_hop_names_the_nearest_two() -> None:
    windows = [Window.parse("1h/10m"), Window.parse("6h/1h")]
    check_instants([T0, T0 + HOUR_MS], windows)
    with pytest.raises(ConfigurationError) as caught:
        check_instants([T0, T0 + 10 * MINUTE_MS], windows)
    assert str(caught.value) == (
        "--at 2024-10-04T00:10:00Z is no boundary of window 6h/1h: the nearest are "
        "2024-10-04T00:00:00Z and 2024-10-04T01:00:00Z"
    )
    with pytest.raises(ConfigurationError):
        evaluate(NESTED, HISTORY, [T0 + 1])


def test_results_come_by_instant_as_asked_for_then_by_window() -> None:
    ats = [T0 + 3 * HOUR_MS, T0 + HOUR_MS, T0 + 3 * HOUR_MS]
    found = figures(evaluate(NESTED, HISTORY, ats), "page_views")
    assert [(at, window) for at, window, _ in found] == [
        ("2024-10-04T03:00:00Z", "1h"),
        ("2024-10-04T03:00:00Z", "6h"),
        ("2024-10-04T01:00:00Z", "1h"),
        ("2024-10-04T01:00:00Z", "6h"),
        ("2024-10-04T03:00:00Z", "1h"),
        ("2024-10-04T03:00:00Z", "6h"),
    ]
    assert found[0] == found[4]


def test_an_earlier_instant_does_not_see_what_comes_after_it() -> None:
    first = T0 + HOUR_MS
    alone = evaluate(NESTED, HISTORY, [first])
    assert evaluate(NESTED, HISTORY, [first, T0 + 9 * HOUR_MS])[: len(alone)] == alone
    before = [one for one in HISTORY if one[0] < first]
    assert evaluate(NESTED, before, [first]) == alone


def test_the_order_of_the_lines_does_not_matter() -> None:
    ats = [T0 + 5 * HOUR_MS]
    assert evaluate(NESTED, HISTORY[::-1], ats) == evaluate(NESTED, HISTORY, ats)


def test_windows_whose_hops_do_not_nest_are_evaluated_apart_and_give_the_same() -> None:
    at = T0 + 6 * HOUR_MS
    texts = ("2h/8m", "6h/12m", "4h/24m", "6h/1h")
    together = evaluate(apart(*texts), HISTORY, [at])
    alone = [result for text in texts for result in evaluate(apart(text), HISTORY, [at])]
    assert together == alone


def test_control_records_in_a_file_mean_nothing() -> None:
    control = decoded({"type": "time_passed", "until": T0 + DAY_MS})
    ats = [T0 + HOUR_MS]
    assert evaluate(NESTED, [*control, *HISTORY], ats) == evaluate(NESTED, HISTORY, ats)


def test_of_no_events_at_all_counts_are_zero_and_nothing_is_complete() -> None:
    results = evaluate(NESTED, [], [T0])
    assert figures(results, "orders") == [
        ("2024-10-04T00:00:00Z", "1h", 0),
        ("2024-10-04T00:00:00Z", "6h", 0),
    ]
    assert not any(one.complete for one in results)


def test_only_the_metrics_that_are_asked_for_are_computed() -> None:
    wanted = (BY_NAME["visitors"], BY_NAME["orders"])
    found = evaluate(NESTED, HISTORY, [T0 + HOUR_MS], metrics=wanted)
    everything = evaluate(NESTED, HISTORY, [T0 + HOUR_MS], metrics=METRICS)
    assert {one.metric for one in found} == {"visitors", "orders"}
    assert [one for one in everything if one in found] == found


@pytest.mark.parametrize("silence_ms, counted", [(DAY_MS, 1), (DAY_MS + 1, 2)])
def test_event_ids_are_forgotten_in_the_middle_of_a_history(silence_ms: int, counted: int) -> None:
    history = decoded(
        view("c", T0, "same"),
        *(view("others", T0 + n, f"v{n}") for n in range(100)),
        view("c", T0 + silence_ms, "another"),
        view("c", T0 + DAY_MS + HOUR_MS, "same"),
    )
    config = CoreConfig(windows=WindowSet.of([Window.parse("7d/1h")]))
    # What comes before the first instant is folded at once, and the rest after it.
    ats = [T0 + DAY_MS + HOUR_MS, T0 + DAY_MS + 2 * HOUR_MS]
    _, (*_, views) = figures(evaluate(config, history, ats), "page_views")
    assert views == 100 + 1 + counted
