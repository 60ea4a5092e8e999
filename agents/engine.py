"""The engine of one worker: the partitions that it owns, and their way from takeover to revocation.

Who owns what, and for how long:
- `Owned` is one partition of ours: its state, its claim, what it has still to send. It lives from a
  takeover until another worker has claimed the partition, or until a takeover in which it isn't
  ours. It is kept over a rebalance only if nobody claimed it in between; else it starts again from
  the input.
- A *tenure* is the time from a completed takeover to the next revocation. Its token is on every
batch that is fetched in it; a batch of another tenure is dropped, because its records will be read
again.
- Nothing but `Engine` moves the gate. Nothing but `checkpoint` and the proof of membership commits
offsets of the inputs.

Any error that leaves a record's fate unknown (a failed send, lost records, a refused commit, a
fault of ours) goes to `fail`: the worker takes in nothing more, commits nothing more and ends with
exit status 1. The next start finds what was there before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from faust.types import TP

from agents.outbox import Outbox
from agents.ownership import Claim, Ownership
from agents.partials import Reporter
from agents.publisher import Outgoing, Publisher
from agents.rejects import dead_letter, late_record
from agents.settings import Settings
from agents.stages import Stages
from agents.transport import Batch, Consumer, Gate
from schemas.decode import Decoder
from schemas.topics import Source
from streams.admission import OFFSET_MASK, Admission, Admitted
from streams.partition import Account, Partition

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class EngineFailed(Exception):
    """The engine can't go on without losing or doubling something."""


class RollUpSeat(Protocol):
    """The roll-up of all partitions, which one worker of the group has at a time."""

    async def take_over(self, consumer: Consumer) -> None: ...
    def release(self) -> None: ...
    @property
    def next_offset(self) -> int: ...


class Owned:
    """One partition of ours."""

    def __init__(
        self,
        number: int,
        claim: Claim,
        state: Partition,
        admission: Admission,
        stages: Stages,
    ) -> None:
        self.number = number
        self.claim = claim
        self.state = state
        self.reporter = Reporter(state.config, number)
        self.admit = stages.timed("decode", admission.admit)
        self.receive = stages.timed("merge", state.receive)
        self.tick = stages.timed("merge", state.tick)
        self.report = stages.timed("report", self._report)
        timeline = state.state.timeline
        state.state.fold = stages.timed("fold", state.state.fold)  # type: ignore[method-assign]
        timeline.advance = stages.timed("close", timeline.advance)  # type: ignore[method-assign]
        self.first_offset: dict[Source, int] = dict.fromkeys(Source, 0)
        self.moved_at: dict[Source, float] = dict.fromkeys(Source, time.monotonic())
        self.counted: dict[Source, Account] = {}

    def _report(self) -> list[Outgoing]:
        partials = self.reporter.partials(self.state.drain(), epoch=self.claim.epoch)
        return [Outgoing(partial.key, _encode(partial)) for partial in partials]

    def next_offset(self, source: Source) -> int:
        """Where to read ``source`` from: what retention has removed can't be due."""
        return max(self.state.next_offset(source), self.first_offset[source])


class Engine:
    """All partitions of this worker. Implements `agents.transport.Intake`."""

    def __init__(
        self,
        settings: Settings,
        *,
        publisher: Publisher,
        ownership: Ownership,
        rollup: RollUpSeat,
        partition_of: Callable[[bytes, int], int],
    ) -> None:
        self.config = settings.core()
        self.topics = settings.topics()
        self.partials = TP(self.topics.partials, 0)
        self.sources = dict(zip(self.topics.sources, Source, strict=True))
        self.gate = Gate(
            frozenset((*self.topics.sources, self.topics.partials)), settings.engine.max_batch
        )
        self.owned: dict[int, Owned] = {}
        self.has_rollup = False
        self.tenure: str | None = None
        self.joined_at: float | None = None
        self.clocked_at = time.monotonic()
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.on_dropped: Callable[[Owned], None] = lambda _owned: None
        self.stages = Stages()
        self.dead: Counter[tuple[str, str]] = Counter()
        self.dropped_batches = 0
        self.rollup = rollup
        self.outbox = Outbox(publisher)
        self._settings = settings
        self._publisher = publisher
        self._ownership = ownership
        self._partition_of = partition_of
        self._decoder = Decoder(settings.money())
        self._consumer: Consumer | None = None
        self._busy = asyncio.Lock()
        self._committed: dict[TP, int] = {}

    # -- takeover and revocation ------------------------------------------------------------------

    async def take_over(self, consumer: Consumer, generation: int) -> None:
        """Own what the group has assigned to us. Awaited before any seek and before any fetch."""
        self._consumer = consumer
        log.debug("takeover in generation %s", generation)
        assigned = {TP(tp.topic, tp.partition) for tp in consumer.assignment()}
        mine = {tp.partition for tp in assigned if tp.topic in self.sources}
        split = {TP(topic, n) for topic in self.sources for n in mine} - assigned
        if split:
            raise EngineFailed(
                f"the group split partition {min(split)[1]} between workers: do all members run "
                "`heartline worker` with the same topics?"
            )
        async with self._busy:
            claims: dict[int, tuple[Claim, Claim]] | None = {}
            if mine:
                claims = await self._ownership.take_over(
                    mine,
                    tenure=generation,
                    prove=lambda: self._prove(consumer, mine, generation),
                    on_record=self._recover,
                )
            if claims is None:
                log.info("takeover given up: the group has moved on from generation %s", generation)
                return
            kept = {
                n: self.owned[n]
                for n, (_, previous) in claims.items()
                if n in self.owned and self.owned[n].claim == previous
            }
            fresh = mine - kept.keys()
            self._ownership.forget(self._ownership.logs.keys() - mine)
            for n, owned in self.owned.items():
                if n not in kept:
                    self.on_dropped(owned)
            self.owned = {n: kept[n] if n in kept else self._new(n, claims[n][0]) for n in mine}
            for n, (claim, _) in claims.items():
                self.owned[n].claim = claim
            await self._find_first_offsets(consumer)
            if self.partials in assigned:
                await self.rollup.take_over(consumer)
                self.has_rollup = True
            else:
                self._release_rollup()
            now = consumer.app.consumer_generation_id
            if now != generation:
                log.info("takeover given up: generation %s came after %s", now, generation)
                return
            self._begin(generation, sorted(mine), sorted(fresh))

    def _begin(self, generation: int, mine: list[int], fresh: list[int]) -> None:
        self.tenure = f"{generation}"
        now = time.monotonic()
        self.joined_at = now
        for owned in self.owned.values():
            owned.moved_at = dict.fromkeys(Source, now)
        log.info(
            "owns partitions %s (read from the input again: %s)%s",
            mine or "none",
            fresh or "none",
            ", and the roll-up" if self.has_rollup else "",
        )

    async def revoke(self) -> None:
        """The tenure ends here: nothing more is read; what is in memory stays until the next
        takeover.
        """
        self.gate.close()
        await self.checkpoint()
        self.tenure = None

    def _release_rollup(self) -> None:
        self.has_rollup = False
        self.rollup.release()

    def _new(self, number: int, claim: Claim) -> Owned:
        admission = Admission(
            self.config,
            self._decoder,
            partition=number,
            partitions=self._settings.kafka.partitions,
            partition_of=self._partition_of,
        )
        return Owned(number, claim, Partition(self.config), admission, self.stages)

    def _recover(self, partition: int, key: bytes, value: bytes | None) -> None:
        """A valid record of the state topic that is no claim: none is written yet."""
        del value
        kind = key.split(b"|", 1)[0].decode(errors="replace")
        raise EngineFailed(
            f"the state topic holds a record of kind {kind!r} for partition {partition}, "
            "written by another version of Heartline"
        )

    async def _prove(self, consumer: Consumer, mine: set[int], generation: int) -> bool:
        """Membership, by a commit of the offsets from which we would read."""
        if consumer.app.consumer_generation_id != generation:
            return False
        offsets = {
            TP(topic, n): self.owned[n].next_offset(source) if n in self.owned else 0
            for topic, source in self.sources.items()
            for n in mine
        }
        return await consumer.commit_offsets(offsets)

    async def _find_first_offsets(self, consumer: Consumer) -> None:
        inputs = [TP(topic, n) for topic in self.sources for n in self.owned]
        if not inputs:
            return
        for tp, first in (await consumer.earliest_offsets(*inputs)).items():
            owned, source = self.owned[tp.partition], self.sources[tp.topic]
            due = owned.state.next_offset(source)
            if 0 < due < first:
                raise EngineFailed(
                    f"{tp.topic}-{tp.partition}: offset {due} is due but retention has removed "
                    f"everything before {first}: records were lost"
                )
            owned.first_offset[source] = first

    async def positions(self) -> tuple[str, dict[TP, int]] | None:
        """See `agents.transport.Intake`."""
        if self.tenure is None or self.failure is not None:
            return None
        found = {
            TP(topic, n): owned.next_offset(source)
            for topic, source in self.sources.items()
            for n, owned in self.owned.items()
        }
        if self.has_rollup:
            found[self.partials] = self.rollup.next_offset
        return self.tenure, found

    # -- the way of a batch -----------------------------------------------------------------------

    def is_current(self, batch: Batch) -> bool:
        """Whether this batch still counts; one that doesn't is read again by whoever owns it now."""
        if batch.tenure == self.tenure and self.failure is None:
            return True
        self.dropped_batches += 1
        return False

    async def receive(self, batch: Batch) -> None:
        """Admit, fold, and send what was refused. Never raises: see `fail`."""
        if not self.is_current(batch):
            return
        owned = self.owned[batch.tp.partition]
        source = self.sources[batch.tp.topic]
        try:
            await self._take_in(owned, source, batch)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be committed after it
            self.fail(error)

    async def _take_in(self, owned: Owned, source: Source, batch: Batch) -> None:
        due = owned.next_offset(source)
        if batch.follows > due:
            raise EngineFailed(f"{batch!r} follows offset {batch.follows}, but {due} is due")
        admitted = owned.admit(source, batch.records, known=owned.state.state.customers, start=due)
        too_late = owned.receive(source, admitted)
        owned.moved_at[source] = time.monotonic()
        self._hold(owned)
        self.collect(owned)
        if admitted.dead or too_late:
            self._refuse(batch, admitted, too_late, owned)
        await self.outbox.room()

    def _hold(self, owned: Owned) -> None:
        """Hold the inputs that ran ahead of the others, and only those."""
        ahead = owned.state.ahead()
        for topic, source in self.sources.items():
            tp = TP(topic, owned.number)
            if source in ahead:
                self.gate.held.add(tp)
            else:
                self.gate.held.discard(tp)

    def collect(self, owned: Owned) -> None:
        """Put what every passed hop boundary reports into the outbox."""
        for record in owned.report():
            self.outbox.put(self.topics.partials, record)

    def _refuse(
        self, batch: Batch, admitted: Admitted[Any], too_late: list[int], owned: Owned
    ) -> None:
        """Dead letters and late records: acknowledged before the next checkpoint commits."""
        for record, reason, detail in admitted.dead:
            self.dead[batch.tp.topic, str(reason)] += 1
            letter = dead_letter(batch.tp, record, reason, detail)
            self.outbox.put(self.topics.dead_letters, letter)
        if too_late:
            times = {arrival[1] & OFFSET_MASK: arrival[0] for arrival in admitted.arrivals}
            records = {record.offset: record for record in batch.records}
            for offset in too_late:
                late = late_record(batch.tp, records[offset], times[offset], owned.state.watermark)
                self.outbox.put(self.topics.late, late)

    # -- time -------------------------------------------------------------------------------------

    async def keep_time(self) -> None:
        """Tell every partition where its inputs stand and what time it is, for as long as we live."""
        pause_s = self._settings.engine.tick_interval_ms / 1_000
        while True:
            await asyncio.sleep(pause_s)
            self.clocked_at = time.monotonic()
            if self.tenure is None or self.failure is not None:
                continue
            try:
                now_ms = time.time_ns() // 1_000_000
                for owned in self.owned.values():
                    self._clock(owned, now_ms)
            except Exception as error:  # noqa: BLE001 - see `receive`
                self.fail(error)

    def _clock(self, owned: Owned, now_ms: int) -> None:
        for topic, source in self.sources.items():
            tp = TP(topic, owned.number)
            # By the time of the fetch that said so, not by ours: while the broker, or this process,
            # is stuck, an input doesn't become idle.
            polled_ms = self.at_high_water_ms(tp, owned, source)
            owned.state.observe(
                source, at_high_water=polled_ms is not None, now_ms=polled_ms or now_ms
            )
        owned.tick(now_ms)
        self._hold(owned)
        self.collect(owned)

    def at_high_water_ms(self, tp: TP, owned: Owned, source: Source) -> int | None:
        """When a fetch last said that we stand at the end of this input, in epoch milliseconds.

        None while we don't: because we hold it, or with work in flight.
        """
        if self._consumer is None or tp not in self.gate.open or tp in self.gate.held:
            return None
        stands = self._consumer.stands_at(tp)
        if stands is None or stands.position < stands.high_water:
            return None
        if self.gate.fetched_to.get(tp, 0) > owned.next_offset(source):
            return None
        return stands.polled_ms

    def lag(self, tp: TP, owned: Owned, source: Source) -> int:
        """Records between us and the high water, as of the last fetch."""
        stands = self._consumer.stands_at(tp) if self._consumer else None
        return 0 if stands is None else max(0, stands.high_water - owned.next_offset(source))

    # -- the seam of durability -------------------------------------------------------------------

    async def checkpoint(self) -> None:
        """Snapshot, send, commit: here without the first two, because nothing is durable yet.

        The commit keeps the group's lag readable and proves that we still belong. Raises
        EngineFailed when the group refuses it: it has moved on, so whatever we do from now on would
        be done twice.
        """
        async with self._busy:
            if self.tenure is None or self.failure is not None or self._consumer is None:
                return
            offsets = {
                TP(topic, n): owned.next_offset(source)
                for topic, source in self.sources.items()
                for n, owned in self.owned.items()
            }
            due = {tp: at for tp, at in offsets.items() if self._committed.get(tp) != at}
            if not due:
                return
            await self.outbox.flush()
            async with asyncio.timeout(self._settings.engine.deadline_ms / 1_000):
                accepted = await self._consumer.commit_offsets(due)
            if not accepted:
                raise EngineFailed(
                    "the group refused a commit: it has moved on without this worker"
                )
            self._committed = offsets

    async def keep_checkpoints(self) -> None:
        """One checkpoint per interval, for as long as we live."""
        pause_s = self._settings.engine.checkpoint_interval_ms / 1_000
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.checkpoint()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - see `receive`
                self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the worker. The first error is the reason; what follows from it is not."""
        if self.failure is None:
            self.failure = error
            self.gate.close()
            log.error("the worker ends: %s: %s", type(error).__name__, error)
            log.debug("traceback of the failure", exc_info=error)
            self.on_failure()

    def account(self) -> Mapping[Source, Counter[str]]:
        """The account of every input, summed over the partitions that we own."""
        found: dict[Source, Counter[str]] = {source: Counter() for source in Source}
        for owned in self.owned.values():
            for source in Source:
                one = owned.state.account(source)
                found[source].update({name: getattr(one, name) for name in ACCOUNT})
        return found


ACCOUNT = Account.__struct_fields__
"""consumed = folded (of which late_counted) + too_late + duplicate + dead + control + waiting."""
