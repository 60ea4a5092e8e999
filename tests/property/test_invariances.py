"""What must not matter does not matter: order within the bound, batches, partitions, the road to the core."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schemas.decode import Decoder
from schemas.topics import Source
from streams.evaluate import evaluate
from streams.partition import TickSums
from tests.oracle.generate import DAYS, SHAPES, Shape, arrivals, batches, history, split
from tests.property.engine_runs import (
    CURRENCIES,
    Run,
    config_of,
    instants,
    payload_of,
    results_at,
    run,
    scatter,
)

pytestmark = pytest.mark.property

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # a smaller seed is no smaller stream
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
seeds = st.integers(0, 10**9)


class Word:
    """What a partition said of one window, boundary by boundary."""

    def __init__(self, ticks: Iterable[TickSums], window: int) -> None:
        self.ticks = [tick for tick in ticks if tick.window == window]
        self.ends = [tick.end_ms for tick in self.ticks]

    def at(self, t: int) -> tuple[object, ...]:
        tick = self.ticks[bisect_right(self.ends, t) - 1]
        assert tick.end_ms <= t <= tick.valid_through_ms
        return (tick.sums.tobytes(), tick.durations.tobytes(), tick.observed_from_ms)


def assert_same(one: Run, other: Run) -> None:
    assert one.partition.watermark == other.partition.watermark
    for source in Source:
        assert one.partition.account(source) == other.partition.account(source)
    for number in range(len(one.config.windows.windows)):
        mine, theirs = Word(one.ticks, number), Word(other.ticks, number)
        assert mine.ends == sorted(set(mine.ends))
        assert mine.ticks[-1].valid_through_ms == theirs.ticks[-1].valid_through_ms
        for t in {*mine.ends, *theirs.ends}:
            assert mine.at(t) == theirs.at(t)


@shapes
@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_the_order_of_arrival_within_the_bound_does_not_matter(shape: Shape, seed: int) -> None:
    shape = shape.on_time()
    events = history(shape, seed)
    one, other = (
        run(shape, batches(arrivals(shape, events, seed, jitter=jitter), jitter, size=12))
        for jitter in (1, 2)
    )
    assert_same(one, other)


@shapes
@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_the_cut_into_batches_does_not_matter_even_with_late_records(
    shape: Shape, seed: int
) -> None:
    cut = batches(arrivals(shape, history(shape, seed), seed), seed, size=40)
    assert_same(run(shape, cut), run(shape, split(cut, seed)))


@shapes
@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_eight_partitions_together_are_one(shape: Shape, seed: int) -> None:
    shape = shape.on_time()
    cut = batches(arrivals(shape, history(shape, seed), seed), seed, size=12)
    wanted = instants(shape, seed, each=12)
    config = config_of(shape)
    whole = results_at(config, [run(shape, cut)], wanted)
    parts = results_at(config, [run(shape, part) for part in scatter(cut, 8)], wanted)
    assert whole == parts


@shapes
@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_a_file_gives_what_a_stream_gives(shape: Shape, seed: int) -> None:
    shape = shape.on_time()
    stream = arrivals(shape, history(shape, seed), seed)
    decoder = Decoder(CURRENCIES)
    decoded = [decoder.decode(payload_of(one.event)) for one in stream if not one.is_control]
    widest = max(hop for _, hop in shape.windows)
    ats = sorted({t // widest * widest for t, _, _ in instants(shape, seed, each=8)})
    config = config_of(shape)
    wanted = [(at, w, hop) for at in ats for w, hop in shape.windows]
    streamed = results_at(config, [run(shape, batches(stream, seed, size=12))], wanted)
    assert evaluate(config, decoded, ats) == streamed


@shapes
@settings(max_examples=2, phases=UNSHRUNK)
@given(seed=seeds)
def test_what_always_holds(shape: Shape, seed: int) -> None:
    cut = batches(arrivals(shape, history(shape, seed), seed), seed, size=12)
    config = config_of(shape)
    engine = run(shape, cut)
    for source in Source:
        assert engine.partition.account(source).balances
    for values in spots(engine, shape, seed):
        total = {metric: by_label["", ""] for metric, by_label in values.items()}
        if total["base_customers"] is not None:
            assert total["active_customers"] == (
                total["retained_customers"]
                + total["new_customers"]
                + total["reactivated_customers"]
            )
            assert (
                total["base_customers"] == total["retained_customers"] + total["churned_customers"]
            )
        assert total["sessions_converted"] <= total["sessions_closed"]
        assert total["new_buyers"] <= total["buyers"] <= total["orders"]
        assert total["buyers"] <= total["orders"] == total["repeat_orders"] + total["new_buyers"]
        assert total["visitors"] <= total["page_views"]
        assert total["active_customers"] <= total["active_days"]
        assert total["new_customers"] <= total["active_customers"]
        for metric in ("page_views", "sessions_closed", "orders", "repeat_orders", "active_days"):
            for dimension in config.segments.reported:
                parts = [v for (d, _), v in values[metric].items() if d == dimension]
                assert sum(parts) == total[metric]
        for metric in ("sessions_started", "sessions_closed", "sessions_converted"):
            assert total[metric] == sum(v for (d, _), v in values[metric].items() if d == "channel")
        for metric, by_label in values.items():
            if metric not in {"net_revenue", "refunded"}:
                assert all(value is None or value >= 0 for value in by_label.values()), metric


def spots(engine: Run, shape: Shape, seed: int) -> Iterator[dict[str, dict[tuple[str, str], Any]]]:
    """For each instant, metric -> (dimension, label) -> value; undefined ratios are None."""
    for spot in instants(shape, seed, each=12):
        values: dict[str, dict[tuple[str, str], Any]] = {}
        for result in results_at(engine.config, [engine], [spot]):
            label = next(iter((result.segment | result.dimensions).items()), ("", ""))
            values.setdefault(result.metric, {})[label] = result.value
        yield values


def test_time_that_passes_in_silence_costs_no_reports() -> None:
    """Years without an event are a handful of reports, and the last one is empty."""
    shape = DAYS.on_time()
    stream = arrivals(shape, history(shape, 1), 1)
    engine = run(shape, [[one] for one in stream])
    before = len(engine.ticks)
    distant = shape.end_ms + 3650 * 86_400_000
    for one in stream[-4:]:
        until = {"type": "time_passed", "until": distant}
        engine.feed([type(one)(one.source, one.offset + 1, distant, until)])
    assert len(engine.ticks) - before < 3000
    for number in range(len(engine.config.windows.windows)):
        last = Word(engine.ticks, number).ticks[-1]
        assert last.valid_through_ms // 86_400_000 == distant // 86_400_000
        assert not last.sums.any()
