"""An event on its way to the state: everything that the fold needs, parsed once at the edge.

An arrival is a plain tuple, because a hundred thousand of them a second are made, sorted and taken
apart; it sorts by its first two members, which no two arrivals share. What the hot loop would look
up on events of many classes is read here, where a batch holds events of one topic: there the
interpreter's inline caches hit.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_digest

from schemas.events import Event
from streams.customers import Customer
from streams.segments import Segments

Arrival = tuple[int, int, Event, int, int, str | Customer, bytes, int]
"""Event time, order among equal times, event, amount in millionths, contribution to the watermark,
customer, hash of the event id, cell of the attributes it carries.

The customer is a name, or the customer itself where the door knew it: so nobody is looked up twice.
Until the event is folded the customer may leave memory; its slot then is `NO_SLOT`, and its name
counts.
"""

CUSTOMER: Final = 5
"""The place of the customer in an arrival."""
DIGEST = 6
"""The place of the hash of the event id."""
CELL: Final = 7
"""The place of the cell."""
NO_ATTRIBUTES = -1
"""The event carries neither persona nor region."""
SOME_ATTRIBUTES = -2
"""One is missing or not configured: it has to be looked at."""


def cells_by_attributes(segments: Segments) -> dict[tuple[str | None, str | None], int]:
    """The cell of each configured persona and region together, and that an event carries neither."""
    found: dict[tuple[str | None, str | None], int] = {
        (persona, region): segments.cell(p, r)
        for p, persona in enumerate(segments.persona.named)
        for r, region in enumerate(segments.region.named)
    }
    found[None, None] = NO_ATTRIBUTES
    return found


def arrival_of(
    cells: dict[tuple[str | None, str | None], int],
    decoded: tuple[int, Event, int],
    order: int,
    contribution_ms: int,
) -> Arrival:
    """The arrival of an event that is no control record; `streams.admission` does it inline."""
    at, event, micros = decoded
    return (
        at,
        order,
        event,
        micros,
        contribution_ms,
        event.customer_id,  # type: ignore[union-attr]
        xxh3_64_digest(event.event_id.encode()),  # type: ignore[union-attr]
        cells.get((event.persona, event.region), SOME_ATTRIBUTES),  # type: ignore[union-attr]
    )


def name_in(arrival: Arrival) -> str:
    """The name of the arrival's customer."""
    customer = arrival[CUSTOMER]
    return customer if isinstance(customer, str) else customer.id
