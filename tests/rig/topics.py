"""The topics of one test: their own prefix on a shared broker, written and read with
confluent-kafka.

The product uses kafka-python and aiokafka; the tests use a third client, so a fault of one doesn't
hide itself.
"""

import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.topics import Source, Topics
from tests.rig.brokers import Broker

_DELETE = {"cleanup.policy": "delete"}
_COMPACT = {"cleanup.policy": "compact"}
_BOTH = {"cleanup.policy": "compact,delete"}


@dataclass(frozen=True, slots=True)
class Delivered:
    """A record that the broker has acknowledged."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class TopicSet:
    """The topics of one installation on a broker, with a prefix that no other test has."""

    broker: Broker
    partitions: int
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    replication: int = 1
    state_configs: Mapping[str, str] = field(default_factory=dict)
    """Laid over the state topic's cleanup policy: small segments, for a compaction that happens."""

    @property
    def names(self) -> Topics:
        """The names, as the product spells them."""
        return Topics.with_prefix(self.prefix)

    def create(self) -> None:
        """Create all of them; the global ones have one partition."""
        names = self.names
        wanted = {
            **dict.fromkeys(names.sources, (self.partitions, _DELETE)),
            names.state: (self.partitions, {**_COMPACT, **self.state_configs}),
            names.partials: (1, _DELETE),
            names.rollup: (1, _DELETE),
            names.results: (1, _BOTH),
            names.signals: (1, _DELETE),
            names.alerts: (1, _DELETE),
            names.dead_letters: (1, _DELETE),
            names.late: (1, _DELETE),
            names.redriven: (1, _COMPACT),
        }
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        created = admin.create_topics(
            [
                NewTopic(
                    name, num_partitions=count, replication_factor=self.replication, config=config
                )
                for name, (count, config) in wanted.items()
            ]
        )
        for answer in created.values():
            answer.result(timeout=60)

    def produce(
        self,
        records: Iterable[tuple[str, bytes | None, bytes | None, int | None]],
        *,
        timestamps_ms: Iterable[int] | None = None,
    ) -> list[Delivered]:
        """Send (topic, key, value, partition or None) and wait for every acknowledgement. A record
        without a value is a tombstone.

        Without a partition the key decides, by murmur2 as the Java clients do. The answers stand in
        the order of the acknowledgements, which for one partition is the order of sending.
        `timestamps_ms` are the record timestamps; without them a record carries the time of
        sending.
        """
        producer = Producer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                # Without it a retry (a fresh topic has no leader yet) puts records behind later ones.
                "enable.idempotence": not self.broker.is_embedded,
                "message.max.bytes": 4 << 20,
                "queue.buffering.max.messages": 200_000,
            }
        )
        delivered: list[Delivered] = []
        failed: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(error)
            else:
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                assert topic is not None
                assert partition is not None
                assert offset is not None
                delivered.append(Delivered(topic, partition, offset))

        stamps = iter(timestamps_ms) if timestamps_ms is not None else None
        for topic, key, value, partition in records:
            extra: dict[str, Any] = {} if partition is None else {"partition": partition}
            if stamps is not None:
                extra["timestamp"] = next(stamps)
            while True:
                try:
                    producer.produce(topic, value=value, key=key, on_delivery=on_delivery, **extra)
                except BufferError:
                    producer.poll(0.05)
                else:
                    break
            producer.poll(0)
        left = producer.flush(60)
        assert not left, f"{left} records were not acknowledged"
        assert not failed, failed[0]
        return delivered

    def tell(self, events: Iterable[tuple[Source, Mapping[str, object]]]) -> None:
        """Send events, each to its topic under the key of its customer."""
        sources = self.names.sources
        self.produce(
            (
                sources[source],
                str(event["customer_id"]).encode(),
                json.dumps(event).encode(),
                None,
            )
            for source, event in events
        )

    def pass_time(self, until_ms: int, *, timestamp_ms: int | None = None) -> None:
        """Say on every partition of every input that nothing older than this comes any more."""
        passed = json.dumps({"type": "time_passed", "until": until_ms}).encode()
        everywhere = [
            (topic, None, passed, partition)
            for topic in self.names.sources
            for partition in range(self.partitions)
        ]
        stamps = None if timestamp_ms is None else [timestamp_ms] * len(everywhere)
        self.produce(everywhere, timestamps_ms=stamps)

    def read(
        self,
        topic: str,
        *,
        seconds: float,
        quiet_after: float | None = None,
        until: Callable[[], bool] = bool,
    ) -> Iterator[Message]:
        """Every record of a topic from its start, for `seconds`.

        It ends earlier when something has come and then nothing for `quiet_after`, or once `until()` holds (asked ten
        times a second at least). It goes by what a fetch returns: the embedded
        broker's end offsets are wrong when a batch holds several records.
        """
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "group.id": f"{self.prefix}-{uuid.uuid4().hex[:8]}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
            }
        )
        try:
            count = len(consumer.list_topics(topic, timeout=60).topics[topic].partitions)
            consumer.assign([TopicPartition(topic, n, 0) for n in range(count)])
            end, last = time.monotonic() + seconds, math.inf
            while (now := time.monotonic()) < end and not until():
                if quiet_after is not None and now - last > quiet_after:
                    return
                for message in consumer.consume(2_000, timeout=0.1):
                    assert message.error() is None, message.error()
                    last = time.monotonic()
                    yield message
        finally:
            consumer.close()
