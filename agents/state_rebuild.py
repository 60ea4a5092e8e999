"""Give the state up, so that the next worker replays the input into a new one.

Rules:
- Only while nobody is a member of the group: a worker that lives would write into what is buried.
- Every key of the state topic gets a tombstone, in the order of the log. The newest marker comes last:
cut off in the middle, what is left refuses to be used, and running it again ends it.
- Then a claim with the next epoch is written and the old claims are buried. The epoch has to go on,
because the roll-up believes the highest, and the log has to say that the emptiness is meant.
- The group's offsets go back to 0, or a worker would miss the state that they rest on.
- The roll-up's committed text is cleared: the past will be reported again, so every revision has to be
known, and results are read from their beginning once.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from agents.bounded_reader import read_once
from agents.failures import CommandFailed
from agents.kafka_client import stop
from agents.ownership import Terms
from agents.publisher import Outgoing, Publisher
from agents.settings import Settings
from streams.claims import CLAIM, Claim

REBUILDER = "rebuild"
_CLAIMS = f"{CLAIM}|".encode()
_AT_ONCE = 5_000


class Given(msgspec.Struct, kw_only=True):
    """What is to be given up, by partition: live keys in the order of their last record."""

    keys: list[dict[bytes, int]]
    claims: list[dict[bytes, None]]
    bytes: int = 0

    @property
    def records(self) -> int:
        """How many there are, without the claims."""
        return sum(map(len, self.keys))


async def members_of(settings: Settings, client: dict[str, Any]) -> int:
    """How many members the group has. Raises CommandFailed if Kafka doesn't say."""
    admin = AIOKafkaAdminClient(**client)
    try:
        await admin.start()
        (answer,) = await admin.describe_consumer_groups([settings.kafka.group])
        (group,) = answer.groups
        return len(group[-1] if isinstance(group, tuple) else group.members)
    except KafkaError as error:
        if "coordinator" in str(error).lower():
            return 0  # Kafka knows no such group, and never had one.
        raise CommandFailed(
            f"Kafka does not say whether the group {settings.kafka.group} is active: {error}"
        ) from None
    finally:
        await admin.close()


async def find_state(settings: Settings, client: dict[str, Any]) -> Given:
    """What stands in the state topic. Raises CommandFailed."""
    count = settings.kafka.partitions
    given = Given(keys=[{} for _ in range(count)], claims=[{} for _ in range(count)])

    def apply(_topic: str, n: int, records: list[Any]) -> None:
        for record in records:
            key, value = record.key or b"", record.value
            given.bytes -= given.keys[n].pop(key, 0)
            given.claims[n].pop(key, None)
            if value is not None and key.startswith(_CLAIMS):
                given.claims[n][key] = None
            elif value is not None:
                given.keys[n][key] = len(value)
                given.bytes += len(value)

    whole = {settings.topics().state: count}
    await read_once(client, whole, apply, from_ms=None, limit=sys.maxsize)
    return given


async def give_up(settings: Settings, client: dict[str, Any], given: Given) -> None:
    """Bury ``given`` and claim the partitions anew. Raises PublishFailed, KafkaError."""
    state = settings.topics().state
    publisher = Publisher(client, deadline_s=settings.engine.deadline_ms / 1_000, idempotent=False)
    await publisher.start()
    try:
        for n, keys in enumerate(given.keys):
            dead = [Outgoing(key, None, n) for key in keys]
            for start in range(0, len(dead), _AT_ONCE):
                await publisher.publish(state, dead[start : start + _AT_ONCE])
        terms = msgspec.json.encode(Terms())
        claims = [
            Outgoing(Claim(_last_epoch(claims) + 1, REBUILDER).key, terms, n)
            for n, claims in enumerate(given.claims)
        ]
        await publisher.publish(state, claims)
        await publisher.publish(
            state,
            [Outgoing(key, None, n) for n, claims in enumerate(given.claims) for key in claims],
        )
    finally:
        await publisher.stop()
    await _reset_offsets(settings, client)


def _last_epoch(claims: dict[bytes, None]) -> int:
    return max((int(key.split(b"|")[1]) for key in claims), default=0)


async def _reset_offsets(settings: Settings, client: dict[str, Any]) -> None:
    """All inputs to 0; keep the roll-up's offset and drop the text beside it."""
    topics = settings.topics()
    partials = TopicPartition(topics.partials, 0)
    offsets = {
        TopicPartition(topic, n): OffsetAndMetadata(0, "")
        for topic in topics.sources
        for n in range(settings.kafka.partitions)
    }
    consumer = AIOKafkaConsumer(**client, group_id=settings.kafka.group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([partials, *offsets])
        async with asyncio.timeout(settings.engine.deadline_ms / 1_000):
            offset = await consumer.committed(partials)
            if offset is not None:
                offsets[partials] = OffsetAndMetadata(offset, "")
            await consumer.commit(offsets)
    finally:
        await stop(consumer)
