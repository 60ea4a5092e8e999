"""What durability costs: checkpoints every second at 20,000 events a second, over a big state.

Two measurements. *Core*: eight partitions with a million customers between them, fed second by second with
events of which half come from a tenth of the customers; after each second every partition makes its
checkpoint, exactly as a worker does. CPU time by stage; bytes written against bytes of changed rows. *Worker*:
one real worker at the same rate against a broker, once with checkpoints every second and once with next to
none, on fresh topics; the difference of its CPU time is what all of it costs, sending and committing
included.

A worker has one core: the cost is CPU seconds a second, and beside it stands the share of what the worker
used.

Targets: at most 0.10 CPU seconds a second; at most 2 bytes written for one byte changed.

    python -m bench.checkpoint --short
    python -m bench.checkpoint --customers 1000000 --seconds 60 --broker apache
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agents.owned import Owned
from agents.settings import Settings
from agents.stages import Stages
from bench.core import Record, prepare_collector
from bench.population import PERSONAS, REGIONS, START_MS, Generated, Traffic, generate
from bench.processes import Preloader, add_broker_option, chosen_broker, cpu_seconds
from bench.report import Row, finish, median, options, profiled, table, verdict
from schemas.decode import Decoder
from schemas.topics import Source
from streams.admission import Admission
from streams.checkpoint import Keeper
from streams.claims import Claim
from streams.config import CoreConfig
from streams.partition import Partition
from tests.rig.brokers import Broker
from tests.rig.exposition import Exposition
from tests.rig.installation import Installation, Service
from tests.rig.processes import wait_until

PARTITIONS = 8
PER_SECOND = 20_000
SHARE = 0.10
"""Of a core."""
AMPLIFICATION = 2.0
WARM_UP_S = 5
"""The first seconds after the census aren't counted: it leaves half-empty chunks behind."""
BATCH = 2_000
STAGES = ("decode", "merge", "fold", "close", "report", "checkpoint")


class Part:
    """One partition with its keeper."""

    def __init__(self, number: int, config: CoreConfig, stages: Stages) -> None:
        admission = Admission(
            config,
            Decoder(),
            partition=number,
            partitions=PARTITIONS,
            partition_of=lambda key, count: home(key) % count,
        )
        keeper = Keeper(Partition(config), Claim(1, "bench"))
        self.owned = Owned(number, keeper, admission, stages)
        self._offsets = dict.fromkeys(Source, 0)
        self._waiting: dict[Source, list[Record]] = {source: [] for source in Source}
        self.changed = self.written = self.records = self.tombstones = 0

    def take(self, source: Source, key: bytes, payload: bytes, at_ms: int) -> None:
        """A record that waits for `feed`."""
        self._waiting[source].append(Record(key, payload, self._offsets[source], at_ms))
        self._offsets[source] += 1

    def feed(self) -> None:
        """Hand over what waits, in batches."""
        for source, records in self._waiting.items():
            for start in range(0, len(records), BATCH):
                batch = records[start : start + BATCH]
                state = self.owned.state
                admitted = self.owned.admit(source, batch, known=state.state.customers)
                assert not admitted.dead, admitted.dead[0][1:]
                self.owned.receive(source, admitted)
                self.owned.drain()
            records.clear()

    def checkpoint(self, *, counts: bool) -> None:
        """Snapshot; everything is acknowledged at once."""
        found, partials = self.owned.checkpoint()
        keeper = self.owned.keeper
        if found is not None:
            tombstones = keeper.committed(found)
            if counts:
                records = (*found.chunks, found.marker, *tombstones)
                self.changed += found.changed_bytes
                self.written += sum(len(r.key) + len(r.value or b"") for r in records)
                self.records += len(records)
                self.tombstones += len(tombstones)
        keeper.partials_acknowledged([one.key for one in partials])


def home(key: bytes) -> int:
    """Any stable choice will do here: keys end in the customer's number."""
    return int(key.rpartition(b"-")[2])


def census(customers: int) -> Iterator[tuple[Source, bytes, bytes, int]]:
    """Every customer once, within the day before the traffic."""
    first_ms = START_MS - 86_400_000
    for number in range(customers):
        at_ms = first_ms + number * 86_000_000 // customers
        key = b"customer-%d" % number
        payload = (
            b'{"type":"page_viewed","event_id":"c%d","customer_id":"%b","occurred_at":%d,"page":"/",'
            b'"persona":"%b","region":"%b"}'
        ) % (
            number,
            key,
            at_ms,
            PERSONAS[number & 3].encode(),
            REGIONS[number >> 2 & 3].encode(),
        )
        yield Source.SESSIONS, key, payload, at_ms


def core(arguments: argparse.Namespace) -> dict[str, float]:
    """The measurement without Kafka: CPU seconds by stage, and bytes."""
    stages = Stages(time.process_time)
    config = Settings().core()
    parts = [Part(number, config, stages) for number in range(PARTITIONS)]
    for number, (source, key, payload, at_ms) in enumerate(census(arguments.customers)):
        parts[home(key) % PARTITIONS].take(source, key, payload, at_ms)
        if number % 100_000 == 99_999:
            for part in parts:
                part.feed()
    pass_time(parts, START_MS)
    for part in parts:
        part.checkpoint(counts=False)
    prepare_collector()
    seconds = WARM_UP_S + arguments.seconds
    traffic = Traffic(
        PER_SECOND * seconds, arguments.customers, per_second=PER_SECOND, seed=arguments.seed
    )
    events = generate(traffic)
    before: dict[str, float] = {}
    for second in range(seconds):
        if second == WARM_UP_S:
            before = dict(stages.seconds)
        for made in itertools.islice(events, PER_SECOND):
            parts[home(made.key) % PARTITIONS].take(made.source, made.key, made.payload, made.at_ms)
        with profiled(arguments.profile if second == seconds - 1 else None):
            for part in parts:
                part.feed()
                part.checkpoint(counts=second >= WARM_UP_S)
    spent = {stage: stages.seconds[stage] - before.get(stage, 0.0) for stage in STAGES}
    figures = [part.owned.keeper.figures for part in parts]
    return {
        **spent,
        "changed": sum(part.changed for part in parts),
        "written": sum(part.written for part in parts),
        "records": sum(part.records for part in parts),
        "tombstones": sum(part.tombstones for part in parts),
        "customers": sum(one.customers for one in figures),
        "state": sum(one.state_bytes for one in figures),
        "chunks": sum(one.chunks for one in figures),
    }


def pass_time(parts: list[Part], until_ms: int) -> None:
    """Everything before `until_ms` is there: fold it."""
    passed = json.dumps({"type": "time_passed", "until": until_ms}).encode()
    for part in parts:
        for source in Source:
            part.take(source, b"", passed, until_ms)
        part.feed()


# -- the worker


def feed(installation: Installation, traffic: Traffic, *, seconds: float) -> None:
    """Send the traffic at its own pace by the clock."""
    preloader = Preloader(installation.topics)
    started = time.monotonic()
    slices = int(seconds * 20)
    events: Iterator[Generated] = generate(traffic)
    for number in range(slices):
        time.sleep(max(0.0, started + number / 20 - time.monotonic()))
        for made in itertools.islice(events, int(traffic.per_second / 20)):
            preloader.send(made)
        preloader.poll()
    preloader.flush()


def cpu_of(
    broker: Broker, directory: Path, arguments: argparse.Namespace, *, interval: str
) -> tuple[float, Exposition]:
    """CPU microseconds per event of a worker at the rate; its metrics at the end."""
    directory.mkdir()
    settings = {"engine": {"checkpoint_interval": interval}}
    with Installation(broker, directory, partitions=PARTITIONS, settings=settings) as installation:
        worker = installation.worker()
        # Connecting, importing and the first takeover are no part of the rate.
        warm = Traffic(
            PER_SECOND, arguments.customers, per_second=PER_SECOND, start_ms=START_MS - 60_000
        )
        feed(installation, warm, seconds=1)
        wait_until_read(worker, PER_SECOND)
        cpu = cpu_seconds(worker.process.pid) or 0.0
        count = PER_SECOND * arguments.worker_seconds
        traffic = Traffic(count, arguments.customers, per_second=PER_SECOND, seed=arguments.seed)
        feed(installation, traffic, seconds=arguments.worker_seconds)
        wait_until_read(worker, PER_SECOND + count)
        spent = (cpu_seconds(worker.process.pid) or 0.0) - cpu
        page = worker.page()
        worker.process.stop()
        print(f"  {interval}: {spent:.1f} s of CPU for {count:,} events", file=sys.stderr)
        return spent / count * 1e6, page


def wait_until_read(worker: Service, records: int) -> None:
    """Return once the worker has read so many records."""
    wait_until(
        lambda: worker.page().total("heartline_events_consumed_total") >= records,
        what=f"{records:,} records read",
        seconds=120,
    )


def worker_rows(broker: Broker, directory: Path, arguments: argparse.Namespace) -> list[Row]:
    """Pairs of runs, in turn."""
    rows: list[Row] = []
    for number in range(arguments.pairs):
        with_us, page = cpu_of(broker, directory / f"{number}-on", arguments, interval="1s")
        without_us, _ = cpu_of(broker, directory / f"{number}-off", arguments, interval="10m")
        written = page.total("heartline_checkpoint_written_bytes_total")
        changed = page.total("heartline_checkpoint_changed_bytes_total")
        rows.append(
            {
                "CPU us/event": with_us,
                "without checkpoints": without_us,
                "CPU s / s": (with_us - without_us) * PER_SECOND / 1e6,
                "share of what is used": (with_us - without_us) / with_us,
                "snapshots s": page.total("heartline_checkpoint_snapshot_seconds_total"),
                "written / changed": written / max(1.0, changed),
            }
        )
    return rows


def main() -> int:
    """Run it; 1 if a target is missed."""
    parser = options(__doc__ or "")
    add_broker_option(parser)
    parser.add_argument("--customers", type=int, help="1,000,000; short: 100,000")
    parser.add_argument("--seconds", type=int, help="of traffic in the core: 60; short: 20")
    parser.add_argument(
        "--worker-seconds", type=int, help="of traffic for the worker: 20; short: 10"
    )
    parser.add_argument("--pairs", type=int, help="runs of a worker with and without: 2; short: 1")
    parser.add_argument("--core-only", action="store_true", help="no broker, no worker")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    arguments.customers = arguments.customers or (100_000 if arguments.short else 1_000_000)
    arguments.seconds = arguments.seconds or (20 if arguments.short else 60)
    arguments.worker_seconds = arguments.worker_seconds or (10 if arguments.short else 20)
    arguments.pairs = arguments.pairs or (1 if arguments.short else 2)
    measured = core(arguments)
    used = sum(measured[stage] for stage in STAGES)
    seconds = arguments.seconds
    stages: list[Row] = [
        {
            "stage": stage,
            "CPU s / s": measured[stage] / seconds,
            "us/event": measured[stage] / seconds / PER_SECOND * 1e6,
            "share of what is used": measured[stage] / used,
        }
        for stage in STAGES
    ]
    sizes: list[Row] = [
        {"what": name, "per second": measured[name] / seconds}
        for name in ("changed", "written", "records", "tombstones")
    ]
    totals: list[Row] = [
        {"what": name, "now": measured[name]} for name in ("customers", "state", "chunks")
    ]
    amplification = measured["written"] / measured["changed"]
    targets = [
        verdict("core: CPU s a second", measured["checkpoint"] / seconds, at_most=SHARE),
        verdict("core: written / changed", amplification, at_most=AMPLIFICATION),
    ]
    table(f"Core, {arguments.customers:,} customers, {PER_SECOND:,} events/s", stages)
    table("Bytes and records", sizes)
    table("State at the end", totals)
    rows: list[Row] = []
    if not arguments.core_only:
        with (
            tempfile.TemporaryDirectory() as scratch,
            chosen_broker(arguments.broker, Path(scratch)) as broker,
        ):
            rows = worker_rows(broker, Path(scratch), arguments)
        table(f"Worker at {PER_SECOND:,} events/s, {arguments.broker}", rows)
        cost = median([float(row["CPU s / s"] or 0) for row in rows])
        targets.append(verdict("worker: CPU s a second", cost, at_most=SHARE))
    table("Targets", targets)
    figures = {"core": measured, "worker": rows, "targets": targets}
    finish(arguments.json, "checkpoint", dict(figures))
    return 0 if all(row["holds"] for row in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
