"""Satisfaction: answers after a contact (CSAT), and how likely customers are to recommend (NPS).

Of the NPS a customer's *latest* answer counts, by event time; of two at one time the later in fold
order. It stands as one mark at its moment, in the class of its score: so each window holds the
latest answers that lie in it.
"""

from __future__ import annotations

from schemas.events import CsatAnswered, NpsAnswered
from streams.customers import Customer
from streams.last_seen import NEVER
from streams.segments import Segments
from streams.stages import PROMOTER_SCORE
from streams.sums import Additive, Mark
from streams.timeline import Timeline

PASSIVE_SCORE = 7
SATISFIED_FROM = {5: 4, 10: 9}
"""By the end of the scale, the lowest score that is satisfied."""


def class_of(score: int) -> Mark:
    """Promoter, passive or detractor."""
    if score >= PROMOTER_SCORE:
        return Mark.PROMOTER
    return Mark.PASSIVE if score >= PASSIVE_SCORE else Mark.DETRACTOR


class Satisfaction:
    """Counts answers into a timeline."""

    def __init__(self, segments: Segments, timeline: Timeline) -> None:
        self._timeline = timeline
        self._other = segments.support.other
        self._channels = segments.support.index()

    def fold_csat(self, customer: Customer, event: CsatAnswered, at: int) -> None:
        """An answer after a contact, on time or late, in the cell the customer has."""
        channel = self._channels.get(event.channel, self._other)
        self._timeline.count(at, Additive.CSAT_RESPONSES, customer.cell, value=channel)
        if event.score >= SATISFIED_FROM[event.scale_max]:
            self._timeline.count(at, Additive.CSAT_SATISFIED, customer.cell, value=channel)

    def fold_nps(self, customer: Customer, event: NpsAnswered, at: int) -> bool:
        """An answer, on time or late. Returns whether it makes the customer a promoter: not if a
        newer answer is known.
        """
        contact = customer.make_contact()
        before = contact.answered_at
        if at < before:
            return False
        new = class_of(event.score)
        old = None if before == NEVER else Mark(contact.answer)
        self._timeline.move_mark(old, new, customer.cell, before_ms=before, at_ms=at)
        contact.answered_at, contact.answer = at, new
        return new is Mark.PROMOTER
