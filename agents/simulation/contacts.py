"""What customers say and ask, counted plainly: posts, answers to surveys, tickets.

One of the pieces of `agents.simulation.truth`. Everything comes in event-time order. No simulated customer
gets near 64 tickets or comes back to one after 90 days, so tickets are remembered for good; what was opened
before the run began is unknown, as it is to the engine.
"""

from __future__ import annotations

import orjson

from agents.simulation.behaviour import Happening

WITHDRAWN = frozenset({"unlike", "unfollow", "delete"})
SATISFIED_FROM = {5: 4, 10: 9}
MICROS = 1_000_000

COUNTS = (
    "social_interactions", "social_withdrawn", "social_customers", "sentiments", "sentiment_micros",
    "shown", "impressions", "csat_responses", "csat_satisfied", "nps_answers", "nps_promoters",
    "nps_passives", "nps_detractors", "tickets_opened", "tickets_resolved", "tickets_reopened",
    "first_replies", "first_reply_ms", "resolutions", "resolution_ms",
)  # fmt: skip
DISTINCT = ("social_customers", "nps_promoters", "nps_passives", "nps_detractors")
"""Of these the sum of the hours is not the figure of the run."""


class _Ticket:
    __slots__ = ("is_open", "is_replied", "opened_ms")

    def __init__(self, opened_ms: int) -> None:
        self.opened_ms = opened_ms
        self.is_open = True
        self.is_replied = False


class Contacts:
    """Counts into ``hour``, a mapping of `COUNTS` that its owner empties hour by hour."""

    def __init__(self, hour: dict[str, int]) -> None:
        self._hour = hour
        self._tickets: dict[tuple[int, str], _Ticket] = {}
        self._social_hour: dict[int, int] = {}
        """For each customer who ever posted the start of the hour of the last post."""
        self._answers: dict[int, tuple[int, str]] = {}
        """For each customer who ever answered: the start of that hour, and the class."""
        self.backlog = 0

    def count(self, happening: Happening, hour_ms: int) -> None:
        """Count an event of the social or the support topic; ``hour_ms`` is the start of its hour."""
        fields = orjson.loads(f"{{{happening.members}}}")
        number, kind = happening.customer.number, happening.kind
        if kind == "social_interacted":
            self._social(number, fields, hour_ms)
        elif kind == "nps_answered":
            self._answer(number, fields["score"], hour_ms)
        elif kind == "csat_answered":
            self._hour["csat_responses"] += 1
            satisfied = fields["score"] >= SATISFIED_FROM[fields["scale_max"]]
            self._hour["csat_satisfied"] += satisfied
        else:
            self._ticket(kind, (number, fields["ticket_id"]), happening.at_ms)

    def distinct(self) -> dict[str, int]:
        """The figures of `DISTINCT` over the whole run."""
        classes = [name for _, name in self._answers.values()]
        found = {name: classes.count(name) for name in DISTINCT[1:]}
        return {"social_customers": len(self._social_hour), **found}

    def _social(self, number: int, fields: dict[str, object], hour_ms: int) -> None:
        hour = self._hour
        if fields["action"] in WITHDRAWN:
            hour["social_withdrawn"] += 1
            return
        hour["social_interactions"] += 1
        if self._social_hour.get(number) != hour_ms:
            self._social_hour[number] = hour_ms
            hour["social_customers"] += 1
        sentiment, impressions = fields.get("sentiment"), fields.get("impressions")
        if isinstance(sentiment, float):
            hour["sentiments"] += 1
            hour["sentiment_micros"] += round(sentiment * MICROS)
        if isinstance(impressions, int):
            hour["shown"] += 1
            hour["impressions"] += impressions

    def _answer(self, number: int, score: int, hour_ms: int) -> None:
        hour = self._hour
        hour["nps_answers"] += 1
        before = self._answers.get(number)
        if before is not None and before[0] == hour_ms:
            hour[before[1]] -= 1
        name = "nps_promoters" if score >= 9 else "nps_passives" if score >= 7 else "nps_detractors"
        hour[name] += 1
        self._answers[number] = (hour_ms, name)

    def _ticket(self, kind: str, name: tuple[int, str], at_ms: int) -> None:
        hour, ticket = self._hour, self._tickets.get(name)
        if kind == "ticket_opened":
            hour["tickets_opened"] += 1
            if ticket is None:
                self._tickets[name] = _Ticket(at_ms)
                self.backlog += 1
        elif kind == "ticket_replied":
            if ticket is not None and not ticket.is_replied:
                ticket.is_replied = True
                hour["first_replies"] += 1
                hour["first_reply_ms"] += at_ms - ticket.opened_ms
        elif kind == "ticket_resolved":
            hour["tickets_resolved"] += 1
            if ticket is not None and ticket.is_open:
                ticket.is_open = False
                self.backlog -= 1
                hour["resolutions"] += 1
                hour["resolution_ms"] += at_ms - ticket.opened_ms
        else:
            hour["tickets_reopened"] += 1
            if ticket is not None and not ticket.is_open:
                ticket.is_open = True
                self.backlog += 1
