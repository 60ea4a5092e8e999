"""What must not matter does not matter: order within the bound, batches, partitions, the road to the core."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schemas.decode import Decoder
from schemas.records import PublishedResult, Result
from schemas.topics import Source
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.moments import from_text
from streams.partition import TickSums
from streams.rollup import RollUp, result_id
from streams.sums import ROWS, STOCKS
from tests.oracle.generate import DAYS, MONTHS, SHAPES, arrivals, batches, history, split
from tests.oracle.lives import Shape
from tests.oracle.rules import DAY_MS, Arrival
from tests.property.comparison import milliseconds_of
from tests.property.engine_runs import (
    CURRENCIES,
    Run,
    config_of,
    instants,
    partials_of,
    payload_of,
    results_at,
    run,
    scatter,
)
from tests.rig.durable import MemoryLog, write
from tests.rig.sameness import differences

pytestmark = pytest.mark.property

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # a smaller seed is no smaller stream
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
seeds = st.integers(0, 10**9)
STREAMS = max(2, settings().max_examples // 60)
"""Of each shape: two, more where examples are searched for (HYPOTHESIS_PROFILE=search)."""
LIFETIME = ("clv_historic_mean",)


class Word:
    """What a partition said of one window, boundary by boundary."""

    def __init__(self, ticks: Iterable[TickSums], window: int) -> None:
        own = [tick for tick in ticks if tick.window == window and not tick.is_correction]
        # Silence before the first event may be told again, each time of a longer stretch.
        silent = sum(tick.end_ms == 0 for tick in own)
        self.ticks = own[max(0, silent - 1) :]
        self.ends = [tick.end_ms for tick in self.ticks]

    def at(self, t: int) -> tuple[object, ...]:
        tick = self.ticks[bisect_right(self.ends, t) - 1]
        assert tick.end_ms <= t <= tick.valid_through_ms
        return (tick.sums.tobytes(), tick.durations.tobytes(), tick.observed_from_ms)


def corrections(ticks: Iterable[TickSums], window: int) -> list[tuple[int, bytes]]:
    """Which boundaries of a window were corrected, in order, and how."""
    return [
        (tick.end_ms, tick.sums.tobytes())
        for tick in ticks
        if tick.window == window and tick.is_correction
    ]


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
        assert corrections(one.ticks, number) == corrections(other.ticks, number)


@shapes
@settings(max_examples=STREAMS, phases=UNSHRUNK)
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
@settings(max_examples=STREAMS, phases=UNSHRUNK)
@given(seed=seeds)
def test_the_cut_into_batches_does_not_matter_even_with_late_records(
    shape: Shape, seed: int
) -> None:
    cut = batches(arrivals(shape, history(shape, seed), seed), seed, size=40)
    assert_same(run(shape, cut), run(shape, split(cut, seed)))


@shapes
@settings(max_examples=STREAMS, phases=UNSHRUNK)
@given(seed=seeds)
def test_crashes_do_not_matter_even_with_late_records(shape: Shape, seed: int) -> None:
    """Checkpoints; now and then a new partition that goes on from one, and once more before it has
    caught up.
    """
    cut = batches(arrivals(shape, history(shape, seed), seed), seed, size=20)
    rng = random.Random(seed)
    engine = Durable(config_of(shape))
    for number, batch in enumerate(cut):
        engine.feed(batch)
        if rng.random() < 0.2:
            write(engine.log, engine.keeper)
        if rng.random() < 5 / len(cut):
            engine = restored(engine)
            for again in cut[: rng.randrange(number + 1)]:
                feed_rest(engine, again)
            engine = restored(engine)
            for again in cut[: number + 1]:
                feed_rest(engine, again)
    assert_same(run(shape, cut), engine)


@shapes
@settings(max_examples=1, phases=UNSHRUNK)
@given(seed=seeds)
def test_after_a_crash_the_inputs_may_come_back_in_any_order(shape: Shape, seed: int) -> None:
    shape = shape.on_time()
    stream = arrivals(shape, history(shape, seed), seed)
    cut = batches(stream, seed, size=20)
    engine = Durable(config_of(shape))
    for batch in cut[: len(cut) // 2]:
        engine.feed(batch)
    engine = restored(engine)
    for source in random.Random(seed).sample(list(Source), len(Source)):
        for batch in split([[one for one in stream if one.source == source]], seed):
            feed_rest(engine, batch)
    assert_same(run(shape, cut), engine)


class Durable(Run):
    """A run that is checkpointed into a log, which is read again when it restarts."""

    def __init__(self, config: CoreConfig, log: MemoryLog | None = None) -> None:
        self.log = MemoryLog() if log is None else log
        self.keeper = self.log.take_over(config)
        super().__init__(config, self.keeper.partition)


def restored(before: Durable) -> Durable:
    """The engine as it comes back from its checkpoint, by way of the log."""
    write(before.log, before.keeper)
    after = Durable(before.config, before.log)
    assert differences(before.partition, after.partition) == []
    after.ticks, after.too_late = before.ticks, before.too_late
    return after


def feed_rest(engine: Run, batch: Sequence[Arrival]) -> None:
    """Hand over what the partition has not read, counting from where it resumed."""
    start = engine.partition.next_offset(Source(batch[0].source))
    rest = [one for one in batch if one.offset >= start]
    if rest:
        engine.feed(rest)


@shapes
@settings(max_examples=1, phases=UNSHRUNK)
@given(seed=seeds)
def test_eight_partitions_together_are_one(shape: Shape, seed: int) -> None:
    shape = shape.on_time()
    cut = batches(arrivals(shape, history(shape, seed), seed), seed, size=12)
    wanted = instants(shape, seed, each=12)
    config = config_of(shape)
    whole = results_at(config, [run(shape, cut)], wanted)
    parts = results_at(config, [run(shape, part) for part in scatter(cut, 8)], wanted)
    assert whole == parts


@settings(max_examples=STREAMS, phases=UNSHRUNK)
@given(seed=seeds)
def test_the_roll_up_of_eight_partitions_publishes_what_one_partition_reports(seed: int) -> None:
    shape = replace(MONTHS.on_time(), windows=((7 * DAY_MS, DAY_MS), (14 * DAY_MS, DAY_MS)))
    cut = batches(arrivals(shape, history(shape, seed), seed), seed, size=12)
    config = config_of(shape)
    parts = [run(shape, part) for part in scatter(cut, 8)]
    roll_up = RollUp(config, 8)
    queues = [partials_of(part, number) for number, part in enumerate(parts)]
    published: dict[str, PublishedResult] = {}
    rng = random.Random(seed)
    while any(queues):
        queue = rng.choice([one for one in queues if one])
        for _ in range(min(len(queue), rng.randrange(1, 20))):
            roll_up.add(queue.pop(0))
        for result in roll_up.due(0):
            assert result.missing_partitions == 0
            assert result.result_id not in published
            published[result.result_id] = result
    whole = run(shape, cut)
    wanted = sorted(
        {
            (one.end_ms, milliseconds_of(one.window), milliseconds_of(one.hop))
            for one in published.values()
        }
    )
    assert len(wanted) > 50
    expected = {
        result_id(one, from_text(one.at)): one for one in results_at(config, [whole], wanted)
    }
    assert {
        name: Result(**{field: getattr(one, field) for field in Result.__struct_fields__})
        for name, one in published.items()
    } == expected


@shapes
@settings(max_examples=1, phases=UNSHRUNK)
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
@settings(max_examples=1, phases=UNSHRUNK)
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
            for dimension in config.segments.names:
                parts = [v for (d, _), v in values[metric].items() if d == dimension]
                assert sum(parts) == total[metric]
        for metric in ("sessions_started", "sessions_closed", "sessions_converted"):
            assert total[metric] == sum(v for (d, _), v in values[metric].items() if d == "channel")
        for metric, by_label in values.items():
            if metric not in {"net_revenue", "refunded", "sentiment_mean", "nps", *LIFETIME}:
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
        assert not last.sums[: ROWS - STOCKS].any()
        assert last.sums[ROWS - STOCKS :].any(), "who was there is still there, lapsed"
