"""The mutation check: each safeguard of DESIGN.md 4 taken out of the real code, by a patch that lasts
for one run, and the invariants of which one must then fail.

A simulation that finds nothing proves something only if it finds what is known to be wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import msgspec
from faust.types import TP

from agents.checkpoints import Checkpoints
from agents.engine import Engine
from agents.input_offsets import InputOffsets
from agents.owned import Owned
from agents.publisher import Outgoing, Publisher
from agents.rollup_memory import RollUpMemory
from agents.transport import Batch
from schemas.topics import Source
from streams import checkpoint, journal, state_log
from streams.checkpoint import Checkpoint, Keeper, LogRecord
from streams.claims import CLAIM, ClaimLog
from streams.config import CoreConfig
from streams.last_seen import NEVER
from streams.partition import Partition, Position
from streams.rollup import RollUp
from streams.state_log import StateLog

_CLAIM_PREFIX = f"{CLAIM}|".encode()
_CHUNK_PREFIX = f"{journal.CHUNK}|".encode()


@dataclass(frozen=True, slots=True)
class Mutation:
    """A safeguard, the way to take it out, and what must be seen to break."""

    name: str
    take_out: Callable[[], contextlib.AbstractContextManager[Any]]
    breaks: frozenset[str]
    """At least one of these invariants fails."""
    profile: str
    """The kind of trouble that the safeguard is for."""
    is_of_rollup: bool = False
    """Only runs with the roll-up can show it."""


def _awaiting_the_sends() -> contextlib.AbstractContextManager[Any]:
    """What is given to the client counts as written. But for claims: they are read back."""
    publish = Publisher.publish

    async def hasty(self: Publisher, topic: str, records: Iterable[Outgoing]) -> dict[int, int]:
        found = list(records)
        if any(record.key.startswith(_CLAIM_PREFIX) for record in found):
            return await publish(self, topic, found)
        sent = await self._send(self._producer, topic, found)
        return {partition: -1 for partition, _, _ in sent}

    return mock.patch.object(Publisher, "publish", hasty)


@contextlib.contextmanager
def _before_the_chunks(
    step: Callable[[Checkpoints, Owned, Checkpoint, Sequence[LogRecord], Any], Awaitable[None]],
) -> Iterator[None]:
    """Let ``step`` happen before the chunks of a checkpoint are written."""
    write, write_state = Checkpoints.write, Checkpoints._write_state
    take = Owned.checkpoint
    newest: dict[int, tuple[Checkpoint, Sequence[LogRecord]]] = {}
    commits: dict[int, Any] = {}

    def noted(self: Owned) -> tuple[Checkpoint | None, list[LogRecord]]:
        found, partials = take(self)
        if found is not None:
            newest[id(self)] = found, partials
        return found, partials

    async def begin(self: Checkpoints, partitions: Any, collect: Any, commit: Any) -> Any:
        commits[id(self)] = commit
        return await write(self, partitions, collect, commit)

    async def early(self: Checkpoints, owned: Owned, records: Sequence[LogRecord]) -> None:
        if id(owned) in newest and (not records or records[0].key.startswith(_CHUNK_PREFIX)):
            found, partials = newest.pop(id(owned))
            await step(self, owned, found, partials, commits[id(self)])
        await write_state(self, owned, records)

    with (
        mock.patch.object(Owned, "checkpoint", noted),
        mock.patch.object(Checkpoints, "write", begin),
        mock.patch.object(Checkpoints, "_write_state", early),
    ):
        yield


def _state_before_commit() -> contextlib.AbstractContextManager[Any]:
    async def commit_first(
        self: Checkpoints, owned: Owned, found: Checkpoint, partials: Any, commit: Any
    ) -> None:
        await self._commit([(owned, found)], commit)

    return _before_the_chunks(commit_first)


def _tombstones_after_the_commit() -> contextlib.AbstractContextManager[Any]:
    async def bury_first(
        self: Checkpoints, owned: Owned, found: Checkpoint, partials: Any, commit: Any
    ) -> None:
        await self._bury(owned, owned.keeper.committed(found))

    return _before_the_chunks(bury_first)


def _partials_after_the_marker() -> contextlib.AbstractContextManager[Any]:
    async def say_first(
        self: Checkpoints,
        owned: Owned,
        found: Checkpoint,
        partials: Sequence[LogRecord],
        commit: Any,
    ) -> None:
        await self.send_partials([(owned, partials)])

    return _before_the_chunks(say_first)


def _read_to_never_falling() -> contextlib.AbstractContextManager[Any]:
    position = Partition.position

    def forgetful(self: Partition) -> Position:
        return msgspec.structs.replace(position(self), read_to=list(self._next))

    return mock.patch.object(Partition, "position", forgetful)


@contextlib.contextmanager
def _watermark_still_during_replay() -> Iterator[None]:
    at_once, one_by_one = Partition._take_at_once, Partition._take_one_by_one
    tick = Partition.tick

    def moving(self: Partition, source: Source, limit: int) -> int:
        return self._time.limit_of_others(source) if limit == NEVER else limit

    def take_at_once(self: Partition, source: Source, admitted: Any, limit: int) -> bool:
        return at_once(self, source, admitted, moving(self, source, limit))

    def take_one_by_one(self: Partition, source: Source, admitted: Any, limit: int) -> list[int]:
        return one_by_one(self, source, admitted, moving(self, source, limit))

    def ticking(self: Partition, now_ms: int) -> None:
        was, self._is_replaying = self._is_replaying, False
        tick(self, now_ms)
        self._is_replaying = was

    with (
        mock.patch.object(Partition, "_take_at_once", take_at_once),
        mock.patch.object(Partition, "_take_one_by_one", take_one_by_one),
        mock.patch.object(Partition, "tick", ticking),
    ):
        yield


def _unique_keys() -> contextlib.AbstractContextManager[Any]:
    """Every checkpoint of a tenure has the same sequence number."""
    take = Keeper.checkpoint

    def repeated(self: Keeper, partials: Sequence[LogRecord]) -> Checkpoint | None:
        self._seq = 0
        return take(self, partials)

    return mock.patch.object(Keeper, "checkpoint", repeated)


def _claims() -> contextlib.AbstractContextManager[Any]:
    """Readers take whatever anybody wrote."""
    apply = ClaimLog.apply

    def credulous(self: ClaimLog, offset: int, key: bytes) -> bool:
        apply(self, offset, key)
        return not key.startswith(_CLAIM_PREFIX)

    return mock.patch.object(ClaimLog, "apply", credulous)


def _membership_proof() -> contextlib.AbstractContextManager[Any]:
    async def trusted(_: InputOffsets) -> bool:
        return True

    return mock.patch.object(InputOffsets, "prove", trusted)


def _tenure_tokens() -> contextlib.AbstractContextManager[Any]:
    def is_current(self: Engine, batch: Batch) -> bool:
        is_ours = batch.tp.partition in self.owned or batch.tp == TP(self.topics.partials, 0)
        return self.failure is None and is_ours

    return mock.patch.object(Engine, "is_current", is_current)


def _manifest() -> contextlib.AbstractContextManager[Any]:
    """What is there of the chunks is taken for all of them."""
    restore = StateLog.restore

    def indulgent(self: StateLog, config: CoreConfig, claim: Any) -> Keeper:
        self._manifest = {c: crc for c, crc in self._manifest.items() if c in self._chunks}
        return restore(self, config, claim)

    return mock.patch.object(StateLog, "restore", indulgent)


@contextlib.contextmanager
def _crc() -> Iterator[None]:
    def same(_key: bytes, _value: bytes) -> int:
        return 0

    with (
        mock.patch.object(journal, "crc_of", same),
        mock.patch.object(checkpoint, "crc_of", same),
        mock.patch.object(state_log, "crc_of", same),
    ):
        yield


_WRONG_STATE = frozenset(
    {
        "nothing_lost",
        "nothing_twice",
        "account_balances",
        "state_equals_recomputation",
        "durable_state_equals_recomputation",
    }
)


@contextlib.contextmanager
def _notes_of_the_rollup() -> Iterator[None]:
    """A seat leaves nothing behind but what it has committed."""

    async def nothing(_self: RollUpMemory, core: RollUp) -> None:
        core.take_notes()

    with mock.patch.object(RollUpMemory, "write", nothing):
        yield


MUTATIONS = {
    mutation.name: mutation
    for mutation in (
        Mutation(
            "awaiting the sends",
            _awaiting_the_sends,
            frozenset({"committed_never_ahead_of_marker", "dead_letters_complete"}),
            "failing sends",
        ),
        Mutation(
            "state before commit",
            _state_before_commit,
            frozenset({"committed_never_ahead_of_marker"}),
            "calm",
        ),
        Mutation(
            "read_to never falling",
            _read_to_never_falling,
            frozenset({"read_to_never_falls"}),
            "crash storm",
        ),
        Mutation(
            "watermark still during replay",
            _watermark_still_during_replay,
            _WRONG_STATE,
            "crash storm",
        ),
        Mutation(
            "unique keys",
            _unique_keys,
            frozenset({"state_can_be_restored", "ends_only_for_a_cause"}) | _WRONG_STATE,
            "crashes",
        ),
        Mutation(
            "claims",
            _claims,
            frozenset({"state_can_be_restored", "ends_only_for_a_cause"}) | _WRONG_STATE,
            "paused writers",
        ),
        Mutation(
            "membership proof",
            _membership_proof,
            frozenset({"committed_never_ahead_of_marker"}) | _WRONG_STATE,
            "paused writers",
        ),
        Mutation(
            "tenure tokens",
            _tenure_tokens,
            frozenset({"ends_only_for_a_cause"}),
            "rebalances",
        ),
        Mutation(
            "manifest",
            _manifest,
            frozenset({"refuses_damage"}),
            "damage",
        ),
        Mutation(
            "tombstones after the commit",
            _tombstones_after_the_commit,
            frozenset({"state_can_be_restored", "ends_only_for_a_cause"}),
            "crashes",
        ),
        Mutation(
            "partials after the marker",
            _partials_after_the_marker,
            frozenset({"partials_never_change_after_being_sent"}),
            "crashes",
        ),
        Mutation("CRC", _crc, frozenset({"refuses_damage"}), "damage"),
        Mutation(
            "notes of the roll-up",
            _notes_of_the_rollup,
            frozenset({"results_equal"}),
            "calm",
            is_of_rollup=True,
        ),
    )
}
