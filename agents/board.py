"""The board: for every window the newest whole set of results, and the points before it.

Rules (everything that decides what `heartline serve` shows is in this file):

1. Only results of the configured windows are taken; others are counted as `NOT_CONFIGURED` (a
   results topic remembers a former configuration for days).
2. Every result says how many belong to its tick (``results_in_tick``). A set of one window end is
   *whole* when as many distinct series as its largest tick has have arrived, each with no missing
   partition. Distinct series over all revisions are counted, not results of one revision:
   compaction may have taken the superseded ones.
3. Only a whole set is shown, so that nobody ever sees two ends of one window mixed. While the next
   one is arriving, the last whole one stays. What is shown never goes back to an earlier end.
4. Of one series and end the highest revision counts, in whatever order revisions arrive. A
   correction of the shown end appears at the next `publish`, that of an earlier end in its history.
5. A result with missing partitions shows nothing, it only says how large the set has to be.
6. Nothing grows without bound: `UNFINISHED_ENDS` unfinished sets a window (beyond it the oldest is
   given up and counted), and ``history`` points a series.

The board is plain memory with one writer. `publish` hands out a `Snapshot` that never changes.
"""

from __future__ import annotations

import enum
import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from schemas.records import PublishedResult

UNFINISHED_ENDS = 64
HISTORY_POINTS = 200

Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """What one result measures, apart from its window and its time."""

    metric: str
    segment: Labels = ()
    dimensions: Labels = ()


class Outcome(enum.StrEnum):
    """What became of a result."""

    TAKEN = "taken"
    CORRECTION = "correction"
    SUPERSEDED = "superseded"
    MISSING_PARTITIONS = "missing_partitions"
    NOT_CONFIGURED = "not_configured"


class Point(NamedTuple):
    """One end of one series: NaN stands for an undefined value."""

    end_ms: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """All series of a window at one end, each at its position; a later series has none yet."""

    end_ms: int
    values: array[float]
    lows: array[float]
    highs: array[float]


@dataclass(frozen=True, slots=True)
class WindowResults:
    """One window as it is shown: every result has the end ``end_ms``."""

    window: str
    hop: str
    end_ms: int
    watermark_ms: int
    results: Mapping[Series, PublishedResult]
    positions: Mapping[Series, int]
    history: tuple[HistoryRow, ...]

    @property
    def name(self) -> str:
        """The window as it is configured, ``5m/10s``."""
        return f"{self.window}/{self.hop}"

    def points(self, series: Series, limit: int) -> list[Point]:
        """The newest ``limit`` points of a series, oldest first."""
        at = self.positions[series]
        rows = self.history[-limit:] if limit > 0 else ()
        return [
            Point(row.end_ms, row.values[at], row.lows[at], row.highs[at])
            for row in rows
            if at < len(row.values)
        ]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is shown at one moment, by window name (``5m/10s``). Never changes."""

    version: int
    windows: Mapping[str, WindowResults]


@dataclass(slots=True)
class _Arriving:
    """A set that isn't whole yet."""

    size: int = 0
    results: dict[Series, PublishedResult] = field(default_factory=dict)


@dataclass(slots=True)
class _Window:
    """A window's sets: the shown one and those that are still arriving."""

    positions: dict[Series, int] = field(default_factory=dict)
    shown_end_ms: int = -1
    shown: dict[Series, PublishedResult] = field(default_factory=dict)
    arriving: dict[int, _Arriving] = field(default_factory=dict)
    # Past points with their revisions, so that a stale correction can't undo a newer one.
    history: list[HistoryRow] = field(default_factory=list)
    revisions: dict[int, array[int]] = field(default_factory=dict)


def series_of(result: PublishedResult) -> Series:
    """The series of a result."""
    return Series(
        result.metric,
        tuple(sorted(result.segment.items())),
        tuple(sorted(result.dimensions.items())),
    )


class Board:
    """Takes results one by one, shows whole sets only."""

    def __init__(self, windows: Iterable[str], *, history: int = HISTORY_POINTS) -> None:
        """``windows``: the configured ones by name (``5m/10s``)."""
        self._history = history
        self._windows = {name: _Window() for name in windows}
        self._changed: set[str] = set()
        self._snapshot = Snapshot(0, MappingProxyType({}))
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.given_up_sets = 0

    @property
    def snapshot(self) -> Snapshot:
        """What was last published."""
        return self._snapshot

    def take(self, result: PublishedResult) -> Outcome:
        """Take one result; nothing is shown before `publish`."""
        outcome = self._take(result)
        self.outcomes[outcome] += 1
        return outcome

    def _take(self, result: PublishedResult) -> Outcome:
        name = f"{result.window}/{result.hop}"
        window = self._windows.get(name)
        if window is None:
            return Outcome.NOT_CONFIGURED
        if result.end_ms in window.revisions:
            if result.missing_partitions:
                return Outcome.MISSING_PARTITIONS
            return self._correct(window, name, result)
        arriving = window.arriving.setdefault(result.end_ms, _Arriving())
        arriving.size = max(arriving.size, result.results_in_tick)
        outcome = Outcome.MISSING_PARTITIONS
        if not result.missing_partitions:
            series = series_of(result)
            known = arriving.results.get(series)
            if known is not None and result.revision <= known.revision:
                return Outcome.SUPERSEDED
            arriving.results[series] = result
            outcome = Outcome.TAKEN
        if len(arriving.results) >= arriving.size:
            self._finish(window, name, result.end_ms)
        elif len(window.arriving) > UNFINISHED_ENDS:
            del window.arriving[min(window.arriving)]
            self.given_up_sets += 1
        return outcome

    def _finish(self, window: _Window, name: str, end_ms: int) -> None:
        """The set of ``end_ms`` is whole: into the history, and shown if it is the newest."""
        results = window.arriving.pop(end_ms).results
        for series in results:
            window.positions.setdefault(series, len(window.positions))
        ordered = [results.get(series) for series in window.positions]
        row = HistoryRow(
            end_ms,
            array("d", (_number(one.value if one else None) for one in ordered)),
            array("d", (_number(one.low if one else None) for one in ordered)),
            array("d", (_number(one.high if one else None) for one in ordered)),
        )
        insort(window.history, row, key=lambda one: one.end_ms)
        window.revisions[end_ms] = array("q", (one.revision if one else -1 for one in ordered))
        if end_ms > window.shown_end_ms:
            window.shown_end_ms, window.shown = end_ms, results
        while len(window.history) > max(self._history, 1):
            del window.revisions[window.history.pop(0).end_ms]
        self._changed.add(name)

    def _correct(self, window: _Window, name: str, result: PublishedResult) -> Outcome:
        """Replace one result of a whole set unless it has this revision or a higher one."""
        series, revisions = series_of(result), window.revisions[result.end_ms]
        at = window.positions.get(series)
        if at is None or at >= len(revisions) or result.revision <= revisions[at]:
            return Outcome.SUPERSEDED
        revisions[at] = result.revision
        place = bisect_left(window.history, result.end_ms, key=lambda row: row.end_ms)
        row = window.history[place]
        # A published snapshot holds the old row: it gets a new one, the old one stays as it is.
        window.history[place] = HistoryRow(
            row.end_ms,
            _with(row.values, at, result.value),
            _with(row.lows, at, result.low),
            _with(row.highs, at, result.high),
        )
        if result.end_ms == window.shown_end_ms:
            window.shown[series] = result
        self._changed.add(name)
        return Outcome.CORRECTION

    def publish(self) -> Snapshot:
        """Show what was taken since: a new snapshot, or the same one if nothing changed."""
        if not self._changed:
            return self._snapshot
        windows = dict(self._snapshot.windows)
        for name in self._changed:
            window = self._windows[name]
            size, _, hop = name.partition("/")
            results = dict(window.shown)
            windows[name] = WindowResults(
                window=size,
                hop=hop,
                end_ms=window.shown_end_ms,
                watermark_ms=min(result.watermark_ms for result in results.values()),
                results=MappingProxyType(results),
                positions=MappingProxyType(dict(window.positions)),
                history=tuple(window.history),
            )
        self._changed.clear()
        ordered = {name: windows[name] for name in self._windows if name in windows}
        self._snapshot = Snapshot(self._snapshot.version + 1, MappingProxyType(ordered))
        return self._snapshot

    def unfinished(self, name: str) -> tuple[int, int, int] | None:
        """The newest set that isn't whole: (end_ms, series that arrived, series it has)."""
        arriving = self._windows[name].arriving
        if not arriving:
            return None
        newest = max(arriving)
        return newest, len(arriving[newest].results), arriving[newest].size

    @property
    def names(self) -> tuple[str, ...]:
        """The configured windows, in the order of the configuration."""
        return tuple(self._windows)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _with(values: array[float], at: int, value: float | None) -> array[float]:
    changed = array("d", values)
    changed[at] = _number(value)
    return changed
