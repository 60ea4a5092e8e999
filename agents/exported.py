"""How each metric is exported, made from its one declaration in `streams.metrics`."""

from __future__ import annotations

from agents.collector import Exported
from streams.metrics import METRICS, Kind
from streams.segments import OWN_LABELS


def exported_metrics() -> list[Exported]:
    """All metrics, in the order of declaration."""
    return [
        Exported(
            name=metric.name,
            help=metric.help,
            unit=metric.unit.value,
            group=metric.group.value,
            dimensions=() if metric.dimension is None else OWN_LABELS[metric.dimension],
            has_parts=metric.kind is Kind.RATIO,
            has_interval=metric.has_interval,
        )
        for metric in METRICS
    ]
