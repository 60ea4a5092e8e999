"""The stream of the chaos tests: its fates do not depend on how the topics are interleaved."""

from __future__ import annotations

import random
from collections import Counter, deque

import pytest

from tests.oracle.metrics import compute
from tests.oracle.rules import Fate
from tests.rig.phased_stream import PhasedStream, Planned, oracle_config

pytestmark = pytest.mark.unit


def fates(stream: PhasedStream, order: list[Planned] | None = None) -> dict[object, Fate]:
    found: dict[object, Fate] = {}
    place = {
        (one.partition, id(one.arrival)): one.origin
        for phase in stream.phases
        for one in phase.records
    }
    numbers = {id(one.arrival): one.partition for one in stream.all()}
    for judged in stream.judged(order):
        key = id(judged.arrival)
        found[place[numbers[key], key]] = judged.fate
    return found


def interleaved(stream: PhasedStream, seed: int) -> list[Planned]:
    """Another order: each topic-partition in its own, nothing across a barrier."""
    draw = random.Random(seed)
    found: list[Planned] = []
    stretch: dict[tuple[int, int], deque[Planned]] = {}

    def spill() -> None:
        while stretch:
            chosen = draw.choice(sorted(stretch))
            run = stretch[chosen]
            found.extend(run.popleft() for _ in range(min(len(run), draw.randrange(1, 60))))
            if not run:
                del stretch[chosen]

    for phase in stream.phases:
        if phase.waits:
            spill()
        for one in phase.records:
            stretch.setdefault(one.origin[:2], deque()).append(one)
    spill()
    return found


@pytest.mark.parametrize("seed", range(3))
def test_no_fate_depends_on_the_order_between_topics(seed: int) -> None:
    stream = PhasedStream(seed, 6, late_phases=(2, 4), events_a_phase=400, customers=80)
    right = fates(stream)
    assert Fate.WAITING not in right.values()
    for order in range(4):
        assert fates(stream, interleaved(stream, order)) == right


def test_no_result_that_can_be_told_in_advance_depends_on_that_order_either() -> None:
    stream = PhasedStream(7, 5, late_phases=(2, 3), events_a_phase=300, customers=80)
    ticks = [(t, w) for t, w, _ in stream.ticks()]
    right = compute(stream.judged(), oracle_config(), ticks)
    assert len(right) > 10_000
    for order in range(2):
        assert compute(stream.judged(interleaved(stream, order)), oracle_config(), ticks) == right


def test_every_fate_occurs() -> None:
    stream = PhasedStream(3, 6, late_phases=(2, 4), events_a_phase=600, customers=120)
    counts = Counter(fates(stream).values())
    for fate in Fate:
        if fate is not Fate.WAITING:
            assert counts[fate] >= 20, (fate, counts)


def test_a_seed_gives_the_same_stream_and_another_seed_another_one() -> None:
    first, again, other = (
        [
            (one.origin, one.key, one.payload)
            for one in PhasedStream(seed, 3, events_a_phase=50).all()
        ]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
