"""Seeded streams of events that live on the edges: gaps hit to the millisecond, days cut in two, long silences.

A stream is made in two steps. `history` draws what customers did, in event time. `arrivals` turns that into what
reaches the four topic-partitions: jitter within the bound, duplicates, late and too late records, fast producer
clocks, records that must be refused, and control records at the end (and now and then before it).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tests.oracle.lives import EPOCH_MS, HOUR_MS, MINUTE_MS, Event, Life, Shape
from tests.oracle.rules import DAY_MS, SOURCES, Arrival, source_of

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
SEASONS = Shape(
    name="seasons",
    windows=(
        (DAY_MS, 6 * HOUR_MS),
        (7 * DAY_MS, DAY_MS),
        (28 * DAY_MS, DAY_MS),
        (60 * DAY_MS, DAY_MS),
        (90 * DAY_MS, DAY_MS),
    ),
    session_gap_ms=30 * MINUTE_MS,
    base_ms=30 * MINUTE_MS,
    span_ms=250 * DAY_MS,
    customers=12,
    visits=12,
    lateness_ms=3 * DAY_MS,
    marathons=False,
)
YEARS = Shape(
    name="years",
    windows=(
        (6 * HOUR_MS, 6 * HOUR_MS),
        (DAY_MS, 6 * HOUR_MS),
        (3 * DAY_MS, DAY_MS),
        (7 * DAY_MS, DAY_MS),
        (10 * DAY_MS, DAY_MS),
    ),
    session_gap_ms=30 * MINUTE_MS,
    base_ms=30 * MINUTE_MS,
    span_ms=600 * DAY_MS,
    customers=16,
    visits=14,
    marathons=False,
)
"""Long enough for customers to leave memory and come back."""
SHAPES = (MINUTES, DAYS, MONTHS, SEASONS)


def history(shape: Shape, seed: int) -> list[Event]:
    """What the customers did, in order of event time."""
    rng = random.Random(f"history {shape.name} {seed}")
    events = [
        event
        for number in range(shape.customers)
        for event in Life(shape, rng, f"customer-{number}").events()
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
