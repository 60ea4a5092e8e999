"""An event on its way to the state: everything that the fold needs, parsed once at the edge.

An arrival is a plain tuple, because a hundred thousand of them a second are made, sorted and taken
apart; it sorts by its first two members, which no two arrivals share. What the hot loop would look
up on events of many classes is read here, where a batch holds events of one topic: there the
interpreter's inline caches hit.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from xxhash import xxh3_64_digest

from schemas.events import Event
from streams.attributes import Told, reader_of
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
"""The event tells no customer dimension."""
SOME_ATTRIBUTES = -2
"""One is missing or has a value that is not configured: it has to be looked at."""


def cells_by_attributes(segments: Segments) -> dict[Told, int]:
    """The cell of configured values of all dimensions together, and that an event tells nothing."""
    named = (enumerate(dimension.values.named) for dimension in segments.customer)
    found: dict[Told, int] = {
        tuple(value for _, value in one): segments.cell(*(place for place, _ in one))
        for one in product(*named)
    }
    found[(None,) * len(segments.customer)] = NO_ATTRIBUTES
    return found


class Cells:
    """The cell that an event names by what it tells."""

    __slots__ = ("_told", "by_attributes")

    def __init__(self, segments: Segments) -> None:
        self.by_attributes = cells_by_attributes(segments)
        self._told = reader_of(segments.names)

    def of(self, event: Event) -> int:
        """The cell, or `NO_ATTRIBUTES` or `SOME_ATTRIBUTES`."""
        return self.by_attributes.get(self._told(event), SOME_ATTRIBUTES)


def arrival_of(
    cells: Cells,
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
        cells.of(event),
    )


def name_in(arrival: Arrival) -> str:
    """The name of the arrival's customer."""
    customer = arrival[CUSTOMER]
    return customer if isinstance(customer, str) else customer.id
