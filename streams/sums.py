"""The sums from which every metric is computed.

A tick reports one integer for each of them and each column. Three kinds stand one behind the other:

- *additive* counters live in panes; a window is the sum of its panes;
- *marks* are moments of a customer (last view, first order, ...) kept in a histogram over time; a
  window is the number of marks that lie in it, and so a number of distinct customers;
- *cohort* figures compare a window with the one before it.
"""

from __future__ import annotations

import enum


class Additive(enum.IntEnum):
    """Counters that an event raises once, in the pane of its own time."""

    PAGE_VIEWS = 0
    SESSIONS_STARTED = 1
    SESSIONS_CLOSED = 2
    SESSIONS_CONVERTED = 3
    SESSIONS_BOUNCED = 4
    SESSION_MS = 5
    VISIT_INTERVALS = 6
    VISIT_INTERVAL_MS = 7
    ORDERS = 8
    REPEAT_ORDERS = 9
    REVENUE_MICROS = 10
    REFUNDED_MICROS = 11
    CANCELLATIONS = 12


class Mark(enum.IntEnum):
    """Moments of a customer that are counted by when they lie."""

    ACTIVE = 0
    """The last activity: distinct active customers."""
    VISITED = 1
    """The last page view."""
    BOUGHT = 2
    """The last order."""
    VISITED_AND_BOUGHT = 3
    """The earlier of the two: in the window exactly when both are."""
    FIRST_ACTIVE = 4
    FIRST_BOUGHT = 5
    DAY = 6
    """The last activity of each UTC day: pairs of customer and day, exact where a window cuts a
    day.
    """


class Cohort(enum.IntEnum):
    """Figures that look back over two windows."""

    BASE = 0
    CHURNED = 1
    REACTIVATED = 2


ADDITIVES = len(Additive)
MARKS = len(Mark)
ROWS = ADDITIVES + MARKS + len(Cohort)
"""Rows of a tick: the additive counters, the marks, the cohort figures."""


def row_of(member: Additive | Mark | Cohort) -> int:
    """The row of a sum in a tick."""
    if isinstance(member, Additive):
        return int(member)
    if isinstance(member, Mark):
        return ADDITIVES + int(member)
    return ADDITIVES + MARKS + int(member)
