"""The configuration of a simulation, and how its tempo follows from the rate that was asked for.

At tempo 1 customers live naturally: 10,000 of them make about 0.15 events a second. To reach a
given rate the simulation lets them live faster: intervals, lifetimes and delays are divided by the
tempo, the time on a page too once a session would otherwise take a twentieth of the interval
between visits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agents.simulation.personas import (
    DWELL_MS,
    DWELL_PART,
    NO_REPLY_SHARE,
    PERSONAS,
    UNRESOLVED_SHARE,
    Persona,
)
from agents.simulation.scenario import Scenario

DEFAULT_CUSTOMERS = 10_000
MAX_DEFAULT_CUSTOMERS = 200_000
WARM_UP_RECORDS = 100_000
"""More is never generated only to be thrown away."""
COMFORTABLE_INTERVAL_MS = 600_000
"""With a rate but no number of customers, there are so many that each comes about every ten
minutes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All that a simulation depends on. The same value gives the same records."""

    seed: int = 1
    start_ms: int
    end_ms: int | None = None
    """No event at or after it; None runs for ever."""
    max_records: int | None = None
    customers: int = DEFAULT_CUSTOMERS
    tempo: float = 1.0
    flat: bool = False
    """No daily and weekly shape."""
    scenario: Scenario = field(default_factory=Scenario)
    late_share: float = 0.005
    duplicate_share: float = 0.005
    malformed_share: float = 0.002
    move_share: float = 0.004
    """Visits before which a customer changes region or persona."""

    def expected_rate(self) -> float:
        """Records a second of event time, on average over a week."""
        disturbed = self.duplicate_share + self.malformed_share
        return _rate_at(self.tempo, self.customers) * (1 + disturbed)

    def warm_up_ms(self) -> int:
        """How long before the start life begins, so that the start finds people in mid-visit."""
        longest_ms = (
            max(persona.visit_interval_ms for persona in PERSONAS) / self.tempo / DWELL_PART
        )
        return int(
            min(8 * min(DWELL_MS, longest_ms), 1000 * WARM_UP_RECORDS / self.expected_rate())
        )


def customers_for(rate: float | None) -> int:
    """How many customers there are if nobody says."""
    if rate is None:
        return DEFAULT_CUSTOMERS
    needed = int(rate * COMFORTABLE_INTERVAL_MS / 1000 / _mean_events_per_visit())
    return max(50, min(needed, MAX_DEFAULT_CUSTOMERS))


def tempo_for(rate: float, customers: int, *, disturbed_share: float = 0.0) -> float:
    """The tempo at which ``customers`` make ``rate`` records a second on average.

    ``disturbed_share`` is the share of records that come on top of the events: duplicates,
    malformed.
    """
    wanted = rate / (1 + disturbed_share)
    low, high = 1e-6, 1e12
    for _ in range(200):
        middle = (low * high) ** 0.5
        if _rate_at(middle, customers) < wanted:
            low = middle
        else:
            high = middle
    return high


def events_per_visit(persona: Persona) -> float:
    """The expected number of events that one visit leads to, follow-ups included."""
    deep = 1 - persona.bounce
    page_views = 1 + deep * (1 + persona.further_pages)
    orders = deep * persona.conversion * (1 + persona.refund + persona.subscription)
    # A ticket: opened, mostly replied and resolved; a fifth reopened and resolved again; two thirds
    # answer CSAT.
    resolved = 1 - UNRESOLVED_SHARE
    tickets = persona.ticket * (2 - NO_REPLY_SHARE + resolved * (1 + 0.2 * 2 + 0.67))
    return page_views + deep * 0.35 + orders + persona.social + tickets + 0.01


def _rate_at(tempo: float, customers: int) -> float:
    """Events a second: over the personas, share x events a visit / (interval + time of a visit)."""
    total = 0.0
    for persona in PERSONAS:
        interval_ms = persona.visit_interval_ms / tempo
        views = 1 + (1 - persona.bounce) * (1 + persona.further_pages)
        visit_ms = (views - 1) * min(DWELL_MS, interval_ms / DWELL_PART)
        total += persona.share * events_per_visit(persona) / (interval_ms + visit_ms)
    return customers * total * 1000


def _mean_events_per_visit() -> float:
    weights = [persona.share / persona.visit_interval_ms for persona in PERSONAS]
    events = [events_per_visit(persona) for persona in PERSONAS]
    return sum(w * e for w, e in zip(weights, events, strict=True)) / sum(weights)
