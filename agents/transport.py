"""Record-batch delivery: one Faust event carries a run of records of one topic-partition.

Who owns what: Faust and aiokafka own group membership, assignment, fetching and recovery. The
engine owns the positions: it decides from which offset a topic-partition is read, and nothing else
seeks. The `Gate` stands between the two.

Rules:
- A topic-partition is fetched only while the gate is open for it, from its seek to its revocation.
Faust's own `pause_partitions` loses records while the flow is live, so holding is done by not
asking for it.
- Every batch carries the tenure in which it was fetched and the offset that it follows. A batch of
another tenure is not the engine's any more; a batch that follows an offset not yet seen means that
records were lost on the way. Both can be recognised by whoever receives it.
- A seek waits for the fetch that is under way. One that began in an older tenure could otherwise take
records from the new position, and they would be dropped with it.
- aiokafka is never asked for an empty set of partitions: it takes that for all of them.
- Only the engine's topics are batched. They are declared `acks=False`: Faust's own commit path,
which loses and repeats events, has nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

log = logging.getLogger(__name__)

SCHEME = "heartline"
_LONGEST_POLL_S = 0.2
_LEAVE_WITHIN_S = 2.0
_REST_S = 0.02
"""A poll doesn't outlast this while inputs are held: they may be wanted again at any moment."""


class Batch:
    """A run of records of one topic-partition, in offset order.

    ``records`` are aiokafka ConsumerRecords; ``tenure`` names the term in which they were fetched;
    ``follows`` is the next offset that was due after the batch before it.
    """

    __slots__ = ("follows", "records", "tenure", "tp")

    def __init__(self, tp: TP, records: Sequence[Any], *, tenure: str, follows: int) -> None:
        self.tp = tp
        self.records = records
        self.tenure = tenure
        self.follows = follows

    def __repr__(self) -> str:
        """Never the payloads: this lands in error messages."""
        return f"<Batch {self.tp.topic}-{self.tp.partition} {len(self.records)} records>"


class Gate:
    """Which topic-partitions may be read, and in which tenure. Written by the engine alone."""

    def __init__(self, topics: frozenset[str], max_batch: int) -> None:
        self.topics = topics
        self.max_batch = max_batch
        self.open: dict[TP, str] = {}
        self.held: set[TP] = set()
        self.fetched_to: dict[TP, int] = {}
        self.moving = asyncio.Lock()
        """Held by a fetch, and by a seek."""
        self.fetch_seconds = 0.0
        self.polled_at = time.monotonic()

    def open_for(self, positions: Mapping[TP, int], tenure: str) -> None:
        """Let ``positions`` be read, each from its offset, which has been sought already."""
        self.fetched_to.update(positions)
        self.open.update(dict.fromkeys(positions, tenure))

    def close(self) -> None:
        """Let nothing be read. What was fetched until now belongs to a tenure that is over."""
        self.open = {}
        self.held = set()
        self.fetched_to = {}

    def wanted(self, active: set[TP] | None) -> set[TP]:
        """Those of ``active`` that may be fetched now."""
        is_open, held, ours = self.open, self.held, self.topics
        return {
            tp for tp in active or () if tp.topic not in ours or (tp in is_open and tp not in held)
        }

    def batches(self, tp: TP, records: Sequence[Any], tenure: str) -> list[Batch]:
        """Cut what was fetched into batches and remember how far we are."""
        found = []
        follows = self.fetched_to[tp]
        for start in range(0, len(records), self.max_batch):
            run = records[start : start + self.max_batch]
            found.append(Batch(tp, run, tenure=tenure, follows=follows))
            follows = run[-1].offset + 1
        self.fetched_to[tp] = follows
        return found


class Intake(Protocol):
    """What the transport needs from the engine."""

    gate: Gate

    async def positions(self) -> tuple[str, dict[TP, int]] | None:
        """The tenure and where to read each topic-partition from; None if we own nothing."""


class Standing(NamedTuple):
    """Our position in a topic-partition, its high water, and when a fetch last told us (epoch ms)."""

    position: int
    high_water: int
    polled_ms: int


class _Thread(driver.AIOKafkaConsumerThread):
    """The thread in which the aiokafka consumer lives, with an end to its stopping."""

    async def on_thread_stop(self) -> None:
        """Leave the group; not later than when the group is done with a rebalance.

        aiokafka waits for the answer to its own request to join, which the broker holds back until all
        members are there. By now everything is committed: nothing is worth that wait.
        """
        try:
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                await super().on_thread_stop()
        except TimeoutError:
            log.info("the consumer ends in the middle of a rebalance")
            consumer = self._consumer
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(_LEAVE_WITHIN_S):
                    await consumer._coordinator._maybe_leave_group()
                    await consumer._client.close()


class Consumer(driver.Consumer):
    """Faust's aiokafka consumer with the gate in front of it."""

    logger = logging.getLogger("faust.heartline")

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _intake(self) -> Intake:
        intake: Intake = self.app.intake
        return intake

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> Any:
        gate = self._intake.gate
        gate.polled_at = started = time.monotonic()
        if not gate.wanted(active_partitions):
            await self.sleep(_REST_S)
            return {}
        async with gate.moving:
            opened = gate.open.copy()
            wanted = gate.wanted(active_partitions)
            if not wanted:
                return {}
            longest_s = _REST_S if gate.held else _LONGEST_POLL_S
            fetched = await super()._getmany(wanted, min(timeout, longest_s))
        delivered: dict[TP, Any] = {}
        for fetched_tp, records in fetched.items():
            tp = TP(fetched_tp.topic, fetched_tp.partition)
            if tp.topic not in gate.topics:
                delivered[tp] = records
                continue
            tenure = opened.get(tp)
            if records and tenure is not None and tenure == gate.open.get(tp):
                delivered[tp] = gate.batches(tp, records, tenure)
        if delivered:
            gate.fetch_seconds += time.monotonic() - started
        return delivered

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if record.__class__ is not Batch:
            message: ConsumerMessage = super()._to_message(tp, record)
            return message
        last = record.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            (),
            None,
            record,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def perform_seek(self) -> None:
        """Seek to the engine's positions, then open the gate. Faust resumes the flow after this.

        Faust also calls it from the fetch loop when the flow stopped under it. Then the gate is
        closed or the partitions are open already, and there is nothing to do.
        """
        intake = self._intake
        found = await intake.positions()
        if found is None:
            return
        tenure, positions = found
        mine = {TP(tp.topic, tp.partition) for tp in self.assignment()}
        opened = intake.gate.open
        due = {tp: at for tp, at in positions.items() if tp in mine and opened.get(tp) != tenure}
        if not due:
            return
        async with intake.gate.moving:
            await self.seek_wait(due)
            again = await intake.positions()
            if again is not None and again[0] == tenure:  # not revoked while we waited
                intake.gate.open_for(due, tenure)

    async def commit_offsets(self, offsets: Mapping[TP, int | tuple[int, str]]) -> bool:
        """Commit, and say whether the group still takes it from us: the proof of membership.

        An offset may come with a text that is stored beside it. Raises what aiokafka raises for
        anything but a refusal.
        """
        consumer = self._thread._ensure_consumer()
        wire = {TopicPartition(tp.topic, tp.partition): at for tp, at in offsets.items()}
        try:
            await self._thread.call_thread(consumer.commit, wire)
        except (CommitFailedError, IllegalStateError):
            return False
        return True

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int]:
        """What the group has committed of ``tps``; those without are left out."""
        return {tp: offset for tp, (offset, _) in (await self._committed(tps)).items()}

    async def committed_text(self, tp: TP) -> tuple[int, str] | None:
        """The committed offset of ``tp`` with the text beside it; None if there is none."""
        return (await self._committed([tp])).get(tp)

    async def _committed(self, tps: Iterable[TP]) -> dict[TP, tuple[int, str]]:
        coordinator = self._thread._ensure_consumer()._coordinator
        wire = [TopicPartition(tp.topic, tp.partition) for tp in tps]
        found = await self._thread.call_thread(coordinator.fetch_committed_offsets, wire)
        return {
            TP(tp.topic, tp.partition): (at.offset, at.metadata or "") for tp, at in found.items()
        }

    def close(self) -> None:
        """Nothing: `stop` closes the client, on its own loop and in order.

        Faust calls this when a rebalance reaches a worker that is stopping. Its own version closes
        the client from the wrong thread: that ends the client's metadata task but not its membership,
        so the rebalance that goes on may wait for metadata for ever, and `stop` for the rebalance.
        """

    def stands_at(self, tp: TP) -> Standing | None:
        """Where we stand in ``tp`` as of the last fetch; None before one."""
        assignment = self._thread._ensure_consumer()._subscription.subscription
        state = (
            assignment
            and assignment.assignment
            and assignment.assignment.state_value(TopicPartition(tp.topic, tp.partition))
        )
        if not state or not state.has_valid_position or state.highwater is None:
            return None
        return Standing(state.position, state.highwater, state.timestamp)


class Transport(driver.Transport):
    """The aiokafka transport with our consumer."""

    Consumer = Consumer


def register() -> None:
    """Make Faust know the scheme ``heartline://``."""
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
