"""Seeded streams of events that live on the edges: gaps hit to the millisecond, days cut in two, long silences.

A stream is made in two steps. `history` draws what customers did, in event time. `arrivals` turns that into what
reaches the four topic-partitions: jitter within the bound, duplicates, late and too late records, fast producer
clocks, records that must be refused, and control records at the end (and now and then before it).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tests.oracle.rules import DAY_MS, SOURCES, Arrival

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
EPOCH_MS = 1_700_006_400_000  # 2023-11-15T00:00:00Z: a UTC day begins
SESSIONS, PURCHASES, SOCIAL, SUPPORT = range(SOURCES)
PERSONAS = ("browser", "collector", "hunter")
REGIONS = ("north", "south")
CHANNELS = ("email", "search")

Event: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a stream looks: its span, its customers and the windows that it is made for."""

    name: str
    windows: tuple[tuple[int, int], ...]
    session_gap_ms: int
    base_ms: int
    span_ms: int
    customers: int
    visits: int
    bound_ms: int = 5_000
    lateness_ms: int = DAY_MS
    late_share: float = 0.05
    duplicate_share: float = 0.05
    marathons: bool = True

    @property
    def end_ms(self) -> int:
        """The end of time: two of the largest windows fit before it, and some silence after the last event."""
        return EPOCH_MS + self.span_ms

    def on_time(self) -> Shape:
        """The same without late records."""
        return replace(self, late_share=0.0)


MINUTES = Shape(
    name="minutes",
    windows=(
        (MINUTE_MS, 10_000),
        (5 * MINUTE_MS, 10_000),
        (10 * MINUTE_MS, MINUTE_MS),
        (HOUR_MS, MINUTE_MS),
        (2 * HOUR_MS, 10 * MINUTE_MS),
    ),
    session_gap_ms=45_000,
    base_ms=10_000,
    span_ms=5 * HOUR_MS,
    customers=12,
    visits=14,
    lateness_ms=20 * MINUTE_MS,
    marathons=False,
)
DAYS = Shape(
    name="days",
    windows=(
        (HOUR_MS, 10 * MINUTE_MS),
        (24 * HOUR_MS, 10 * MINUTE_MS),
        (24 * HOUR_MS, HOUR_MS),
        (3 * DAY_MS, HOUR_MS),
        (5 * DAY_MS, 6 * HOUR_MS),
    ),
    session_gap_ms=30 * MINUTE_MS,
    base_ms=10 * MINUTE_MS,
    span_ms=12 * DAY_MS,
    customers=12,
    visits=16,
)
MONTHS = Shape(
    name="months",
    windows=(
        (DAY_MS, HOUR_MS),
        (7 * DAY_MS, HOUR_MS),
        (7 * DAY_MS, DAY_MS),
        (14 * DAY_MS, DAY_MS),
        (28 * DAY_MS, DAY_MS),
    ),
    session_gap_ms=30 * MINUTE_MS,
    base_ms=30 * MINUTE_MS,
    span_ms=65 * DAY_MS,
    customers=14,
    visits=14,
)
SHAPES = (MINUTES, DAYS, MONTHS)


def history(shape: Shape, seed: int) -> list[Event]:
    """What the customers did, in order of event time."""
    rng = random.Random(f"history {shape.name} {seed}")
    events = [
        event
        for number in range(shape.customers)
        for event in _Life(shape, rng, f"customer-{number}").events()
    ]
    events.sort(key=lambda event: event["occurred_at"])
    for number, event in enumerate(events):
        event["event_id"] = f"event-{number}"
    return events


def arrivals(shape: Shape, events: Sequence[Event], seed: int, *, jitter: int = 0) -> list[Arrival]:
    """The records as they arrive. Without late ones, every event arrives within the bound.

    `seed` chooses the records, `jitter` their order within the bound. The order of equal times within a
    topic-partition is that of `events`, whatever the jitter.
    """
    rng = random.Random(f"arrivals {shape.name} {seed}")
    shaken = random.Random(f"jitter {shape.name} {seed} {jitter}")
    timed: list[tuple[int, int, Event, bool]] = []
    for event in events:
        time = event["occurred_at"]
        arrives = time + shaken.randrange(shape.bound_ms + 1)
        if rng.random() < shape.late_share:
            arrives = time + shape.bound_ms + _lateness(shape, rng)
            timed += _passing(shape, arrives, len(timed))
        timed.append((arrives, len(timed), event, False))
        if rng.random() < shape.duplicate_share:
            again = arrives + rng.choice((0, 1, 2_000, MINUTE_MS, shape.session_gap_ms, DAY_MS))
            if not shape.late_share:
                again = time + shaken.randrange(shape.bound_ms + 1)
            timed.append((again, len(timed), dict(event), False))
    if shape.late_share:
        timed += _noise(shape, rng, len(timed))
    timed.sort(key=lambda one: one[:2])
    return [*_number(_ties_in_order(timed), shaken, shape), *closing(shape, timed)]


def batches(found: Sequence[Arrival], seed: int, size: int) -> list[list[Arrival]]:
    """Cut a stream into runs of one topic-partition each, as a consumer fetches them.

    Within a stretch of about `size` records the sources are served one after the other, so the stream that the
    batches spell is *not* the given one: what they hold is the arrival order that counts.
    """
    rng = random.Random(f"batches {seed}")
    cut: list[list[Arrival]] = []
    start = 0
    while start < len(found):
        stop = start + rng.randrange(1, 2 * size + 1)
        order = rng.sample(range(SOURCES), SOURCES)
        for source in order:
            run = [one for one in found[start:stop] if one.source == source]
            if run:
                cut.append(run)
        start = stop
    return cut


def split(cut: Sequence[Sequence[Arrival]], seed: int) -> list[list[Arrival]]:
    """The same arrival order in smaller batches."""
    rng = random.Random(f"split {seed}")
    pieces: list[list[Arrival]] = []
    for batch in cut:
        rest = list(batch)
        while rest:
            taken = rng.randrange(1, len(rest) + 1)
            pieces.append(rest[:taken])
            rest = rest[taken:]
    return pieces


def closing(shape: Shape, timed: Sequence[tuple[int, int, Event, bool]]) -> Iterator[Arrival]:
    """Time passes on every source until the end of the stream."""
    for source in range(SOURCES):
        until = {"type": "time_passed", "until": shape.end_ms}
        yield Arrival(source, len(timed) + 1, shape.end_ms, until)


def _ties_in_order(
    timed: Sequence[tuple[int, int, Event, bool]],
) -> list[tuple[int, int, Event, bool]]:
    """Let the events of one time and source arrive in the order in which they were drawn."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (_, _, event, dead) in enumerate(timed):
        if not dead and event["type"] != "time_passed":
            groups.setdefault((event["occurred_at"], source_of(event)), []).append(index)
    ordered = list(timed)
    for places in groups.values():
        drawn = sorted((timed[place] for place in places), key=lambda one: one[1])
        for place, (_, number, event, dead) in zip(places, drawn, strict=True):
            ordered[place] = (timed[place][0], number, event, dead)
    return ordered


def _number(
    timed: Sequence[tuple[int, int, Event, bool]], rng: random.Random, shape: Shape
) -> Iterator[Arrival]:
    offsets = [0] * SOURCES
    for arrives, _, event, dead in timed:
        source = source_of(event)
        record_ms = arrives
        if dead:
            record_ms = event["occurred_at"] - 10 * MINUTE_MS
        elif rng.random() < 0.05:  # the event claims a time ahead of its record
            record_ms = event.get("occurred_at", arrives) - rng.randrange(shape.bound_ms)
        yield Arrival(source, offsets[source], record_ms, event, dead)
        offsets[source] += 1 + (rng.random() < 0.02)  # compacted and transactional topics have gaps


def _passing(shape: Shape, moment: int, drawn: int) -> Iterator[tuple[int, int, Event, bool]]:
    """Say on every source that time has passed: what arrives at `moment` behind it is late indeed."""
    for source in range(SOURCES):
        until = {"type": "time_passed", "until": moment - shape.bound_ms, "source": source}
        yield (moment, drawn, until, False)


def _noise(shape: Shape, rng: random.Random, drawn: int) -> Iterator[tuple[int, int, Event, bool]]:
    """Now and then time passes on a quiet source; some records lie in the future and must be refused."""
    steps = min(100, shape.span_ms // (shape.lateness_ms // 3))
    step = shape.span_ms // steps
    for number in range(steps):
        yield from _passing(shape, EPOCH_MS + number * step + rng.randrange(step), drawn)
        if number % 10 == 0:
            moment = EPOCH_MS + number * step
            future = {
                "type": "page_viewed",
                "event_id": f"future-{number}",
                "customer_id": "customer-0",
                "occurred_at": moment + HOUR_MS,
                "page": "/",
            }
            yield (moment, drawn, future, True)


def _lateness(shape: Shape, rng: random.Random) -> int:
    """How much later than the bound; the watermark may lag, so some of these are still in time."""
    return rng.choice(
        (
            rng.randrange(1, 10_000),
            rng.randrange(1, shape.session_gap_ms * 2),
            rng.randrange(1, shape.lateness_ms),
            rng.randrange(1, shape.lateness_ms),
            shape.lateness_ms + rng.randrange(1, shape.lateness_ms),
        )
    )


_SOURCE_OF = {
    "page_viewed": SESSIONS,
    "session_ended": SESSIONS,
    "order_placed": PURCHASES,
    "order_refunded": PURCHASES,
    "subscription_started": PURCHASES,
    "subscription_renewed": PURCHASES,
    "subscription_cancelled": PURCHASES,
    "social_interacted": SOCIAL,
}


def source_of(event: Mapping[str, Any]) -> int:
    """The topic on which an event stands."""
    if event["type"] == "time_passed":
        source: int = event["source"]
        return source
    return _SOURCE_OF.get(event["type"], SUPPORT)


class _Life:
    """One customer's days."""

    def __init__(self, shape: Shape, rng: random.Random, customer: str) -> None:
        self._shape = shape
        self._rng = rng
        self._customer = customer
        self._events: list[Event] = []
        self._persona = rng.choice((*PERSONAS, "stranger", None))
        self._region = rng.choice((*REGIONS, None))
        self._session = 0

    def events(self) -> list[Event]:
        rng, shape = self._rng, self._shape
        last = shape.end_ms - rng.choice((0, shape.windows[0][0], shape.span_ms // 5))
        time = EPOCH_MS + rng.randrange(shape.span_ms // 3)
        visits = rng.randrange(2, 2 * shape.visits)
        for _ in range(visits):
            if time >= last:
                break
            self._maybe_move()
            time = self._visit(self._snapped(time), last)
            time += self._silence()
        return [event for event in self._events if event["occurred_at"] < last]

    def _silence(self) -> int:
        """How long until the next visit: often a special length, to the millisecond."""
        rng, shape = self._rng, self._shape
        gap = shape.session_gap_ms
        w = rng.choice(shape.windows)[0]
        off = rng.choice((-1, 0, 1))
        return max(
            0,
            rng.choice(
                (
                    gap + off,
                    rng.randrange(3 * gap),
                    rng.randrange(1, shape.span_ms // shape.visits),
                    rng.randrange(1, shape.span_ms // shape.visits),
                    w + off,
                    rng.randrange(w),
                    min(2 * w + off, shape.span_ms // 2),
                    rng.randrange(1, shape.span_ms // 3),
                )
            ),
        )

    def _snapped(self, time: int) -> int:
        """Move a third of the visits to a boundary of a hop or a day."""
        rng = self._rng
        if rng.random() < 1 / 3:
            step = rng.choice((*(hop for _, hop in self._shape.windows), DAY_MS))
            snapped = -(-time // step) * step + rng.choice((-1, 0, 1))
            if snapped >= time and snapped - time <= self._shape.span_ms // 4:
                return snapped
        return time

    def _maybe_move(self) -> None:
        if self._rng.random() < 0.3:
            self._persona = self._rng.choice((*PERSONAS, "stranger"))
        if self._rng.random() < 0.2:
            self._region = self._rng.choice(REGIONS)

    def _visit(self, time: int, last: int) -> int:
        rng, gap = self._rng, self._shape.session_gap_ms
        session_id = self._new_session() if rng.random() < 0.5 else None
        views = rng.choice((0, 1, 1, 2, 3, 5, 8))
        if self._shape.marathons and rng.random() < 0.06:
            return self._marathon(time, session_id)
        for _ in range(views):
            self._view(time, session_id)
            self._beside(time, gap)
            if rng.random() < 0.1:
                session_id = rng.choice((None, self._new_session()))
            time += rng.choice(
                (0, 1, gap, gap - 1, gap + 1, rng.randrange(gap), rng.randrange(gap))
            )
            if time >= last:
                return time
        if rng.random() < 0.3:
            ended = rng.choice((session_id, None, self._new_session()))
            self._add(time + rng.choice((-1, 0, 1)), "session_ended", session_id=ended)
        if views == 0:
            self._beside(time, gap)
            self._order(time)
        return time

    def _marathon(self, time: int, session_id: str | None) -> int:
        """A robot that never rests: the session ends at 24 h, sometimes to the millisecond."""
        gap = self._shape.session_gap_ms
        start = time
        step = self._rng.choice((gap, gap // 3 * 2, gap - 1))
        while time - start < DAY_MS + 2 * gap:
            self._view(time, session_id)
            if self._rng.random() < 0.08:
                self._order(time + self._rng.choice((0, gap, step)))
            time += step
        self._order(start + DAY_MS + self._rng.choice((-1, 0)))
        return time

    def _beside(self, time: int, gap: int) -> None:
        """What happens around a page view."""
        rng = self._rng
        offset = rng.choice((0, gap, gap + 1, 1, -1, rng.randrange(gap), rng.randrange(4 * gap)))
        drawn = rng.random()
        if drawn < 0.25:
            self._order(time + offset)
        elif drawn < 0.30:
            self._add(
                time + offset, "order_refunded", order_id="o", amount=self._amount(), currency="USD"
            )
        elif drawn < 0.35:
            kind = rng.choice(("started", "renewed", "cancelled", "cancelled"))
            self._add(time + offset, f"subscription_{kind}", plan="gold")
        elif drawn < 0.40:
            self._maybe_move()
            self._add(
                time + offset, "social_interacted", network="fedi", action="like", sentiment=0.5
            )
        elif drawn < 0.45:
            self._maybe_move()
            self._add(time + offset, "nps_answered", score=rng.randrange(11))

    def _view(self, time: int, session_id: str | None) -> None:
        channel = self._rng.choice((*CHANNELS, "carrier pigeon", None))
        self._add(time, "page_viewed", page="/", session_id=session_id, channel=channel)

    def _order(self, time: int) -> None:
        currency = self._rng.choice(("USD", "USD", "EUR"))
        self._add(time, "order_placed", order_id="o", amount=self._amount(), currency=currency)

    def _amount(self) -> int | float | str:
        rng = self._rng
        return rng.choice(
            (
                0,
                rng.randrange(1, 500),
                f"{rng.randrange(1, 10**9) / 10**6:.6f}",
                f"{rng.randrange(10**6)}.{rng.randrange(100):02}",
                rng.randrange(10_000) / 100,
                "900000000.999999",
                "0.000001",
            )
        )

    def _new_session(self) -> str:
        self._session += 1
        return f"{self._customer}-session-{self._session}"

    def _add(self, time: int, kind: str, **fields: object) -> None:
        event: Event = {
            "type": kind,
            "customer_id": self._customer,
            "occurred_at": max(EPOCH_MS, time),
        }
        event.update((name, value) for name, value in fields.items() if value is not None)
        if self._persona is not None and self._rng.random() < 0.4:
            event["persona"] = self._persona
        if self._region is not None and self._rng.random() < 0.4:
            event["region"] = self._region
        self._events.append(event)
