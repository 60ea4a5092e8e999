"""Three customer dimensions, one of them with a name of one's own, held against the oracle: whoever moves between
their values, is put away and comes back, in a stream and in a file.
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decode import Decoder
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.metrics import BY_NAME
from streams.segments import dimensions
from tests.oracle.generate import SHAPES, YEARS, arrivals, batches, history
from tests.oracle.lives import PERSONAS, REGIONS, Shape
from tests.oracle.metrics import Expected, Key, compute
from tests.oracle.rules import Arrival, Rules
from tests.property.comparison import differences
from tests.property.engine_runs import (
    CURRENCIES,
    Run,
    config_of,
    fed,
    instants,
    oracle_config_of,
    payload_of,
    results_at,
)
from tests.property.test_engine_and_oracle import EVERYBODY, UNSHRUNK

pytestmark = pytest.mark.property

TIERS = ("gold", "silver", "basic")
DIMENSIONS = {"region": REGIONS, "tier": TIERS, "persona": PERSONAS}
"""Neither alone nor in the usual order."""
seeds = st.integers(0, 10**9)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def of_three(shape: Shape) -> CoreConfig:
    config = config_of(shape)
    segments = msgspec.structs.replace(config.segments, customer=dimensions(**DIMENSIONS))
    return msgspec.structs.replace(config, segments=segments)


def with_tiers(events: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Some events tell the tier, now and then a new one or one that is not listed; some of them everything."""
    rng = random.Random(f"tiers {seed}")
    now: dict[str, str | None] = {}
    told: dict[str, set[str]] = defaultdict(set)
    for event in events:
        customer = event["customer_id"]
        if customer not in now or rng.random() < 0.1:
            now[customer] = rng.choice((*TIERS, "platinum", None))
        tier = now[customer]
        if tier is not None and rng.random() < 0.5:
            event["tier"] = tier
            told[customer].add(tier)
            if rng.random() < 0.3:
                event |= {"persona": rng.choice(PERSONAS), "region": rng.choice(REGIONS)}
    assert any(len(tiers) > 1 for tiers in told.values()), "nobody moves"
    return list(events)


def expected_of(
    shape: Shape, cut: Sequence[Sequence[Arrival]], wanted: Sequence[tuple[int, int, int]]
) -> dict[Key, Expected]:
    rules = Rules(out_of_orderness_ms=shape.bound_ms, lateness_ms=shape.lateness_ms)
    judged = rules.run(one for batch in cut for one in batch)
    oracle = dataclasses.replace(oracle_config_of(shape), segments=DIMENSIONS)
    return compute(judged, oracle, [(t, w) for t, w, _ in wanted])


def differences_of(
    engine: Run, shape: Shape, cut: Sequence[Sequence[Arrival]], seed: int
) -> list[str]:
    wanted = instants(shape, seed, each=8)
    expected = expected_of(shape, cut, wanted)
    assert {key[3] for key in expected} >= {"", *DIMENSIONS}
    return differences(results_at(engine.config, [engine], wanted), expected, metrics=BY_NAME)


@shapes
@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_every_metric_by_each_of_three_dimensions_is_what_the_oracle_says(
    shape: Shape, seed: int
) -> None:
    stream = arrivals(shape, with_tiers(history(shape, seed), seed), seed)
    cut = batches(stream, seed, size=12)
    assert differences_of(fed(of_three(shape), cut), shape, cut, seed) == []


@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_whoever_is_put_away_comes_back_to_the_same_values(seed: int) -> None:
    stream = arrivals(YEARS, with_tiers(history(YEARS, seed), seed), seed)
    cut = batches(stream, seed, size=12)
    engine, most = Run(of_three(YEARS)), 0
    for batch in cut:
        engine.feed(batch)
        state = engine.partition.state
        state.put_away(looked_at=EVERYBODY, moved=EVERYBODY)
        most = max(most, len(state.evicted))
    assert most
    assert differences_of(engine, YEARS, cut, seed) == []


@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_a_file_gives_by_three_dimensions_what_a_stream_gives(seed: int) -> None:
    shape = SHAPES[0].on_time()
    config = of_three(shape)
    stream = arrivals(shape, with_tiers(history(shape, seed), seed), seed)
    decode = Decoder(CURRENCIES, config.segments.names).decode
    decoded = [decode(payload_of(one.event)) for one in stream if not one.is_control]
    widest = max(hop for _, hop in shape.windows)
    ats = sorted({t // widest * widest for t, _, _ in instants(shape, seed, each=4)})
    wanted = [(at, w, hop) for at in ats for w, hop in shape.windows]
    streamed = results_at(config, [fed(config, batches(stream, seed, size=12))], wanted)
    assert evaluate(config, decoded, ats) == streamed
