"""Which number is asked about, and how much has to be known for an answer."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from agents.evaluation import check_dimensions, core_config, values_in
from agents.failures import Unusable
from agents.settings import Settings
from schemas.events import COMMON_DIMENSIONS
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import Evaluated, evaluate
from streams.metrics import Group, Metric, Needs
from streams.provenance import rows_of
from streams.segments import OWN_LABELS
from streams.sums import Additive, Cohort, Mark, Stock, row_of
from streams.windows import DAY_MS, Window

MAX_PANES = 60
_LEVELS = frozenset(row_of(stock) for stock in Stock)
_FROM_THE_BASE = frozenset({row_of(Cohort.BASE), row_of(Cohort.CHURNED)})
_FOR_EVER = frozenset(
    row_of(member)
    for member in (
        Additive.REPEAT_ORDERS,
        Mark.FIRST_ACTIVE,
        Mark.FIRST_BOUGHT,
        Cohort.REACTIVATED,
    )
)
"""What no window holds: whether somebody was ever here before. Tickets and stages too have a past."""


Labels = dict[str, str]


class Course(enum.StrEnum):
    """What the plot shows; the value is its caption."""

    PANES = "by pane: what each stretch of the window adds to the number"
    BASE = "by pane of the window before: when its customers were last seen in it"
    HISTORY = "no pane makes it up: the number at the boundaries before"


@dataclass(frozen=True, slots=True)
class Question:
    """Which number: a metric, a window, its end, and of whom or what (empty for everyone)."""

    metric: Metric
    window: Window
    at_ms: int
    where: Labels

    @property
    def start_ms(self) -> int:
        """Where the window begins."""
        return self.at_ms - self.window.size_ms

    @property
    def looked_at_from_ms(self) -> int:
        """Where what is compared begins: a window earlier if the base is part of it."""
        return self.start_ms - (self.course is Course.BASE) * self.window.size_ms

    @property
    def course(self) -> Course:
        """What its plot can show."""
        rows = set(rows_of(self.metric))
        if is_level(self.metric) or row_of(Cohort.REACTIVATED) in rows:
            return Course.HISTORY
        return Course.BASE if rows & _FROM_THE_BASE else Course.PANES

    @property
    def step_ms(self) -> int:
        """The width of a pane of the plot: whole hops, so that at most `MAX_PANES` are shown."""
        hops = self.window.size_ms // self.window.hop_ms
        least = -(-hops // MAX_PANES)
        # Equal panes where they can be had.
        fitting = next((n for n in range(least, 2 * least) if hops % n == 0), least)
        return fitting * self.window.hop_ms

    @property
    def needed_from_ms(self) -> int | None:
        """The earliest event that the number can depend on; None: the first one ever."""
        remembers = self.metric.group in {Group.SUPPORT, Group.JOURNEY}
        if remembers or is_level(self.metric) or _FOR_EVER & set(rows_of(self.metric)):
            return None
        windows = 2 if self.metric.needs is Needs.TWO_WINDOWS else 1
        # A session that closes in the window may have begun a day before.
        return self.at_ms - windows * self.window.size_ms - DAY_MS


def where_of(texts: Iterable[str]) -> Labels:
    """``--by dimension=value`` as labels. Raises `Unusable`."""
    found: Labels = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise Unusable(f"--by: '{text}' is not DIMENSION=VALUE, such as region=north")
        if name in found:
            raise Unusable(f"--by: {name} is named twice; a number belongs to one value")
        found[name] = value
    return found


def config_for(
    settings: Settings, question: Question, events: Iterable[Evaluated] | None = None
) -> CoreConfig:
    """The core's configuration for a question. A segment's values are those of the ``events``, else
    those of the settings. Raises `Unusable` for a segment or dimension that isn't there.
    """
    by = dimensions_of(settings, question, in_files=events is not None)
    found = None if events is None else {name: values_in(events, name)[0] for name in by}
    config = core_config(settings, (question.window,), by, found)
    known = [
        labels_of(one) for one in evaluate(config, [], [question.at_ms], metrics=(question.metric,))
    ]
    if question.where not in known:
        names = (*settings.segments,) if events is None else COMMON_DIMENSIONS
        names = tuple(dict.fromkeys((*names, *by)))
        raise Unusable(_not_reported(question, known, names))
    return config


def dimensions_of(settings: Settings, question: Question, *, in_files: bool) -> tuple[str, ...]:
    """The customer dimensions among what the question names: those that are configured and the common
    ones; where values are ``in_files``, whatever is no dimension of a metric. Raises `Unusable`.
    """
    known = {*COMMON_DIMENSIONS, *settings.segments}
    own = {label for labels in OWN_LABELS.values() for label in labels}
    found = tuple(
        name for name in question.where if name in known or (in_files and name not in own)
    )
    check_dimensions(found)
    return found


def _not_reported(question: Question, known: list[Labels], names: tuple[str, ...]) -> str:
    metric, where = question.metric.name, question.where
    asked = ", ".join(f"{name}={value}" for name, value in where.items())
    same = [labels for labels in known if labels.keys() == where.keys()]
    if same:
        name = next(iter(where))
        values = list(dict.fromkeys(labels[name] for labels in same))
        close = get_close_matches(where[name], values, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close and len(where) == 1 else ""
        hint = hint or f"known: {'; '.join(','.join(labels.values()) for labels in same)}"
        return f"--by: {metric} is not reported for {asked}; {hint}"
    own = {tuple(labels) for labels in known} - {(), *((name,) for name in names)}
    choices = [*names, *(" with ".join(names) for names in sorted(own))]
    return (
        f"--by: {metric} is not reported by {' and '.join(where)}; it is by {', '.join(choices)} "
        "(one of them, with a value: segments and dimensions never combine)"
    )


def is_level(metric: Metric) -> bool:
    """Whether the number is true now and not of a window."""
    return not _LEVELS.isdisjoint(rows_of(metric))


def labels_of(result: Result) -> Labels:
    """Whose or which number a result is."""
    return result.segment | result.dimensions
