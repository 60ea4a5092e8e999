"""What each sum is made from: its definition in words, and the event fields that enter it.

The documentation quotes the definitions. The compatibility check of the event schemas asks which
metrics a field touches. Every sum also reads `COMMON`, and whatever is reported by segment reads
`CELL`; those are not repeated.
"""

from __future__ import annotations

import msgspec

from schemas.events import (
    CustomerEvent,
    OrderPlaced,
    OrderRefunded,
    PageViewed,
    SessionEnded,
    SubscriptionCancelled,
)
from streams.metrics import Kind, Metric
from streams.sums import Additive, Cohort, Mark, row_of

COMMON = ("type", "event_id", "customer_id", "occurred_at", "schema_version")
"""Fields that every event is accepted, recognised and placed by."""
CELL = ("persona", "region")
"""Fields that say whose count it is; any event can move a customer to another cell."""

Reads = dict[type[CustomerEvent], tuple[str, ...]]


class Provenance(msgspec.Struct, frozen=True):
    """``what`` is summed, and belongs to the window that holds its ``moment``, where that is not
    simply the time of the event. ``reads`` has the fields beyond the common ones, by type.
    """

    what: str
    moment: str
    reads: Reads


_VIEW: Reads = {PageViewed: ()}
_ORDER: Reads = {OrderPlaced: ()}
_ACTIVITY: Reads = {**_VIEW, **_ORDER}
_START: Reads = {PageViewed: ("session_id", "channel"), SessionEnded: ("session_id",)}

# Three enumerations of integers: their members are equal where their values are, so rows tell them
# apart and no dictionary of members can.
_ADDITIVE = {
    Additive.PAGE_VIEWS: Provenance("page views", "", _VIEW),
    Additive.SESSIONS_STARTED: Provenance("sessions", "first page view", _START),
    Additive.SESSIONS_CLOSED: Provenance("sessions", "closing moment", _START),
    Additive.SESSIONS_CONVERTED: Provenance(
        "sessions with an order", "closing moment", {**_START, **_ORDER}
    ),
    Additive.SESSIONS_BOUNCED: Provenance("sessions with one page view", "closing moment", _START),
    Additive.SESSION_MS: Provenance(
        "milliseconds from first to last page view of sessions", "closing moment", _START
    ),
    Additive.VISIT_INTERVALS: Provenance(
        "pairs of consecutive sessions of a customer", "later start", _START
    ),
    Additive.VISIT_INTERVAL_MS: Provenance(
        "milliseconds between the starts of consecutive sessions", "later start", _START
    ),
    Additive.ORDERS: Provenance("orders", "", _ORDER),
    Additive.REPEAT_ORDERS: Provenance("orders, without each customer's first ever,", "", _ORDER),
    Additive.REVENUE_MICROS: Provenance(
        "order amounts, in millionths of the reporting currency,",
        "",
        {OrderPlaced: ("amount", "currency")},
    ),
    Additive.REFUNDED_MICROS: Provenance(
        "amounts refunded, in millionths of the reporting currency,",
        "",
        {OrderRefunded: ("amount", "currency")},
    ),
    Additive.CANCELLATIONS: Provenance("subscriptions cancelled", "", {SubscriptionCancelled: ()}),
}
_MARK = {
    Mark.ACTIVE: Provenance("customers", "last activity", _ACTIVITY),
    Mark.VISITED: Provenance("customers", "last page view", _VIEW),
    Mark.BOUGHT: Provenance("customers", "last order", _ORDER),
    Mark.VISITED_AND_BOUGHT: Provenance(
        "customers", "earlier of last page view and last order", _ACTIVITY
    ),
    Mark.FIRST_ACTIVE: Provenance("customers", "first activity ever", _ACTIVITY),
    Mark.FIRST_BOUGHT: Provenance("customers", "first order ever", _ORDER),
    Mark.DAY: Provenance("pairs of customer and UTC day", "last activity of that day", _ACTIVITY),
}
_COHORT = {
    Cohort.BASE: Provenance("customers active in `[t - 2w, t - w)`", "", _ACTIVITY),
    Cohort.CHURNED: Provenance(
        "customers active in `[t - 2w, t - w)` and silent in `[t - w, t)`", "", _ACTIVITY
    ),
    Cohort.REACTIVATED: Provenance(
        "customers active in `[t - w, t)` and before `t - 2w`, and silent in between",
        "",
        _ACTIVITY,
    ),
}

PROVENANCE: tuple[Provenance, ...] = (
    *(_ADDITIVE[a] for a in Additive),
    *(_MARK[m] for m in Mark),
    *(_COHORT[c] for c in Cohort),
)
"""By row."""
SUM_NAMES: tuple[str, ...] = tuple(
    member.name.lower() for members in (Additive, Mark, Cohort) for member in members
)
"""By row."""
_DURATIONS_ROW = row_of(Additive.SESSION_MS)
"""The histogram of session durations is made from the same events as their sum."""


def rows_of(metric: Metric) -> tuple[int, ...]:
    """The sums that enter ``metric``, in the order of its formula."""
    if metric.kind is Kind.QUANTILE:
        return (_DURATIONS_ROW,)
    return tuple(dict.fromkeys(row for row, _ in (*metric.numerator, *metric.denominator)))


def reads_of(metric: Metric) -> Reads:
    """The event types that enter ``metric`` and, of each, the fields beyond the common ones."""
    found: Reads = {}
    for row in rows_of(metric):
        for kind, fields in PROVENANCE[row].reads.items():
            # The acquisition channel says where a session is counted, in metrics that tell.
            used = [name for name in fields if metric.by_channel or name != "channel"]
            found[kind] = tuple(dict.fromkeys((*found.get(kind, ()), *used)))
    return found
