"""The events of METRICS.md 1 as typed structs, one a ``type``.

A struct holds what came over the wire, already validated for type and range. Event time and money
need one more step (an offset to apply, a rate to convert by); `schemas.decode` returns them beside
the event, so that nothing past the decoder looks at ``occurred_at`` or ``amount`` again.

A configuration may name customer dimensions of its own. Its events are of subclasses with a field for
each (`event_types`), and say by ``kind`` which of the types here they are.

The structs are untracked by the garbage collector (``gc=False``): they hold only atoms, and a
worker makes a hundred thousand of them a second.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.topics import Source

LONGEST_ID = 128
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
Moment = int | Annotated[datetime.datetime, Meta(tz=True)]
"""RFC 3339 with an offset, or integer milliseconds since the epoch."""
Amount = Decimal
"""A JSON number or a decimal string; its range is checked after the conversion of the currency."""


class CustomerEvent(Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """What every event carries."""

    kind: ClassVar[type[CustomerEvent]]
    """The type as it is declared here; no slower to look up than ``__class__``."""

    event_id: Id
    customer_id: Id
    occurred_at: Moment
    persona: str | None = None
    region: str | None = None
    schema_version: int | None = None


class PageViewed(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="page_viewed"):
    """A customer looked at a page."""

    page: str
    session_id: str | None = None
    channel: str | None = None
    device: str | None = None


class SessionEnded(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="session_ended"):
    """The site says that a session is over."""

    session_id: str | None = None


class OrderPlaced(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="order_placed"):
    """A customer bought; a zero amount is an order like any other."""

    order_id: Id
    amount: Amount
    currency: str
    channel: str | None = None


class OrderRefunded(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="order_refunded"):
    """Money was given back; it counts on the day it happens."""

    order_id: Id
    amount: Amount
    currency: str


class SubscriptionEvent(CustomerEvent, frozen=True, kw_only=True, gc=False):
    """What the three subscription events share."""

    plan: str
    amount: Amount | None = None
    currency: str | None = None
    reason: str | None = None


class SubscriptionStarted(
    SubscriptionEvent, frozen=True, kw_only=True, gc=False, tag="subscription_started"
):
    """A subscription began."""


class SubscriptionRenewed(
    SubscriptionEvent, frozen=True, kw_only=True, gc=False, tag="subscription_renewed"
):
    """A subscription was renewed."""


class SubscriptionCancelled(
    SubscriptionEvent, frozen=True, kw_only=True, gc=False, tag="subscription_cancelled"
):
    """A subscription was cancelled."""


class SocialInteracted(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="social_interacted"):
    """A customer did something on a social network."""

    network: str
    action: Literal["mention", "like", "share", "comment", "follow", "unlike", "unfollow", "delete"]
    sentiment: Annotated[float, Meta(ge=-1, le=1)] | None = None
    impressions: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class TicketOpened(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="ticket_opened"):
    """A customer asked for help."""

    ticket_id: Id
    channel: str
    priority: str | None = None


class TicketReplied(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="ticket_replied"):
    """Support answered."""

    ticket_id: Id


class TicketResolved(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="ticket_resolved"):
    """Support called the matter done."""

    ticket_id: Id


class TicketReopened(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="ticket_reopened"):
    """The matter was not done."""

    ticket_id: Id


class CsatAnswered(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="csat_answered"):
    """A customer said how satisfied they are, on a scale of 5 or of 10."""

    channel: str
    score: Annotated[int, Meta(ge=0, le=10)]
    scale_max: Literal[5, 10]
    ticket_id: str | None = None


class NpsAnswered(CustomerEvent, frozen=True, kw_only=True, gc=False, tag="nps_answered"):
    """A customer said how likely they are to recommend the shop, 0 to 10."""

    score: Annotated[int, Meta(ge=0, le=10)]


class TimePassed(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="time_passed"):
    """A control record: nothing older than ``until`` will follow on this topic-partition."""

    kind: ClassVar[type[TimePassed]]

    until: Moment


class CustomerForgotten(
    Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="customer_forgotten"
):
    """A control record: what is known of a customer from before ``occurred_at`` is to be deleted.

    It has the key and the partition of the customer's events, and is none of them.
    """

    kind: ClassVar[type[CustomerForgotten]]

    customer_id: Id
    occurred_at: Moment
    schema_version: int | None = None


Event = (
    PageViewed
    | SessionEnded
    | OrderPlaced
    | OrderRefunded
    | SubscriptionStarted
    | SubscriptionRenewed
    | SubscriptionCancelled
    | SocialInteracted
    | TicketOpened
    | TicketReplied
    | TicketResolved
    | TicketReopened
    | CsatAnswered
    | NpsAnswered
    | TimePassed
    | CustomerForgotten
)

SOURCE_OF: dict[type, Source] = {
    PageViewed: Source.SESSIONS,
    SessionEnded: Source.SESSIONS,
    OrderPlaced: Source.PURCHASES,
    OrderRefunded: Source.PURCHASES,
    SubscriptionStarted: Source.PURCHASES,
    SubscriptionRenewed: Source.PURCHASES,
    SubscriptionCancelled: Source.PURCHASES,
    SocialInteracted: Source.SOCIAL,
    TicketOpened: Source.SUPPORT,
    TicketReplied: Source.SUPPORT,
    TicketResolved: Source.SUPPORT,
    TicketReopened: Source.SUPPORT,
    CsatAnswered: Source.SUPPORT,
    NpsAnswered: Source.SUPPORT,
}
"""The topic that carries each type; a control record may stand on any."""

CONTROLS: tuple[type, ...] = (TimePassed, CustomerForgotten)
"""The records that are no events."""

TYPE_NAMES: dict[str, type] = {}
"""The wire name of each type."""
for _kind in (*SOURCE_OF, *CONTROLS):
    _kind.kind = _kind  # type: ignore[attr-defined]
    TYPE_NAMES[str(_kind.__struct_config__.tag)] = _kind  # type: ignore[attr-defined]

FIELD_NAMES = frozenset(
    {"type"}.union(*(kind.__struct_encode_fields__ for kind in TYPE_NAMES.values()))  # type: ignore[attr-defined]
)
"""Every name that a field of some type has on the wire."""
COMMON_DIMENSIONS = ("persona", "region")
"""The customer dimensions that events carry in every configuration."""


def attribute_of(dimension: str) -> str:
    """The attribute of an event in which a customer dimension stands; its own ones have a prefix, so
    that no name can hide anything.
    """
    return dimension if dimension in COMMON_DIMENSIONS else f"own_{dimension}"


@cache
def event_types(dimensions: tuple[str, ...] = ()) -> tuple[type, ...]:
    """The types of `Event` with an optional string field for each of ``dimensions`` that isn't one of
    the common ones; the types as they are where there is none. Controls are what they are.
    """
    own: list[Any] = [
        (attribute_of(name), str | None, msgspec.field(name=name, default=None))
        for name in dimensions
        if name not in COMMON_DIMENSIONS
    ]
    if not own:
        return tuple(TYPE_NAMES.values())
    carrying = (
        msgspec.defstruct(
            kind.__name__,
            own,
            bases=(kind,),
            module=__name__,
            frozen=True,
            kw_only=True,
            gc=False,
            namespace={"__doc__": kind.__doc__},
        )
        for kind in SOURCE_OF
    )
    return (*carrying, *CONTROLS)
