"""CPU time of a process, and the end-to-end set-up that two of the benchmarks share."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Producer

from bench.population import Generated
from tests.rig.brokers import Broker, apache_kafka, embedded
from tests.rig.kafka_server import STEADY
from tests.rig.topics import TopicSet


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process and its threads so far; None where /proc is not Linux's."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def add_broker_option(parser: argparse.ArgumentParser) -> None:
    """`--broker`: which one to run against."""
    parser.add_argument(
        "--broker",
        default="embedded",
        metavar="WHICH",
        help="embedded, apache (fetched and started here; needs java and mvn), or HOST:PORT",
    )


@contextlib.contextmanager
def chosen_broker(which: str, directory: Path) -> Iterator[Broker]:
    """Start the broker that the option names, or use the one that runs there."""
    if which == "embedded":
        with embedded(directory) as broker:
            yield broker
    elif which == "apache":
        with apache_kafka(directory, java=STEADY) as broker:
            yield broker
    else:
        yield Broker(which, is_embedded=False)


class Preloader:
    """Sends generated records as fast as librdkafka takes them; a failed one is an error at
    `flush`.
    """

    def __init__(self, topics: TopicSet) -> None:
        self._sources = topics.names.sources
        self._failed: list[str] = []
        self.sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": topics.broker.bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "batch.size": 1 << 20,
                "queue.buffering.max.messages": 500_000,
            }
        )

    def _on_delivery(self, error: object, _: object) -> None:
        if error is not None:
            self._failed.append(str(error))

    def send(self, record: Generated) -> None:
        """Queue a record; waits while the queue is full."""
        self.send_raw(record.source, record.key, record.payload)

    def send_raw(self, source: int, key: bytes | None, payload: bytes, partition: int = -1) -> None:
        """Queue a payload; a negative partition means that the key decides."""
        while True:
            try:
                self._producer.produce(
                    self._sources[source],
                    payload,
                    key,
                    partition,
                    on_delivery=self._on_delivery,
                )
            except BufferError:
                self._producer.poll(0.05)
            else:
                break
        self.sent += 1
        if self.sent % 500 == 0:
            self._producer.poll(0)

    def poll(self) -> None:
        """Let acknowledgements in."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        left = self._producer.flush(120)
        if left or self._failed:
            msg = (
                f"{left} records not acknowledged, {len(self._failed)} refused: {self._failed[:1]}"
            )
            raise RuntimeError(msg)
