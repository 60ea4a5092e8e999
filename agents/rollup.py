"""The roll-up agent: partials of all partitions in, global results out.

One worker of the group has it at a time: whoever is assigned the one partition of the partials
topic. It holds nothing durable. A takeover reads two things again:
- the results topic, for the highest revision of each result that may still change, so that a
correction has a higher one than anything that is out;
- the partials from the committed offset, before which none is needed any more.
The committed offset carries, as its text, where in the results topic that reading has to begin.
Both are committed only after the results that rest on them were acknowledged. The text also says how
far the partials had been read: until then nothing is published again, because a boundary may be read
before what has corrected it.
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
from agents.rollup_position import RollUpPosition
from agents.settings import Settings
from agents.transport import Batch, Consumer
from schemas.records import Partial, PublishedResult
from streams.rollup import RollUp

log = logging.getLogger(__name__)
# About 5 ms of work: so long does nothing else run on this worker, not even its health check.
_BOUNDARIES_AT_ONCE = 1
# One acknowledgement takes 20 ms and more, so a backlog goes out in runs.
_RESULTS_AT_ONCE = 8_000
_POLL_MS = 200
_TICK_S = 0.2
_COMMIT_EVERY_S = 5.0
_TAKEOVER_S = 120.0
_CATCH_UP_S = 60.0
"""After this it publishes though it has not read as far as its predecessor: partials may be gone."""
_FORMAT = 2
"""Of the text beside the committed offset. Before 2 the partitions' states were not durable: then one that
changes hands reports all of its past again, so every revision has to be known."""


class RollUpAgent:
    """The seat of the roll-up on this worker; empty while another worker has it."""

    def __init__(self, settings: Settings, publisher: Publisher, client: dict[str, Any]) -> None:
        self._config = settings.core()
        self._partitions = settings.kafka.partitions
        self._timeout_ms = settings.rollup.timeout_ms
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
        self._position: RollUpPosition | None = None
        self._committed: tuple[int, dict[int, int], int] | None = None
        self._published_to = 0
        self._catching_up_since = 0.0
        self._busy = asyncio.Lock()
        self.next_offset = 0
        self.seconds = 0.0
        self.published = 0

    async def take_over(self, consumer: Consumer, wanted: Callable[[], bool]) -> bool:
        """Take the seat, or take it again; False, and no seat, if it is ``wanted`` no more.

        Raises what Kafka raises, TimeoutError past the deadline.
        """
        async with self._busy:
            core = RollUp(self._config, self._partitions, timeout_ms=self._timeout_ms)
            async with asyncio.timeout(_TAKEOVER_S):
                offset, results, read_to = _parse(await consumer.committed_text(self._partials))
                position = RollUpPosition({})
                if not await self._read_results(core, position, results, wanted):
                    self.release()
                    return False
                first = await consumer.earliest_offsets(self._partials)
            self._core, self._consumer, self._position = core, consumer, position
            self._committed = None
            self._published_to = read_to
            self._catching_up_since = asyncio.get_running_loop().time()
            self.next_offset = max([offset, *first.values()])
        return True

    @property
    def left_out(self) -> dict[str, int]:
        """Partials that changed no result since the seat was taken, by reason."""
        core = self._core
        return {
            "foreign": 0 if core is None else core.ignored,
            "uncorrectable": 0 if core is None else core.uncorrected,
        }

    def release(self) -> None:
        """Leave the seat: another worker has it."""
        self._core = self._consumer = self._position = None

    async def _read_results(
        self,
        core: RollUp,
        position: RollUpPosition,
        start: dict[int, int],
        wanted: Callable[[], bool],
    ) -> bool:
        """Read the results topic from ``start`` to its end, and tell ``position`` what stands where.

        What this seat doesn't publish itself, the next one needs from the same place. The end is the
        high water of a fetch: the embedded broker's end offsets are wrong. False when given up.
        """
        reader = aiokafka.AIOKafkaConsumer(
            **self._client, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await reader.start()
        ends: dict[int, int] = {}
        try:
            inputs = [
                TopicPartition(self._results, n)
                for n in await self._publisher.partitions_of(self._results)
            ]
            reader.assign(inputs)
            for tp in inputs:
                if tp.partition in start:
                    reader.seek(tp, start[tp.partition])
                else:
                    await reader.seek_to_beginning(tp)
            while len(ends) < len(inputs):
                if not wanted():
                    return False
                for records in (await reader.getmany(timeout_ms=_POLL_MS)).values():
                    for record in records:
                        if record.value is not None:
                            result = self._decode_result(record.value)
                            core.note_published(result)
                            position.found(result, record.partition, record.offset)
                for tp in inputs:
                    high_water, at = reader.highwater(tp), await reader.position(tp)
                    if high_water is not None and at >= high_water:
                        ends[tp.partition] = at
        finally:
            await stop(reader)
        position.next_results = ends
        return True

    async def receive(self, batch: Batch) -> None:
        """Add the partials of ``batch`` and publish what is due. Raises PublishFailed."""
        async with self._busy:
            core = self._core
            if core is None:
                return
            started = time.perf_counter()
            for record in batch.records:
                if record.offset >= self.next_offset and record.value is not None:
                    partial = self._decode_partial(record.value)
                    core.add(partial)
                    if self._position is not None:
                        self._position.read(record.offset, partial)
            self.next_offset = max(self.next_offset, batch.records[-1].offset + 1)
            self.seconds += time.perf_counter() - started
            await self._publish_due(core)

    def _is_catching_up(self) -> bool:
        """Whether the seat before had read further than we have."""
        now = asyncio.get_running_loop().time()
        return self.next_offset < self._published_to and now - self._catching_up_since < _CATCH_UP_S

    async def _publish_due(self, core: RollUp) -> None:
        is_done = self._is_catching_up()
        while self._core is core and not is_done:
            results: list[PublishedResult] = []
            records: list[Outgoing] = []
            while len(records) < _RESULTS_AT_ONCE and not is_done:
                started, waiting = time.perf_counter(), core.pending
                found = core.due(time.time_ns() // 1_000_000, most=_BOUNDARIES_AT_ONCE)
                records += [Outgoing(r.result_id.encode(), self._encode(r)) for r in found]
                results += found
                self.seconds += time.perf_counter() - started
                is_done = not found and core.pending == waiting
                await asyncio.sleep(0)
            if records:
                last = await self._publisher.publish(self._results, records)
                self.published += len(records)
                if self._position is not None:
                    self._position.published(results, last)

    async def _commit(self) -> None:
        """Commit from where to read again. A refusal is no loss: whoever has the seat reads more."""
        if self._consumer is None or self._position is None:
            return
        if self._is_catching_up():
            return
        needed = (*self._position.needed(self.next_offset), self.next_offset)
        if needed == self._committed:
            return
        text = msgspec.json.encode(
            _Text(format=_FORMAT, results=needed[1], read_to=needed[2])
        ).decode()
        if await self._consumer.commit_offsets({self._partials: (needed[0], text)}):
            self._committed = needed

    async def run(self, fail: Callable[[Exception], None]) -> None:
        """Publish what falls due by the clock, for as long as we live."""
        committed_at = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                async with self._busy:
                    if self._core is not None:
                        await self._publish_due(self._core)
                        if time.monotonic() - committed_at >= _COMMIT_EVERY_S:
                            committed_at = time.monotonic()
                            await self._commit()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the worker must end
                fail(error)


class _Text(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside the committed offset: where to begin in each partition of the results, and up
    to which partial everything is published.
    """

    format: int = 1
    results: dict[int, int]
    read_to: int = 0


def _parse(committed: tuple[int, str] | None) -> tuple[int, dict[int, int], int]:
    """The committed offset of the partials, where to begin in the results (at the start without), and
    up to which partial everything is published.
    """
    if committed is None:
        return 0, {}, 0
    try:
        text = msgspec.json.decode(committed[1], type=_Text)
    except msgspec.DecodeError:
        return committed[0], {}, 0
    if text.format != _FORMAT:
        return committed[0], {}, 0
    return committed[0], text.results, text.read_to
