"""How each metric is exported, made from its one declaration in `streams.metrics`."""

from __future__ import annotations

from agents.collector import Exported
from streams.metrics import METRICS, Kind

_GROUPS_BEGIN = {
    "page_views": "Sessions and conversion",
    "orders": "Purchases",
    "active_customers": "Return frequency",
    "base_customers": "Retention and churn",
}
"""The first metric of each group, in the order of declaration: headings of the live page."""


def exported_metrics() -> list[Exported]:
    """All metrics, in the order of declaration."""
    group, found = "", []
    for metric in METRICS:
        group = _GROUPS_BEGIN.get(metric.name, group)
        found.append(
            Exported(
                name=metric.name,
                help=metric.help,
                unit=metric.unit.value,
                group=group,
                dimensions=("channel",) if metric.by_channel else (),
                has_parts=metric.kind is Kind.RATIO,
                has_interval=metric.is_proportion,
            )
        )
    return found
