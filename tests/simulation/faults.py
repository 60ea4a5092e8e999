"""What goes wrong in a run: drawn from its seed, counted, and told step by step when asked.

A *profile* says how much of what: a run of one profile tries one kind of trouble hard, so that
every kind is met often in ten thousand runs. All faults end at `Faults.end`; after that the run is
let settle.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

DEADLINE_S = 8
"""Of every send and commit of a worker here."""


class Send(enum.Enum):
    """What becomes of one batch on its way to the log."""

    WRITTEN = "written and acknowledged"
    FAILED = "failed send"
    WRITTEN_BUT_FAILED = "written, but reported as failed"
    UNACKNOWLEDGED = "written, acknowledgement lost"
    TWICE = "written twice by a retry"


@dataclass(frozen=True, slots=True)
class Profile:
    """Probabilities a step, or a second of the run where the name says so."""

    name: str
    crash_at_send: float = 0.0
    crash_at_commit: float = 0.0
    crash_at_read: float = 0.0
    failed_send: float = 0.0
    slow_ack: float = 0.0
    failed_commit: float = 0.0
    pause_at_send: float = 0.0
    pause_at_claim: float = 0.0
    slow_agent: float = 0.0
    """A batch lies in its queue for seconds before the engine sees it."""
    pauses_per_s: float = 0.0
    kills_per_s: float = 0.0
    stops_per_s: float = 0.0
    joins_per_s: float = 0.0
    compactions_per_s: float = 0.4
    workers: int = 1
    damages: bool = False


PROFILES = (
    Profile("calm", workers=2, stops_per_s=0.05, joins_per_s=0.05),
    Profile("crashes", crash_at_send=0.04, crash_at_commit=0.04, crash_at_read=0.1),
    Profile("crash storm", crash_at_send=0.12, crash_at_commit=0.1, crash_at_read=0.2, workers=2),
    Profile("failing sends", failed_send=0.05, slow_ack=0.2, failed_commit=0.05, workers=2),
    Profile(
        "paused writers",
        pause_at_send=0.06,
        pause_at_claim=0.3,
        pauses_per_s=0.1,
        slow_ack=0.2,
        slow_agent=0.02,
        workers=3,
    ),
    Profile(
        "rebalances", stops_per_s=0.3, joins_per_s=0.8, slow_ack=0.3, slow_agent=0.15, workers=3
    ),
    Profile(
        "everything",
        crash_at_send=0.02,
        crash_at_commit=0.03,
        crash_at_read=0.05,
        failed_send=0.01,
        slow_ack=0.15,
        failed_commit=0.01,
        pause_at_send=0.02,
        pause_at_claim=0.05,
        slow_agent=0.02,
        pauses_per_s=0.08,
        kills_per_s=0.08,
        stops_per_s=0.08,
        joins_per_s=0.2,
        compactions_per_s=0.8,
        workers=3,
    ),
    Profile("damage", crash_at_send=0.03, compactions_per_s=0.8, damages=True),
)


@dataclass(slots=True)
class Faults:
    """The dice of one run."""

    rng: random.Random
    profile: Profile
    end_s: float
    is_idempotent: bool
    clock: Callable[[], float]
    tell: Callable[[str], None]
    injected: Counter[str] = field(default_factory=Counter)

    @property
    def are_on(self) -> bool:
        return self.clock() < self.end_s

    def note(self, what: str, where: str = "") -> None:
        self.injected[what] += 1
        self.tell(f"FAULT {what} {where}".rstrip())

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.are_on and self.rng.random() < probability

    def send(self) -> Send:
        """The fate of a batch."""
        if not self.happens(self.profile.failed_send):
            return Send.WRITTEN
        fates = [Send.FAILED, Send.WRITTEN_BUT_FAILED]
        if self.clock() < self.end_s - DEADLINE_S:
            # Who waits for it in vain has failed when the faults are over.
            fates.append(Send.UNACKNOWLEDGED)
        if not self.is_idempotent:
            fates += [Send.TWICE, Send.TWICE, Send.TWICE]
        return self.rng.choice(fates)

    def latency_s(self) -> float:
        """How long a message takes in one direction."""
        if self.happens(self.profile.slow_ack):
            return self.rng.uniform(0.1, 1.5)
        return self.rng.uniform(0.001, 0.02)
