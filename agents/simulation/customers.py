"""One simulated customer, and how they are born."""

from __future__ import annotations

from random import Random

from agents.simulation.configuration import Configuration
from agents.simulation.personas import (
    CHANNEL_WEIGHTS,
    CHANNELS,
    DWELL_MS,
    DWELL_PART,
    OTHER_PERSONA,
    OTHER_SHARE,
    PERSONAS,
    REGIONS,
    UNKNOWN_SHARE,
)
from agents.simulation.rhythm import Rhythm

REGION_WEIGHTS = [share for _, share, _ in REGIONS]
LIVING_WEIGHTS = [persona.share for persona in PERSONAS]
# In balance as many of a kind are born as leave: share / lifetime.
BORN_WEIGHTS = [persona.share / persona.lifetime_ms for persona in PERSONAS]
CHANNEL_POOL = [
    channel
    for channel, weight in zip(CHANNELS, CHANNEL_WEIGHTS, strict=True)
    for _ in range(round(weight * 100))
]


class Customer:
    """A person: who they are, how they live, and until when."""

    __slots__ = (
        "attributes",
        "born_ms",
        "channel",
        "customer_id",
        "dwell_ms",
        "ends_ms",
        "interval_ms",
        "key",
        "number",
        "persona",
        "region",
        "rhythm",
        "shown_persona",
        "subscribed",
        "visits",
    )

    def __init__(
        self, configuration: Configuration, rhythms: list[Rhythm], random: Random, number: int,
        *, born_ms: int, newborn: bool,
    ) -> None:  # fmt: skip
        """Draw customer ``number``. A ``newborn`` has yet to make a first visit at ``born_ms``."""
        weights = BORN_WEIGHTS if newborn else LIVING_WEIGHTS
        self.number = number
        self.born_ms = born_ms
        self.persona = random.choices(PERSONAS, weights)[0]
        region = random.choices(range(len(REGIONS)), REGION_WEIGHTS)[0]
        self.rhythm = rhythms[region]
        self.region = REGIONS[region][0]
        self.channel = random.choice(CHANNEL_POOL)
        self.customer_id = f"c{configuration.seed}-{number}"
        self.key = self.customer_id.encode()
        tempo = configuration.tempo
        own = random.gammavariate(2.0, 0.475) + 0.05
        self.interval_ms = self.persona.visit_interval_ms / tempo / own
        self.dwell_ms = min(float(DWELL_MS), self.persona.visit_interval_ms / tempo / DWELL_PART)
        ends_ms = born_ms + int(random.expovariate(tempo / self.persona.lifetime_ms))
        self.ends_ms = configuration.scenario.end_of_life(random, born_ms=born_ms, ends_ms=ends_ms)
        self.subscribed = False
        self.visits = 0
        odds = random.random()
        self.shown_persona: str | None = self.persona.name
        if odds < UNKNOWN_SHARE:
            self.shown_persona = None
        elif odds < UNKNOWN_SHARE + OTHER_SHARE:
            self.shown_persona = OTHER_PERSONA
        self.attributes = self._attributes()

    def move_to(self, region: int, rhythms: list[Rhythm]) -> None:
        """Live in another region from now on; the next event says so."""
        self.region = REGIONS[region][0]
        self.rhythm = rhythms[region]
        self.attributes = self._attributes()

    def show_as(self, persona: str) -> None:
        """Be taken for another persona from now on; the behaviour stays."""
        if self.shown_persona is not None:
            self.shown_persona = persona
            self.attributes = self._attributes()

    def _attributes(self) -> str:
        """The JSON members that every event of the customer carries."""
        who = f'"customer_id":"{self.customer_id}"'
        if self.shown_persona is None:
            return who
        return f'{who},"persona":"{self.shown_persona}","region":"{self.region}"'
