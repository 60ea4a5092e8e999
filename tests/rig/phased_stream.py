"""A seeded stream of events whose every fate is fixed, however the four topics are interleaved.

What a record's fate is (folded, late, too late, duplicate) depends on the watermark at its arrival, and so
on how far the *other* topics were read: after a crash that is anybody's guess. So the stream comes in phases:

- Phase k covers the event time [B_k, B_k+1). Its own events arrive within the bound, so none of them is late.
  It ends with `time_passed` until B_k+1 on every partition of all four topics.
- A phase that holds late records may begin only when everything before it is folded *and committed*
  (`waits`). From then on, crash or not, the watermark is at least B_k. It can't reach B_k+1 before the last
  record of the phase: the `time_passed` of its own topic stands behind it.
- Its late records lie so that they are late, or too late, for every watermark in between, and they are of
  customers who do nothing else in that phase and whose sessions are over: where exactly the watermark stands
  changes nothing of what they do to a count. Only the ticks inside of such a phase depend on it, so
  only its last one can be told in advance (`ticks`).

`tests.oracle.rules` says what becomes of each record; a unit test interleaves the topics in other ways and
finds the same.
"""

from __future__ import annotations

import datetime
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.reasons import Reason
from schemas.topics import Source
from tests.oracle.customers import OracleConfig
from tests.oracle.rules import SOURCES, Arrival, Judged, Rules
from tests.property.comparison import text_of
from tests.rig.hostile import hostile, partition_of

MINUTE_MS = 60_000
START_MS = 1_772_323_200_000
"""2026-03-01T00:00:00Z, a boundary of every hop that divides a day."""
PHASE_MS = 30 * MINUTE_MS
BOUND_MS = 5_000
GAP_MS = 10 * MINUTE_MS
LATENESS_MS = 45 * MINUTE_MS
CORRECTED_HOP_MS = 10 * MINUTE_MS
"""Windows with such a hop, or a longer one, are published again when a late event changes them."""
WINDOWS = (
    (10 * MINUTE_MS, 2 * MINUTE_MS),
    (60 * MINUTE_MS, 6 * MINUTE_MS),
    (120 * MINUTE_MS, 30 * MINUTE_MS),
)
PERSONAS = ("browser", "collector")
REGIONS = ("north", "south")
CHANNELS = ("email", "search")
NETWORKS = ("fediverse",)
SUPPORT_CHANNELS = ("email", "chat")
PARTITIONS = 4
_ABSENT = 0.5
"""Of the loyal ones, in a phase with late records."""
_DUPLICATES = 0.04
_HOSTILE = 0.02
_LATE = 0.08

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Planned:
    """A record to send, and what the rules have to know of it."""

    arrival: Arrival
    partition: int
    key: bytes | None
    payload: bytes
    reason: Reason | None = None

    @property
    def origin(self) -> tuple[int, int, int]:
        """(source, partition, offset)"""
        return self.arrival.source, self.partition, self.arrival.offset


@dataclass(slots=True)
class Phase:
    """A stretch of event time and the records that tell of it, in the order of sending."""

    number: int
    has_late: bool
    records: list[Planned] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether everything before it has to be folded and committed first."""
        return self.has_late

    @property
    def start_ms(self) -> int:
        """Its first instant."""
        return START_MS + self.number * PHASE_MS

    @property
    def end_ms(self) -> int:
        """The instant after its last."""
        return self.start_ms + PHASE_MS


@dataclass(slots=True)
class _Draft:
    arrives: int
    source: int
    event: Event
    partition: int | None = None
    key: bytes | None = None
    payload: bytes | None = None
    reason: Reason | None = None


class PhasedStream:
    """All phases of one seed."""

    def __init__(
        self,
        seed: int,
        phases: int,
        *,
        late_phases: Iterable[int] = (),
        events_a_phase: int = 1_500,
        customers: int = 240,
        partitions: int = PARTITIONS,
    ) -> None:
        """`late_phases`: which of them hold late records (not the first two: nothing is that old)."""
        self.seed = seed
        self.partitions = partitions
        late = set(late_phases)
        assert not late & {0, 1}
        self._draw = random.Random(f"phased stream {seed}")
        self._customers = [f"customer-{number}" for number in range(customers)]
        # Half of them are loyal from the first phase on. Only they send late events: a move to another
        # stage is counted where the watermark stands, and they have none left to move to.
        self._loyal = self._customers[::2]
        self._events_a_phase = events_a_phase
        self._made = 0
        self._offsets: dict[tuple[int, int], int] = defaultdict(int)
        self._past: dict[tuple[str, int], list[Event]] = defaultdict(list)
        count = int(len(self._loyal) * _ABSENT)
        absent = [
            set(self._draw.sample(self._loyal, count)) if number in late else set()
            for number in range(phases + 1)
        ]
        self.phases = [
            self._phase(Phase(number, has_late=number in late), absent[number], absent[number + 1])
            for number in range(phases)
        ]

    @property
    def end_ms(self) -> int:
        """The end of the last phase: by then every event is folded."""
        return self.phases[-1].end_ms

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(len(phase.records) for phase in self.phases)

    def judged(self, order: Sequence[Planned] | None = None) -> list[Judged]:
        """Every record with its fate, by the rules alone."""
        rules = [
            Rules(out_of_orderness_ms=BOUND_MS, lateness_ms=LATENESS_MS)
            for _ in range(self.partitions)
        ]
        for one in self.all() if order is None else order:
            rules[one.partition].run([one.arrival])
        return [judged for one in rules for judged in one.judged]

    def all(self) -> Iterator[Planned]:
        """Every record in the order of sending."""
        for phase in self.phases:
            yield from phase.records

    def ticks(self) -> list[tuple[int, int, int]]:
        """The (t, w, hop) at which a result can be told in advance and stays as it is."""
        last_late = max((p.number for p in self.phases if p.has_late), default=-1)
        found = []
        for w, hop in WINDOWS:
            for phase in self.phases:
                if hop >= CORRECTED_HOP_MS and phase.number < last_late:
                    continue
                first = phase.end_ms if phase.has_late else phase.start_ms + hop
                found += [(t, w, hop) for t in range(phase.end_ms, first - 1, -hop) if not t % hop]
        return sorted(found)

    # -- drawing

    def _phase(self, phase: Phase, absent: set[str], absent_next: set[str]) -> Phase:
        drafts = [*self._on_time(phase, absent, absent_next), *self._hostile(phase)]
        if phase.has_late:
            drafts += self._late(phase, absent)
        drafts += self._passing(phase)
        for _, draft in sorted(enumerate(drafts), key=lambda one: (one[1].arrives, one[0])):
            phase.records.append(self._numbered(draft))
        closing = {"type": "time_passed", "until": phase.end_ms}
        for source in range(SOURCES):
            for partition in range(self.partitions):
                draft = _Draft(phase.end_ms, source, closing, partition)
                phase.records.append(self._numbered(draft))
        return phase

    def _numbered(self, draft: _Draft) -> Planned:
        event = draft.event
        key, partition = draft.key, draft.partition
        if partition is None:
            key = str(event["customer_id"]).encode()
            partition = partition_of(key, self.partitions)
        offset = self._offsets[draft.source, partition]
        self._offsets[draft.source, partition] += 1
        payload = json.dumps(event).encode() if draft.payload is None else draft.payload
        # The record's own time is that of its sending, months later: history that is replayed.
        arrival = Arrival(draft.source, offset, START_MS << 1, event, dead=draft.reason is not None)
        return Planned(arrival, partition, key, payload, draft.reason)

    def _on_time(self, phase: Phase, absent: set[str], absent_next: set[str]) -> Iterator[_Draft]:
        draw = self._draw
        weights = [draw.random() ** 2 + 0.05 for _ in range(24)]
        slot_ms = PHASE_MS // len(weights)
        times = sorted(
            phase.start_ms + slot * slot_ms + draw.randrange(slot_ms)
            for slot in draw.choices(range(len(weights)), weights, k=self._events_a_phase)
        )
        quiet_from = phase.end_ms - GAP_MS - MINUTE_MS
        if phase.number == 0:
            for customer in self._loyal:
                source, event = self._event(customer, phase.start_ms + draw.randrange(slot_ms), 3)
                event |= {"type": "nps_answered", "score": draw.choice((9, 10))}
                yield _Draft(_at(event) + draw.randrange(BOUND_MS), source, event)
        present = [name for name in self._customers if name not in absent]
        staying = [name for name in present if name not in absent_next]
        for at_ms in times:
            among = present if at_ms < quiet_from else staying
            busy = draw.random() < 0.4
            customer = draw.choice(among[: len(among) // 10] if busy else among)
            source, event = self._event(customer, at_ms)
            self._past[customer, source].append(event)
            yield _Draft(at_ms + draw.randrange(BOUND_MS), source, event)
            if draw.random() < _DUPLICATES:
                yield _Draft(at_ms + draw.randrange(BOUND_MS), source, event)

    def _late(self, phase: Phase, absent: set[str]) -> Iterator[_Draft]:
        """Late, too late and repeated records of absent customers, each on one topic."""
        draw = self._draw
        topics = {customer: draw.randrange(SOURCES) for customer in sorted(absent)}
        counted_from = phase.end_ms - LATENESS_MS
        for _ in range(int(self._events_a_phase * _LATE)):
            customer = draw.choice(sorted(absent))
            source = topics[customer]
            arrives = phase.start_ms + draw.randrange(PHASE_MS)
            turn = draw.random()
            if turn < 0.25:
                at_ms = phase.start_ms - LATENESS_MS - 1 - draw.randrange(LATENESS_MS // 3)
                yield _Draft(arrives, source, self._event(customer, at_ms, source)[1])
                continue
            if turn < 0.5:
                # Of the last few, so that the id is still among the remembered ones.
                before = [
                    event
                    for event in self._past[customer, source][-4:]
                    if counted_from <= _at(event) < phase.start_ms
                ]
                if before:
                    yield _Draft(arrives, source, draw.choice(before))
                    continue
            at_ms = draw.randrange(counted_from, phase.start_ms)
            yield _Draft(arrives, source, self._event(customer, at_ms, source)[1])

    def _hostile(self, phase: Phase) -> Iterator[_Draft]:
        draw = self._draw
        count = int(self._events_a_phase * _HOSTILE)
        for bad in hostile(
            count,
            at_ms=phase.start_ms,
            future_ms=4_102_444_800_000,
            partitions=self.partitions,
            seed=draw.randrange(1 << 30),
        ):
            yield _Draft(
                phase.start_ms + draw.randrange(PHASE_MS),
                int(bad.source),
                {},
                bad.partition,
                bad.key,
                bad.payload,
                bad.reason,
            )

    def _passing(self, phase: Phase) -> Iterator[_Draft]:
        """Now and then a producer says that time has passed, without making anything late."""
        draw = self._draw
        for _ in range(4):
            arrives = phase.start_ms + BOUND_MS + draw.randrange(PHASE_MS - BOUND_MS)
            said = {"type": "time_passed", "until": arrives - BOUND_MS}
            yield _Draft(arrives, draw.randrange(SOURCES), said, draw.randrange(self.partitions))

    def _event(self, customer: str, at_ms: int, source: int | None = None) -> tuple[int, Event]:
        draw = self._draw
        self._made += 1
        if source is None:
            (source,) = draw.choices(range(SOURCES), (60, 20, 10, 10))
        moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
        event = {
            **_BODIES[source](draw, customer),
            "event_id": f"event-{self.seed}-{self._made}",
            "customer_id": customer,
            # Both spellings of a time.
            "occurred_at": at_ms if self._made % 3 else moment.isoformat(timespec="milliseconds"),
        }
        if draw.random() < 0.15:
            event["persona"] = draw.choice((*PERSONAS, "stranger"))
        if draw.random() < 0.15:
            event["region"] = draw.choice((*REGIONS, "moon"))
        return source, event


def settings() -> dict[str, dict[str, object]]:
    """The configuration that the stream is made for, section by section."""
    return {
        "windows": {"hopping": [f"{text_of(w)}/{text_of(hop)}" for w, hop in WINDOWS]},
        "sessions": {"gap": text_of(GAP_MS)},
        "segments": {"persona": list(PERSONAS), "region": list(REGIONS)},
        "channels": {"values": list(CHANNELS)},
        "networks": {"values": list(NETWORKS)},
        "support": {"channels": list(SUPPORT_CHANNELS)},
        "time": {
            "max_out_of_orderness": text_of(BOUND_MS),
            "allowed_lateness": text_of(LATENESS_MS),
            # No input is taken as idle while a worker or a broker is down: that would move the watermark.
            "idle_after": "10m",
        },
        # Every boundary is published, although all of this is history by the clock.
        "rollup": {"history_hop": "1s"},
    }


def oracle_config() -> OracleConfig:
    """The same for the oracle."""
    return OracleConfig(
        session_gap_ms=GAP_MS,
        base_ms=min(hop for _, hop in WINDOWS),
        segments={"persona": PERSONAS, "region": REGIONS},
        channels=CHANNELS,
        networks=NETWORKS,
        support_channels=SUPPORT_CHANNELS,
    )


def _at(event: Event) -> int:
    when = event["occurred_at"]
    if isinstance(when, int):
        return when
    return round(datetime.datetime.fromisoformat(when).timestamp() * 1000)


def _session(draw: random.Random, customer: str) -> Event:
    if draw.random() < 0.1:
        ended: Event = {"type": "session_ended"}
        return ended | (
            {"session_id": f"{customer}-{draw.randrange(3)}"} if draw.random() < 0.5 else {}
        )
    view: Event = {"type": "page_viewed", "page": "/"}
    if draw.random() < 0.5:
        view["session_id"] = f"{customer}-{draw.randrange(3)}"
    if draw.random() < 0.8:
        view["channel"] = draw.choice((*CHANNELS, "carrier pigeon"))
    return view


def _purchase(draw: random.Random, customer: str) -> Event:
    turn = draw.random()
    if turn < 0.15:
        kind = draw.choice(("started", "renewed", "cancelled"))
        return {"type": f"subscription_{kind}", "plan": "basic"}
    return {
        "type": "order_refunded" if turn < 0.25 else "order_placed",
        "order_id": f"order of {customer}",
        "amount": f"{draw.randrange(30_000) / 100:.2f}",
        "currency": "USD",
    }


def _social(draw: random.Random, _: str) -> Event:
    actions = ("mention", "like", "share", "comment", "follow", "unlike", "unfollow", "delete")
    event: Event = {
        "type": "social_interacted",
        "network": draw.choice(("fediverse", "forum")),
        "action": draw.choice(actions),
    }
    if draw.random() < 0.5:
        event["sentiment"] = draw.randrange(-100, 101) / 100
    if draw.random() < 0.5:
        event["impressions"] = draw.randrange(100)
    return event


def _support(draw: random.Random, customer: str) -> Event:
    turn = draw.random()
    channel = draw.choice(("email", "chat", "phone"))
    if turn < 0.25:
        return {"type": "nps_answered", "score": draw.randrange(11)}
    ticket = f"{customer}-{draw.randrange(3)}"
    if turn < 0.5:
        scale = draw.choice((5, 10))
        score = draw.randrange(1, scale + 1)
        return {"type": "csat_answered", "channel": channel, "score": score, "scale_max": scale}
    if turn < 0.7:
        return {"type": "ticket_opened", "ticket_id": ticket, "channel": channel}
    return {
        "type": f"ticket_{draw.choice(('replied', 'resolved', 'reopened'))}",
        "ticket_id": ticket,
    }


_BODIES = {
    int(Source.SESSIONS): _session,
    int(Source.PURCHASES): _purchase,
    int(Source.SOCIAL): _social,
    int(Source.SUPPORT): _support,
}
