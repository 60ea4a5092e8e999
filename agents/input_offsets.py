"""What Kafka says of the inputs at a takeover: what the group has committed, and where they begin.

Each answer is waited for until the deadline. What the group has committed is committed again as the proof
of membership. The checkpoint, not the committed offset, says what is folded, so the two are held against
each other and against what is still there. Refused is, because records would be missing in the figures:

- a partition of which the group has read something and the state knows nothing;
- an input that the group has committed further than the state has read it;
- an input of which retention has removed what is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from typing import TypeVar

from faust.types import TP

from agents.owned import Owned
from agents.settings import Settings
from agents.transport import Consumer
from schemas.topics import Source
from streams.state_log import StateLog

T = TypeVar("T")


class InputsUnusable(Exception):
    """Kafka doesn't say where the inputs stand, or they don't fit the state: the worker must not go on."""


class InputOffsets:
    """The offsets of the inputs of ``partitions``, in one takeover."""

    def __init__(self, settings: Settings, consumer: Consumer, partitions: Collection[int]) -> None:
        topics = settings.topics()
        self._sources = dict(zip(topics.sources, Source, strict=True))
        self._inputs = [TP(topic, n) for topic in self._sources for n in sorted(partitions)]
        self._group = settings.kafka.group
        self._state = topics.state
        self._deadline_s = settings.engine.deadline_ms / 1_000
        self._consumer = consumer
        self._committed: Mapping[TP, int] = {}

    async def find_committed(self) -> None:
        """Ask what the group has committed. Raises InputsUnusable."""
        self._committed = await self._in_time(
            self._consumer.committed(self._inputs),
            f"did not say within {self._deadline_s:g} s what the group has committed",
        )

    async def prove(self) -> bool:
        """Membership, by a commit of what is committed already. Raises InputsUnusable."""
        return await self._in_time(
            self._consumer.commit_offsets({tp: self._committed.get(tp, 0) for tp in self._inputs}),
            f"did not answer a commit within {self._deadline_s:g} s",
        )

    def check_is_ours(self, partition: int, log: StateLog) -> None:
        """A group that has read something has written a marker: with none, it was lost."""
        has_read = any(at for tp, at in self._committed.items() if tp.partition == partition)
        if has_read and log.describe().marker is None:
            raise InputsUnusable(
                f"the group {self._group} has read partition {partition} before, but {self._state} "
                "knows nothing of it: was that topic recreated or emptied? To replay the input into a "
                "new state: heartline state rebuild"
            )

    async def find_first(self, partitions: Mapping[int, Owned]) -> None:
        """Tell all of ``partitions`` where their inputs begin. Raises InputsUnusable."""
        if not self._inputs:
            return
        earliest = await self._in_time(
            self._consumer.earliest_offsets(*self._inputs),
            f"did not say within {self._deadline_s:g} s where the inputs begin",
        )
        for tp, first in earliest.items():
            owned, source = partitions[tp.partition], self._sources[tp.topic]
            self._check(tp, due=owned.state.next_offset(source), first=first)
            owned.first_offset[source] = first

    def _check(self, tp: TP, *, due: int, first: int) -> None:
        if 0 < due < first:
            raise InputsUnusable(
                f"{tp.topic}-{tp.partition}: offset {due} is due but retention has removed everything "
                f"before {first}: those records are in no figure. To go on from what is still there: "
                "heartline state rebuild"
            )
        committed = self._committed.get(tp, 0)
        if committed > max(due, first):
            # A commit comes after its marker: the marker is gone.
            raise InputsUnusable(
                f"the group {self._group} has committed {tp.topic}-{tp.partition} up to {committed}, "
                f"but the state has read it up to {due} only: {self._state} has lost its newest records, "
                "or somebody set the offsets forward. Set them back, or replay the input: heartline "
                "state rebuild"
            )

    async def _in_time(self, answer: Awaitable[T], silence: str) -> T:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await answer
        except TimeoutError:
            raise InputsUnusable(f"Kafka {silence}") from None
