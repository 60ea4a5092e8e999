"""Social involvement: what customers do on social networks.

What is taken back (unlike, unfollow, delete) is counted apart and lowers nothing. A late
interaction counts like any, in its own pane; it is the customer's last only if it is newer.
"""

from __future__ import annotations

from schemas.events import SocialInteracted
from schemas.money import MICROS
from streams.customers import Customer
from streams.last_seen import NEVER
from streams.segments import Segments
from streams.sums import Additive, Mark
from streams.timeline import Timeline

WITHDRAWALS = frozenset({"unlike", "unfollow", "delete"})


class Social:
    """Counts social interactions into a timeline."""

    def __init__(self, segments: Segments, timeline: Timeline) -> None:
        self._timeline = timeline
        self._other = segments.network.other
        self._networks = segments.network.index()

    def fold(self, customer: Customer, event: SocialInteracted, at: int) -> None:
        """An interaction, on time or late, in the cell the customer has."""
        timeline, cell = self._timeline, customer.cell
        network = self._networks.get(event.network, self._other)
        if event.action in WITHDRAWALS:
            timeline.count(at, Additive.SOCIAL_WITHDRAWN, cell, value=network)
            return
        timeline.count(at, Additive.SOCIAL_INTERACTIONS, cell, value=network)
        if event.sentiment is not None:
            timeline.count(at, Additive.SENTIMENTS, cell)
            timeline.count(at, Additive.SENTIMENT_MICROS, cell, round(event.sentiment * MICROS))
        if event.impressions is not None:
            timeline.count(at, Additive.IMPRESSED, cell)
            timeline.count(at, Additive.IMPRESSIONS, cell, event.impressions)
        contact = customer.make_contact()
        last = contact.last_social
        if at > last:
            contact.last_social = at
            if last < timeline.pane_start:
                old = None if last == NEVER else Mark.SOCIAL
                timeline.move_mark(old, Mark.SOCIAL, cell, before_ms=last, at_ms=at)
