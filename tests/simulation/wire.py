"""What stands in for aiokafka: a producer, a reader, and the consumer of a group member.

The engine's own classes (`Publisher`, `Ownership`, the transport's `Consumer`) run on top of these
unchanged. Each call is a step at which the process may crash, be paused or be told of an error, and
takes the time that the dice say. A batch that was sent may be written although its sender is dead,
or only when its sender wakes up: that is how stale writers write.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiokafka.errors import IllegalStateError, KafkaConnectionError, RequestTimedOutError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from agents import transport
from tests.simulation.faults import Send
from tests.simulation.group import Committed
from tests.simulation.log import Record
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

_BATCH_RECORDS = 4
"""So few records fill a batch that a publish is often several sends."""
_READ_RECORDS = 40
_RESULTS = 5_000


class Builder:
    """A batch that is being filled."""

    def __init__(self, most: int) -> None:
        self.records: list[tuple[bytes, bytes | None]] = []
        self._most = most

    def append(self, *, timestamp: int | None, key: bytes, value: bytes | None) -> object | None:
        if len(self.records) >= self._most:
            return None
        self.records.append((key, value))
        return self

    def record_count(self) -> int:
        return len(self.records)


@dataclass(slots=True)
class _Sent:
    builder: Builder
    future: asyncio.Future[Any]
    fate: Send
    crashes: bool


class Producer:
    """In place of AIOKafkaProducer. Batches of one partition arrive in the order of sending."""

    def __init__(self, *, cluster: Cluster, process: Process, **_: Any) -> None:
        self._cluster = cluster
        self._process = process
        self._under_way: dict[TP, deque[_Sent]] = {}
        self._free_at: dict[TP, float] = {}
        self._failed: set[TP] = set()
        """After a batch that was not written the partition takes no later one of this producer: an
        idempotent producer leaves no hole.
        """

    async def start(self) -> None:
        await self._cluster.travel()

    async def stop(self) -> None:
        await self._cluster.travel()

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(len(self._cluster.log.topics[topic])))

    def create_batch(self) -> Builder:
        return Builder(self._cluster.rng.randint(1, _BATCH_RECORDS))

    async def send_batch(
        self, builder: Builder, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        cluster, faults, process = self._cluster, self._cluster.faults, self._process
        profile, tp = faults.profile, TP(topic, partition)
        crashes = faults.happens(profile.crash_at_send)
        if crashes and cluster.rng.random() < 0.5:
            faults.note("crash before a send", f"{process.name} {tp} {_names(builder)}")
            await cluster.crash_here(process)
        sent = _Sent(builder, cluster.loop.create_future(), faults.send(), crashes)
        self._under_way.setdefault(tp, deque()).append(sent)
        at = max(cluster.loop.time() + faults.latency_s(), self._free_at.get(tp, 0.0))
        self._free_at[tp] = at
        # Either it is in the network already, or still in the process's own buffer.
        is_out = crashes or cluster.rng.random() < 0.5
        context = None if not is_out else contextvars.Context()
        cluster.loop.call_at(at, self._arrive, tp, context=context)
        is_claim = any(key.startswith(b"c|") for key, _ in builder.records)
        if faults.happens(profile.pause_at_claim if is_claim else profile.pause_at_send):
            cluster.pause(process, "after a claim" if is_claim else "after a send")
        return sent.future

    def _arrive(self, tp: TP) -> None:
        """The next batch for ``tp`` reaches the log."""
        cluster, faults = self._cluster, self._cluster.faults
        sent = self._under_way[tp].popleft()
        if tp in self._failed:
            sent.fate = Send.FAILED
        where = f"{self._process.name} {tp} {_names(sent.builder)}"
        if sent.fate is not Send.WRITTEN:
            if sent.fate is not Send.TWICE:
                self._process.causes.append("failed send")
            faults.note(sent.fate.value, where)
        first = cluster.log.partition(*tp).next_offset
        if sent.fate is Send.FAILED:
            self._failed.add(tp)
        else:
            for _ in range(2 if sent.fate is Send.TWICE else 1):
                for key, value in sent.builder.records:
                    cluster.append(tp, key, value, self._process)
        if sent.crashes:
            faults.note("crash after a send", where)
            cluster.kill(self._process)
        elif sent.fate is not Send.UNACKNOWLEDGED and not self._process.is_dead:
            cluster.loop.call_later(
                faults.latency_s(), self._acknowledge, sent, first, context=self._process.context
            )

    @staticmethod
    def _acknowledge(sent: _Sent, first: int) -> None:
        if sent.future.done():
            return
        if sent.fate in {Send.FAILED, Send.WRITTEN_BUT_FAILED}:
            sent.future.set_exception(RequestTimedOutError())
            sent.future.exception()  # whoever sent it may have given up already
        else:
            sent.future.set_result(SimpleNamespace(offset=first))


def _names(builder: Builder) -> str:
    return " ".join(
        f"{key.decode(errors='replace')}{'' if value is not None else ' (tombstone)'}"
        for key, value in builder.records
    )


class Reader:
    """In place of AIOKafkaConsumer where a topic is read without a group."""

    def __init__(self, *, cluster: Cluster, process: Process, **_: Any) -> None:
        self._cluster = cluster
        self._process = process
        self._at: dict[Any, int] = {}
        self._high: dict[Any, int] = {}

    async def start(self) -> None:
        await self._cluster.travel()

    async def stop(self) -> None:
        await self._cluster.travel()

    async def topics(self) -> set[str]:
        return set(self._cluster.log.topics)

    def assign(self, partitions: Iterable[Any]) -> None:
        self._at = dict.fromkeys(partitions, 0)

    def seek(self, tp: Any, offset: int) -> None:
        self._at[tp] = offset

    async def seek_to_beginning(self, *partitions: Any) -> None:
        for tp in partitions or tuple(self._at):
            self._at[tp] = 0

    async def position(self, tp: Any) -> int:
        return self._at[tp]

    def highwater(self, tp: Any) -> int | None:
        return self._high.get(tp)

    async def getmany(
        self, *_: Any, timeout_ms: int = 0, max_records: int | None = None, **__: Any
    ) -> dict[Any, list[Record]]:
        cluster, faults = self._cluster, self._cluster.faults
        await cluster.travel()
        if faults.happens(faults.profile.crash_at_read):
            faults.note("crash while reading", self._process.name)
            await cluster.crash_here(self._process)
        found = {}
        for tp, at in self._at.items():
            log = cluster.log.partition(tp.topic, tp.partition)
            self._high[tp] = log.next_offset
            at_most = _READ_RECORDS if tp.topic == cluster.topics.state else _RESULTS
            most = cluster.rng.randint(1, max_records or at_most)
            records = log.read(at, most)
            if records:
                found[tp] = records
                self._at[tp] = records[-1].offset + 1
            elif at < log.next_offset:
                self._at[tp] = log.next_offset  # compaction left nothing up to the end
        if not found and timeout_ms:
            await asyncio.sleep(timeout_ms / 1_000)
        return found


class _GroupConsumer:
    """The aiokafka consumer inside of Faust's consumer thread."""

    def __init__(self, cluster: Cluster, process: Process) -> None:
        self._cluster = cluster
        self._process = process
        self.generation = -1
        self.standings: dict[TP, SimpleNamespace] = {}
        self._coordinator = self
        self._subscription = SimpleNamespace(
            subscription=SimpleNamespace(
                assignment=SimpleNamespace(state_value=lambda tp: self.standings.get(TP(*tp)))
            )
        )

    async def commit(self, wire: Mapping[Any, int | tuple[int, str]]) -> None:
        cluster, faults, process = self._cluster, self._cluster.faults, self._process
        offsets = {TP(tp.topic, tp.partition): at for tp, at in wire.items()}
        generation = self.generation
        if not offsets.keys() <= self.standings.keys():
            raise IllegalStateError("not assigned")
        crashes = faults.happens(faults.profile.crash_at_commit)
        if crashes and cluster.rng.random() < 0.5:
            faults.note("crash before a commit", process.name)
            await cluster.crash_here(process)
        fails = faults.happens(faults.profile.failed_commit)
        arrives = not fails or cluster.rng.random() < 0.5
        if faults.happens(faults.profile.pause_at_send):
            cluster.pause(process, "in a commit")
        await cluster.travel()
        if arrives:
            cluster.group.commit(process, generation, offsets)
        if crashes:
            faults.note("crash after a commit", process.name)
            await cluster.crash_here(process)
        await cluster.travel()
        if fails:
            process.causes.append("failed commit")
            faults.note("failed commit", process.name)
            raise KafkaConnectionError("the coordinator went away")

    async def fetch_committed_offsets(self, partitions: Iterable[Any]) -> dict[Any, Committed]:
        await self._cluster.travel()
        committed = self._cluster.group.committed
        return {tp: committed[TP(*tp)] for tp in partitions if TP(*tp) in committed}


class _Thread:
    """In place of Faust's consumer thread: the same loop."""

    def __init__(self, consumer: _GroupConsumer) -> None:
        self._consumer = consumer

    def _ensure_consumer(self) -> _GroupConsumer:
        return self._consumer

    async def call_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await work(*args)


class Fetching(driver.Consumer):  # type: ignore[misc]
    """Faust's side of the consumer, below `agents.transport.Consumer`: fetch, seek, assignment."""

    def __init__(self, cluster: Cluster, process: Process, intake: Any) -> None:
        # Faust's own start-up connects to a broker: left out on purpose.
        self._cluster = cluster
        self._process = process
        self.app = SimpleNamespace(intake=intake, consumer_generation_id=-1)
        self.inner = _GroupConsumer(cluster, process)
        self._thread = _Thread(self.inner)

    def assign(self, generation: int, partitions: Iterable[TP]) -> None:
        """A rebalance ended. Positions are those committed, until somebody seeks."""
        self.app.consumer_generation_id = self.inner.generation = generation
        committed = self._cluster.group.committed
        self.inner.standings = {
            tp: SimpleNamespace(
                position=committed[tp].offset if tp in committed else 0,
                highwater=None,
                timestamp=0,
                has_valid_position=True,
            )
            for tp in partitions
        }

    def revocable(self) -> int | None:
        """The generation whose assignment there is to revoke."""
        return self.inner.generation if self.inner.standings else None

    def assignment(self) -> set[TP]:
        return set(self.inner.standings)

    async def sleep(self, n: float, **_: Any) -> None:
        # Longer than asked for: an empty poll costs as much as a full one here.
        await asyncio.sleep(max(n, 0.1))

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        await self._cluster.travel()
        return dict.fromkeys(partitions, 0)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        await self._cluster.travel()
        for tp, offset in partitions.items():
            standing = self.inner.standings.get(tp)
            if standing is not None:
                standing.position = offset

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        cluster = self._cluster
        await cluster.travel()
        fetched: dict[TP, list[Record]] = {}
        for tp in sorted(active_partitions or ()):
            standing = self.inner.standings.get(tp)
            if standing is None:
                continue
            log = cluster.log.partition(*tp)
            records = log.read(standing.position, cluster.rng.randint(1, cluster.most_fetched))
            standing.highwater = log.next_offset
            standing.timestamp = cluster.now_ms()
            if records:
                fetched[tp] = records
                standing.position = records[-1].offset + 1
        if not fetched:
            await asyncio.sleep(timeout)
        else:
            await cluster.travel()  # on the way; whoever seeks now has it come too late
        return fetched


class Consumer(transport.Consumer, Fetching):
    """The engine's own consumer over the simulated one."""
