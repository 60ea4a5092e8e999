"""When people are about: the shape of the day and of the week, as a change of clock.

The *operational* clock runs fast in busy hours and slowly at night. A customer's interval is drawn
on it, so the time of the next visit is exact at every scale, minutes or months, with one draw:

    next visit = inverse(operational(now) + interval)

Over any whole week operational and real time advance by the same amount.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from agents.simulation.personas import HOUR_MS

WEEK_HOURS = 7 * 24
WEEK_MS = WEEK_HOURS * HOUR_MS
# 1970-01-01 was a Thursday: the epoch's weeks begin three days after Monday.
EPOCH_HOUR_OF_WEEK = 3 * 24

HOURS = (
    0.35, 0.22, 0.15, 0.12, 0.14, 0.25, 0.50, 0.80, 1.00, 1.10, 1.15, 1.20,
    1.30, 1.25, 1.10, 1.05, 1.10, 1.25, 1.50, 1.85, 2.05, 1.90, 1.30, 0.70,
)  # fmt: skip
"""Activity by local hour of the day, relative."""
DAYS = (0.95, 0.92, 0.94, 0.98, 1.02, 1.10, 1.20)
"""Monday to Sunday, relative."""


class Rhythm:
    """The operational clock of one place. ``flat`` makes it the real one."""

    __slots__ = ("_cumulative", "_flat", "_rates", "_shift_ms")

    def __init__(self, *, utc_offset_hours: int = 0, flat: bool = False) -> None:
        """A place whose local time is UTC + ``utc_offset_hours``."""
        raw = [day * hour for day in DAYS for hour in HOURS]
        mean = sum(raw) / WEEK_HOURS
        self._rates = [value / mean for value in raw]
        self._cumulative = [0.0, *accumulate(rate * HOUR_MS for rate in self._rates)]
        # The last sum is one week but for rounding; the inverse relies on it being exactly that.
        self._cumulative[-1] = float(WEEK_MS)
        self._shift_ms = (EPOCH_HOUR_OF_WEEK + utc_offset_hours) * HOUR_MS
        self._flat = flat

    def intensity(self, at_ms: int) -> float:
        """How fast the operational clock runs at ``at_ms``; 1.0 on average over a week."""
        if self._flat:
            return 1.0
        return self._rates[(at_ms + self._shift_ms) % WEEK_MS // HOUR_MS]

    def later(self, at_ms: int, interval_ms: float) -> int:
        """The moment at which ``interval_ms`` of operational time have passed since ``at_ms``."""
        if self._flat:
            return at_ms + int(interval_ms)
        week, position = divmod(at_ms + self._shift_ms, WEEK_MS)
        hour, rest = divmod(position, HOUR_MS)
        target = self._cumulative[hour] + rest * self._rates[hour] + interval_ms
        weeks, target = divmod(target, WEEK_MS)
        hour = min(bisect_right(self._cumulative, target) - 1, WEEK_HOURS - 1)
        position = hour * HOUR_MS + int((target - self._cumulative[hour]) / self._rates[hour])
        return max((week + int(weeks)) * WEEK_MS + position - self._shift_ms, at_ms)
