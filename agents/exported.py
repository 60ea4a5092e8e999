"""How each metric is exported, made from its one declaration in `streams.metrics`."""

from __future__ import annotations

from agents.collector import Exported
from streams.metrics import METRICS, Kind


def exported_metrics() -> list[Exported]:
    """All metrics, in the order of declaration."""
    return [
        Exported(
            name=metric.name,
            help=metric.help,
            unit=metric.unit.value,
            group=metric.group.value,
            dimensions=("channel",) if metric.by_channel else (),
            has_parts=metric.kind is Kind.RATIO,
            has_interval=metric.is_proportion,
        )
        for metric in METRICS
    ]
