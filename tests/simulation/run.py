"""One run: a seed decides everything in it, from the settings to the order of callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import msgspec
from faust.types import TP

from agents.settings import Settings
from schemas.records import Partial
from schemas.topics import Source
from streams import checkpoint, journal, rollup, timeline, timeline_rows
from streams.claims import StateRefused
from streams.state_log import StateLog
from tests.simulation.cluster import Cluster
from tests.simulation.faults import DEADLINE_S, PROFILES
from tests.simulation.invariants import Violation, check
from tests.simulation.log import damage
from tests.simulation.loop import SimulationStuck
from tests.simulation.mutations import Mutation
from tests.simulation.state_watch import StateWatch
from tests.simulation.worker import Worker
from tests.simulation.workload import LASTS_S, workload

FAULTS_END_S = LASTS_S + 8.0
SETTLES_WITHIN_S = 60.0
_LOOK_S = 0.25
_REFUSES_WITHIN_S = 20.0
_ARRIVES_WITHIN_S = 3.5
"""What the dead have sent is in the log by then."""
_AFTERWARDS_S = 3.0
"""Two checkpoints and their partials after the last record was read."""


def settings_of(seed: int, *, has_rollup: bool) -> Settings:
    """Small windows, so that a few seconds hold many of their boundaries; fewer where each boundary
    makes hundreds of results.
    """
    rng = random.Random(f"settings {seed}")
    hopping = ["12s/6s", "8m/12s"] if has_rollup else ["6s/2s", "8m/4s"]
    # Far enough back that what is corrected was published long before, perhaps by another seat.
    lateness = "24s" if has_rollup else "8s"
    raw: dict[str, object] = {
        "kafka": {"partitions": rng.choice((1, 2))},
        "windows": {"hopping": hopping},
        "time": {"max_out_of_orderness": "1s", "idle_after": "2s", "allowed_lateness": lateness},
        "sessions": {"gap": "4s"},
        "segments": {"persona": ["a"], "region": []},
        "channels": {"values": ["web"]},
        "rollup": {"timeout": "5s", "history_hop": "2s"},
        "engine": {
            "checkpoint_interval": "1s",
            "tick_interval": "500ms",
            "deadline": f"{DEADLINE_S}s",
            "session_timeout": "3s",
            "max_batch": rng.choice((1, 5, 100)),
            "buffer_limit": rng.choice((3, 20, 1_000)),
        },
    }
    return Settings.from_mapping(raw, source=f"seed {seed}", environment={})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a run."""

    seed: int
    profile: str
    violations: list[Violation]
    injected: Counter[str]
    virtual_s: float
    steps: int
    failures: Counter[str]

    @property
    def broken(self) -> set[str]:
        """The names of the invariants that do not hold."""
        return {violation.invariant for violation in self.violations}


class Run:
    """See the module."""

    def __init__(
        self,
        seed: int,
        *,
        without: Mutation | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """``without``: a safeguard that is taken out of the engine, not out of the checks."""
        self.seed = seed
        self.rng = random.Random(f"run {seed}")
        self.profile = PROFILES[seed % len(PROFILES)]
        if without is not None:
            self.profile = next(p for p in PROFILES if p.name == without.profile)
        self._without = without
        self.has_rollup = self.rng.random() < 0.15
        if without is not None and without.is_of_rollup:
            self.has_rollup = True
        settings = settings_of(seed, has_rollup=self.has_rollup)
        self.config = settings.core()
        self.cluster = Cluster(
            seed,
            settings,
            self.profile,
            faults_end_s=FAULTS_END_S,
            has_rollup=self.has_rollup,
            tell=tell or (lambda _line: None),
        )
        self.cluster.is_telling = tell is not None
        self.input = workload(seed, settings.kafka.partitions)
        self.watch = StateWatch(self.cluster.topics.state, self.cluster.sources)
        self.recorder = self.watch.recorder
        self.cluster.on_append.append(self.watch.appended)
        self.cluster.on_commit.append(self.watch.committed)
        self.workers: list[Worker] = []
        self.violations: list[Violation] = []
        self.failures: Counter[str] = Counter()
        self.partials: list[Partial] = []
        self._started = 0
        self.cluster.on_failed = self._failed

    def verdict(self) -> Verdict:
        """Run to the end, check."""
        silenced = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with self._small_state(), self.cluster.stands_in():
                self._run()
                return self._judge()
        finally:
            logging.disable(silenced)

    def _run(self) -> None:
        mutation = contextlib.nullcontext() if self._without is None else self._without.take_out()
        with mutation, self.recorder.recording():
            try:
                self.cluster.loop.run(self._direct())
            except SimulationStuck as stuck:
                self.violations.append(Violation("settles", str(stuck)))

    def _small_state(self) -> contextlib.AbstractContextManager[Any]:
        """So little state fills no chunk; in most runs chunks, panes and logs are cut small, so that
        cleaning, several chunks and deltas of manifests happen.
        """
        stack = contextlib.ExitStack()
        if self.rng.random() < 0.5:
            # Late events correct the long window's boundaries, as they do where a hop is ten minutes.
            reach: dict[str, Any] = {"CORRECTED_HOP_MS": 4_000, "CORRECTED_MS": 120_000}
            stack.enter_context(mock.patch.multiple(timeline, CORRECTION_STEP_MS=3_000, **reach))
            stack.enter_context(mock.patch.multiple(rollup, **reach))
        if self.rng.random() < 0.8:
            rng = self.rng
            stack.enter_context(
                mock.patch.multiple(
                    journal,
                    TARGET_BYTES=rng.choice((300, 1_500)),
                    SLACK_BYTES=rng.choice((0, 1_000)),
                    SMALL_CHUNKS=rng.choice((3, 20)),
                    GRAVES=rng.choice((0, 3)),
                )
            )
            stack.enter_context(
                mock.patch.object(checkpoint, "WHOLE_EVERY", rng.choice((1, 3, 64)))
            )
            stack.enter_context(
                mock.patch.multiple(
                    timeline_rows, BLOCK=rng.choice((8, 256)), PART=3, PIECE_BYTES=100
                )
            )
        return stack

    def _judge(self) -> Verdict:
        for context in self.cluster.loop.errors:
            error = context.get("exception")
            self.violations.append(
                Violation("no_error_is_dropped", f"{context.get('message')}: {error!r}")
            )
        self.violations += [Violation(name, found) for name, found in self.watch.broken]
        if not self.violations:
            self._read_partials()
            self.violations += check(self)
        return Verdict(
            self.seed,
            self.profile.name,
            self.violations,
            self.cluster.faults.injected,
            self.cluster.loop.time(),
            self.cluster.loop.steps,
            self.failures,
        )

    def owner_of(self, number: int) -> Worker:
        """The worker that has a partition at the end."""
        process = self.cluster.group.owners[TP(self.cluster.sources[0], number)]
        return next(worker for worker in self.workers if worker.process is process)

    def _read_partials(self) -> None:
        decode = msgspec.json.Decoder(Partial).decode
        log = self.cluster.log.partition(self.cluster.topics.partials, 0)
        self.partials = [decode(record.value or b"") for record in log.records]

    # -- what happens

    async def _direct(self) -> None:
        feeding = asyncio.create_task(self._feed())
        for _ in range(self.profile.workers):
            self._start()
            await asyncio.sleep(self.rng.uniform(0, 0.5))
        damage_at = self.rng.uniform(3.0, LASTS_S) if self.profile.damages else None
        while self.cluster.faults.are_on or not feeding.done():
            await asyncio.sleep(_LOOK_S)
            self._disturb()
            self._keep_alive()
            if damage_at is not None and self.cluster.loop.time() > damage_at:
                damage_at = None
                await self._damage()
        self.cluster.tell("the faults are over")
        ends_at = self.cluster.loop.time() + SETTLES_WITHIN_S
        is_over = False
        while not is_over:
            while why := self._unsettled():
                if self.cluster.loop.time() > ends_at:
                    self.violations.append(Violation("settles", why))
                    self._tell_where_all_wait()
                    return
                await asyncio.sleep(_LOOK_S)
                self._keep_alive()
            # What was sent before may still be told to have failed, and end a worker.
            await asyncio.sleep(_AFTERWARDS_S)
            is_over = not self._unsettled()

    async def _feed(self) -> None:
        loop = self.cluster.loop
        for item in self.input.items:
            if item.at_s > loop.time():
                await asyncio.sleep(item.at_s - loop.time())
            log = self.cluster.log.partition(self.cluster.sources[item.source], item.partition)
            log.append(item.key, item.value, item.timestamp, "producer")

    def _start(self) -> None:
        self._started += 1
        worker = Worker(self.cluster, f"w{self._started}", has_rollup=self.has_rollup)
        self.cluster.tell(f"{worker.name} is started")
        self.workers.append(worker)
        worker.start()

    def _alive(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.process.is_dead]

    def _keep_alive(self) -> None:
        """What runs the workers starts them again, sooner or later."""
        alive = self._alive()
        wanted = self.profile.workers if self.cluster.faults.are_on else 1
        if len(alive) < wanted and self.rng.random() < 0.3:
            self._start()

    def _disturb(self) -> None:
        faults, profile = self.cluster.faults, self.profile
        running = [worker for worker in self._alive() if worker.process.runs]
        if running and faults.happens(profile.kills_per_s * _LOOK_S):
            worker = self.rng.choice(running)
            faults.note("kill", worker.name)
            self.cluster.kill(worker.process)
        if running and faults.happens(profile.stops_per_s * _LOOK_S):
            worker = self.rng.choice(running)
            faults.note("stop", worker.name)
            worker.stop()
        if running and faults.happens(profile.pauses_per_s * _LOOK_S):
            self.cluster.pause(self.rng.choice(running).process, "anywhere")
        if len(self._alive()) < 4 and faults.happens(profile.joins_per_s * _LOOK_S):
            faults.note("join")
            self._start()
        if faults.happens(profile.compactions_per_s * _LOOK_S):
            number = self.rng.randrange(self.cluster.partitions)
            self.cluster.compact(
                TP(self.cluster.topics.state, number), drop_tombstones=self.rng.random() < 0.3
            )

    async def _damage(self) -> None:
        """Kill everybody, who may have it in memory, damage what is live of one partition's state, and
        see that it is refused until it is put right.
        """
        for worker in self._alive():
            self.cluster.kill(worker.process)
        await asyncio.sleep(_ARRIVES_WITHIN_S)
        number = self.rng.randrange(self.cluster.partitions)
        log = self.cluster.log.partition(self.cluster.topics.state, number)
        reader = StateLog()
        for record in log.records:
            reader.apply(record.offset, record.key or b"", record.value)
        live = {chunk.key for chunk in reader._manifest} | {self.watch.newest(number)}
        places = [
            place
            for place, record in enumerate(log.records)
            if record.key in live and record.value is not None
        ]
        if not places:
            return
        place = self.rng.choice(places)
        whole = list(log.records)
        what = damage(self.rng, log, place)
        self.cluster.faults.note(
            "damage", f"{what} of {(whole[place].key or b'').decode()} of partition {number}"
        )
        self.recorder.damaged.add(number)
        refused = self.failures["StateRefused"]
        for _ in range(round(_REFUSES_WITHIN_S / _LOOK_S)):
            if self.failures["StateRefused"] > refused or self.recorder.restored_damaged:
                break
            await asyncio.sleep(_LOOK_S)
            self._keep_alive()
        else:
            self.violations.append(Violation("refuses_damage", f"nobody refused {what}"))
        if self.recorder.restored_damaged:
            self.violations.append(
                Violation("refuses_damage", f"partition {number} was restored in spite of {what}")
            )
        # What was appended since stays behind what is put right.
        offsets = {record.offset for record in whole}
        log.records[:] = whole + [r for r in log.records if r.offset not in offsets]
        self.recorder.damaged.clear()
        self.cluster.tell("the damage is put right")

    def _failed(self, worker: Worker, failure: Exception | None) -> None:
        self.failures[type(failure).__name__] += 1
        if self.recorder.damaged and isinstance(failure, StateRefused):
            return
        if not worker.process.causes:
            self.violations.append(
                Violation(
                    "ends_only_for_a_cause",
                    f"{worker.name} failed without a fault: {type(failure).__name__}: {failure}",
                )
            )

    def _tell_where_all_wait(self) -> None:
        for worker in self._alive():
            for task in worker.process.tasks:
                if not task.done():
                    places = " < ".join(_places(task.get_coro()))
                    self.cluster.tell(f"{worker.name} {task.get_name()} waits in {places}")
            gate = worker.engine.gate
            for tp, standing in sorted(worker.consumer.inner.standings.items()):
                how = f"open in {gate.open[tp]}" if tp in gate.open else "closed"
                how += ", held" if tp in gate.held else ""
                owned = worker.engine.owned.get(tp.partition)
                source = worker.engine.sources.get(tp.topic)
                due = owned.next_offset(source) if owned is not None and source is not None else "?"
                self.cluster.tell(
                    f"{worker.name} {tp.topic}-{tp.partition}: {how}, at {standing.position}, due {due}"
                )

    def _unsettled(self) -> str:
        """What is still to come; empty when nothing is."""
        cluster = self.cluster
        alive = self._alive()
        if not alive:
            return "no worker lives"
        for worker in alive:
            if not worker.is_settled:
                return f"{worker.name} has not settled"
        for number in range(cluster.partitions):
            process = cluster.group.owners.get(TP(cluster.sources[0], number))
            owner = next((worker for worker in alive if worker.process is process), None)
            if owner is None or number not in owner.engine.owned:
                return f"nobody owns partition {number}"
            owned = owner.engine.owned[number]
            if owned.state.watermark < self.input.end_ms or owned.state.waiting:
                return f"partition {number}: the watermark has not come to the end"
            for source, topic in zip(Source, cluster.sources, strict=True):
                end = cluster.log.partition(topic, number).next_offset
                committed = cluster.group.committed.get(TP(topic, number))
                if committed is None or committed.offset != end:
                    return f"{source.name}-{number}: committed is {committed}, the end is {end}"
        if self.has_rollup:
            seat = cluster.group.owners.get(TP(cluster.topics.partials, 0))
            adder = next((worker for worker in alive if worker.process is seat), None)
            end = cluster.log.partition(cluster.topics.partials, 0).next_offset
            if adder is None or adder.rollup is None or not adder.rollup.next_offset >= end:
                return "the roll-up has partials to read"
            if adder.rollup._busy.locked():
                return "the roll-up is publishing"
        return ""


def _places(coroutine: Any) -> Iterator[str]:
    """Where a coroutine waits, outermost first."""
    while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None:
        yield f"{coroutine.cr_code.co_qualname}:{coroutine.cr_frame.f_lineno}"
        coroutine = coroutine.cr_await
