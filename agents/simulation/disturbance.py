"""What the network and faulty producers do to events: delays, repetitions, rubbish.

Rules:
- A record is at most `MAX_DELAY_MS` under way, unless it is *late*: then at least `LATE_MS`.
- A duplicate is a second record with the bytes of the first. A malformed record comes on top too,
  so the set of good events is exactly the truth.
- What is still under way when the simulation ends arrives at that moment
  (`agents.simulation.world`).
"""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

from agents.simulation.behaviour import SOCIAL, SUPPORT, Happening, rfc3339
from agents.simulation.configuration import Configuration
from agents.simulation.personas import DAY_MS, HOUR_MS
from schemas.reasons import Reason

MAX_DELAY_MS = 3_000
"""Below the engine's default bound for out-of-order events (5 s)."""
LATE_MS = 10_000
TOO_LATE_SHARE = 0.02
"""Of the late records, those that are late by more than a day."""
DUPLICATE_WITHIN_MS = 30_000

_DELAYS = [min(MAX_DELAY_MS, int(-300 * math.log(1 - (step + 0.5) / 1024))) for step in range(1024)]
"""Quantiles of an exponential with mean 300 ms: a table look-up instead of a logarithm a record."""


class Record(NamedTuple):
    """One record on its way. Sorts by arrival."""

    arrival_ms: int
    order: int
    source: int
    key: bytes
    value: bytes
    note: dict[str, str | int] | None
    """What is not as it should be with it: the ``record`` line of the truth. None for a good one.
    """


class Disturbance:
    """Turns true events into records. Handed the events in event-time order."""

    def __init__(self, configuration: Configuration, random: Random) -> None:
        """All chance comes from ``random``."""
        self._random = random
        self._tempo = configuration.tempo
        self._late = configuration.late_share
        self._duplicate = self._late + configuration.duplicate_share
        self._malformed = self._duplicate + configuration.malformed_share
        # Another run of the same seed at another time must not repeat the ids of this one.
        self._prefix = f"{configuration.seed}-{configuration.start_ms // 1000:x}-"
        self._order = 0

    def records(self, happening: Happening) -> list[Record]:
        """The record of one event, and what comes beside it."""
        at_ms = happening.at_ms
        number = happening.number
        # Two of the four producers write text times, two write numbers: both are on the wire.
        source = happening.source
        when = f'"{rfc3339(at_ms)}"' if source in (SOCIAL, SUPPORT) else f"{at_ms}"
        event_id = f"{self._prefix}{number:x}"
        value = (
            f'{{"type":"{happening.kind}","event_id":"{event_id}",'
            f'"occurred_at":{when},{happening.members}}}'
        ).encode()
        key = happening.customer.key
        chance = self._random.random()
        if chance >= self._malformed:
            delay_ms = _DELAYS[self._random.getrandbits(10)]
            return [self._record(at_ms + delay_ms, source, key, value, None)]
        if chance < self._late:
            return [self._late_record(at_ms, source, key, value, event_id)]
        first = self._record(
            at_ms + _DELAYS[self._random.getrandbits(10)], source, key, value, None
        )
        again_ms = first.arrival_ms + int(self._random.random() * DUPLICATE_WITHIN_MS)
        if chance < self._duplicate:
            note: dict[str, str | int] = {"disposition": "duplicate", "duplicate_of": event_id}
            return [first, self._record(again_ms, source, key, value, note)]
        reason, rubbish = self._rubbish(happening, when, f"{event_id}x", value)
        note = {"disposition": "malformed", "reason": reason.value}
        return [first, self._record(again_ms, source, key, rubbish, note)]

    def _record(
        self, arrival_ms: int, source: int, key: bytes, value: bytes,
        note: dict[str, str | int] | None,
    ) -> Record:  # fmt: skip
        self._order += 1
        return Record(arrival_ms, self._order, source, key, value, note)

    def _late_record(
        self, at_ms: int, source: int, key: bytes, value: bytes, event_id: str
    ) -> Record:
        if self._random.random() < TOO_LATE_SHARE:
            delay_ms = DAY_MS + HOUR_MS + int(self._random.random() * DAY_MS)
        else:
            mean = self._tempo / (2 * HOUR_MS)
            delay_ms = min(LATE_MS + int(self._random.expovariate(mean)), 23 * HOUR_MS)
        note: dict[str, str | int] = {
            "disposition": "late", "late_ms": delay_ms, "event_id": event_id,
        }  # fmt: skip
        return self._record(at_ms + delay_ms, source, key, value, note)

    def _rubbish(
        self, happening: Happening, when: str, event_id: str, value: bytes
    ) -> tuple[Reason, bytes]:
        """A broken version of ``value``, and the reason for which it will be refused."""
        kind = happening.kind
        members = happening.members
        head = f'{{"type":"{kind}","event_id":"{event_id}","occurred_at":{when}'
        variants = (
            (Reason.NOT_JSON, value[: len(value) * 2 // 3].decode()),
            (Reason.NOT_AN_OBJECT, f"[{value.decode()}]"),
            (Reason.MISSING_FIELD, f'{{"type":"{kind}","occurred_at":{when},{members}}}'),
            (Reason.UNKNOWN_TYPE, f'{{"type":"page_veiwed","event_id":"{event_id}",{members}}}'),
            (Reason.MISSING_TYPE, f'{{"event_id":"{event_id}","occurred_at":{when},{members}}}'),
            (
                Reason.BAD_TIME,
                f'{{"type":"{kind}","event_id":"{event_id}","occurred_at":"yesterday",{members}}}',
            ),
            (
                Reason.TIME_OUT_OF_RANGE,
                f'{{"type":"{kind}","event_id":"{event_id}","occurred_at":0,{members}}}',
            ),
            (Reason.UNKNOWN_VERSION, f'{head},{members},"schema_version":99}}'),
        )
        reason, text = variants[int(self._random.random() * len(variants))]
        return reason, text.encode()
