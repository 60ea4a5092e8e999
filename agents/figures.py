"""Figures as people read them in a terminal: values with their unit, ages, sparklines."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
_SIZES_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def figure(metric: str, unit: str, value: float | None) -> str:
    """One value; an undefined one is a dash, never 0."""
    if value is None:
        return "—"
    if "_ratio" in metric:
        return f"{value * 100:.{2 if abs(value) < 0.0995 else 1}f} %"
    if unit == "seconds":
        return seconds(value)
    if unit == "currency":
        return f"{value:,.2f}"
    if unit == "ratio":
        return f"{value:,.2f}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def seconds(value: float) -> str:
    """A duration in the two units that matter."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < _MINUTE_S:
        return f"{value:.3g} s"
    if value < _HOUR_S:
        return f"{value // _MINUTE_S:.0f} m {value % _MINUTE_S:02.0f} s"
    if value < 2 * _DAY_S:
        return f"{value // _HOUR_S:.0f} h {value % _HOUR_S / _MINUTE_S:02.0f} m"
    return f"{value / _DAY_S:.1f} d"


def window_ms(size: str) -> int:
    """Milliseconds of a window's size as results write it, such as ``5m``."""
    return int(size[:-1]) * _SIZES_MS[size[-1]]


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The newest ``width`` values between their own minimum and maximum; a gap where undefined."""
    newest = values[-width:]
    known = [value for value in newest if value is not None]
    if not known:
        return " " * width
    low, span = min(known), max(known) - min(known)
    return "".join(
        " "
        if value is None
        else _BARS[round((value - low) / span * (len(_BARS) - 1)) if span else 3]
        for value in newest
    ).rjust(width)
