"""Hopping windows: their text, their validity as a set, and the base pane that serves them all.

A window of size w and hop e is evaluated at every multiple t of e since the epoch and covers ``[t -
w, t)``. All windows of a set share panes, so their hops must nest: each divides the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import pairwise

import msgspec

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MAX_BOUNDARIES = 100_000
"""A window may have at most this many hops: the memory of past counts holds one entry for each."""

_UNITS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_DURATION = re.compile(r"(\d{1,9})([smhd])")


class ConfigurationError(ValueError):
    """The configuration asks for something impossible; the message says what and what would be
    possible.
    """


def duration_ms(text: str) -> int:
    """Milliseconds of ``90s``, ``5m``, ``24h`` or ``28d``. Raises `ConfigurationError`."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        message = f"{text!r} is no duration: write a positive integer and s, m, h or d, such as 5m"
        raise ConfigurationError(message)
    return int(match[1]) * _UNITS[match[2]]


class Window(msgspec.Struct, frozen=True):
    """A hopping window. ``size`` and ``hop`` are the words of the configuration and of every
    result.
    """

    size: str
    hop: str

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read ``SIZE/HOP``, such as ``28d/1h``. Raises `ConfigurationError`."""
        size, slash, hop = text.partition("/")
        if not slash:
            message = f"window {text!r} has no hop: write SIZE/HOP, such as 1h/1m"
            raise ConfigurationError(message)
        window = cls(size, hop)
        if window.size_ms < window.hop_ms:
            message = (
                f"window {text}: the hop can't exceed the size: events would fall between windows"
            )
            raise ConfigurationError(message)
        if window.size_ms % window.hop_ms:
            message = f"window {text}: the size must be a multiple of the hop: windows are made of whole hops"
            raise ConfigurationError(message)
        if window.size_ms // window.hop_ms > MAX_BOUNDARIES:
            message = f"window {text} has more than {MAX_BOUNDARIES} hops: choose a longer hop"
            raise ConfigurationError(message)
        return window

    @property
    def size_ms(self) -> int:
        """The length w in milliseconds."""
        return duration_ms(self.size)

    @property
    def hop_ms(self) -> int:
        """The distance e of two evaluations in milliseconds."""
        return duration_ms(self.hop)

    def __str__(self) -> str:
        """``SIZE/HOP``, as `parse` reads it."""
        return f"{self.size}/{self.hop}"


DEFAULT_WINDOWS = tuple(
    Window.parse(text) for text in ("5m/10s", "1h/1m", "24h/10m", "7d/1h", "30d/6h")
)


class WindowSet(msgspec.Struct, frozen=True):
    """Windows that share panes. Made by `WindowSet.of`, which validates."""

    windows: tuple[Window, ...]
    session_gap_ms: int
    base_ms: int
    """Length of the base pane: the largest divisor of the smallest hop and of a day that is not
    wider than the gap.
    """

    @classmethod
    def of(cls, windows: Iterable[Window], *, session_gap_ms: int = 30 * MINUTE_MS) -> WindowSet:
        """Check that the hops nest and choose the base pane. Raises `ConfigurationError`."""
        unique = tuple(dict.fromkeys(windows))
        if not unique:
            message = "no window is configured: name at least one, such as 1h/1m"
            raise ConfigurationError(message)
        if len({(w.size_ms, w.hop_ms) for w in unique}) < len(unique):
            message = "two windows have the same size and hop: name each once"
            raise ConfigurationError(message)
        by_hop = sorted(unique, key=lambda w: (w.hop_ms, w.size_ms))
        for finer, coarser in pairwise(by_hop):
            if coarser.hop_ms % finer.hop_ms:
                message = (
                    f"the hops of windows {finer} and {coarser} don't nest: each hop must divide the next "
                    "longer one, because longer panes are made of whole shorter ones"
                )
                raise ConfigurationError(message)
        if session_gap_ms < SECOND_MS:
            message = "the session gap must be at least 1s"
            raise ConfigurationError(message)
        common = math.gcd(by_hop[0].hop_ms, DAY_MS)
        return cls(unique, session_gap_ms, _base_pane(common, session_gap_ms))

    @property
    def hops_ms(self) -> tuple[int, ...]:
        """The different hops, shortest first."""
        return tuple(sorted({window.hop_ms for window in self.windows}))


def _base_pane(common_ms: int, session_gap_ms: int) -> int:
    """The largest divisor of ``common_ms`` in whole seconds that does not exceed the gap."""
    seconds = common_ms // SECOND_MS
    limit = session_gap_ms // SECOND_MS
    return SECOND_MS * max(n for n in range(1, min(seconds, limit) + 1) if seconds % n == 0)
