"""The operational clock: the shape of the day and of the week."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.simulation.rhythm import DAYS, HOURS, WEEK_MS, Rhythm

MONDAY_MS = 1_767_571_200_000
"""2026-01-05T00:00:00Z, a Monday."""
HOUR_MS = 3_600_000


def test_over_a_week_the_intensity_is_one_on_average() -> None:
    rhythm = Rhythm()
    hours = [rhythm.intensity(MONDAY_MS + hour * HOUR_MS) for hour in range(168)]
    assert sum(hours) / 168 == pytest.approx(1.0)


def test_the_epoch_hour_is_mapped_to_monday_midnight() -> None:
    rhythm = Rhythm()
    ratio = rhythm.intensity(MONDAY_MS + 20 * HOUR_MS) / rhythm.intensity(MONDAY_MS)
    assert ratio == pytest.approx(HOURS[20] / HOURS[0])
    sunday_ms = MONDAY_MS + 6 * 24 * HOUR_MS
    ratio = rhythm.intensity(sunday_ms) / rhythm.intensity(MONDAY_MS)
    assert ratio == pytest.approx(DAYS[6] / DAYS[0])


def test_a_place_to_the_east_is_busy_earlier() -> None:
    here, east = Rhythm(), Rhythm(utc_offset_hours=8)
    assert east.intensity(MONDAY_MS) == here.intensity(MONDAY_MS + 8 * HOUR_MS)


@given(
    at_ms=st.integers(0, 4_000_000_000_000), interval_ms=st.floats(0, 10 * WEEK_MS), hours=st.integers(-11, 12)
)  # fmt: skip
def test_later_inverts_the_sum_of_the_intensity(at_ms: int, interval_ms: float, hours: int) -> None:
    rhythm = Rhythm(utc_offset_hours=hours)
    until_ms = rhythm.later(at_ms, interval_ms)
    assert until_ms >= at_ms
    passed = _operational(rhythm, at_ms, until_ms)
    assert passed == pytest.approx(interval_ms, rel=1e-6, abs=5.0)


def _operational(rhythm: Rhythm, start_ms: int, end_ms: int) -> float:
    """The sum of the intensity over ``[start_ms, end_ms)``, whole weeks apart."""
    weeks, rest_ms = divmod(end_ms - start_ms, WEEK_MS)
    total, now_ms, end_ms = float(weeks * WEEK_MS), start_ms, start_ms + rest_ms
    while now_ms < end_ms:
        next_ms = min(end_ms, (now_ms // HOUR_MS + 1) * HOUR_MS)
        total += (next_ms - now_ms) * rhythm.intensity(now_ms)
        now_ms = next_ms
    return total


def test_flat_is_the_real_clock() -> None:
    assert Rhythm(flat=True).later(MONDAY_MS, 12_345.0) == MONDAY_MS + 12_345
