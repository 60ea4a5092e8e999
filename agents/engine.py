"""The engine of one worker: the partitions that it owns, and their way from takeover to revocation.

Who owns what, and for how long:
- A partition of ours (`agents.owned.Owned`) is restored from its last checkpoint at a takeover, and
  kept over a rebalance only if its last checkpoint and the commit succeeded and nobody else claimed
  it in between.
- A *tenure* is the time from a completed takeover to the next revocation. Its token is on every
batch that is fetched in it; a batch of another tenure is dropped, because its records will be read
again.
- Nothing but `Engine` moves the gate. Nothing but `checkpoint` and the proof of membership commits
offsets of the inputs. The checkpoint, not the committed offset, says what is folded.

Any error that leaves a record's fate unknown (a failed send, lost records, a refused commit, a state
that can't be restored, a fault of ours) goes to `fail`: the worker takes in nothing more, commits
nothing more and ends with exit status 1. The next start finds what was there before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from faust.types import TP

from agents.checkpoints import Checkpoints
from agents.input_offsets import InputOffsets
from agents.outbox import Outbox
from agents.owned import Owned
from agents.ownership import Ownership, Takeover
from agents.publisher import Publisher
from agents.rejects import dead_letter, late_record
from agents.settings import Settings
from agents.stages import Stages
from agents.transport import Batch, Consumer, Gate
from schemas.topics import Source
from streams.admission import OFFSET_MASK, Admission, Admitted
from streams.claims import Claim
from streams.partition import Account
from streams.pseudonyms import Pseudonyms
from streams.state_log import StateLog

log = logging.getLogger(__name__)

UNSENT_BYTES = 4 * 1_048_576
"""So many bytes of partials that wait for a checkpoint bring one on; four times as many hold the
inputs."""

OUTSIDE_DEADLINES = 4
"""A worker that is in no group for so many deadlines ends: its supervisor starts it again."""


class EngineFailed(Exception):
    """The engine can't go on without losing or doubling something."""


class RollUpSeat(Protocol):
    """The roll-up of all partitions, which one worker of the group has at a time."""

    async def take_over(self, consumer: Consumer, wanted: Callable[[], bool]) -> bool: ...
    def release(self) -> None: ...
    @property
    def next_offset(self) -> int: ...


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
        self.checkpoints = Checkpoints(
            publisher, self.outbox, self.topics, deadline_s=settings.engine.deadline_ms / 1_000
        )
        self.checkpoint_started_at: float | None = None
        """While one is under way."""
        self.takeover_seconds = 0.0
        self.ownership = ownership
        self.publisher = publisher
        self._settings = settings
        self._partition_of = partition_of
        self._decoder = settings.decoder()
        self._hash_key = settings.hash_key()
        self._consumer: Consumer | None = None
        self._deadline_s = settings.engine.deadline_ms / 1_000
        self._short_since: dict[TP, float] = {}
        self._outside_since: float | None = None
        self._busy = asyncio.Lock()
        self._joining: int | None = None
        """The generation for which we take over, until it is revoked."""
        self._revoked: int | None = None
        """The last generation that was revoked."""
        self._checkpoint_due = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

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
        if self.failure is not None:
            return
        if generation == self._revoked:
            # A takeover that took long delays the next one, beyond the end of its generation.
            log.info("takeover given up: generation %s is revoked already", generation)
            return
        started = time.monotonic()
        self._joining = generation
        # The revocation of an empty assignment names no generation: when it comes before the takeover,
        # nobody ends that tenure.
        self.gate.close()
        self.tenure = None

        def is_wanted() -> bool:
            return {self._joining, consumer.app.consumer_generation_id} == {generation}

        async with self._busy:
            offsets = InputOffsets(self._settings, consumer, mine)
            taken: dict[int, Takeover] | None = {}
            if mine:
                await offsets.find_committed()
                taken = await self.ownership.take_over(
                    mine,
                    tenure=generation,
                    kept={n for n, owned in self.owned.items() if owned.is_settled},
                    prove=offsets.prove,
                    wanted=is_wanted,
                )
            if taken is not None:
                fresh = await self._take_in_hand(taken, offsets)
                log.debug("restored after %.2f s", time.monotonic() - started)
                # Each waits for the broker a second or so, and none needs another.
                await asyncio.gather(
                    offsets.find_first(self.owned),
                    self._send_again(),
                    self._take_over_rollup(consumer, assigned, is_wanted),
                )
            if taken is None or not is_wanted():
                log.info("takeover given up: the group has moved on from generation %s", generation)
                return
            self.takeover_seconds = time.monotonic() - started
            self._begin(generation, sorted(mine), fresh)

    async def _take_in_hand(self, taken: dict[int, Takeover], offsets: InputOffsets) -> list[int]:
        """Have all of ``taken`` in memory and nothing else; those that were restored."""
        for n in self.owned.keys() - {n for n, found in taken.items() if found.log is None}:
            self.on_dropped(self.owned.pop(n))
        self.ownership.release(taken.keys())
        fresh = []
        for n in sorted(taken):
            # Taken out, so that the packed state is let go of when it is unpacked.
            found = taken.pop(n)
            if found.log is None:
                self.owned[n].keeper.take_claim(found.claim)
                continue
            self.owned[n] = self._restore(n, found.log, found.claim)
            offsets.check_is_ours(n, found.log)
            self.ownership.restored(n)
            fresh.append(n)
            # Each takes a while: a rebalance must be heard of in between.
            await asyncio.sleep(0)
        return fresh

    def _begin(self, generation: int, mine: list[int], fresh: list[int]) -> None:
        self.tenure = f"{generation}"
        now = time.monotonic()
        self.joined_at = now
        for owned in self.owned.values():
            owned.is_settled = False
            owned.moved_at = dict.fromkeys(Source, now)
        log.info(
            "owns partitions %s (read from the state again: %s)%s after %.1f s",
            mine or "none",
            fresh or "none",
            ", and the roll-up" if self.has_rollup else "",
            self.takeover_seconds,
        )

    async def revoke(self, generation: int | None) -> None:
        """The tenure ends here: nothing more is taken in, and what was is made durable.

        ``generation`` is the one whose assignment is revoked; None if there was none.

        A takeover that goes on is given up. What is in memory stays until the next one.
        """
        self.gate.close()
        self._joining, self._revoked = None, generation
        had_tenure, self.tenure = self.tenure is not None, None
        async with self._busy:
            if had_tenure and self.failure is None:
                await self._write_checkpoints()
                for owned in self.owned.values():
                    owned.is_settled = True

    async def _take_over_rollup(
        self, consumer: Consumer, assigned: set[TP], wanted: Callable[[], bool]
    ) -> None:
        if self.partials in assigned:
            self.has_rollup = await self.rollup.take_over(consumer, wanted)
        else:
            self.has_rollup = False
            self.rollup.release()

    def _restore(self, number: int, log_: StateLog, claim: Claim) -> Owned:
        """The partition as of its last checkpoint. Raises StateRefused."""
        admission = Admission(
            self.config,
            self._decoder,
            partition=number,
            partitions=self._settings.kafka.partitions,
            partition_of=self._partition_of,
            pseudonyms=None if self._hash_key is None else Pseudonyms(self._hash_key),
        )
        started = time.monotonic()
        keeper = log_.restore(self.config, claim)
        log.info(
            "partition %d: %d customers, %.1f MiB in %d chunks, unpacked in %.2f s",
            number,
            keeper.figures.customers,
            keeper.figures.state_bytes / 1_048_576,
            keeper.figures.chunks,
            time.monotonic() - started,
        )
        return Owned(number, keeper, admission, self.stages)

    async def _send_again(self) -> None:
        """What the former owner had made durable, and maybe not sent."""
        due = [owned for owned in self.owned.values() if owned.due_again]
        records = [record for owned in due for record in owned.partials_again()]
        if records:
            await self.publisher.publish(self.topics.partials, records)
        for owned in due:
            owned.keeper.partials_acknowledged([record.key for record in owned.due_again])
            owned.due_again = []

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
        if batch.records[0].offset < batch.follows:
            raise EngineFailed(_recreated(batch.tp, batch.follows, batch.records[0].offset))
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
        await self._has_room.wait()

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
        """Gather what every passed hop boundary reports, for the next checkpoint."""
        for word in owned.drain():
            self.outbox.put(self.topics.partials, word)
        if owned.unsent_bytes > UNSENT_BYTES:
            self._checkpoint_due.set()
            if owned.unsent_bytes > 4 * UNSENT_BYTES:
                self._has_room.clear()

    def _refuse(
        self, batch: Batch, admitted: Admitted[Any], too_late: list[int], owned: Owned
    ) -> None:
        """Dead letters and late records: acknowledged before the next checkpoint commits."""
        raw_bytes = self._settings.privacy.raw_bytes
        for record, reason, detail in admitted.dead:
            self.dead[batch.tp.topic, str(reason)] += 1
            letter = dead_letter(batch.tp, record, reason, detail, raw_bytes=raw_bytes)
            self.outbox.put(self.topics.dead_letters, letter)
        if too_late:
            times = {arrival[1] & OFFSET_MASK: arrival[0] for arrival in admitted.arrivals}
            records = {record.offset: record for record in batch.records}
            for offset in too_late:
                late = late_record(
                    batch.tp,
                    records[offset],
                    times[offset],
                    owned.state.watermark,
                    raw_bytes=raw_bytes,
                )
                self.outbox.put(self.topics.late, late)

    # -- time -------------------------------------------------------------------------------------

    async def keep_time(self) -> None:
        """Tell every partition where its inputs stand and what time it is, for as long as we live."""
        pause_s = self._settings.engine.tick_interval_ms / 1_000
        while True:
            await asyncio.sleep(pause_s)
            self.clocked_at = time.monotonic()
            if self.failure is not None:
                continue
            try:
                self._watch_membership()
                if self.tenure is None:
                    continue
                now_ms = time.time_ns() // 1_000_000
                for owned in self.owned.values():
                    self._clock(owned, now_ms)
            except Exception as error:  # noqa: BLE001 - see `receive`
                self.fail(error)

    def _watch_membership(self) -> None:
        """Raises EngineFailed when nothing leads to a tenure any more: a client may be stuck."""
        now = asyncio.get_running_loop().time()
        if self.tenure is not None or self.ownership.progress is not None:
            self._outside_since = None
        elif self._outside_since is None:
            self._outside_since = now
        elif now - self._outside_since > OUTSIDE_DEADLINES * self._deadline_s:
            raise EngineFailed(
                f"in no group for {now - self._outside_since:.0f} s: Kafka's coordinator is away, or "
                "this client is stuck. Start the worker again"
            )

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
        if stands is None:
            return None
        if self._is_short(tp, owned.state.read_to(source), stands.high_water):
            return None
        if stands.position < stands.high_water:
            return None
        if self.gate.fetched_to.get(tp, 0) > owned.next_offset(source):
            return None
        return stands.polled_ms

    def _is_short(self, tp: TP, read_to: int, high_water: int) -> bool:
        """Whether the topic ends before what we have read of it.

        For a moment it may, when the leader changes. Raises EngineFailed when it stays so.
        """
        if high_water >= read_to:
            self._short_since.pop(tp, None)
            return False
        now = time.monotonic()
        if now - self._short_since.setdefault(tp, now) > self._deadline_s:
            raise EngineFailed(_recreated(tp, read_to, high_water))
        return True

    def lag(self, tp: TP, owned: Owned, source: Source) -> int:
        """Records between us and the high water, as of the last fetch."""
        stands = self._consumer.stands_at(tp) if self._consumer else None
        return 0 if stands is None else max(0, stands.high_water - owned.next_offset(source))

    # -- durability -------------------------------------------------------------------------------

    async def checkpoint(self) -> None:
        """Make durable what was taken in, and commit it. See `agents.checkpoints`.

        Raises whatever keeps it from being so: the caller ends the worker.
        """
        async with self._busy:
            if self.tenure is not None and self.failure is None:
                await self._write_checkpoints()

    async def _write_checkpoints(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        self.checkpoint_started_at = time.monotonic()
        confirmed = await self.checkpoints.write(
            list(self.owned.values()), self.collect, consumer.commit_offsets
        )
        self.checkpoint_started_at = None
        self.ownership.confirmed(confirmed)
        self._has_room.set()

    async def keep_checkpoints(self) -> None:
        """One checkpoint per interval, sooner when much waits for it, for as long as we live."""
        pause_s = self._settings.engine.checkpoint_interval_ms / 1_000
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._checkpoint_due.wait()
            self._checkpoint_due.clear()
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


def _recreated(tp: TP, due: int, found: int) -> str:
    return (
        f"{tp.topic}-{tp.partition}: the state has read up to offset {due}, but the topic goes back to "
        f"{found}: it was recreated, or lost records. Nothing of it can be told from what was read "
        "before. To replay what is there into a new state: heartline state rebuild"
    )
