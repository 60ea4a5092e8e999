"""Support: tickets from their opening to each resolution, first replies, the backlog.

A ticket is known from its opening until 90 days after its newest event, an open one always; see
`streams.contacts`. What happens to an unknown one counts under channel ``unknown`` and touches
neither backlog nor durations. A late event counts in its own pane; one that is older than the
ticket's newest event changes nothing else, but may be the first reply.
"""

from __future__ import annotations

from schemas.events import TicketOpened, TicketReopened, TicketReplied, TicketResolved
from streams.contacts import Ticket
from streams.customers import Customer
from streams.segments import Segments
from streams.sums import Additive, Distribution, Stock
from streams.timeline import Timeline

TicketEvent = TicketOpened | TicketReplied | TicketResolved | TicketReopened


class Support:
    """Follows the tickets of customers and counts into a timeline."""

    def __init__(self, segments: Segments, timeline: Timeline) -> None:
        self._timeline = timeline
        self._unknown = segments.support.unknown
        self._other = segments.support.other
        self._channels = segments.support.index()

    def fold(self, customer: Customer, event: TicketEvent, at: int, *, now_ms: int) -> None:
        """An event of a ticket in the cell the customer has; ``now_ms`` is its own time, of a late
        one the watermark.
        """
        contact = customer.contact
        ticket = None if contact is None else contact.ticket(event.ticket_id, now_ms)
        if isinstance(event, TicketOpened):
            self._open(customer, event, at, ticket, now_ms)
        elif isinstance(event, TicketReplied):
            if ticket is not None:
                self._reply(customer, ticket, at)
        else:
            is_resolved = isinstance(event, TicketResolved)
            self._timeline.count(
                at,
                Additive.TICKETS_RESOLVED if is_resolved else Additive.TICKETS_REOPENED,
                customer.cell,
                value=self._unknown if ticket is None else ticket.channel,
            )
            if ticket is not None and at >= ticket.newest_at and ticket.is_open is is_resolved:
                if is_resolved:
                    self._resolve(customer, ticket, at)
                ticket.is_open = not is_resolved
                self._timeline.pane.stock(
                    Stock.OPEN_TICKETS, customer.cell, -1 if is_resolved else 1
                )
        if ticket is not None:
            ticket.newest_at = max(ticket.newest_at, at)

    def _open(
        self, customer: Customer, event: TicketOpened, at: int, ticket: Ticket | None, now_ms: int
    ) -> None:
        channel = self._channels.get(event.channel, self._other)
        self._timeline.count(at, Additive.TICKETS_OPENED, customer.cell, value=channel)
        if ticket is not None:
            return
        contact = customer.make_contact()
        if contact.remember(event.ticket_id, Ticket(at, at, channel), now_ms):
            self._timeline.pane.stock(Stock.OPEN_TICKETS, customer.cell, 1)

    def _reply(self, customer: Customer, ticket: Ticket, at: int) -> None:
        if ticket.is_replied or at < ticket.opened_at:
            return
        ticket.is_replied = True
        timeline, cell, took = self._timeline, customer.cell, at - ticket.opened_at
        timeline.count(at, Additive.FIRST_REPLIES, cell)
        timeline.count(at, Additive.FIRST_REPLY_MS, cell, took)
        timeline.last(at, Distribution.FIRST_REPLY, cell, took)

    def _resolve(self, customer: Customer, ticket: Ticket, at: int) -> None:
        timeline, cell, took = self._timeline, customer.cell, at - ticket.opened_at
        timeline.count(at, Additive.RESOLUTIONS, cell)
        timeline.count(at, Additive.RESOLUTION_MS, cell, took)
        timeline.last(at, Distribution.RESOLUTION, cell, took)
