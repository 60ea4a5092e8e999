"""How long a worker is away: from its restart to the first correct result, with a big state.

A worker reads events of a million customers (each once, some more often) and writes its checkpoints to
the state topic, as always. Then it is ended, by SIGTERM and by kill -9; some more events come; another one
is started at once. Clock: from that start (after a SIGTERM), or from the kill itself, until the results of the
next boundary stand on the results topic, whole and right. What is right is counted here from the events that
were sent: page views, distinct visitors and active customers, orders, revenue, of every window that
has a boundary there.

After a kill the group waits for the session of the dead worker (6 s by default) before it gives its
partitions to the next one; the target has that on top.

Targets: <= 20 s after SIGTERM; <= 20 s and the session timeout after kill -9.

    python -m bench.recovery --short
    python -m bench.recovery --broker apache --customers 1000000
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from bench.population import CHANNELS, PERSONAS, REGIONS, START_MS
from bench.processes import Preloader, add_broker_option, chosen_broker, cpu_seconds
from bench.report import Row, finish, options, table, verdict
from schemas.records import PublishedResult
from schemas.topics import Source
from tests.rig.brokers import Broker
from tests.rig.installation import Installation, Service
from tests.rig.processes import wait_until

PARTITIONS = 8
SECONDS = 20.0
SESSION_S = 6.0
STEP_MS = 600_000
"""Of history every tenth minute is published, whatever the hop (docs/decisions/0005)."""
SPAN_MS = 20 * 3_600_000
"""Over so much event time the first visits are spread."""
DAY_MS = 86_400_000
WINDOWS = {"5m": 300_000, "1h": 3_600_000, "24h": DAY_MS}
"""The default windows that have a boundary at every tenth minute."""
METRICS = ("page_views", "visitors", "active_customers", "orders", "revenue")
MORE = 0.2
"""So many more events than customers before the first restart."""
BETWEEN = 2_000
"""Events that come while nobody reads."""


@dataclass(slots=True)
class Book:
    """Everything that was sent, and what it adds up to."""

    seed: int
    at_ms: list[int] = field(default_factory=list)
    customer: list[int] = field(default_factory=list)
    amount: list[int] = field(default_factory=list)
    """In cents; -1 is a page view."""

    def add(self, at_ms: int, customer: int, *, is_order: bool) -> tuple[int, bytes, bytes]:
        """Note an event; where it goes, its key, its payload."""
        number = len(self.at_ms)
        cents = (number * 7_919) % 20_000 if is_order else -1
        self.at_ms.append(at_ms)
        self.customer.append(customer)
        self.amount.append(cents)
        key = b"customer-%d" % customer
        common = (
            b'"event_id":"%d-%d","customer_id":"%b","occurred_at":%d,"persona":"%b","region":"%b"'
            % (
                self.seed,
                number,
                key,
                at_ms,
                PERSONAS[customer & 3].encode(),
                REGIONS[customer >> 2 & 3].encode(),
            )
        )
        if is_order:
            body = b'{"type":"order_placed","order_id":"o","amount":"%d.%02d","currency":"USD",%b}'
            return Source.PURCHASES, key, body % (cents // 100, cents % 100, common)
        channel = CHANNELS[customer % len(CHANNELS)].encode()
        body = b'{"type":"page_viewed","page":"/","channel":"%b",%b}'
        return Source.SESSIONS, key, body % (channel, common)

    def truth(self, end_ms: int) -> dict[tuple[str, str], float]:
        """(window, metric) -> value at a boundary."""
        at = np.array(self.at_ms)
        customers, cents = np.array(self.customer), np.array(self.amount)
        found: dict[tuple[str, str], float] = {}
        for window, size_ms in WINDOWS.items():
            inside = (at >= end_ms - size_ms) & (at < end_ms)
            views, orders = inside & (cents < 0), inside & (cents >= 0)
            found[window, "page_views"] = int(views.sum())
            found[window, "visitors"] = len(np.unique(customers[views]))
            found[window, "active_customers"] = len(np.unique(customers[inside]))
            found[window, "orders"] = int(orders.sum())
            found[window, "revenue"] = int(cents[orders].sum()) / 100
        return found


@dataclass(frozen=True, slots=True)
class Restart:
    """One of them."""

    how: str
    seconds: float
    ended_in: float
    ready_in: float
    cpu: float | None


class Shop:
    """An installation, its feed, and a reader of its results."""

    def __init__(self, installation: Installation, customers: int, *, seed: int) -> None:
        self.installation = installation
        self.book = Book(seed)
        self.customers = customers
        self._feed = Preloader(installation.topics)
        self.sent = [0] * len(Source)
        self.end_ms = START_MS + DAY_MS
        self._decode = msgspec.json.Decoder(PublishedResult).decode
        topics = installation.topics
        self._results = Consumer(
            {
                "bootstrap.servers": topics.broker.bootstrap,
                "group.id": f"{topics.prefix}-bench",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
            }
        )
        self._results.assign([TopicPartition(topics.names.results, 0, 0)])

    def census(self) -> None:
        """Every customer once, in a shuffled order, and a fifth of them again."""
        draw = np.random.default_rng(self.book.seed)
        order = [*draw.permutation(self.customers).tolist()]
        order += draw.integers(0, self.customers, int(self.customers * MORE)).tolist()
        first_ms = self.end_ms - SPAN_MS
        for number, customer in enumerate(order):
            at_ms = first_ms + number * (SPAN_MS - 60_000) // len(order)
            self._send(*self.book.add(at_ms, customer, is_order=number % 10 == 9))
        self._pass_time()

    def some_more(self) -> int:
        """Events of the next ten minutes; the boundary after them."""
        draw = np.random.default_rng([self.book.seed, len(self.book.at_ms)])
        start_ms, self.end_ms = self.end_ms, self.end_ms + STEP_MS
        times = sorted(draw.integers(start_ms, self.end_ms, BETWEEN).tolist())
        for at_ms, customer in zip(
            times, draw.integers(0, self.customers, BETWEEN).tolist(), strict=True
        ):
            self._send(*self.book.add(at_ms, customer, is_order=draw.random() < 0.1))
        self._pass_time()
        return self.end_ms

    def _send(self, source: int, key: bytes, payload: bytes) -> None:
        self._feed.send_raw(source, key, payload)
        self.sent[source] += 1

    def _pass_time(self) -> None:
        passed = b'{"type":"time_passed","until":%d}' % self.end_ms
        for source in Source:
            for partition in range(PARTITIONS):
                self._feed.send_raw(source, None, passed, partition)
                self.sent[source] += 1
        self._feed.flush()

    def wait_for_results(self, *, seconds: float) -> float:
        """Read until the results of the newest boundary are there and right; the moment of that."""
        wanted = self.book.truth(self.end_ms)
        marked = b'"end_ms":%d,' % self.end_ms
        found: dict[tuple[str, str], PublishedResult] = {}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for message in self._results.consume(5_000, timeout=0.05):
                value = message.value()
                if value is None or marked not in value:
                    continue
                one = self._decode(value)
                if (
                    not one.segment
                    and not one.dimensions
                    and not one.missing_partitions
                    and (one.window, one.metric) in wanted
                ):
                    found[one.window, one.metric] = one
            if len(found) == len(wanted):
                moment = time.monotonic()
                wrong = {
                    key: (one.value, wanted[key])
                    for key, one in found.items()
                    if abs((one.value or 0) - wanted[key]) > 1e-6
                }
                if wrong:
                    raise RuntimeError(f"wrong results after the restart: {wrong}")
                return moment
        raise TimeoutError(f"{len(found)} of {len(wanted)} results within {seconds:g} s")

    def wait_until_committed(self, *, seconds: float) -> None:
        """Return once the group has committed everything that was sent."""
        topics = self.installation.topics
        consumer = Consumer(
            {"bootstrap.servers": topics.broker.bootstrap, "group.id": topics.prefix}
        )
        asked = [TopicPartition(t, n) for t in topics.names.sources for n in range(PARTITIONS)]

        def is_committed() -> bool:
            found = consumer.committed(asked, timeout=10)
            return bool(sum(max(0, one.offset) for one in found) >= sum(self.sent))

        try:
            wait_until(is_committed, what="everything committed", seconds=seconds, every=0.3)
        finally:
            consumer.close()


def restart(
    shop: Shop, worker: Service, how: signal.Signals, *, limit: float
) -> tuple[Service, Restart]:
    """End the worker, let some events come, start another one."""
    ended_at = time.monotonic()
    worker.process.signal(how)
    worker.process.wait(60)
    ended_in = time.monotonic() - ended_at
    shop.some_more()
    started_at = time.monotonic()
    fresh = shop.installation.worker(ready_within=None)
    right_at = shop.wait_for_results(seconds=limit)
    # From the kill on nobody works; the events that came in between take their time of sending.
    since = ended_at if how is signal.SIGKILL else started_at
    cpu = cpu_seconds(fresh.process.pid)
    fresh.wait_for("/readyz", seconds=60)
    ready_in = time.monotonic() - started_at
    shop.wait_until_committed(seconds=60)
    return fresh, Restart(how.name, right_at - since, ended_in, ready_in, cpu)


def measure(broker: Broker, directory: Path, arguments: argparse.Namespace) -> Iterator[Restart]:
    """All rounds over one state."""
    with Installation(
        broker,
        directory,
        partitions=PARTITIONS,
        settings={"engine": {"session_timeout": f"{SESSION_S:.0f}s"}},
    ) as installation:
        shop = Shop(installation, arguments.customers, seed=arguments.seed)
        began = time.monotonic()
        shop.census()
        print(
            f"  {sum(shop.sent):,} events sent in {time.monotonic() - began:.0f} s", file=sys.stderr
        )
        began = time.monotonic()
        worker = installation.worker(ready_within=None)
        worker.wait_for("/metrics", seconds=60)
        shop.wait_until_committed(seconds=arguments.limit * 5)
        shop.wait_for_results(seconds=arguments.limit)
        print(f"  read and checkpointed in {time.monotonic() - began:.0f} s", file=sys.stderr)
        tell_state(worker)
        for _ in range(arguments.rounds):
            for how in (signal.SIGTERM, signal.SIGKILL):
                worker, done = restart(shop, worker, how, limit=arguments.limit)
                print(f"  {done.how}: {done.seconds:.1f} s", file=sys.stderr)
                yield done
        worker.process.stop()


def tell_state(worker: Service) -> None:
    """What the worker says of its state."""
    page = worker.page()
    for name in sorted(page.names()):
        if name.startswith("heartline_state_"):
            print(f"  {name} {page.total(name):,.0f}", file=sys.stderr)


def main() -> int:
    """Run it; 1 if a target is missed."""
    parser = options(__doc__ or "")
    add_broker_option(parser)
    parser.add_argument("--customers", type=int, help="1,000,000; short: 100,000")
    parser.add_argument("--rounds", type=int, help="3; short: 1")
    parser.add_argument("--limit", type=float, default=120, help="seconds that a restart may take")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    arguments.customers = arguments.customers or (100_000 if arguments.short else 1_000_000)
    arguments.rounds = arguments.rounds or (1 if arguments.short else 3)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with chosen_broker(arguments.broker, directory) as broker:
            restarts = list(measure(broker, directory, arguments))
    rows: list[Row] = [
        {
            "how": one.how,
            "first right result s": one.seconds,
            "end took s": one.ended_in,
            "ready after s": one.ready_in,
            "CPU s": one.cpu,
        }
        for one in restarts
    ]
    targets = [
        verdict(
            f"s after {how.name}, the slowest",
            max(one.seconds for one in restarts if one.how == how.name),
            at_most=at_most,
        )
        for how, at_most in ((signal.SIGTERM, SECONDS), (signal.SIGKILL, SECONDS + SESSION_S))
    ]
    table(f"Recovery, {arguments.customers:,} customers, {arguments.broker}", rows)
    table("Targets", targets)
    finish(arguments.json, "recovery", {"restarts": rows, "targets": targets})
    return 0 if all(row["holds"] for row in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
