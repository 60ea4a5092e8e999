"""What ``heartline evaluate`` does between its arguments and the core: reading, segments, printing.

The numbers come from `streams.evaluate` alone.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter

import msgspec

from agents.failures import Unusable
from agents.settings import Settings
from schemas.decode import Decoder
from schemas.events import COMMON_DIMENSIONS, CustomerEvent, attribute_of
from schemas.reasons import Rejected
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import Evaluated
from streams.metrics import BY_NAME, METRICS, Metric
from streams.segments import MAX_VALUES, OTHER, UNKNOWN, Dimension, Values
from streams.windows import ConfigurationError, Window, WindowSet


@dataclass(slots=True)
class Reading:
    """The events of the files, and the lines that are none, by reason."""

    events: list[Evaluated] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


def read_events(lines: Iterable[bytes], decoder: Decoder) -> Reading:
    """Decode every line; a rejected one is counted and left out."""
    reading = Reading()
    append, decode = reading.events.append, decoder.decode
    for line in lines:
        try:
            append(decode(line))
        except Rejected as rejected:
            reading.rejected[rejected.reason.value] += 1
    return reading


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the garbage collector: a list of events has no cycles, and each pass walks it all."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def chosen_windows(settings: Settings, texts: tuple[str, ...]) -> tuple[Window, ...]:
    """The windows asked for, else those of the settings. Raises `ConfigurationError`."""
    return tuple(dict.fromkeys(Window.parse(text) for text in texts or settings.windows.hopping))


def chosen_metrics(names: tuple[str, ...]) -> tuple[Metric, ...]:
    """The metrics asked for in the order of their declaration, else all. Raises `Unusable`."""
    for name in names:
        metric_named(name, where="--metric: ")
    return tuple(metric for metric in METRICS if not names or metric.name in names)


def metric_named(name: str, *, where: str = "") -> Metric:
    """The declaration of a metric. Raises `Unusable` with the names that are near."""
    found = BY_NAME.get(name)
    if found is None:
        from difflib import get_close_matches

        close = get_close_matches(name, BY_NAME, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(BY_NAME)}"
        raise Unusable(f"{where}there is no metric '{name}'; {hint}")
    return found


def core_config(
    settings: Settings,
    windows: tuple[Window, ...],
    by: tuple[str, ...],
    found: dict[str, tuple[str, ...]] | None,
) -> CoreConfig:
    """The core's configuration for one evaluation.

    ``by`` names the customer dimensions that are reported, in the order of the configuration, then
    the common ones, then their own. Their values are those ``found`` in the files, or with None the
    configured ones. Unlike a worker's, the windows need not nest: the core evaluates those that don't
    apart.
    """
    configured = settings.core(keyless=True)
    segments = configured.segments
    ordered = dict.fromkeys((*(segments.names if found is None else ()), *COMMON_DIMENSIONS, *by))
    customer = tuple(
        Dimension(
            name, (segments.values_of(name) or Values()) if found is None else Values(found[name])
        )
        for name in ordered
        if name in by
    )
    return msgspec.structs.replace(
        configured,
        windows=WindowSet(windows, settings.sessions.gap_ms, configured.windows.base_ms),
        segments=msgspec.structs.replace(segments, customer=customer),
    )


def check_dimensions(names: Iterable[str], known: Collection[str] | None = None) -> None:
    """Names of customer dimensions that can be asked about: the ``known`` or common ones, or with
    None any that events may carry. Raises `Unusable`.
    """
    for name in names:
        try:
            Dimension(name)
        except ConfigurationError as error:
            raise Unusable(f"--by: {error}") from None
        if known is not None and name not in {*known, *COMMON_DIMENSIONS}:
            configured = ", ".join(known) or "none"
            raise Unusable(f"--by: [segments] has no dimension {name!r}; configured: {configured}")


def values_in(events: Iterable[Evaluated], dimension: str) -> tuple[tuple[str, ...], int]:
    """The values of ``dimension`` in the events, sorted, at most 64, and how many are left out.

    Those left out count as ``other``, as does a value that is called so. Raises `Unusable` if no event
    carries a dimension of one's own: its name is misspelt.
    """
    value_of = attrgetter(attribute_of(dimension))
    found = {value_of(event) for _, event, _ in events if isinstance(event, CustomerEvent)}
    if dimension not in COMMON_DIMENSIONS and found <= {None}:
        raise Unusable(
            f"--by: no event carries {dimension!r}: it is no customer dimension here, as "
            f"{' and '.join(COMMON_DIMENSIONS)} are of all events"
        )
    named = sorted(value for value in found if value is not None and value not in {OTHER, UNKNOWN})
    return tuple(named[:MAX_VALUES]), max(0, len(named) - MAX_VALUES)


def to_json(results: list[Result]) -> bytes:
    """One array, an object a line; equal results are equal bytes."""
    if not results:
        return b"[]\n"
    return b"[\n" + b",\n".join(msgspec.json.encode(result) for result in results) + b"\n]\n"
