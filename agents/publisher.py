"""Everything that the engine writes to Kafka goes through here: in runs, acknowledged, under a
deadline.

A send that fails, or isn't acknowledged within the deadline, raises `PublishFailed`; nobody may
carry on as if it had been written. Records go out in whole batches that are built here (a result
costs about a microsecond instead of the hundred of a single send), and the record's key decides its
partition by CRC-32: nobody else writes to these topics, and murmur2 in Python costs 10 us a key.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import aiokafka
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

LINGER_MS = 20
BATCH_BYTES = 131_072
MAX_REQUEST_BYTES = 4 * 1_048_576


class PublishFailed(Exception):
    """Records were not acknowledged: the worker must end before it commits anything that rests on
    them.
    """


class Outgoing(NamedTuple):
    """A record to write. ``partition`` is None where the key decides."""

    key: bytes
    value: bytes | None
    partition: int | None = None


class Publisher:
    """One idempotent producer (`idempotent` is off for the embedded broker, which has none)."""

    def __init__(self, client: dict[str, Any], *, deadline_s: float, idempotent: bool) -> None:
        self._client = client
        self._deadline_s = deadline_s
        self._idempotent = idempotent
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._partitions: dict[str, list[int]] = {}
        self.seconds = 0.0
        self.records = 0

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        self._producer = aiokafka.AIOKafkaProducer(
            **self._client,
            acks="all",
            enable_idempotence=self._idempotent,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
            request_timeout_ms=int(self._deadline_s * 1_000),
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect. What is still unacknowledged is not waited for: its sender knows by its own
        deadline.
        """
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()

    async def publish(self, topic: str, records: Iterable[Outgoing]) -> dict[int, int]:
        """Write ``records``, those of one partition in order, and wait for every acknowledgement.

        Returns the offset of the last record in each partition written to. Raises PublishFailed.
        """
        producer = self._producer
        if producer is None:
            raise PublishFailed(f"{topic}: the producer is not running")
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(self._deadline_s):
                sent = await self._send(producer, topic, records)
                ends = {}
                for partition, future, count in sent:
                    written = await future
                    ends[partition] = written.offset + count - 1
                    self.records += count
        except TimeoutError:
            raise PublishFailed(f"{topic}: not acknowledged in {self._deadline_s:g} s") from None
        except TopicAuthorizationFailedError:
            raise PublishFailed(
                f"{topic}: Kafka forbids it: grant WRITE on this topic (docs/security.md)"
            ) from None
        except KafkaError as error:
            raise PublishFailed(f"{topic}: {type(error).__name__}: {error}") from error
        finally:
            self.seconds += loop.time() - started
        return ends

    async def partitions_of(self, topic: str) -> list[int]:
        """The partitions of ``topic``. Raises PublishFailed if it has none."""
        found = self._partitions.get(topic)
        if found is None:
            if self._producer is None:
                raise PublishFailed(f"{topic}: the producer is not running")
            found = sorted(await self._producer.partitions_for(topic) or ())
            if not found:
                raise PublishFailed(f"{topic}: there is no such topic")
            self._partitions[topic] = found
        return found

    async def _send(
        self, producer: aiokafka.AIOKafkaProducer, topic: str, records: Iterable[Outgoing]
    ) -> list[tuple[int, Any, int]]:
        partitions = await self.partitions_of(topic)
        builders: dict[int, Any] = {}
        sent: list[tuple[int, Any, int]] = []
        for key, value, chosen in records:
            partition = chosen
            if partition is None:
                partition = partitions[zlib.crc32(key) % len(partitions)]
            builder = builders.get(partition)
            if builder is None:
                builder = builders[partition] = producer.create_batch()
            if builder.append(timestamp=None, key=key, value=value) is None:
                await self._close(producer, topic, partition, builder, sent)
                builder = builders[partition] = producer.create_batch()
                if builder.append(timestamp=None, key=key, value=value) is None:
                    raise PublishFailed(
                        f"{topic}: a record of {len(value or b'')} bytes is too big"
                    )
        for partition, builder in builders.items():
            await self._close(producer, topic, partition, builder, sent)
        return sent

    @staticmethod
    async def _close(
        producer: aiokafka.AIOKafkaProducer,
        topic: str,
        partition: int,
        builder: Any,
        sent: list[tuple[int, Any, int]],
    ) -> None:
        count = builder.record_count()
        if count:
            future = await producer.send_batch(builder, topic, partition=partition)
            sent.append((partition, future, count))
