"""The panes behind a number, by the core itself.

How a window falls apart into panes depends on the metric:

- *sums and distinct customers*: windows that end together and are one step longer each time differ by
  what lies in one step, so the differences add up to the number. Of distinct customers each is in the
  pane of what counts last (the last view, the latest answer).
- *what compares with the window before* (base, retained, churned): by when, in the window before, the
  customers were last seen.
- *levels and returns*: no pane makes them up; what is shown is their course over the boundaries
  before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from agents.explain_question import MAX_PANES, Course, Question, labels_of
from schemas.records import Number, Result
from streams.config import CoreConfig
from streams.evaluate import Evaluated, evaluate
from streams.metrics import BY_NAME, Kind, Metric
from streams.moments import to_text
from streams.sums import Cohort, row_of
from streams.windows import Window

_ACTIVE = BY_NAME["active_customers"]


class Pane(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch ``[start, until)``, or in a `Course.HISTORY` the boundary ``until``.

    ``numerator`` is the value of a count and the number of values of a quantile.
    """

    start: str
    until: str
    numerator: Number | None
    denominator: Number | None


def panes_of(
    config: CoreConfig, question: Question, events: Sequence[Evaluated]
) -> tuple[Result, list[Pane]]:
    """The number, and what its plot shows."""
    metric, at_ms = question.metric, question.at_ms
    if question.course is Course.HISTORY:
        ats = [at_ms - back * question.step_ms for back in range(MAX_PANES)]
        course = _asked(config, question, events, metric, (question.window,), ats)
        history = [course[at, question.window.size_ms] for at in reversed(ats)]
        return history[-1], [boundary(one) for one in history]
    steps = _steps(question)
    if question.course is Course.PANES:
        found = _asked(config, question, events, metric, steps, [at_ms])
        grown = [_parts_of(found[at_ms, window.size_ms]) for window in steps]
        result = found[at_ms, question.window.size_ms]
        return result, _between(question, grown, until_ms=at_ms)
    (result,) = _asked(config, question, events, metric, (question.window,), [at_ms]).values()
    return result, _of_the_base(config, question, events, steps)


def _of_the_base(
    config: CoreConfig, question: Question, events: Sequence[Evaluated], steps: Sequence[Window]
) -> list[Pane]:
    """The base by when it was last seen, and of it those who stayed away since."""
    size_ms, before_ms = question.window.size_ms, question.start_ms
    found = _asked(config, question, events, _ACTIVE, steps, [before_ms])
    base = [int(found[before_ms, window.size_ms].value or 0) for window in steps]
    longer = [_window(size_ms + window.size_ms, question.window) for window in steps]
    own = question.window
    found = _asked(config, question, events, _ACTIVE, (own, *longer), [question.at_ms])
    here = int(found[question.at_ms, size_ms].value or 0)
    gone = [int(found[question.at_ms, window.size_ms].value or 0) - here for window in longer]
    rows = {row_of(Cohort.BASE): base, row_of(Cohort.CHURNED): gone}

    def combined(terms: Iterable[tuple[int, int]]) -> list[int]:
        return [
            sum(factor * rows[row][place] for row, factor in terms) for place in range(len(steps))
        ]

    numerators = combined(question.metric.numerator)
    is_ratio = question.metric.kind is Kind.RATIO
    denominators = combined(question.metric.denominator) if is_ratio else [None] * len(steps)
    grown = list(zip(numerators, denominators, strict=True))
    return _between(question, grown, until_ms=before_ms)


def _asked(
    config: CoreConfig,
    question: Question,
    events: Iterable[Evaluated],
    metric: Metric,
    windows: Sequence[Window],
    ats_ms: Sequence[int],
) -> dict[tuple[int, int], Result]:
    """The results of ``metric`` for the labels that are asked about, by instant and size."""
    windows_of = msgspec.structs.replace(config.windows, windows=tuple(dict.fromkeys(windows)))
    asked = msgspec.structs.replace(config, windows=windows_of)
    sizes = {(window.size, window.hop): window.size_ms for window in windows}
    instants = {to_text(at): at for at in ats_ms}
    return {
        (instants[one.at], sizes[one.window, one.hop]): one
        for one in evaluate(asked, events, ats_ms, metrics=(metric,))
        if labels_of(one) == question.where
    }


def _steps(question: Question) -> list[Window]:
    """Windows one step longer each time, up to the one asked about."""
    size_ms, step_ms = question.window.size_ms, question.step_ms
    return [
        _window(min(reach, size_ms), question.window)
        for reach in range(step_ms, size_ms + step_ms, step_ms)
    ]


def _window(size_ms: int, like: Window) -> Window:
    if size_ms == like.size_ms:
        return like
    return Window(f"{size_ms // 1000}s", like.hop)


def _between(
    question: Question,
    grown: Sequence[tuple[Number | None, Number | None]],
    *,
    until_ms: int,
) -> list[Pane]:
    """The panes between windows that grow into the past from ``until_ms``; oldest first."""
    size_ms, step_ms = question.window.size_ms, question.step_ms
    panes = []
    known: tuple[Number | None, Number | None] = (0, 0)
    for number, parts in enumerate(grown):
        panes.append(
            Pane(
                start=to_text(until_ms - min((number + 1) * step_ms, size_ms)),
                until=to_text(until_ms - number * step_ms),
                numerator=_difference(parts[0], known[0]),
                denominator=_difference(parts[1], known[1]),
            )
        )
        known = parts
    panes.reverse()
    return panes


def _difference(after: Number | None, before: Number | None) -> Number | None:
    if after is None:
        return None
    change = after - (before or 0)
    # Money and seconds are millionths and thousandths in truth.
    return change if isinstance(change, int) else round(change, 6)


def boundary(result: Result) -> Pane:
    """A result as a point of its course."""
    return Pane(start=result.at, until=result.at, numerator=result.value, denominator=None)


def _parts_of(result: Result) -> tuple[Number | None, Number | None]:
    if result.numerator is None and result.denominator is None:
        return (result.value if result.n is None else result.n), None
    return result.numerator, result.denominator
