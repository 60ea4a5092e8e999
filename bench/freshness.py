"""From a record's arrival in Kafka to its presence in the /metrics of `heartline serve`.

Events flow at a fixed rate into all four topics, in every partition, with the time of day. A poller
asks `serve` for /metrics (more than) ten times a second and notes when each window end is shown
first. A record is present once the first end behind its event time is shown. Its arrival is taken
as the moment before it is handed to the producer, so the figures are, if anything, too high.

Target: p99 <= max_out_of_orderness + smallest hop + 3 s.

    python -m bench.freshness --short
    python -m bench.freshness --seconds 120 --rate 5000 --broker apache
"""

import argparse
import bisect
import contextlib
import itertools
import random
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.population import Traffic, generate
from bench.processes import Preloader, add_broker_option, chosen_broker, cpu_seconds
from bench.report import Row, finish, options, table, verdict
from tests.rig.brokers import Broker
from tests.rig.installation import Installation, Service

PARTITIONS = 8
BOUND_S = 5.0
HOP_S = 10.0
ALLOWANCE_S = 3.0
SMALLEST = "5m"
JITTER_MS = 1_000
"""Event times lie up to this before the time of sending: real producers are not in step."""
POLL_S = 0.08

_END = re.compile(
    rf'^heartline_result_end_timestamp_seconds\{{window="{SMALLEST}"\}} (\S+)$', re.MULTILINE
)
_VIEWS = re.compile(r"^heartline_page_views\{{(.*)\}} (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Sent:
    """Event time and arrival of every record."""

    event_ms: list[int] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    views_ms: list[int] = field(default_factory=list)
    worst_lag_s: float = 0.0


@dataclass(slots=True)
class Shown:
    """When each window end was shown first, and the page views it was shown with."""

    first_s: dict[float, float] = field(default_factory=dict)
    views: dict[float, float] = field(default_factory=dict)
    polls: int = 0


def feed(installation: Installation, sent: Sent, *, rate: int, seconds: float) -> None:
    """Send at `rate` events/s, in 50 slices a second; if the machine can't, `worst_lag_s` tells."""
    traffic = Traffic(min(200_000, int(rate * seconds)), 50_000, duplicates=0.0)
    templates = []
    for record in generate(traffic):
        head, _, tail = record.payload.partition(f'"occurred_at":{record.at_ms}'.encode())
        unique = head.partition(b'"event_id":"')
        templates.append((record.source, record.key, (unique[0], unique[2]), tail))
    cycle = itertools.cycle(templates)
    draw = random.Random(3)
    preloader = Preloader(installation.topics)
    started = time.time()
    made, slices = 0, int(seconds * 50)
    for number in range(slices):
        due = started + number / 50
        now = time.time()
        if now < due:
            time.sleep(due - now)
        sent.worst_lag_s = max(sent.worst_lag_s, now - due)
        for _ in range(rate // 50):
            source, key, (before, after), tail = next(cycle)
            arrived = time.time()
            event_ms = int(arrived * 1000) - draw.randrange(JITTER_MS)
            made += 1
            payload = b'%b"event_id":"%d-%b"occurred_at":%d%b' % (
                before,
                made,
                after,
                event_ms,
                tail,
            )
            preloader.send_raw(source, key, payload)
            sent.event_ms.append(event_ms)
            sent.arrived_s.append(arrived)
            if source == 0:
                sent.views_ms.append(event_ms)
        preloader.poll()
    preloader.flush()


def watch(serve: Service, shown: Shown, stop: threading.Event) -> None:
    """Poll until told to stop."""
    while not stop.wait(POLL_S):
        with contextlib.suppress(OSError):
            page = serve.get("/metrics")
            now = time.time()
            shown.polls += 1
            match = _END.search(page)
            if match and float(match[1]) not in shown.first_s:
                shown.first_s[float(match[1])] = now
                views = total_views(page)
                if views is not None:
                    shown.views[float(match[1])] = views


def total_views(page: str) -> float | None:
    """Page views of everybody in the smallest window."""
    for labels, value in _VIEWS.findall(page):
        others = set(re.findall(r'(\w+)="([^"]*)"', labels)) - {("window", SMALLEST)}
        if f'window="{SMALLEST}"' in labels and {text for _, text in others} <= {"all"}:
            return float(value)
    return None


def delays(sent: Sent, shown: Shown) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Seconds from arrival to presence, of every record behind which an end was shown."""
    ends = sorted(shown.first_s)
    first = [shown.first_s[end] for end in ends]
    found = []
    for event_ms, arrived in zip(sent.event_ms, sent.arrived_s, strict=True):
        place = bisect.bisect_right(ends, event_ms / 1000)
        if place < len(ends):
            found.append(first[place] - arrived)
    return np.array(found)


def wrong_ends(sent: Sent, shown: Shown) -> list[str]:
    """Ends that were shown with another number of page views than were sent."""
    views = sorted(sent.views_ms)
    wrong = []
    for end, value in shown.views.items():
        low, high = (end - 300) * 1000, end * 1000
        truth = bisect.bisect_left(views, high) - bisect.bisect_left(views, low)
        if value != truth:
            wrong.append(f"{end:.0f}: {value:.0f} shown, {truth} sent")
    return wrong


def measure(
    broker: Broker, directory: Path, *, rate: int, seconds: float
) -> tuple[Sent, Shown, dict[str, float]]:
    """One worker, one serve, one feed, one poller."""
    with Installation(broker, directory, partitions=PARTITIONS) as installation:
        worker = installation.worker()
        serve = installation.serve()
        sent, shown, stop = Sent(), Shown(), threading.Event()
        poller = threading.Thread(target=watch, args=(serve, shown, stop))
        poller.start()
        started = time.monotonic()
        cpu = cpu_seconds(worker.process.pid) or 0.0, cpu_seconds(serve.process.pid) or 0.0
        try:
            feed(installation, sent, rate=rate, seconds=seconds)
            # Quiet topics stop the watermark for idle_after; what is sent last isn't judged.
            time.sleep(2.0)
        finally:
            stop.set()
            poller.join()
        elapsed = time.monotonic() - started
        load = {
            "worker": ((cpu_seconds(worker.process.pid) or 0.0) - cpu[0]) / elapsed,
            "serve": ((cpu_seconds(serve.process.pid) or 0.0) - cpu[1]) / elapsed,
        }
        return sent, shown, load


def main() -> int:
    """Run it; 1 if the target is missed."""
    parser = options(__doc__ or "")
    add_broker_option(parser)
    parser.add_argument("--rate", type=int, default=5_000, help="events a second over all topics")
    parser.add_argument("--seconds", type=float, help="how long (120; short: 45)")
    arguments: argparse.Namespace = parser.parse_args()
    if arguments.profile:
        parser.error("--profile: nothing here is measured in this process; see bench.throughput")
    seconds = arguments.seconds or (45.0 if arguments.short else 120.0)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with chosen_broker(arguments.broker, directory) as broker:
            sent, shown, load = measure(broker, directory, rate=arguments.rate, seconds=seconds)
    found = delays(sent, shown)
    if not len(found):
        print("no window end was shown", file=sys.stderr)
        return 1
    rows: list[Row] = [
        {
            "records": len(found),
            "p50 s": float(np.quantile(found, 0.5)),
            "p90 s": float(np.quantile(found, 0.9)),
            "p99 s": float(np.quantile(found, 0.99)),
            "max s": float(found.max()),
            "ends shown": len(shown.first_s),
            "polls/s": shown.polls / (seconds + 2),
            "feed late s": sent.worst_lag_s,
            "worker CPU": load["worker"],
            "serve CPU": load["serve"],
        }
    ]
    wrong = wrong_ends(sent, shown)
    targets = [
        verdict("p99 s", float(rows[0]["p99 s"] or 0), at_most=BOUND_S + HOP_S + ALLOWANCE_S),
        verdict("polls/s", float(rows[0]["polls/s"] or 0), at_least=10),
        verdict("ends with a wrong number of page views", len(wrong), at_most=0),
    ]
    table(f"From Kafka to /metrics at {arguments.rate:,} events/s, {arguments.broker}", rows)
    table("Targets", targets)
    for line in wrong[:10]:
        print(f"  wrong: {line}")
    finish(arguments.json, "freshness", {"freshness": rows, "targets": targets, "wrong": wrong})
    return 0 if all(row["holds"] for row in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
