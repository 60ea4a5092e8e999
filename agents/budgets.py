"""How much a configuration may make of its dimensions: cells in the engine, series on `/metrics`.

Both grow with the lists of values, cells with their product, series with their sum; a list that is
longer than meant is said before it fills a worker or Prometheus.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING

from streams.metrics import METRICS, Kind
from streams.segments import MAX_CELLS, Own

if TYPE_CHECKING:
    from agents.settings import Settings

_KEYS = {
    Own.CHANNEL: "[channels] values",
    Own.NETWORK: "[networks] values",
    Own.SUPPORT: "[support] channels",
}


def series_of(settings: Settings) -> dict[str, int]:
    """How many business series there can be on `/metrics` at most, by the key of the list of values
    that makes them; under "" those that no list makes. Raises the core's ConfigurationError.
    """
    core = settings.core(keyless=True)
    found: Counter[str] = Counter()
    for metric in METRICS:
        lines = 1 if metric.kind is not Kind.RATIO else 3 + 2 * metric.has_interval
        lines *= len(core.windows.windows)
        found[""] += lines
        for one in core.segments.customer:
            found[f"[segments] {one.name}"] += lines * len(one.values.all)
        if metric.dimension is not None:
            own = len(core.segments.own_values(metric.dimension))
            found[_KEYS.get(metric.dimension, "")] += lines * own
    return dict(found)


def over_budget(settings: Settings) -> list[str]:
    """What the settings make more of than they allow, each as an error."""
    return _cells_over(settings) or _series_over(settings)


def _cells_over(settings: Settings) -> list[str]:
    where, budget = f"{settings.source}: [engine] cell_budget", settings.engine.cell_budget
    if not 1 <= budget <= MAX_CELLS:
        return [f"{where}: is {budget}: allowed: 1 to {MAX_CELLS}"]
    counts = {name: len(values) + 2 for name, values in settings.segments.items()}
    cells = prod(counts.values())
    if cells <= budget:
        return []
    factors = " x ".join(f"{name} {count}" for name, count in counts.items())
    most = max(counts, key=counts.__getitem__)
    return [
        (
            f"{where}: is {budget}, but the customer dimensions make {cells} cells ({factors}, each with "
            f"'other' and 'unknown'), of which [segments] {most} has the most values: shorten a list, "
            "leave out a dimension, or raise the budget"
        )
    ]


def _series_over(settings: Settings) -> list[str]:
    source, budget = settings.source, settings.serve.series_budget
    try:
        parts = series_of(settings)
    except ValueError as error:
        return [f"{source}: [windows], [sessions], [time], [segments]: {error}"]
    series = sum(parts.values())
    if series <= budget:
        return []
    most = max((name for name in parts if name), key=parts.__getitem__)
    return [
        (
            f"{source}: [serve] series_budget: is {budget}, but there would be up to {series} series in "
            f"{len(settings.windows.hopping)} windows, most by {most} ({parts[most]}): shorten a list, "
            "leave out a dimension or a window, or raise the budget"
        )
    ]
