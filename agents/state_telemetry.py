"""The operating metrics of the state: how large it is, what checkpoints cost, how a recovery goes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from agents.engine import Engine


def state_metrics(engine: Engine) -> Iterator[Metric]:
    """All families. Sizes are of the partitions that this worker owns."""
    yield from _sizes(engine)
    yield from _checkpoints(engine)
    progress = engine.ownership.progress
    yield GaugeMetricFamily(
        "heartline_recovery_progress_ratio",
        "How much of the state topic is read of what a takeover has to read; 1 when none goes on.",
        1.0 if progress is None else progress.ratio,
    )
    yield GaugeMetricFamily(
        "heartline_takeover_seconds",
        "How long the last takeover took, from the assignment to the first fetch.",
        engine.takeover_seconds,
    )


def _sizes(engine: Engine) -> Iterator[Metric]:
    figures = [owned.keeper.figures for owned in engine.owned.values()]
    yield GaugeMetricFamily(
        "heartline_customers", "Customers in memory.", sum(f.customers for f in figures)
    )
    yield GaugeMetricFamily(
        "heartline_customers_evicted",
        "Customers silent for so long that only a compact row is left.",
        sum(f.evicted for f in figures),
    )
    yield GaugeMetricFamily(
        "heartline_state_bytes",
        "Bytes of the live chunks in the state topic.",
        sum(f.state_bytes for f in figures),
    )
    yield GaugeMetricFamily(
        "heartline_state_chunks",
        "Live chunks in the state topic.",
        sum(f.chunks for f in figures),
    )


def _checkpoints(engine: Engine) -> Iterator[Metric]:
    figures = engine.checkpoints.figures
    yield HistogramMetricFamily(
        "heartline_checkpoint_seconds",
        "From the first snapshot of a round to the last acknowledgement.",
        buckets=figures.cumulative(),
        sum_value=figures.seconds,
    )
    for name, text, value in (
        (
            "snapshot_seconds",
            "Time in which a checkpoint lets nothing else run.",
            figures.snapshot_seconds,
        ),
        ("written_bytes", "Written to the state topic: chunks and markers.", figures.written_bytes),
        ("changed_bytes", "Of the rows that changed.", figures.changed_bytes),
        ("tombstones", "Superseded records that were buried.", figures.tombstones),
    ):
        yield CounterMetricFamily(f"heartline_checkpoint_{name}", text, value)
    if figures.completed_at is not None:
        yield GaugeMetricFamily(
            "heartline_checkpoint_age_seconds",
            "Since the last round of checkpoints that had something to write was complete.",
            time.monotonic() - figures.completed_at,
        )
