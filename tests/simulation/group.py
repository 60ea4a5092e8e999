"""The consumer group in memory: members, generations, assignments, committed offsets.

As Kafka does it: a rebalance begins when a member joins, leaves or is expelled after the session
timeout, and ends when every member has joined again or is expelled. Until it ends the old
generation still counts, for commits too; after that a commit of an older generation, or of somebody
who is no member, is refused.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiokafka.errors import CommitFailedError
from faust.types import TP

from tests.simulation.loop import Loop, Process

SESSION_S = 3.0
REBALANCE_S = 6.0
"""So long does a rebalance wait for a member that lives."""
HEARTBEAT_S = 0.4


class Committed(NamedTuple):
    """An offset and the text beside it, as aiokafka has it."""

    offset: int
    metadata: str


class Assigned(NamedTuple):
    """What a member is told at the end of a rebalance."""

    generation: int
    partitions: frozenset[TP]


class Member:
    """One worker's place in the group."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.generation = -1
        self.rebalance = asyncio.Event()
        self.joined: asyncio.Future[Assigned] | None = None
        self.absences = 0


class Group:
    """The coordinator. ``on_commit(offsets)`` is called for each commit that is accepted."""

    def __init__(
        self,
        loop: Loop,
        rng: random.Random,
        *,
        units: list[frozenset[TP]],
        on_commit: Callable[[Process, Mapping[TP, int]], None],
        tell: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._units = units
        self._on_commit = on_commit
        self._tell = tell
        self.members: dict[Process, Member] = {}
        self.generation = 0
        self.committed: dict[TP, Committed] = {}
        self.owners: dict[TP, Process] = {}
        self._is_preparing = False

    # -- what members ask

    async def join(self, member: Member) -> Assigned:
        """Join, or join again; returns when the rebalance has ended."""
        member.rebalance.clear()
        joined: asyncio.Future[Assigned] = self._loop.create_future()
        member.joined = joined
        self.members[member.process] = member
        self._prepare()
        self._complete_if_all_joined()
        return await joined

    def leave(self, process: Process) -> None:
        """Leave at once; the others share what it had."""
        if self.members.pop(process, None) is not None and self.members:
            self._prepare()
            self._complete_if_all_joined()

    def commit(
        self, process: Process, generation: int, offsets: Mapping[TP, int | tuple[int, str]]
    ) -> None:
        """Raises CommitFailedError for who is no member in the current generation."""
        member = self.members.get(process)
        if member is None or generation != self.generation:
            raise CommitFailedError
        plain: dict[TP, int] = {}
        for tp, at in offsets.items():
            offset, text = at if isinstance(at, tuple) else (at, "")
            self.committed[tp] = Committed(offset, text)
            plain[tp] = offset
        self._on_commit(process, plain)

    # -- what happens to members

    def absent(self, process: Process) -> None:
        """The process was paused or killed: it is expelled unless it runs again in time."""
        member = self.members.get(process)
        if member is None:
            return
        member.absences += 1
        absence = member.absences

        def expel() -> None:
            if member.absences == absence and not process.runs:
                self._tell(f"group: {process.name} is expelled")
                self._expel(member)

        self._loop.call_later(SESSION_S, expel, context=self._loop.world.context)

    def _expel(self, member: Member) -> None:
        member.process.causes.append("expelled")
        self.leave(member.process)
        if not member.process.is_dead:
            self._wake(member)

    def _wake(self, member: Member) -> None:
        """The member learns from a heartbeat, when it runs, that it has to join again."""

        async def heartbeat() -> None:
            await asyncio.sleep(self._rng.uniform(0.01, HEARTBEAT_S))
            is_out = self.members.get(member.process) is not member
            if is_out or (self._is_preparing and member.joined is None):
                member.rebalance.set()

        self._loop.spawn(member.process, heartbeat(), "heartbeat")

    def _prepare(self) -> None:
        if self._is_preparing:
            return
        self._is_preparing = True
        for member in self.members.values():
            if member.joined is None:
                self._wake(member)
        generation = self.generation

        def give_up_waiting() -> None:
            if self._is_preparing and self.generation == generation:
                for member in list(self.members.values()):
                    if member.joined is None:
                        self._tell(f"group: {member.process.name} did not join in time")
                        member.process.causes.append("expelled")
                        del self.members[member.process]
                        self._wake(member)
                self._complete_if_all_joined()

        context = self._loop.world.context
        self._loop.call_later(REBALANCE_S, give_up_waiting, context=context)

    def _complete_if_all_joined(self) -> None:
        members = list(self.members.values())
        if not members or any(member.joined is None for member in members):
            return
        self._is_preparing = False
        self.generation += 1
        self._rng.shuffle(members)
        shares: dict[Process, set[TP]] = {member.process: set() for member in members}
        for place, unit in enumerate(self._units):
            shares[members[place % len(members)].process] |= unit
        self.owners = {tp: process for process, share in shares.items() for tp in share}
        for member in members:
            joined, member.joined = member.joined, None
            share = frozenset(shares[member.process])
            self._tell(
                f"group: generation {self.generation}: {member.process.name} has "
                f"{sorted({tp.partition for tp in share if 'partials' not in tp.topic})}"
            )
            if joined is not None and not joined.done():
                joined.set_result(Assigned(self.generation, share))
