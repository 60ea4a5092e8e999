"""Every metric of every window, held against whole-table SQL over what the rules say was folded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streams.metrics import BY_NAME
from tests.oracle.generate import SHAPES, YEARS, arrivals, batches, history
from tests.oracle.lives import Shape
from tests.oracle.metrics import METRICS, compute
from tests.oracle.rules import Arrival, Rules
from tests.property.comparison import differences
from tests.property.engine_runs import Run, config_of, instants, oracle_config_of, results_at, run

pytestmark = pytest.mark.property

shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # a smaller seed is no smaller stream
seeds = st.integers(0, 10**9)


EVERYBODY = 10**9


def disagreements(shape: Shape, cut: Sequence[Sequence[Arrival]], seed: int) -> list[str]:
    return differences_of(run(shape, cut), shape, cut, seed)


def differences_of(
    engine: Run, shape: Shape, cut: Sequence[Sequence[Arrival]], seed: int
) -> list[str]:
    """What an engine that was fed the stream says otherwise than the oracle."""
    wanted = instants(shape, seed, each=12)
    assert len({w for _, w, _ in wanted}) >= 4
    assert len(wanted) >= 50
    rules = Rules(out_of_orderness_ms=shape.bound_ms, lateness_ms=shape.lateness_ms)
    judged = rules.run(one for batch in cut for one in batch)
    expected = compute(judged, oracle_config_of(shape), [(t, w) for t, w, _ in wanted])
    results = results_at(config_of(shape), [engine], wanted)
    return differences(results, expected, metrics=BY_NAME)


def test_the_engine_and_the_oracle_know_the_same_metrics() -> None:
    assert set(BY_NAME) == set(METRICS)


@shapes
@settings(max_examples=4, phases=UNSHRUNK)
@given(seed=seeds)
def test_every_metric_is_what_the_oracle_says(shape: Shape, seed: int) -> None:
    stream = arrivals(shape, history(shape, seed), seed)
    assert disagreements(shape, batches(stream, seed, size=12), seed) == []


@shapes
@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_every_metric_is_what_the_oracle_says_of_a_stream_without_late_records(
    shape: Shape, seed: int
) -> None:
    stream = arrivals(shape.on_time(), history(shape, seed), seed)
    assert disagreements(shape, batches(stream, seed, size=12), seed) == []


@settings(max_examples=4, phases=UNSHRUNK)
@given(seed=seeds)
def test_whoever_is_put_away_is_in_every_figure(seed: int) -> None:
    """As soon as they may, customers are packed and leave memory; some of them come back."""
    stream = arrivals(YEARS, history(YEARS, seed), seed)
    cut = batches(stream, seed, size=12)
    engine, most, returned = Run(config_of(YEARS)), 0, False
    for batch in cut:
        engine.feed(batch)
        state = engine.partition.state
        returned = returned or len(state.evicted) < most
        state.put_away(looked_at=EVERYBODY, moved=EVERYBODY)
        most = max(most, len(state.evicted))
    assert most
    assert returned
    assert differences_of(engine, YEARS, cut, seed) == []
