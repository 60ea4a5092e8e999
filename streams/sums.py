"""The sums from which every metric is computed.

A tick reports one integer for each of them and each column. Four kinds stand one behind the other:

- *additive* counters live in panes; a window is the sum of its panes;
- *marks* are moments of a customer (last view, first order, ...) kept in a histogram over time; a
  window is the number of marks that lie in it, and so a number of distinct customers;
- *cohort* figures compare a window with the one before it;
- *stocks* are what is there at the boundary, whatever the window (open tickets, customers in a
  stage).

Beside them stand the *distributions*, histograms of durations in panes.
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
    SOCIAL_INTERACTIONS = 13
    SOCIAL_WITHDRAWN = 14
    SENTIMENTS = 15
    SENTIMENT_MICROS = 16
    IMPRESSED = 17
    """Interactions of which the impressions are given."""
    IMPRESSIONS = 18
    CSAT_RESPONSES = 19
    CSAT_SATISFIED = 20
    TICKETS_OPENED = 21
    TICKETS_RESOLVED = 22
    TICKETS_REOPENED = 23
    FIRST_REPLIES = 24
    FIRST_REPLY_MS = 25
    RESOLUTIONS = 26
    RESOLUTION_MS = 27
    JOURNEY_MOVES = 28


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
    SOCIAL = 7
    """The last social interaction."""
    PROMOTER = 8
    """The latest answer to the NPS question, where it was 9 or 10."""
    PASSIVE = 9
    DETRACTOR = 10


class Cohort(enum.IntEnum):
    """Figures that look back over two windows."""

    BASE = 0
    CHURNED = 1
    REACTIVATED = 2


class Stock(enum.IntEnum):
    """What is there at the boundary. A customer's share goes with them to another cell."""

    OPEN_TICKETS = 0
    CUSTOMERS = 1
    """Everybody ever seen, by stage of the journey."""
    BUYERS_EVER = 2
    NET_MICROS_EVER = 3
    """Orders less refunds of those who ever ordered."""


class Distribution(enum.IntEnum):
    """Histograms of durations, each a value a time in the pane of the later event."""

    SESSION = 0
    FIRST_REPLY = 1
    RESOLUTION = 2
    STAGE = 3


ADDITIVES = len(Additive)
MARKS = len(Mark)
COHORTS = len(Cohort)
STOCKS = len(Stock)
ROWS = ADDITIVES + MARKS + COHORTS + STOCKS
"""Rows of a tick: the additive counters, the marks, the cohort figures, the stocks."""

Sum = Additive | Mark | Cohort | Stock

ENTERED_LATE = frozenset(
    {
        Additive.PAGE_VIEWS,
        Additive.ORDERS,
        Additive.REPEAT_ORDERS,
        Additive.REVENUE_MICROS,
        Additive.REFUNDED_MICROS,
        Additive.CANCELLATIONS,
        Additive.SOCIAL_INTERACTIONS,
        Additive.SOCIAL_WITHDRAWN,
        Additive.SENTIMENTS,
        Additive.SENTIMENT_MICROS,
        Additive.IMPRESSED,
        Additive.IMPRESSIONS,
        Additive.CSAT_RESPONSES,
        Additive.CSAT_SATISFIED,
        Additive.TICKETS_OPENED,
        Additive.TICKETS_RESOLVED,
        Additive.TICKETS_REOPENED,
        Additive.FIRST_REPLIES,
        Additive.FIRST_REPLY_MS,
        Additive.RESOLUTIONS,
        Additive.RESOLUTION_MS,
    }
)
"""The counters that a late event raises in the pane of its own time, closed or not. Sessions are
not split and moves of the journey are made when they are learned, so theirs are not among them.
"""


def row_of(member: Sum) -> int:
    """The row of a sum in a tick."""
    if isinstance(member, Additive):
        return int(member)
    if isinstance(member, Mark):
        return ADDITIVES + int(member)
    if isinstance(member, Cohort):
        return ADDITIVES + MARKS + int(member)
    return ADDITIVES + MARKS + COHORTS + int(member)
