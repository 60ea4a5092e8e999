"""What each sum is made from: its definition in words, and the event fields that enter it.

The documentation quotes the definitions. The compatibility check of the event schemas asks which
metrics a field touches. Every sum also reads `COMMON`, and whatever is reported by segment reads
`CELL`; those are not repeated.
"""

from __future__ import annotations

import msgspec

from schemas.events import (
    COMMON_DIMENSIONS,
    SOURCE_OF,
    CsatAnswered,
    CustomerEvent,
    NpsAnswered,
    OrderPlaced,
    OrderRefunded,
    PageViewed,
    SessionEnded,
    SocialInteracted,
    SubscriptionCancelled,
    TicketOpened,
    TicketReopened,
    TicketReplied,
    TicketResolved,
)
from streams.metrics import Metric
from streams.segments import OWN_LABELS
from streams.sums import Additive, Cohort, Distribution, Mark, Stock, row_of

COMMON = ("type", "event_id", "customer_id", "occurred_at", "schema_version")
"""Fields that every event is accepted, recognised and placed by."""
CELL = COMMON_DIMENSIONS
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
_SOCIAL: Reads = {SocialInteracted: ("action",)}
_NETWORK: Reads = {SocialInteracted: ("action", "network")}
_CSAT: Reads = {CsatAnswered: ("channel",)}
_NPS: Reads = {NpsAnswered: ("score",)}
_OPENING: Reads = {TicketOpened: ("ticket_id", "channel")}
_REPLY: Reads = {TicketOpened: ("ticket_id",), TicketReplied: ("ticket_id",)}
_RESOLUTION: Reads = {
    TicketOpened: ("ticket_id", "channel"),
    TicketReopened: ("ticket_id",),
    TicketResolved: ("ticket_id",),
}
_JOURNEY: Reads = {
    **dict.fromkeys(SOURCE_OF, ()),
    PageViewed: ("session_id",),
    SessionEnded: ("session_id",),
    NpsAnswered: ("score",),
}
_MONEY: Reads = {OrderPlaced: ("amount", "currency"), OrderRefunded: ("amount", "currency")}

# Four enumerations of integers: their members are equal where their values are, so rows tell them
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
    Additive.SOCIAL_INTERACTIONS: Provenance(
        "social interactions other than unlike, unfollow and delete", "", _NETWORK
    ),
    Additive.SOCIAL_WITHDRAWN: Provenance("unlikes, unfollows and deletions", "", _NETWORK),
    Additive.SENTIMENTS: Provenance(
        "social interactions with a sentiment", "", {SocialInteracted: ("action", "sentiment")}
    ),
    Additive.SENTIMENT_MICROS: Provenance(
        "sentiments, each rounded to millionths,",
        "",
        {SocialInteracted: ("action", "sentiment")},
    ),
    Additive.IMPRESSED: Provenance(
        "social interactions with impressions",
        "",
        {SocialInteracted: ("action", "impressions")},
    ),
    Additive.IMPRESSIONS: Provenance(
        "impressions of social interactions", "", {SocialInteracted: ("action", "impressions")}
    ),
    Additive.CSAT_RESPONSES: Provenance("answers after a contact", "", _CSAT),
    Additive.CSAT_SATISFIED: Provenance(
        "answers of 4 or 5 of 5, or 9 or 10 of 10,",
        "",
        {CsatAnswered: ("channel", "score", "scale_max")},
    ),
    Additive.TICKETS_OPENED: Provenance("openings of tickets", "", {TicketOpened: ("channel",)}),
    Additive.TICKETS_RESOLVED: Provenance(
        "resolutions of tickets", "", {**_OPENING, TicketResolved: ("ticket_id",)}
    ),
    Additive.TICKETS_REOPENED: Provenance(
        "reopenings of tickets", "", {**_OPENING, TicketReopened: ("ticket_id",)}
    ),
    Additive.FIRST_REPLIES: Provenance("first replies to known tickets", "", _REPLY),
    Additive.FIRST_REPLY_MS: Provenance(
        "milliseconds from opening to first reply", "reply", _REPLY
    ),
    Additive.RESOLUTIONS: Provenance("resolutions of known, open tickets", "", _RESOLUTION),
    Additive.RESOLUTION_MS: Provenance(
        "milliseconds from opening to resolution", "resolution", _RESOLUTION
    ),
    Additive.JOURNEY_MOVES: Provenance("moves between stages", "moment", _JOURNEY),
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
    Mark.SOCIAL: Provenance("customers", "last social interaction", _SOCIAL),
    Mark.PROMOTER: Provenance("customers with 9 or 10 as latest answer", "time", _NPS),
    Mark.PASSIVE: Provenance("customers with 7 or 8 as latest answer", "time", _NPS),
    Mark.DETRACTOR: Provenance("customers with 0 to 6 as latest answer", "time", _NPS),
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
_STOCK = {
    Stock.OPEN_TICKETS: Provenance("known tickets that are open at `t`", "", _RESOLUTION),
    Stock.CUSTOMERS: Provenance(
        "customers with an event before `t`, by their stage at `t`", "", _JOURNEY
    ),
    Stock.BUYERS_EVER: Provenance("customers with an order before `t`", "", _ORDER),
    Stock.NET_MICROS_EVER: Provenance(
        "amounts of all orders less all refunds before `t`, in millionths of the reporting "
        "currency, of customers with an order before `t`",
        "",
        _MONEY,
    ),
}

PROVENANCE: tuple[Provenance, ...] = (
    *(_ADDITIVE[a] for a in Additive),
    *(_MARK[m] for m in Mark),
    *(_COHORT[c] for c in Cohort),
    *(_STOCK[s] for s in Stock),
)
"""By row."""
SUM_NAMES: tuple[str, ...] = tuple(
    member.name.lower() for members in (Additive, Mark, Cohort, Stock) for member in members
)
"""By row."""
ROW_OF_DISTRIBUTION = {
    Distribution.SESSION: row_of(Additive.SESSION_MS),
    Distribution.FIRST_REPLY: row_of(Additive.FIRST_REPLY_MS),
    Distribution.RESOLUTION: row_of(Additive.RESOLUTION_MS),
    Distribution.STAGE: row_of(Additive.JOURNEY_MOVES),
}
"""A histogram is made from the same events as this sum."""


def rows_of(metric: Metric) -> tuple[int, ...]:
    """The sums that enter ``metric``, in the order of its formula."""
    if metric.distribution is not None:
        return (ROW_OF_DISTRIBUTION[metric.distribution],)
    return tuple(dict.fromkeys(row for row, _ in (*metric.numerator, *metric.denominator)))


def reads_of(metric: Metric) -> Reads:
    """The event types that enter ``metric`` and, of each, the fields beyond the common ones."""
    found: Reads = {}
    own = () if metric.dimension is None else OWN_LABELS[metric.dimension]
    for row in rows_of(metric):
        for kind, fields in PROVENANCE[row].reads.items():
            # These only say at which value of an own dimension it is counted.
            used = [name for name in fields if name in own or name not in {"channel", "network"}]
            found[kind] = tuple(dict.fromkeys((*found.get(kind, ()), *used)))
    return found
