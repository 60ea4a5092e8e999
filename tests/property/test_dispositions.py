"""What becomes of every record, held against the rules spelled out slowly."""

from __future__ import annotations

import random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schemas.topics import Source
from tests.oracle.generate import DAYS, MINUTES, MONTHS, SHAPES, arrivals, batches, history
from tests.oracle.lives import Shape
from tests.oracle.rules import SOURCES, Arrival, Fate, Quiet, Rules, account
from tests.property.engine_runs import Run, config_of

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # a smaller seed is no smaller stream
pytestmark = pytest.mark.property


def rules_of(shape: Shape) -> Rules:
    return Rules(out_of_orderness_ms=shape.bound_ms, lateness_ms=shape.lateness_ms)


def assert_same_account(engine: Run, rules: Rules) -> None:
    for source in range(SOURCES):
        said = engine.partition.account(Source(source))
        assert said.balances
        right = account(rules.judged, source)
        assert {name: getattr(said, name) for name in right} == right
    assert engine.too_late == [
        (one.arrival.source, one.arrival.offset)
        for one in rules.judged
        if one.fate is Fate.TOO_LATE
    ]
    if rules.watermark is not None:
        assert engine.partition.watermark == rules.watermark


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@settings(max_examples=3, phases=UNSHRUNK)
@given(seed=st.integers(0, 10**9))
def test_every_record_is_counted_under_the_heading_the_rules_say(shape: Shape, seed: int) -> None:
    stream = arrivals(shape, history(shape, seed), seed)
    engine, rules = Run(config_of(shape)), rules_of(shape)
    for number, batch in enumerate(batches(stream, seed, size=12)):
        engine.feed(batch)
        rules.run(batch)
        if number % 8 == 0:
            assert_same_account(engine, rules)
    assert_same_account(engine, rules)
    assert sum(one.fate is Fate.WAITING for one in rules.judged) <= 1


@settings(max_examples=4, phases=UNSHRUNK)
@given(seed=st.integers(0, 10**9))
def test_idle_inputs_hold_nobody_back_until_they_speak_again(seed: int) -> None:
    shape = MINUTES
    rng = random.Random(seed)
    stream = [one for one in arrivals(shape, history(shape, seed), seed) if not one.is_control]
    engine, rules = Run(config_of(shape)), rules_of(shape)
    for number, batch in enumerate(batches(stream, seed, size=12)):
        engine.feed(batch)
        rules.run(batch)
        if rng.random() < 0.3:
            silent = rng.sample(range(SOURCES), rng.randrange(1, SOURCES))
            engine.quiet(silent, now_ms=number)
            rules.run([Quiet(frozenset(silent))])
        if number % 8 == 0:
            assert_same_account(engine, rules)
    assert_same_account(engine, rules)


one_customer = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 0, 1, 2, 3)),
        st.one_of(st.integers(-30_000, 30_000), st.integers(-100_000_000, 100_000_000)),
        st.integers(0, 20),
        st.booleans(),
    ),
    max_size=60,
)
KINDS = ("session_ended", "subscription_renewed", "social_interacted", "nps_answered")
FIELDS: tuple[dict[str, object], ...] = (
    {},
    {"plan": "gold"},
    {"network": "fedi", "action": "like"},
    {"score": 7},
)


@given(steps=one_customer)
def test_duplicates_of_one_customer(steps: list[tuple[int, int, int, bool]]) -> None:
    """Few ids, many repetitions, days between them, on all four inputs."""
    engine, rules = Run(config_of(DAYS)), rules_of(DAYS)
    now = MONTHS.end_ms
    for offset, (source, step, name, jump) in enumerate(steps):
        now = now + abs(step) if jump else now
        time = now if jump else now + min(step, 0)
        event = {
            "type": KINDS[source],
            "customer_id": "c",
            "event_id": f"event {name}",
            "occurred_at": time,
            **FIELDS[source],
        }
        batch = [Arrival(source, offset, time, event)]
        engine.feed(batch)
        rules.run(batch)
        silent = [other for other in range(SOURCES) if other != source]
        engine.quiet(silent, now_ms=offset)
        rules.run([Quiet(frozenset(silent))])
        assert_same_account(engine, rules)
