"""The simulated cluster of one run: the log, the group, the processes and what is done to them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import aiokafka
from faust.types import TP

from agents.settings import Settings
from tests.simulation import wire
from tests.simulation.faults import Faults, Profile
from tests.simulation.group import Group
from tests.simulation.log import Log, Record
from tests.simulation.loop import Loop, Process

EPOCH_MS = 1_767_600_000_000
"""2026-01-05T08:00:00Z: when every run begins."""


class Cluster:
    """Everything that outlives a worker."""

    def __init__(
        self,
        seed: int,
        settings: Settings,
        profile: Profile,
        *,
        faults_end_s: float,
        has_rollup: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.rng = random.Random(f"cluster {seed}")
        self.loop = Loop(random.Random(f"order {seed}"))  # type: ignore[abstract]
        self.settings = settings
        self.topics = settings.topics()
        self.sources = self.topics.sources
        self.partitions = settings.kafka.partitions
        self.is_idempotent = self.rng.random() < 0.5
        self.has_standby = self.rng.random() < 0.5
        self.most_fetched = self.rng.choice((1, 4, 12, 60))
        self._tell = tell
        self.is_telling = True
        counts = {
            **dict.fromkeys(self.sources, self.partitions),
            self.topics.state: self.partitions,
        }
        names = (getattr(self.topics, name) for name in self.topics.__struct_fields__)
        self.log = Log([(name, counts.get(name, 1)) for name in names])
        units = [frozenset(TP(topic, n) for topic in self.sources) for n in range(self.partitions)]
        if has_rollup:
            units.append(frozenset({TP(self.topics.partials, 0)}))
        self.on_commit: list[Callable[[Mapping[TP, int]], None]] = []
        self.on_failed: Callable[[Any, Exception | None], None] = lambda _worker, _failure: None
        self.on_append: list[Callable[[TP, Record], None]] = []
        self.group = Group(
            self.loop,
            random.Random(f"group {seed}"),
            units=units,
            on_commit=self._committed,
            tell=self.tell,
        )
        self.faults = Faults(
            random.Random(f"faults {seed}"),
            profile,
            faults_end_s,
            self.is_idempotent,
            self.loop.time,
            self.tell,
        )

    # -- time and messages

    def now_ms(self) -> int:
        return EPOCH_MS + round(self.loop.time() * 1_000)

    def tell(self, what: str) -> None:
        if self.is_telling:
            self._tell(f"{self.loop.time():8.3f} {what}")

    async def travel(self) -> None:
        """A message is on its way."""
        await asyncio.sleep(self.faults.latency_s())

    @contextlib.contextmanager
    def stands_in(self) -> Iterator[None]:
        """While this lasts, aiokafka is ours and the clock is the simulation's."""
        saved = (
            aiokafka.AIOKafkaProducer,
            aiokafka.AIOKafkaConsumer,
            time.time,
            time.time_ns,
            time.monotonic,
        )
        loop = self.loop
        aiokafka.AIOKafkaProducer = wire.Producer
        aiokafka.AIOKafkaConsumer = wire.Reader
        time.time = lambda: EPOCH_MS / 1_000 + loop.time()
        time.time_ns = lambda: EPOCH_MS * 1_000_000 + int(loop.time() * 1_000_000_000)
        time.monotonic = lambda: 1_000.0 + loop.time()
        try:
            yield
        finally:
            (
                aiokafka.AIOKafkaProducer,
                aiokafka.AIOKafkaConsumer,
                time.time,
                time.time_ns,
                time.monotonic,
            ) = saved

    # -- the log

    def append(self, tp: TP, key: bytes | None, value: bytes | None, process: Process) -> None:
        """A record reaches the log."""
        log = self.log.partition(*tp)
        log.append(key, value, self.now_ms(), process.name)
        record = log.records[-1]
        if self.is_telling:
            name = (key or b"").decode(errors="replace")
            self.tell(
                f"log {tp.topic}-{tp.partition}@{record.offset} {process.name}: {name}"
                + ("" if value is not None else " (tombstone)")
            )
        for watch in self.on_append:
            watch(tp, record)

    def compact(self, tp: TP, *, drop_tombstones: bool) -> None:
        gone = self.log.partition(*tp).compact(self.rng, drop_tombstones=drop_tombstones)
        if gone:
            self.faults.note("compaction", f"{tp.topic}-{tp.partition}: {gone} records")

    def _committed(self, process: Process, offsets: Mapping[TP, int]) -> None:
        if self.is_telling:
            named = " ".join(f"{tp.topic}-{tp.partition}:{at}" for tp, at in offsets.items())
            self.tell(f"commit {process.name}: {named}")
        for watch in self.on_commit:
            watch(offsets)

    # -- processes

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        if not process.is_dead:
            self.tell(f"{process.name} is killed")
            self.loop.kill(process)
            self.group.absent(process)

    def failed(self, worker: Any, failure: Exception | None) -> None:
        """A worker has failed."""
        self.on_failed(worker, failure)

    async def crash_here(self, process: Process) -> NoReturn:
        """The process dies at this very step."""
        self.kill(process)
        await self.loop.create_future()
        raise AssertionError("the dead don't go on")

    def pause(self, process: Process, where: str) -> None:
        """SIGSTOP; SIGCONT after a while, often longer than the session lasts."""
        if not process.runs:
            return
        seconds = self.rng.choice((0.3, 1.5, 4.0, 6.0, 9.0)) * self.rng.uniform(0.8, 1.2)
        self.faults.note("pause", f"{process.name} {where} for {seconds:.1f} s")
        process.is_paused = True
        process.causes.append("pause")
        self.group.absent(process)

        def wake() -> None:
            self.tell(f"{process.name} wakes up")
            process.is_paused = False

        self.loop.call_later(seconds, wake, context=self.loop.world.context)
