"""Telling the engine to forget customers, and finding out whether it has.

One record a customer goes to the input `FORGETTING`, with the key and to the partition of the
customer's events, and waits there for its time as an event does. An offset of that input is
committed only when nothing before it waits any more and the state without the customer is on
record: that is how one sees that it is done.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agents.checked_producer import CheckedProducer
from agents.kafka_admin import (
    admin_client,
    input_partitions,
    lone_consumer,
    partition_counts,
    topic_configs,
)
from agents.partitioners import Partitions
from agents.replay import FORGETTING
from agents.settings import Settings
from schemas.events import CustomerForgotten

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Told:
    """What was sent. ``offsets`` holds the last record of each partition."""

    offsets: dict[int, int] = field(default_factory=dict)
    tombstones: int = 0


def forget(settings: Settings, names: Sequence[str], *, at_ms: int) -> Told:
    """Say that what is known of the customers from before ``at_ms`` is to be deleted.

    Raises kafka-python's errors and `CommandFailed`; what was confirmed until then holds.
    """
    topics = settings.topics()
    partition_of = Partitions(settings.kafka.partitioner, input_partitions(settings))
    compacted = _compacted_partitions(settings, topics.signals)
    pseudonym = _pseudonyms(settings)
    futures: list[tuple[int, Any]] = []
    with CheckedProducer(settings) as producer:
        for name in names:
            key = name.encode()
            record = CustomerForgotten(customer_id=name, occurred_at=at_ms)
            partition = partition_of(key)
            future = producer.send(topics.sources[FORGETTING], partition, key, _encode(record))
            futures.append((partition, future))
            if compacted:
                own = pseudonym(name).encode()
                # As `agents.publisher` chooses the partition of what the engine writes.
                producer.send(topics.signals, zlib.crc32(own) % compacted, own, None)
        producer.flush()
    return Told(
        {partition: int(future.value.offset) for partition, future in futures},
        len(names) if compacted else 0,
    )


def is_done(settings: Settings, told: Told) -> bool:
    """Whether the group has committed past every record. Raises kafka-python's errors."""
    from kafka import TopicPartition

    topic = settings.topics().sources[FORGETTING]
    with lone_consumer(settings, settings.kafka.group) as consumer:
        return all(
            (consumer.committed(TopicPartition(topic, partition)) or 0) > offset
            for partition, offset in told.offsets.items()
        )


def _pseudonyms(settings: Settings) -> Any:
    """Under which name the engine writes of a customer: the pseudonym where ids are hashed."""
    from streams.pseudonyms import Pseudonyms

    key = settings.hash_key()
    return str if key is None else Pseudonyms(key).of


def _compacted_partitions(settings: Settings, topic: str) -> int:
    """The partitions of a topic that keeps the last record of each key, 0 for any other topic.

    Where records only grow old, a tombstone would be one record more about the customer.
    """
    with admin_client(settings) as admin:
        count = partition_counts(admin, (topic,)).get(topic, 0)
        if not count:
            return 0
        configs = topic_configs(admin, (topic,))[topic]
    return count if "compact" in configs.get("cleanup.policy", "") else 0
