"""The roll-up agent: partials of all partitions in, global results out.

One worker of the group has it at a time: whoever is assigned the one partition of the partials
topic. It holds nothing durable. A takeover reads three things again:
- the notes of the seats before, on boundaries that late events may still correct
(`agents.rollup_memory`);
- the results topic, for the highest revision of each result that may still change, so that a
correction has a higher one than anything that is out;
- the partials from the committed offset, before which none is needed any more.
The committed offset carries, as its text, where in the other two topics that reading has to begin.
All are committed only after the results that rest on them, and the notes, were acknowledged. The text
also says how far the partials had been read: until then nothing is published again, because a boundary
may be read before what has corrected it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
from faust.types import TP

from agents.publisher import Outgoing, Publisher
from agents.rollup_memory import RollUpMemory, read_to_end
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
        self._notes = topics.rollup
        self._publisher = publisher
        self._client = client
        self._encode = msgspec.json.Encoder().encode
        self._decode_partial = msgspec.json.Decoder(Partial).decode
        self._decode_result = msgspec.json.Decoder(PublishedResult).decode
        self._core: RollUp | None = None
        self._consumer: Consumer | None = None
        self._position: RollUpPosition | None = None
        self._memory: RollUpMemory | None = None
        self._committed: tuple[int, _Text] | None = None
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
            position, memory = RollUpPosition({}), RollUpMemory(self._notes, self._publisher)
            async with asyncio.timeout(_TAKEOVER_S):
                offset, text = _parse(await consumer.committed_text(self._partials))
                is_known = await memory.recall(
                    self._client, core, text.notes, wanted
                ) and await self._read_results(core, position, text.results, wanted)
                if not is_known:
                    self.release()
                    return False
                first = await consumer.earliest_offsets(self._partials)
            self._core, self._consumer, self._position = core, consumer, position
            self._memory = memory
            self._committed = None
            self._published_to = text.read_to
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
        self._core = self._consumer = self._position = self._memory = None

    async def _read_results(
        self,
        core: RollUp,
        position: RollUpPosition,
        start: dict[int, int],
        wanted: Callable[[], bool],
    ) -> bool:
        """Read the results topic from ``start`` to its end, and tell ``position`` what stands where.

        What this seat doesn't publish itself, the next one needs from the same place. False when given
        up.
        """

        def take(partition: int, offset: int, _key: bytes, value: bytes) -> None:
            result = self._decode_result(value)
            core.note_published(result)
            position.found(result, partition, offset)

        partitions = await self._publisher.partitions_of(self._results)
        starts = {n: start.get(n, 0) for n in partitions}
        ends = await read_to_end(self._client, self._results, starts, take, wanted)
        if ends is None:
            return False
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
                core.acknowledged(results)
                if self._position is not None:
                    self._position.published(results, last)

    async def _commit(self) -> None:
        """Commit from where to read again. A refusal is no loss: whoever has the seat reads more."""
        core, consumer = self._core, self._consumer
        position, memory = self._position, self._memory
        if core is None or consumer is None or position is None or memory is None:
            return
        if self._is_catching_up():
            return
        await memory.write(core)
        if self._core is not core:
            return
        offset, results = position.needed(self.next_offset)
        text = _Text(
            format=_FORMAT,
            results=results,
            read_to=self.next_offset,
            notes=memory.needed(core),
        )
        if (offset, text) == self._committed:
            return
        said = (offset, msgspec.json.encode(text).decode())
        if await consumer.commit_offsets({self._partials: said}):
            self._committed = offset, text

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
    """What stands beside the committed offset: where to begin in each partition of the results and in
    the notes, and up to which partial everything is published.
    """

    format: int = 1
    results: dict[int, int] = {}
    read_to: int = 0
    notes: int = 0


def _parse(committed: tuple[int, str] | None) -> tuple[int, _Text]:
    """The committed offset of the partials and the text beside it; without, everything is read."""
    if committed is None:
        return 0, _Text()
    try:
        text = msgspec.json.decode(committed[1], type=_Text)
    except msgspec.DecodeError:
        return committed[0], _Text()
    return committed[0], text if text.format == _FORMAT else _Text()
