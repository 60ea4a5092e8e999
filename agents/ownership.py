"""How a worker takes partitions over, and how it keeps up with those that it doesn't own.

What the records of the state topic mean is in `streams.claims` and `streams.state_log`. Here they are
read and claims are written:

- *Takeover*: prove by a commit that the group counts us in; write a claim with epoch + 1; read the
log up to one's own claim. If another claim with that epoch came first, do it again. The proof comes
before each claim, so a late claim can't have a higher epoch than that of the worker which took over
meanwhile.
- *Ours*: of a partition that we own only the claims are followed, from our last confirmed marker on.
So a rebalance reads a tail, and finds out whether anybody else claimed in between.
- *Standby*: the logs of all other partitions are tailed all the time, so their takeover reads a tail
too. What is kept is the packed state, not yet unpacked.

A claim's value says for how many partitions and which partitioner the state was made: with others the
customers would lie elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from agents.publisher import Outgoing, Publisher
from agents.state_topic import Progress, StateSource, StateTopicReader, StateUnreadable
from streams.claims import CLAIM, Claim, ClaimLog, StateRefused
from streams.state_log import StateLog

log = logging.getLogger(__name__)

_REST_S = 1.0
_AFTER_ERROR_S = 5.0
_CLAIM_PREFIX = f"{CLAIM}|".encode()


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Under which customers lie in their partitions; the value of a claim. 0 and "": not said."""

    partitions: int = 0
    partitioner: str = ""
    topic_ids: dict[str, str] = {}


class Takeover(NamedTuple):
    """A partition that is ours now."""

    claim: Claim
    log: StateLog | None
    """To restore from; None: nobody claimed it in between, so what is in memory stands."""


class Ownership:
    """The claims of this worker, under one writer's name, and its view of every partition's log."""

    def __init__(
        self,
        *,
        topic: str,
        writer: str,
        publisher: Publisher,
        source: StateSource,
        terms: Terms,
        deadline_s: float,
        standby: bool = True,
    ) -> None:
        self.terms = terms
        self._topic = topic
        self._writer = writer
        self._publisher = publisher
        self._source = source
        self._reader = StateTopicReader(source, topic=topic, deadline_s=deadline_s)
        self._has_standby = standby
        self._ours: dict[int, ClaimLog] = {}
        self._others: dict[int, StateLog] = {}
        self._foreign: set[int] = set()
        """Of ours, those that somebody else has claimed."""
        self._terms: dict[int, Terms] = {}
        """What the last claim by somebody else said."""
        self._refused: set[int] = set()
        self._reading = asyncio.Lock()

    @property
    def progress(self) -> Progress | None:
        """Of the takeover that goes on."""
        return self._reader.progress

    async def take_over(
        self,
        partitions: Iterable[int],
        *,
        tenure: int,
        kept: Collection[int],
        prove: Callable[[], Awaitable[bool]],
        wanted: Callable[[], bool],
    ) -> dict[int, Takeover] | None:
        """Claim ``partitions`` for the tenure numbered ``tenure``.

        ``kept``: those of which the settled state is in memory. None if the group has moved on, as
        ``prove`` (by a commit) or ``wanted`` (told by a signal) say. Raises StateRefused,
        StateUnreadable, PublishFailed.
        """
        name = f"{self._writer}.{tenure}"
        terms = msgspec.json.encode(self.terms)
        mine = frozenset(partitions)
        async with self._reading:
            for n in mine:
                if n not in kept:
                    self._forget(n)
                if n not in self._ours:
                    self._others.setdefault(n, StateLog())
            ends: dict[int, int] = {}
            left = set(mine)
            while left:
                if not (wanted() and await prove()):
                    return None
                claims = [
                    Outgoing(Claim(self._claims(n).owner.epoch + 1, name).key, terms, n)
                    for n in sorted(left)
                ]
                ends |= await self._publisher.publish(self._topic, claims)
                if not await self._read({n: ends[n] for n in left}, wanted):
                    return None
                left = {n for n in left if self._claims(n).owner.writer != name}
            if lost := {n: ends[n] for n in mine if n in self._foreign}:
                for n in lost:
                    self._forget(n)
                    self._others[n] = StateLog()
                if not await self._read(lost, wanted):
                    return None
            for n in mine:
                self._check_terms(n)
            return {n: Takeover(self._claims(n).owner, self._others.get(n)) for n in mine}

    def restored(self, partition: int) -> None:
        """The state of ``partition`` is in memory: from now on only its claims are followed."""
        if partition in self._others:
            self._ours[partition] = self._others.pop(partition).claims

    def confirmed(self, markers: Mapping[int, int]) -> None:
        """Our markers at these offsets stand before anybody else's claim: a commit has proved it."""
        for n, offset in markers.items():
            self._ours[n].offset = max(self._ours[n].offset, offset)

    def release(self, keep: Collection[int]) -> None:
        """Forget what we know as owner of all partitions but ``keep``."""
        for n in self._ours.keys() - set(keep):
            self._forget(n)

    def _forget(self, partition: int) -> None:
        self._ours.pop(partition, None)
        self._foreign.discard(partition)

    async def follow(self) -> None:
        """Tail the logs of the partitions that we don't own, for as long as we live."""
        while self._has_standby:
            rest_s = 0.0
            async with self._reading:
                others = set(range(self.terms.partitions)) - self._ours.keys() - self._refused
                positions = {n: self._others.setdefault(n, StateLog()).offset + 1 for n in others}
                try:
                    if positions:
                        await self._tail(positions)
                    else:
                        rest_s = _REST_S
                except StateUnreadable as error:
                    log.warning("the standby has to start again: %s", error)
                    self._others.clear()
                    rest_s = _AFTER_ERROR_S
            await asyncio.sleep(rest_s)

    async def _tail(self, positions: Mapping[int, int]) -> None:
        for n, records in (await self._source.poll(positions)).items():
            try:
                for record in records:
                    self._apply(n, record.offset, record.key or b"", record.value)
            except StateRefused as error:
                # Whoever takes it over ends with this; until then it is only not kept at hand.
                log.warning("partition %d can't be taken over: %s", n, error)
                self._refused.add(n)
                del self._others[n]

    async def stop(self) -> None:
        """Disconnect."""
        await self._source.stop()

    def _claims(self, partition: int) -> ClaimLog:
        ours = self._ours.get(partition)
        return self._others[partition].claims if ours is None else ours

    async def _read(self, ends: Mapping[int, int], wanted: Callable[[], bool]) -> bool:
        starts = {n: self._claims(n).offset + 1 for n in ends}
        return await self._reader.read(starts, ends, self._apply, wanted=wanted)

    def _apply(self, partition: int, offset: int, key: bytes, value: bytes | None) -> None:
        before = self._claims(partition).owner
        if partition in self._ours:
            self._ours[partition].apply(offset, key)
        else:
            self._others[partition].apply(offset, key, value)
        owner = self._claims(partition).owner
        if owner is before or owner.writer.startswith(f"{self._writer}."):
            return
        if partition in self._ours:
            self._foreign.add(partition)
        if value and key.startswith(_CLAIM_PREFIX):
            try:
                self._terms[partition] = msgspec.json.decode(value, type=Terms)
            except msgspec.DecodeError as error:
                raise StateRefused(
                    f"the state topic is damaged at offset {offset} of partition {partition}: the "
                    f"value of a claim: {error}; rebuild the state: heartline state rebuild"
                ) from None

    def _check_terms(self, partition: int) -> None:
        """Raises StateRefused when the state was made under other terms."""
        theirs = self._terms.get(partition, Terms())
        if theirs.partitions not in (0, self.terms.partitions):
            raise StateRefused(
                f"the state was made of {theirs.partitions} partitions, now there are "
                f"{self.terms.partitions}: a customer's events would meet another customer base. Put "
                "the number back, or replay the input into a new state: heartline state rebuild"
            )
        if theirs.partitioner not in ("", self.terms.partitioner):
            raise StateRefused(
                f"the state was made with the partitioner {theirs.partitioner}, now it is "
                f"{self.terms.partitioner}: customers would lie in other partitions. Put [kafka] "
                "partitioner back, or replay the input: heartline state rebuild"
            )
        ours = self.terms.topic_ids
        recreated = [t for t, i in theirs.topic_ids.items() if ours.get(t, i) != i]
        if recreated:
            raise StateRefused(
                f"the input was recreated since the state was made: {', '.join(sorted(recreated))} has "
                "another topic id, so its offsets mean other records. Replay what is there: heartline "
                "state rebuild"
            )
