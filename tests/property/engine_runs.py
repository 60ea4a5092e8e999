"""Streams of the generator through the engine, one partition or several."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from agents.partials import Reporter
from schemas.decode import Decoder
from schemas.money import Currencies
from schemas.records import Partial, Result
from schemas.topics import Source
from streams.admission import Admission
from streams.config import CoreConfig
from streams.metrics import WindowTotals, results_of
from streams.moments import to_text
from streams.partition import Partition, TickSums
from streams.segments import Segments, Values, dimensions
from streams.sparse import merged
from streams.windows import Window, WindowSet
from tests.oracle.customers import OracleConfig
from tests.oracle.lives import (
    CHANNELS,
    EPOCH_MS,
    NETWORKS,
    PERSONAS,
    REGIONS,
    SUPPORT_CHANNELS,
    Shape,
)
from tests.oracle.rules import Arrival
from tests.property.comparison import text_of
from tests.rig.hand import Record

RATES = {"EUR": "1.0837"}
CURRENCIES = Currencies(rates={name: Decimal(rate) for name, rate in RATES.items()})
SEGMENTS = Segments(
    customer=dimensions(persona=PERSONAS, region=REGIONS),
    channel=Values(CHANNELS),
    network=Values(NETWORKS),
    support=Values(SUPPORT_CHANNELS),
)


def record_of(arrival: Arrival) -> Record:
    event = arrival.event
    key = None if arrival.is_control else str(event["customer_id"]).encode()
    return Record(key, payload_of(event), arrival.offset, arrival.record_ms)


def payload_of(event: Any) -> bytes:
    return json.dumps(event).encode()


def window_of(size_ms: int, hop_ms: int) -> Window:
    return Window.parse(f"{text_of(size_ms)}/{text_of(hop_ms)}")


def config_of(shape: Shape) -> CoreConfig:
    windows = WindowSet.of(
        [window_of(w, hop) for w, hop in shape.windows], session_gap_ms=shape.session_gap_ms
    )
    assert windows.base_ms == shape.base_ms
    return CoreConfig(
        windows=windows,
        segments=SEGMENTS,
        max_out_of_orderness_ms=shape.bound_ms,
        allowed_lateness_ms=shape.lateness_ms,
    )


def oracle_config_of(shape: Shape) -> OracleConfig:
    return OracleConfig(
        session_gap_ms=shape.session_gap_ms,
        base_ms=shape.base_ms,
        segments={"persona": PERSONAS, "region": REGIONS},
        channels=CHANNELS,
        networks=NETWORKS,
        support_channels=SUPPORT_CHANNELS,
        rates=RATES,
    )


class Run:
    """A partition that is fed, and all that it has reported so far."""

    def __init__(self, config: CoreConfig, partition: Partition | None = None) -> None:
        self.config = config
        self.partition = Partition(config) if partition is None else partition
        self.ticks: list[TickSums] = []
        self.too_late: list[tuple[int, int]] = []
        self._admission = Admission(
            config,
            Decoder(CURRENCIES, config.segments.names),
            partition=0,
            partitions=1,
            partition_of=lambda _key, _partitions: 0,
        )

    def feed(self, batch: Sequence[Arrival]) -> None:
        """Hand over one batch of one topic-partition."""
        source = Source(batch[0].source)
        admitted = self._admission.admit(
            source, [record_of(one) for one in batch], known=self.partition.state.customers
        )
        offsets = self.partition.receive(source, admitted)
        self.too_late += [(int(source), offset) for offset in offsets]
        self.ticks += self.partition.drain()

    def quiet(self, sources: Iterable[int], now_ms: int) -> None:
        """Let inputs be idle, as the wall clock says; they stand at their high water."""
        for source in sources:
            for moment in (now_ms, now_ms + self.config.idle_after_ms):
                self.partition.observe(Source(source), at_high_water=True, now_ms=moment)
        self.partition.tick(0)
        self.ticks += self.partition.drain()


def run(shape: Shape, batches: Iterable[Sequence[Arrival]]) -> Run:
    """A stream through one partition."""
    return fed(config_of(shape), batches)


def fed(config: CoreConfig, batches: Iterable[Sequence[Arrival]]) -> Run:
    """A partition of this configuration that was fed a stream."""
    whole = Run(config)
    for batch in batches:
        whole.feed(batch)
    return whole


def partials_of(engine: Run, number: int, *, told: int = 0) -> list[Partial]:
    """The reports of a partition as they stand on the partials topic, but for the first ones."""
    reporter = Reporter(engine.config, number)
    reporter.revision = told
    return list(reporter.partials(engine.ticks[told:], epoch=1))


def results_at(
    config: CoreConfig, runs: Sequence[Run], wanted: Iterable[tuple[int, int, int]]
) -> list[Result]:
    """The results of the partitions together at each (t, w, hop), as they first were reported."""
    found: list[Result] = []
    for t, w, hop in wanted:
        window = window_of(w, hop)
        number = config.windows.windows.index(window)
        ticks = [tick_at(run.ticks, number, t) for run in runs]
        observed = [tick.observed_from_ms for tick in ticks if tick.observed_from_ms is not None]
        totals = WindowTotals(
            window=window.size,
            hop=window.hop,
            size_ms=w,
            end_ms=t,
            at=to_text(t),
            sums=sum((tick.sums for tick in ticks[1:]), ticks[0].sums),
            durations=merged([tick.durations for tick in ticks]),
            observed_from_ms=min(observed, default=None),
        )
        found += results_of(totals, config)
    return found


def tick_at(ticks: Iterable[TickSums], window: int, t: int) -> TickSums:
    """The first report that speaks of this window at t."""
    for tick in ticks:
        if (
            tick.window == window
            and tick.end_ms <= t <= tick.valid_through_ms
            and not tick.is_correction
        ):
            return tick
    raise AssertionError(f"window {window} reports nothing at {to_text(t)}")


def instants(shape: Shape, seed: int, each: int) -> list[tuple[int, int, int]]:
    """Some boundaries (t, w, hop) of every window, the last one among them."""
    rng = random.Random(f"instants {seed}")
    chosen = []
    for w, hop in shape.windows:
        first, last = EPOCH_MS // hop + 1, shape.end_ms // hop
        numbers = {last, *(rng.randrange(first, last + 1) for _ in range(each))}
        chosen += [(number * hop, w, hop) for number in sorted(numbers)]
    return chosen


def smallest(
    events: Sequence[dict[str, Any]], is_wrong: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Leave out what a failure does not need: halves first, then single events."""
    kept = list(events)
    size = len(kept) // 2
    while size:
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + size :]
            if fewer and is_wrong(fewer):
                kept = fewer
            else:
                start += size
        size //= 2
    return kept


def partition_of(customer: str, partitions: int) -> int:
    """Any stable choice will do here."""
    return sum(customer.encode()) % partitions


def scatter(batches: Iterable[Sequence[Arrival]], partitions: int) -> list[list[list[Arrival]]]:
    """Deal the records out by customer; control records go to every partition."""
    dealt: list[list[list[Arrival]]] = [[] for _ in range(partitions)]
    for batch in batches:
        for number, own in enumerate(dealt):
            part = [
                one
                for one in batch
                if one.is_control or partition_of(one.event["customer_id"], partitions) == number
            ]
            if part:
                own.append(part)
    return dealt
