"""Windows: their text, every way in which a configuration is impossible, and the base pane."""

from __future__ import annotations

import pytest

from streams.windows import (
    DAY_MS,
    DEFAULT_WINDOWS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    ConfigurationError,
    Window,
    WindowSet,
    duration_ms,
)


def windows_of(*texts: str, gap_ms: int = 30 * MINUTE_MS) -> WindowSet:
    return WindowSet.of([Window.parse(text) for text in texts], session_gap_ms=gap_ms)


@pytest.mark.parametrize(
    "text, expected_ms",
    [("1s", 1_000), ("90s", 90_000), ("5m", 300_000), ("24h", DAY_MS), ("28d", 28 * DAY_MS)],
)
def test_a_duration_is_an_integer_and_a_unit(text: str, expected_ms: int) -> None:
    assert duration_ms(text) == expected_ms


@pytest.mark.parametrize(
    "text", ["", "5", "m", "0m", "-1m", "1.5h", "5 m", "5M", "1w", "1234567890s"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no duration"):
        duration_ms(text)


def test_a_window_keeps_the_words_of_the_configuration() -> None:
    window = Window.parse("24h/10m")
    assert (window.size, window.hop, str(window)) == ("24h", "10m", "24h/10m")
    assert (window.size_ms, window.hop_ms) == (DAY_MS, 10 * MINUTE_MS)


@pytest.mark.parametrize(
    "text, why",
    [
        ("1h", "has no hop"),
        ("1h/", "is no duration"),
        ("1h/1m/1s", "is no duration"),
        ("1m/1h", "can't exceed the size"),
        ("1h/7m", "multiple of the hop"),
        ("100001s/1s", "more than 100000 hops"),
    ],
)
def test_an_impossible_window_says_why(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Window.parse(text)


def test_a_hop_may_be_as_long_as_the_window_and_a_window_may_have_100_000_hops() -> None:
    assert Window.parse("1h/60m").hop_ms == HOUR_MS
    assert Window.parse("100000s/1s").size_ms == 100_000 * SECOND_MS


def test_a_set_needs_a_window() -> None:
    with pytest.raises(ConfigurationError, match="no window is configured"):
        windows_of()


def test_the_same_window_twice_is_one_and_under_two_names_an_error() -> None:
    assert windows_of("1h/1m", "1h/1m").windows == (Window("1h", "1m"),)
    with pytest.raises(ConfigurationError, match="name each once"):
        windows_of("1h/1m", "60m/60s")


def test_hops_must_nest() -> None:
    assert windows_of("1h/4m", "2h/8m").hops_ms == (4 * MINUTE_MS, 8 * MINUTE_MS)
    with pytest.raises(ConfigurationError, match="1h/4m and 1h/6m don't nest"):
        windows_of("1h/6m", "1h/4m")


def test_sizes_need_not_nest() -> None:
    assert windows_of("7m/1m", "11m/1m", "1h/1m").hops_ms == (MINUTE_MS,)


def test_a_session_gap_of_one_second_is_the_shortest() -> None:
    assert windows_of("1h/1m", gap_ms=SECOND_MS).base_ms == SECOND_MS
    with pytest.raises(ConfigurationError, match="at least 1s"):
        windows_of("1h/1m", gap_ms=SECOND_MS - 1)


@pytest.mark.parametrize(
    "hop, gap_ms, base_ms",
    [
        ("10s", 30 * MINUTE_MS, 10 * SECOND_MS),
        ("30m", 30 * MINUTE_MS, 30 * MINUTE_MS),  # exactly the gap
        ("30m", 30 * MINUTE_MS - 1, 15 * MINUTE_MS),  # no wider than the gap
        ("1h", 30 * MINUTE_MS, 30 * MINUTE_MS),
        ("1d", 30 * MINUTE_MS, 30 * MINUTE_MS),
        ("1d", 7 * MINUTE_MS, 400 * SECOND_MS),
        ("7d", 2 * DAY_MS, DAY_MS),  # active days need panes that divide a day
        ("7s", 30 * MINUTE_MS, SECOND_MS),
        ("14m", 30 * MINUTE_MS, 2 * MINUTE_MS),
        ("1d", SECOND_MS, SECOND_MS),
    ],
)
def test_the_base_pane_is_the_longest_that_divides_hop_and_day_and_is_no_wider_than_the_gap(
    hop: str, gap_ms: int, base_ms: int
) -> None:
    found = windows_of(f"{hop}/{hop}", gap_ms=gap_ms).base_ms
    assert found == base_ms
    assert Window.parse(f"{hop}/{hop}").hop_ms % found == DAY_MS % found == 0
    assert SECOND_MS <= found <= gap_ms


def test_the_default_windows_are_valid_and_share_panes_of_ten_seconds() -> None:
    assert WindowSet.of(DEFAULT_WINDOWS).base_ms == 10 * SECOND_MS
