"""Ninety days of event time through the pure core, with checkpoints, evictions and restarts: is it flat?

A base of customers who come for ten days, stay away for forty, and come back: long enough for everybody to be
evicted and to return. Twenty million events, sped up: decode, merge, fold, close, checkpoint, as in a worker,
with the state topic in memory (what a compacted topic would hold after its cleaning). Three times the
worker "crashes": what it goes on from is read from that topic alone. Once a day everything that could grow is
measured; at the end the active customers of the last day and week are counted from the events, and the account
has to balance.

After everybody has been away once (day 50) nothing may grow: the last ten days against the ten from there on.

    python -m bench.longrun --short
    python -m bench.longrun --svg docs/longrun.svg
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agents.owned import Owned
from agents.settings import Settings
from agents.stages import Stages
from bench.core import Record
from bench.plot import Series, panels
from bench.population import CHANNELS, PERSONAS, REGIONS, START_MS
from bench.report import Row, finish, median, options, table, verdict
from schemas.decode import Decoder
from schemas.topics import Source
from streams.admission import Admission
from streams.checkpoint import Keeper, LogRecord
from streams.claims import Claim
from streams.metrics import WindowTotals, results_of
from streams.moments import to_text
from streams.partition import Partition, TickSums
from streams.state_log import StateLog

DAYS = 90
EVENTS = 20_000_000
CUSTOMERS = 300_000
HERE_DAYS, AWAY_DAYS = 10, 40
DAY_MS = 86_400_000
WINDOWS = ("1h/1m", "24h/10m", "7d/1h")
BATCH = 2_000
PER_CHECKPOINT = 20_000
"""Events: what a worker takes in between two checkpoints at 20,000 a second."""
RESTARTS = (0.25, 0.6, 0.9)
"""Of the days."""
WARM_DAYS = HERE_DAYS + AWAY_DAYS
GROWTH = 1.1
"""What is flat may still differ by so much: 13 days of data are held against 13 others."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Samples:
    """One value a day of everything."""

    series: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        """The values of one day."""
        for name, value in values.items():
            self.series.setdefault(name, []).append(value)

    def growth(self, name: str, first: int) -> float:
        """The median of the last ten days over that of the ten days from `first` on."""
        values = self.series[name]
        return median(values[-10:]) / max(1.0, median(values[first : first + 10]))


class Life:
    """Who is here on which day, and what they do."""

    def __init__(self, customers: int, per_day: int, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._customers = customers
        self._per_day = per_day
        self._arrives = self._draw.integers(0, HERE_DAYS + AWAY_DAYS, customers)
        self._made = 0

    def day(self, number: int) -> Iterator[tuple[Source, bytes, bytes, int, int]]:
        """Source, key, payload, event time, customer: in order of event time."""
        draw = self._draw
        phase = (number - self._arrives) % (HERE_DAYS + AWAY_DAYS)
        here = np.flatnonzero(phase < HERE_DAYS)
        chosen = draw.choice(here, self._per_day).tolist()
        # Few at night, most in the afternoon.
        hours = np.abs(np.sin(np.arange(24) / 24 * np.pi)) + 0.05
        slots = draw.choice(24, self._per_day, p=hours / hours.sum())
        moments = np.sort(slots * 3_600_000 + draw.integers(0, 3_600_000, self._per_day))
        kinds = draw.choice(4, self._per_day, p=(0.8, 0.1, 0.06, 0.04)).tolist()
        start_ms = START_MS + number * DAY_MS
        for customer, moment, kind in zip(chosen, moments.tolist(), kinds, strict=True):
            self._made += 1
            at_ms = start_ms + moment
            key = b"customer-%d" % customer
            tail = (
                b'"event_id":"%d","customer_id":"%b","occurred_at":%d,"persona":"%b","region":"%b"}'
                % (
                    self._made,
                    key,
                    at_ms,
                    _PERSONAS[customer & 3],
                    _REGIONS[customer >> 2 & 3],
                )
            )
            yield (
                Source(kind),
                key,
                _HEADS[kind][self._made % len(_HEADS[kind])] + tail,
                at_ms,
                customer,
            )


_PERSONAS = [name.encode() for name in PERSONAS]
_REGIONS = [name.encode() for name in REGIONS]
_HEADS: tuple[list[bytes], ...] = (
    [b'{"type":"page_viewed","page":"/","channel":"%b",' % name.encode() for name in CHANNELS],
    [
        b'{"type":"order_placed","order_id":"o","amount":"%d.50","currency":"USD",' % amount
        for amount in range(5, 105, 7)
    ],
    [b'{"type":"social_interacted","network":"x","action":"like",'],
    [
        b'{"type":"ticket_opened","ticket_id":"t","channel":"email",',
        b'{"type":"ticket_resolved","ticket_id":"t",',
        b'{"type":"nps_answered","score":9,',
    ],
)


class Engine:
    """One partition, its keeper, and the state topic as compaction leaves it."""

    def __init__(self) -> None:
        windows = {"hopping": list(WINDOWS)}
        settings = Settings.from_mapping({"windows": windows}, source="longrun", environment={})
        self.config = settings.core()
        self._stages = Stages(time.process_time)
        self._claim = Claim(1, "run-1")
        self.topic: dict[bytes, tuple[int, bytes | None]] = {}
        self._offset = 0
        self._append(LogRecord(self._claim.key, b"{}"))
        self._offsets = dict.fromkeys(Source, 0)
        self._slices: dict[Source, list[Record]] = {source: [] for source in Source}
        self._admission = Admission(
            self.config, Decoder(), partition=0, partitions=1, partition_of=lambda _key, _count: 0
        )
        self.owned = self._own(Keeper(Partition(self.config), self._claim))
        self.last: dict[int, TickSums] = {}
        self.written = self.changed = 0

    @property
    def cpu(self) -> dict[str, float]:
        """Seconds by stage."""
        return self._stages.seconds

    def _own(self, keeper: Keeper) -> Owned:
        return Owned(0, keeper, self._admission, self._stages)

    def _append(self, record: LogRecord) -> None:
        """Compaction at its best: of a key the last record, of a deleted one none."""
        self.topic.pop(record.key, None)
        if record.value is not None:
            self.topic[record.key] = self._offset, record.value
        self._offset += 1

    def take(self, source: Source, key: bytes, payload: bytes, at_ms: int) -> None:
        """A record, read with the next slice of its topic."""
        records = self._slices[source]
        records.append(Record(key, payload, self._offsets[source], at_ms))
        self._offsets[source] += 1
        if len(records) == BATCH:
            self._receive(source)

    def _receive(self, source: Source) -> None:
        records = self._slices[source]
        state = self.owned.state
        admitted = self.owned.admit(source, records, known=state.state.customers)
        assert not admitted.dead, admitted.dead[0][1:]
        late = self.owned.receive(source, admitted)
        assert not late
        for tick in state.drain():
            assert not tick.is_correction
            self.last[tick.window] = tick
        records.clear()

    def flush(self) -> None:
        """Hand over what is left of every topic."""
        for source in Source:
            self._receive(source)

    def pass_time(self, until_ms: int) -> None:
        """Everything before `until_ms` is there."""
        passed = b'{"type":"time_passed","until":%d}' % until_ms
        for source in Source:
            self.take(source, b"", passed, until_ms)
        self.flush()

    def checkpoint(self) -> None:
        """Everything is acknowledged at once."""
        found, _ = self.owned.checkpoint()
        if found is None:
            return
        for record in (*found.chunks, found.marker):
            self.written += len(record.key) + len(record.value or b"")
            self._append(record)
        self.changed += found.changed_bytes
        for record in self.owned.keeper.committed(found):
            self._append(record)

    def crash(self) -> None:
        """Forget everything but the state topic, and go on from it."""
        self.checkpoint()
        self._claim = Claim(self._claim.epoch + 1, f"run-{self._claim.epoch + 1}")
        self._append(LogRecord(self._claim.key, b"{}"))
        log = StateLog()
        for key, (offset, value) in sorted(self.topic.items(), key=lambda one: one[1][0]):
            log.apply(offset, key, value)
        self.owned = self._own(log.restore(self.config, self._claim))
        for source in Source:
            due = self.owned.next_offset(source)
            assert due == self._offsets[source], f"{source.name} goes on at {due}"

    def series(self) -> int:
        """How many results the newest boundary of every window has."""
        return sum(len(results_of(self.totals(number), self.config)) for number in self.last)

    def totals(self, number: int) -> WindowTotals:
        """What a window reported last."""
        window, tick = self.config.windows.windows[number], self.last[number]
        return WindowTotals(
            window=window.size,
            hop=window.hop,
            size_ms=window.size_ms,
            end_ms=tick.valid_through_ms,
            at=to_text(tick.valid_through_ms),
            sums=tick.sums,
            durations=tick.durations,
            observed_from_ms=tick.observed_from_ms,
        )

    def value(self, number: int, metric: str) -> float:
        """Everyone's newest figure of a window."""
        (found,) = (
            one
            for one in results_of(self.totals(number), self.config)
            if one.metric == metric and not one.segment and not one.dimensions
        )
        assert found.value is not None
        return found.value

    def sample(self) -> dict[str, float]:
        """Everything that could grow."""
        state, figures = self.owned.state.state, self.owned.keeper.figures
        gc.collect()
        return {
            "memory MiB": int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 2**20,
            "customers in memory": figures.customers,
            "customers evicted": figures.evicted,
            "timers": sum(
                len(bucket)
                for wheel in (state._wheel, state._journey.wheel)
                for bucket in wheel._buckets.values()
            ),
            "chunks": figures.chunks,
            "live state MiB": figures.state_bytes / 2**20,
            "state topic MiB": sum(len(k) + len(v or b"") for k, (_, v) in self.topic.items())
            / 2**20,
            "state topic keys": len(self.topic),
            "series": self.series(),
        }


def run(arguments: argparse.Namespace) -> tuple[Samples, Engine, dict[str, bool]]:
    """All days."""
    life = Life(arguments.customers, arguments.events // arguments.days, arguments.seed)
    engine, samples = Engine(), Samples()
    restarts = {round(share * arguments.days) for share in RESTARTS}
    seen: list[tuple[int, int]] = []
    began = time.monotonic()
    for day in range(arguments.days):
        is_last_week = day >= arguments.days - 7
        for number, (source, key, payload, at_ms, customer) in enumerate(life.day(day)):
            engine.take(source, key, payload, at_ms)
            if number % PER_CHECKPOINT == PER_CHECKPOINT - 1:
                engine.flush()
                engine.checkpoint()
            if is_last_week and source in {Source.SESSIONS, Source.PURCHASES}:
                seen.append((day, customer))
        engine.pass_time(START_MS + (day + 1) * DAY_MS)
        engine.checkpoint()
        if day in restarts:
            engine.crash()
        samples.add(**engine.sample())
        if day % 10 == 9:
            print(f"  day {day + 1}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    week = {customer for _, customer in seen}
    last_day = {customer for day, customer in seen if day == arguments.days - 1}
    accounts = [engine.owned.state.account(source) for source in Source]
    checks = {
        "active customers of the last day": engine.value(1, "active_customers") == len(last_day),
        "active customers of the last week": engine.value(2, "active_customers") == len(week),
        "the account balances": all(one.balances for one in accounts),
        "every event is folded": sum(one.folded for one in accounts)
        == arguments.events // arguments.days * arguments.days,
    }
    return samples, engine, checks


def main() -> int:
    """Run it; 1 if something grows or is wrong."""
    parser = options(__doc__ or "")
    parser.add_argument("--events", type=int, help="20,000,000; short: 1,000,000")
    parser.add_argument("--customers", type=int, help="300,000; short: 15,000")
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--svg", type=Path, metavar="FILE", help="plot the samples there")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    arguments.events = arguments.events or (1_000_000 if arguments.short else EVENTS)
    arguments.customers = arguments.customers or (15_000 if arguments.short else CUSTOMERS)
    began = time.monotonic()
    samples, engine, checks = run(arguments)
    seconds = time.monotonic() - began
    names = [name for name in samples.series if name != "series"]
    rows: list[Row] = [
        {
            "what": name,
            f"day {WARM_DAYS}": samples.series[name][min(WARM_DAYS, arguments.days) - 1],
            f"day {arguments.days}": samples.series[name][-1],
            "most": max(samples.series[name]),
        }
        for name in samples.series
    ]
    table(f"{arguments.events:,} events of {arguments.days} days in {seconds:,.0f} s", rows)
    cpu: list[Row] = [
        {"stage": stage, "us/event": spent / arguments.events * 1e6}
        for stage, spent in engine.cpu.items()
    ]
    table("CPU", cpu)
    targets = [
        verdict(
            f"{name}: last ten days / from day {WARM_DAYS}",
            samples.growth(name, WARM_DAYS),
            at_most=GROWTH,
        )
        for name in names
        if arguments.days >= WARM_DAYS + 20
    ]
    targets.append(
        verdict(
            "series: most / fewest",
            max(samples.series["series"]) / min(samples.series["series"]),
            at_most=1.0,
        )
    )
    targets.append(verdict("written / changed bytes", engine.written / engine.changed, at_most=2.0))
    targets += [verdict(name, float(holds), at_least=1.0) for name, holds in checks.items()]
    table("Targets", targets)
    if arguments.svg:
        restarts = [round(share * arguments.days) for share in RESTARTS]
        title = f"{arguments.events:,} events of {arguments.days} days, {arguments.customers:,} customers"
        drawn = [Series(name, values) for name, values in samples.series.items()]
        arguments.svg.write_text(panels(title, drawn, marks=restarts, unit="day"))
    finish(arguments.json, "longrun", {"samples": samples.series, "targets": targets})
    return 0 if all(row["holds"] for row in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
