"""Events a second of one worker, end to end, beside a bare consume loop over the same records.

Each round preloads fresh topics, reads them with nothing but a confluent-kafka consume loop, and
then lets one `heartline worker` loose on them: fetch, decode, merge, fold, partials, roll-up,
results, with everything switched on. The worker's clock runs from the first record that its
/metrics shows until the last is folded. The stages are its own account of where its time went.

Targets: at least 40,000 events/s, and within 8x of the bare loop in the same run.

    python -m bench.throughput --short
    python -m bench.throughput --broker apache --rounds 5 --json throughput.json
"""

import argparse
import json
import os
import pstats
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from bench.population import Traffic, generate
from bench.processes import Preloader, add_broker_option, chosen_broker, cpu_seconds
from bench.report import Row, finish, median, options, table, verdict
from schemas.topics import Source
from tests.rig.brokers import Broker
from tests.rig.exposition import Exposition
from tests.rig.installation import Installation, Service

PARTITIONS = 8
EVENTS_PER_SECOND = 40_000
TIMES_THE_BARE_LOOP = 8
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """What reading everything once took."""

    events: int
    seconds: float
    cpu_seconds: float | None
    stages: dict[str, float]

    @property
    def per_second(self) -> float:
        """Events a second, by the time of day."""
        return self.events / self.seconds

    def microseconds(self, seconds: float | None) -> float | None:
        """Of an amount of time, the share of one event."""
        return None if seconds is None else seconds / self.events * 1e6


def preload(installation: Installation, traffic: Traffic) -> int:
    """Fill the topics; the number of records."""
    preloader = Preloader(installation.topics)
    for record in generate(traffic):
        preloader.send(record)
    preloader.flush()
    # One hop of the widest default window further, so that everything is folded and reported.
    passed = json.dumps({"type": "time_passed", "until": traffic.end_ms + 3_600_000}).encode()
    for source in Source:
        for partition in range(PARTITIONS):
            preloader.send_raw(source, None, passed, partition)
    preloader.flush()
    return preloader.sent


def bare_loop(installation: Installation, records: int) -> Run:
    """Read every record and do nothing."""
    consumer = Consumer(
        {
            "bootstrap.servers": installation.topics.broker.bootstrap,
            "group.id": f"{installation.topics.prefix}-bare",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
            "queued.min.messages": 200_000,
        }
    )
    consumer.assign(
        [
            TopicPartition(topic, partition, 0)
            for topic in installation.topics.names.sources
            for partition in range(PARTITIONS)
        ]
    )
    seen, first, started, cpu = 0, 0, 0.0, 0.0
    while seen < records:
        batch = consumer.consume(10_000, timeout=1.0)
        seen += len(batch)
        if batch and not started:
            # As with the worker, connecting is not counted.
            started, cpu, first = time.perf_counter(), cpu_seconds(os.getpid()) or 0.0, seen
    seconds = time.perf_counter() - started
    spent = (cpu_seconds(os.getpid()) or 0.0) - cpu
    consumer.close()
    return Run(seen - first, seconds, spent, {})


def one_worker(
    installation: Installation, records: int, *, seconds: float, profile: Path | None
) -> Run:
    """Start a worker and follow its account until everything is folded."""
    under = () if profile is None else ("-m", "cProfile", "-o", str(profile))
    worker = installation.worker(ready_within=None, under=under)
    worker.wait_for("/metrics", seconds=60)
    started: tuple[float, float, float, dict[str, float]] | None = None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now, cpu = time.perf_counter(), cpu_seconds(worker.process.pid) or 0.0
        page = worker.page()
        consumed = page.total("heartline_events_consumed_total")
        waiting = page.total("heartline_events_waiting")
        stages = page.by("heartline_stage_seconds_total", "stage")
        if started is None and consumed:
            started = (now, consumed, cpu, stages)
        if started is not None and consumed >= records and not waiting:
            check_account(page, records)
            since, before, cpu_before, stages_before = started
            spent = {name: value - stages_before.get(name, 0) for name, value in stages.items()}
            worker.process.stop()
            return Run(int(consumed - before), now - since, cpu - cpu_before, spent)
        time.sleep(POLL_S)
    raise TimeoutError(f"not folded in {seconds:g} s: {progress(worker)}")


def progress(worker: Service) -> str:
    """Where a worker stands, for an error message."""
    page = worker.page()
    return f"{page.total('heartline_events_consumed_total'):,.0f} consumed"


def check_account(page: Exposition, records: int) -> None:
    """The account of every record has to balance, or the figure is worth nothing."""
    fates = Counter(
        {
            fate: page.total(f"heartline_events_{fate}_total")
            for fate in ("folded", "too_late", "duplicate", "dead", "control")
        }
    )
    if sum(fates.values()) != records or fates["dead"] or fates["too_late"]:
        raise RuntimeError(f"the account of {records} records does not balance: {dict(fates)}")


def measure(
    broker: Broker, directory: Path, arguments: argparse.Namespace
) -> list[tuple[Run, Run]]:
    """The rounds: the bare loop and the worker, one after the other."""
    rounds = []
    for number in range(arguments.rounds):
        traffic = Traffic(
            arguments.events, arguments.customers, per_second=arguments.density, seed=number
        )
        place = directory / str(number)
        place.mkdir()
        with Installation(broker, place, partitions=PARTITIONS) as installation:
            records = preload(installation, traffic)
            bare = bare_loop(installation, records)
            worker = one_worker(
                installation, records, seconds=arguments.limit, profile=arguments.profile
            )
            rounds.append((bare, worker))
            print(
                f"  round {number + 1}: bare {bare.per_second:,.0f}/s, "
                f"worker {worker.per_second:,.0f}/s",
                file=sys.stderr,
            )
    return rounds


def main() -> int:
    """Run it; 1 if a target is missed."""
    parser = options(__doc__ or "")
    add_broker_option(parser)
    parser.add_argument(
        "--events", type=int, help="preloaded events a round (600,000; short: 150,000)"
    )
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument(
        "--density", type=float, default=2_000, help="events a second of event time"
    )
    parser.add_argument("--rounds", type=int, help="3; short: 1")
    parser.add_argument("--limit", type=float, default=180, help="seconds that a worker may take")
    arguments = parser.parse_args()
    arguments.events = arguments.events or (150_000 if arguments.short else 600_000)
    arguments.rounds = arguments.rounds or (1 if arguments.short else 3)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with chosen_broker(arguments.broker, directory) as broker:
            rounds = measure(broker, directory, arguments)
    rows: list[Row] = [
        {
            "what": name,
            "events/s": median([run.per_second for run in runs]),
            "CPU us/event": median([run.microseconds(run.cpu_seconds) or 0.0 for run in runs]),
        }
        for name, runs in (
            ("bare loop", [bare for bare, _ in rounds]),
            ("one worker", [worker for _, worker in rounds]),
        )
    ]
    names = list(rounds[0][1].stages)
    stages: list[Row] = [
        {
            "stage": name,
            "us/event": median([w.microseconds(w.stages[name]) or 0.0 for _, w in rounds]),
        }
        for name in names
    ]
    ratio = median([bare.per_second / worker.per_second for bare, worker in rounds])
    targets = [
        verdict(
            "events/s of one worker", float(rows[1]["events/s"] or 0), at_least=EVENTS_PER_SECOND
        ),
        verdict("times slower than the bare loop", ratio, at_most=TIMES_THE_BARE_LOOP),
    ]
    table(f"Throughput, {arguments.events:,} events, {arguments.broker}", rows)
    table("Where the worker's time went (fetch includes waiting for the broker)", stages)
    table("Targets", targets)
    if arguments.profile:
        pstats.Stats(str(arguments.profile)).sort_stats("tottime").print_stats(30)
    figures = {"throughput": rows, "stages": stages, "targets": targets}
    finish(arguments.json, "throughput", dict(figures))
    return 0 if all(row["holds"] for row in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
