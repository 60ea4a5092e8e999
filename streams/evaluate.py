"""``heartline evaluate``: a complete file of events through the same core (DESIGN.md 6.1).

The file is complete, so nothing is late: events are folded in event-time order, and time moves on
to each instant in turn, so that sessions and timers that fall due by then do. An event at or after
an instant does not count for it. A customer who is forgotten in the file is so at that time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from schemas.events import SOURCE_OF, CustomerForgotten, Event, TimePassed
from schemas.records import Result
from schemas.topics import Source
from streams.admission import ORDER_BITS
from streams.arrivals import NO_ATTRIBUTES, Arrival, Door
from streams.config import CoreConfig
from streams.forgetting import fold_and_forget, is_forgetting
from streams.metrics import METRICS, Metric, WindowTotals, results_of
from streams.moments import to_text
from streams.state import State
from streams.windows import ConfigurationError, Window, WindowSet

Evaluated = tuple[int, Event, int]
"""Event time in milliseconds, event, amount in millionths: what `schemas.decode.Decoder.decode`
returns.
"""


def check_instants(ats_ms: Iterable[int], windows: Iterable[Window]) -> None:
    """Every instant must lie on every hop. Raises `ConfigurationError` that names the nearest
    two.
    """
    for at in ats_ms:
        for window in windows:
            if at % window.hop_ms:
                before = at // window.hop_ms * window.hop_ms
                message = (
                    f"--at {to_text(at)} is no boundary of window {window}: the nearest are "
                    f"{to_text(before)} and {to_text(before + window.hop_ms)}"
                )
                raise ConfigurationError(message)


def evaluate(
    config: CoreConfig,
    events: Iterable[Evaluated],
    ats_ms: Sequence[int],
    *,
    metrics: tuple[Metric, ...] = METRICS,
) -> list[Result]:
    """The results of ``config``'s windows at each instant: by instant, window, metric, column.

    ``events`` may come in any order; ties keep their order within one input. Windows whose hops
    don't nest are evaluated apart. Raises `ConfigurationError` for an instant off a hop.
    """
    check_instants(ats_ms, config.windows.windows)
    door = Door(config.segments)
    arrivals: list[Arrival] = [
        _forgetting(one[1], one[0], line)
        if isinstance(one[1], CustomerForgotten)
        else door.arrival_of(one, SOURCE_OF[one[1].kind] << ORDER_BITS | line, one[0])
        for line, one in enumerate(events)
        if one[1].kind is not TimePassed
    ]
    arrivals.sort()
    found: dict[tuple[int, Window], list[Result]] = {}
    for windows in _nesting(config.windows.windows):
        part = msgspec.structs.replace(
            config,
            windows=WindowSet.of(windows, session_gap_ms=config.windows.session_gap_ms),
        )
        _evaluate_nested(part, arrivals, ats_ms, metrics, found)
    return [
        result for at in ats_ms for window in config.windows.windows for result in found[at, window]
    ]


def _evaluate_nested(
    config: CoreConfig,
    arrivals: list[Arrival],
    ats_ms: Sequence[int],
    metrics: tuple[Metric, ...],
    found: dict[tuple[int, Window], list[Result]],
) -> None:
    state = State(config)
    fold = fold_and_forget if any(map(is_forgetting, arrivals)) else State.fold
    folded = 0
    for at in sorted(set(ats_ms)):
        upto = folded
        while upto < len(arrivals) and arrivals[upto][0] < at:
            upto += 1
        fold(state, arrivals[folded:upto])
        folded = upto
        state.timeline.advance(at)
        for index, window in enumerate(config.windows.windows):
            found[at, window] = results_of(totals_of(state, config, index, at), config, metrics)


def _forgetting(event: CustomerForgotten, at_ms: int, line: int) -> Arrival:
    order = Source.SESSIONS << ORDER_BITS | line
    return at_ms, order, event, 0, at_ms, event.customer_id, b"", NO_ATTRIBUTES


def totals_of(state: State, config: CoreConfig, index: int, at_ms: int) -> WindowTotals:
    """One partition's window at a boundary that its time has reached."""
    window, timeline = config.windows.windows[index], state.timeline
    is_started = timeline.observed_from_ms is not None
    report = timeline.report(index) if is_started else timeline.empty_report(index)
    return WindowTotals(
        window=window.size,
        hop=window.hop,
        size_ms=window.size_ms,
        end_ms=at_ms,
        at=to_text(at_ms),
        sums=report.sums,
        durations=report.durations,
        observed_from_ms=timeline.observed_from_ms,
    )


def _nesting(windows: Sequence[Window]) -> list[list[Window]]:
    """Split windows into few groups whose hops nest."""
    groups: list[list[Window]] = []
    for window in sorted(windows, key=lambda w: w.hop_ms):
        for group in groups:
            if window.hop_ms % group[-1].hop_ms == 0:
                group.append(window)
                break
        else:
            groups.append([window])
    return groups
