"""The roll-up agent: partials of all partitions in, global results out.

One worker of the group has it at a time: whoever is assigned the one partition of the partials
topic. It holds nothing durable. A takeover reads two things again:
- the results topic, for the highest revision of each result that may still change, so that a
correction has a higher one than anything that is out;
- the partials from the committed offset, before which none is needed any more.
The committed offset carries, as its text, where in the results topic that reading has to begin.
Both are committed only after the results that rest on them were acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import aiokafka
import msgspec
from aiokafka import TopicPartition
from faust.types import TP

from agents.kafka_client import stop
from agents.publisher import Outgoing, Publisher
from agents.settings import Settings
from agents.transport import Batch, Consumer
from schemas.records import Partial, PublishedResult
from streams.rollup import RollUp

log = logging.getLogger(__name__)
_POLL_MS = 200
_TICK_S = 0.2
_COMMIT_EVERY_S = 5.0


class RollUpAgent:
    """The seat of the roll-up on this worker; empty while another worker has it."""

    def __init__(self, settings: Settings, publisher: Publisher, client: dict[str, Any]) -> None:
        self._config = settings.core()
        self._partitions = settings.kafka.partitions
        self._timeout_ms = settings.rollup.timeout_ms
        self._deadline_s = settings.engine.deadline_ms / 1_000
        topics = settings.topics()
        self._partials = TP(topics.partials, 0)
        self._results = topics.results
        self._publisher = publisher
        self._client = client
        self._encode = msgspec.json.Encoder().encode
        self._decode_partial = msgspec.json.Decoder(Partial).decode
        self._decode_result = msgspec.json.Decoder(PublishedResult).decode
        self._core: RollUp | None = None
        self._consumer: Consumer | None = None
        self._busy = asyncio.Lock()
        self.next_offset = 0
        self.seconds = 0.0
        self.published = 0

    async def take_over(self, consumer: Consumer) -> None:
        """Take the seat, or keep it. Raises what Kafka raises, and TimeoutError past the deadline."""
        async with self._busy:
            core = RollUp(self._config, self._partitions, timeout_ms=self._timeout_ms)
            async with asyncio.timeout(self._deadline_s):
                await self._read_results(core)
                first = await consumer.earliest_offsets(self._partials)
            self._core, self._consumer = core, consumer
            self.next_offset = max([0, *first.values()])

    def release(self) -> None:
        """Leave the seat: another worker has it."""
        self._core = self._consumer = None

    async def _read_results(self, core: RollUp) -> None:
        """Read the results topic to its end.

        The end is the high water of a fetch: the embedded broker's end offsets are wrong.
        """
        reader = aiokafka.AIOKafkaConsumer(**self._client, enable_auto_commit=False)
        await reader.start()
        try:
            inputs = [
                TopicPartition(self._results, n)
                for n in await self._publisher.partitions_of(self._results)
            ]
            reader.assign(inputs)
            await reader.seek_to_beginning(*inputs)
            while inputs:
                for records in (await reader.getmany(timeout_ms=_POLL_MS)).values():
                    for record in records:
                        if record.value is not None:
                            core.note_published(self._decode_result(record.value))
                inputs = [tp for tp in inputs if not await _is_read(reader, tp)]
        finally:
            await stop(reader)

    async def receive(self, batch: Batch) -> None:
        """Add the partials of ``batch`` and publish what is due. Raises PublishFailed."""
        async with self._busy:
            core = self._core
            if core is None:
                return
            started = time.perf_counter()
            for record in batch.records:
                if record.offset >= self.next_offset and record.value is not None:
                    core.add(self._decode_partial(record.value))
            self.next_offset = max(self.next_offset, batch.records[-1].offset + 1)
            self.seconds += time.perf_counter() - started
            await self._publish_due(core)

    async def _publish_due(self, core: RollUp) -> None:
        started = time.perf_counter()
        results = core.due(time.time_ns() // 1_000_000)
        records = [Outgoing(r.result_id.encode(), self._encode(r)) for r in results]
        self.seconds += time.perf_counter() - started
        if records:
            await self._publisher.publish(self._results, records)
            self.published += len(records)

    async def run(self, fail: Callable[[Exception], None]) -> None:
        """Publish what falls due by the clock, for as long as we live."""
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                async with self._busy:
                    if self._core is not None:
                        await self._publish_due(self._core)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the worker must end
                fail(error)


async def _is_read(reader: aiokafka.AIOKafkaConsumer, tp: TopicPartition) -> bool:
    high_water = reader.highwater(tp)
    return high_water is not None and await reader.position(tp) >= high_water
