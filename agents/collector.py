"""The board as Prometheus gauges.

Label rule: every sample of a metric has the same labels: ``window``, then one label for each
configured segment dimension (``all`` = everyone), then one for each dimension that the metric has
(``all`` = the total). Segments and dimensions never combine, so a by-segment sample has ``all``
everywhere else. ``window`` is the size alone (``5m``); where a configuration holds two windows of
one size it is ``5m/10s`` for these.

Beside a ratio or a mean stand ``_numerator`` and ``_denominator``, beside a proportion ``_low`` and
``_high``. What is undefined is absent: never 0, never NaN. No sample has a timestamp, because an
explicit one switches Prometheus' staleness off.

The collector reads one immutable snapshot, so that a scrape never mixes two ends of a window; the
rendered text is kept until the next snapshot, so that scraping often costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from agents.board import Board, Series, Snapshot, WindowResults
from schemas.records import PublishedResult

EVERYONE = "all"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Exported:
    """How a metric is exported; made from its one declaration in `streams.metrics`."""

    name: str
    help: str
    unit: str = ""
    group: str = ""
    dimensions: tuple[str, ...] = ()
    has_parts: bool = False
    has_interval: bool = False


def window_labels(windows: Iterable[str]) -> dict[str, str]:
    """Window name (``5m/10s``) -> label: its size, unless another window has the same size."""
    names = list(windows)
    sizes = [name.partition("/")[0] for name in names]
    return {
        name: size if sizes.count(size) == 1 else name
        for name, size in zip(names, sizes, strict=True)
    }


class ResultsCollector(Collector):
    """The business gauges of one snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        metrics: Sequence[Exported],
        segment_dimensions: Sequence[str],
        labels_of_windows: Mapping[str, str],
    ) -> None:
        self._snapshot = snapshot
        self._metrics = metrics
        self._segments = tuple(segment_dimensions)
        self._windows = labels_of_windows

    def collect(self) -> Iterator[Metric]:
        """Every series once, metric by metric."""
        by_metric: dict[str, list[tuple[WindowResults, Series, PublishedResult]]] = {}
        for window in self._snapshot.windows.values():
            for series, result in window.results.items():
                # A worker with another configuration may know more; collapsed into fewer labels its
                # series would appear twice.
                if any(name not in self._segments for name, _ in series.segment):
                    continue
                by_metric.setdefault(series.metric, []).append((window, series, result))
        for metric in self._metrics:
            found = by_metric.get(metric.name)
            if found:
                yield from self._families(metric, found)
        yield from self._times()

    def _families(
        self, metric: Exported, found: list[tuple[WindowResults, Series, PublishedResult]]
    ) -> Iterator[Metric]:
        parts = [("", "value", metric.help)]
        if metric.has_parts:
            parts += [
                ("_numerator", "numerator", f"Numerator of {metric.name}."),
                ("_denominator", "denominator", f"Denominator of {metric.name}."),
            ]
        if metric.has_interval:
            parts += [
                ("_low", "low", f"Lower end of the 95 % interval of {metric.name}."),
                ("_high", "high", f"Upper end of the 95 % interval of {metric.name}."),
            ]
        names = ("window", *self._segments, *metric.dimensions)
        labelled = [
            (self._labels(metric, window, series), result)
            for window, series, result in found
            if all(name in metric.dimensions for name, _ in series.dimensions)
        ]
        for suffix, field, text in parts:
            family = GaugeMetricFamily(f"heartline_{metric.name}{suffix}", text, labels=names)
            for labels, result in labelled:
                value = getattr(result, field)
                if value is not None:
                    family.add_metric(labels, value)
            if family.samples:
                yield family

    def _labels(self, metric: Exported, window: WindowResults, series: Series) -> list[str]:
        segment, dimensions = dict(series.segment), dict(series.dimensions)
        return [
            self._windows[window.name],
            *(segment.get(name, EVERYONE) for name in self._segments),
            *(dimensions.get(name, EVERYONE) for name in metric.dimensions),
        ]

    def _times(self) -> Iterator[Metric]:
        ends = GaugeMetricFamily(
            "heartline_result_end_timestamp_seconds",
            "End of the window that is shown, event time.",
            labels=("window",),
        )
        for window in self._snapshot.windows.values():
            ends.add_metric([self._windows[window.name]], window.end_ms / 1000)
        yield ends


class ServeCollector(Collector):
    """What serve itself has read and shown."""

    def __init__(self, board: Board, *, caught_up: bool, records: int, undecodable: int) -> None:
        self._board = board
        self._caught_up = caught_up
        self._records = records
        self._undecodable = undecodable

    def collect(self) -> Iterator[Metric]:
        """Counters of this process; they restart with it."""
        read = CounterMetricFamily(
            "heartline_serve_records", "Records of the results topic that were read."
        )
        read.add_metric([], self._records)
        yield read
        results = CounterMetricFamily(
            "heartline_serve_results", "Results by what became of them.", labels=("outcome",)
        )
        for outcome, count in self._board.outcomes.items():
            results.add_metric([outcome.value], count)
        results.add_metric(["undecodable"], self._undecodable)
        yield results
        given_up = CounterMetricFamily(
            "heartline_serve_given_up_sets",
            "Sets of one window end that never became whole.",
        )
        given_up.add_metric([], self._board.given_up_sets)
        yield given_up
        yield GaugeMetricFamily(
            "heartline_serve_caught_up",
            "1 when the results topic has been read to its end since the start.",
            value=int(self._caught_up),
        )


class Exposition:
    """The text of `/metrics`, rendered once per snapshot."""

    def __init__(
        self,
        metrics: Sequence[Exported],
        segment_dimensions: Sequence[str],
        windows: Iterable[str],
    ) -> None:
        self._metrics = tuple(metrics)
        self._segments = tuple(segment_dimensions)
        self._windows = window_labels(windows)
        self._rendered: tuple[int, bytes] = (-1, b"")

    def business(self, snapshot: Snapshot) -> bytes:
        """The gauges of ``snapshot``."""
        version, text = self._rendered
        if version != snapshot.version:
            text = render(ResultsCollector(snapshot, self._metrics, self._segments, self._windows))
            self._rendered = (snapshot.version, text)
        return text


def render(collector: Collector) -> bytes:
    """Prometheus text (format 0.0.4) of one collector, on a registry of its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
