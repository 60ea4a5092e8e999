"""What a customer said and asked for: the part of a customer that most never have.

One object that hangs on the customer and is None for everybody without a social interaction, an
answer or a ticket. It is written into the customer's row as a list.
"""

from __future__ import annotations

import msgspec

from streams.last_seen import NEVER
from streams.windows import DAY_MS

REMEMBERED_MS = 90 * DAY_MS
"""A resolved ticket is known until so long after its newest event, that moment included."""
MAX_TICKETS = 64
"""So many tickets of a customer are known at most."""


class Ticket(msgspec.Struct, array_like=True):
    """A ticket that is known."""

    opened_at: int
    newest_at: int
    """The newest event of it."""
    channel: int
    """That of the opening, as an index."""
    is_open: bool = True
    is_replied: bool = False
    """Whether its first reply was counted."""

    def is_over(self, now_ms: int) -> bool:
        """Whether it is resolved and has been quiet for so long that it is known no more."""
        return not self.is_open and now_ms - self.newest_at > REMEMBERED_MS


class Contact(msgspec.Struct, array_like=True):
    """The last social interaction, the latest answer, the tickets."""

    last_social: int = NEVER
    answered_at: int = NEVER
    """When the latest answer to the NPS question was given."""
    answer: int = -1
    """The `Mark` of its class."""
    tickets: dict[str, Ticket] = {}
    """By id, in the order in which they became known."""

    @property
    def open_tickets(self) -> int:
        """How many tickets are in the backlog."""
        return sum(ticket.is_open for ticket in self.tickets.values())

    def ticket(self, name: str, now_ms: int) -> Ticket | None:
        """The ticket of this id, if it is known; one that is over is not."""
        found = self.tickets.get(name)
        if found is not None and found.is_over(now_ms):
            del self.tickets[name]
            return None
        return found

    def is_over(self, now_ms: int) -> bool:
        """Whether nothing here can matter any more but by marks that windows still hold."""
        return all(ticket.is_over(now_ms) for ticket in self.tickets.values())

    def remember(self, name: str, ticket: Ticket, now_ms: int) -> bool:
        """Let a new ticket be known, in the place of the resolved one that has been quiet longest
        if there are too many; False if all of those are open.
        """
        held = len(self.tickets)
        if held < MAX_TICKETS and not held & (held - 1):
            # Those that are over take memory, and the place of nobody: they are the quietest. So at
            # every doubling is often enough, and nobody's tickets are gone through at each event.
            over = [one for one, known in self.tickets.items() if known.is_over(now_ms)]
            for one in over:
                del self.tickets[one]
        if len(self.tickets) >= MAX_TICKETS:
            resolved = [one for one, known in self.tickets.items() if not known.is_open]
            if not resolved:
                return False
            del self.tickets[min(resolved, key=lambda one: self.tickets[one].newest_at)]
        self.tickets[name] = ticket
        return True
