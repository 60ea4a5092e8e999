"""One worker process: the engine and all that it is wired to, and in Faust's place the shell around
it: joining, takeover, fetching, the agents.

The real parts are Engine, Ownership, Publisher, Outbox, the transport's Consumer and Gate, and the
roll-up agent. Each signal handler runs as `agents.app` runs it: an error ends the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from faust.types import TP

from agents.app import _guarded
from agents.engine import Engine
from agents.ownership import Ownership, Terms
from agents.publisher import Publisher
from agents.rollup import RollUpAgent
from agents.state_topic import StateTopic
from agents.transport import Batch
from tests.simulation.cluster import Cluster
from tests.simulation.group import Member
from tests.simulation.wire import Consumer
from tests.simulation.workload import partition_of

_LINGERS_S = 1.0
"""A worker that has failed may go on running for so long before its process is gone."""


class NoSeat:
    """In a run without the roll-up nobody is assigned its topic."""

    next_offset = 0

    async def take_over(self, consumer: Any, wanted: Callable[[], bool]) -> bool:
        raise AssertionError("the roll-up was assigned in a run without it")

    def release(self) -> None:
        """There is nothing to release."""


class Worker:
    """See the module. ``ended`` is called once, with the engine's failure or None."""

    def __init__(self, cluster: Cluster, name: str, *, has_rollup: bool) -> None:
        self.cluster = cluster
        self.process = cluster.loop.process(name)
        settings = cluster.settings
        client: dict[str, Any] = {"cluster": cluster, "process": self.process}
        deadline_s = settings.engine.deadline_ms / 1_000
        self.publisher = Publisher(client, deadline_s=deadline_s, idempotent=cluster.is_idempotent)
        self.rollup = RollUpAgent(settings, self.publisher, client) if has_rollup else None
        self.engine = Engine(
            settings,
            publisher=self.publisher,
            ownership=Ownership(
                topic=settings.topics().state,
                writer=name,
                publisher=self.publisher,
                source=StateTopic(client, settings.topics().state),
                terms=Terms(
                    partitions=settings.kafka.partitions, partitioner=settings.kafka.partitioner
                ),
                deadline_s=deadline_s,
                standby=cluster.has_standby,
            ),
            rollup=self.rollup or NoSeat(),
            partition_of=partition_of,
        )
        self.engine.on_failure = self._failed
        self.consumer = Consumer(cluster, self.process, self.engine)
        self.member = Member(self.process)
        self._queues: dict[str, asyncio.Queue[Batch]] = {}
        self._taken_over = asyncio.Event()
        self._generation = -1
        self._is_stopping = False

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def is_settled(self) -> bool:
        """Whether it runs and belongs to the group as it is now."""
        return (
            self.process.runs
            and self.engine.failure is None
            and self.engine.tenure == f"{self.cluster.group.generation}"
        )

    def start(self) -> None:
        """Start the process."""
        self._serve(self._main(), "main")

    def stop(self) -> None:
        """SIGTERM."""
        if not self._is_stopping:
            self._is_stopping = True
            self._serve(self._stop(), "stop")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self.cluster.loop.spawn(self.process, work, name)

    def _serve(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """As `agents.worker.EngineService` runs it."""

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception):
                self.engine.fail(error)

        self._spawn(work, name).add_done_callback(ended, context=self.process.context.copy())

    async def _main(self) -> None:
        engine = self.engine
        await self.publisher.start()
        self._serve(engine.keep_time(), "clock")
        self._serve(engine.keep_checkpoints(), "checkpoints")
        self._serve(engine.outbox.run(), "outbox")
        self._serve(engine.ownership.follow(), "standby")
        if self.rollup is not None:
            self._serve(self.rollup.run(engine.fail), "rollup")
        for topic in (*self.cluster.sources, self.cluster.topics.partials):
            self._queues[topic] = asyncio.Queue(4)
            self._serve(self._agent(topic), topic)
        self._serve(self._recover(), "recovery")
        self._serve(self._fetch(), "fetch")
        while not self._is_stopping:
            await _guarded(engine, engine.revoke(self.consumer.revocable()))
            generation, partitions = await self.cluster.group.join(self.member)
            self.cluster.tell(f"{self.name} joins generation {generation}")
            if self.cluster.rng.random() < 0.5:
                self._drop_queued()
            self.consumer.assign(generation, partitions)
            self._generation = generation
            self._taken_over.set()
            await self.member.rebalance.wait()

    async def _recover(self) -> None:
        """Faust's recovery: one generation after the other, the newest first."""
        engine, consumer = self.engine, self.consumer
        while True:
            await self._taken_over.wait()
            self._taken_over.clear()
            await _guarded(engine, engine.take_over(consumer, self._generation))
            await _guarded(engine, consumer.perform_seek())

    async def _fetch(self) -> None:
        while True:
            fetched = await self.consumer._getmany(self.consumer.assignment(), 1.0)
            for tp, batches in fetched.items():
                for batch in batches:
                    await self._queues[tp.topic].put(batch)
            await asyncio.sleep(0)

    async def _agent(self, topic: str) -> None:
        engine, queue, faults = self.engine, self._queues[topic], self.cluster.faults
        while True:
            batch = await queue.get()
            if faults.happens(faults.profile.slow_agent):
                faults.note("slow agent", self.name)
                await asyncio.sleep(faults.rng.uniform(0.5, 8.0))
            if topic == self.cluster.topics.partials:
                if self.rollup is not None and engine.is_current(batch):
                    await _guarded(engine, self.rollup.receive(batch))
            else:
                await engine.receive(batch)

    def _drop_queued(self) -> None:
        """Faust empties its buffers at a rebalance; not all that is under way is in one."""
        for queue in self._queues.values():
            while not queue.empty():
                queue.get_nowait()

    async def _stop(self) -> None:
        engine = self.engine
        self.cluster.tell(f"{self.name} is told to stop")
        await _guarded(engine, engine.revoke(self.consumer.revocable()))
        if engine.failure is None:
            await _guarded(engine, engine.outbox.flush())
        self.cluster.tell(f"{self.name} has stopped")
        self.cluster.loop.kill(self.process)
        self.cluster.group.leave(self.process)

    def _failed(self) -> None:
        failure = self.engine.failure
        if self.process.is_dead:
            return
        self.cluster.tell(f"{self.name} fails: {type(failure).__name__}: {failure}")
        self.cluster.failed(self, failure)
        self._spawn(self._end(), "end")

    async def _end(self) -> None:
        """What still runs after a failure may do no harm: so it is let run for a while."""
        await asyncio.sleep(self.cluster.rng.uniform(0, _LINGERS_S))
        self.cluster.loop.kill(self.process)
        self.cluster.group.leave(self.process)

    def committed(self) -> dict[TP, int]:
        """Where the engine would read on, by input."""
        return {
            TP(topic, n): owned.next_offset(source)
            for topic, source in self.engine.sources.items()
            for n, owned in self.engine.owned.items()
        }
