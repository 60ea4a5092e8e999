"""The state topic: crashes between any two records, compactions, writers who were only paused, damage."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.topics import Source
from streams import checkpoint as sizes
from streams import journal
from streams.checkpoint import Keeper, LogRecord
from streams.config import CoreConfig
from streams.partition import Partition
from streams.segments import dimensions
from streams.state_log import StateLog, StateRefused
from streams.windows import HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.durable import MemoryLog, write
from tests.rig.hand import Hand, order, view
from tests.rig.sameness import differences, state_of

pytestmark = pytest.mark.property

T0 = 1_700_006_400_000
CONFIG = CoreConfig(windows=WindowSet.of([Window.parse("10m/1m"), Window.parse("1h/5m")]))
STEP_MS = 47_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small enough that a few rows are many chunks, cleaned often, and whole manifests are rare."""
    monkeypatch.setattr(journal, "TARGET_BYTES", 400)
    monkeypatch.setattr(journal, "SLACK_BYTES", 1_000)
    monkeypatch.setattr(journal, "SMALL_CHUNKS", 4)
    monkeypatch.setattr(sizes, "WHOLE_EVERY", 3)


class World:
    """Inputs that never go away, a state topic, and the workers that come and go."""

    def __init__(self) -> None:
        self.inputs = Hand(CONFIG)
        self.log = MemoryLog()
        self.number = self.drained = 0
        self.now = T0
        self.partials: list[LogRecord] = []
        """Durable and not acknowledged."""
        self.durable: dict[str, Any] | None = None
        """The state as the owner's newest marker has it."""
        self.paused: list[Keeper] = []
        self.keeper = self.log.take_over(CONFIG, "w0")
        self.workers = 1

    def events(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.now += STEP_MS
            make = view if self.number % 3 else order
            who = f"c{self.number * self.number % 11}"
            event = make(who, self.now, f"e{self.number}", persona=f"p{self.number % 4}")
            self.inputs.write(Source.SESSIONS if make is view else Source.PURCHASES, event)
            if self.number % 5 == 0:
                for source in Source:
                    self.inputs.write(source, {"type": "time_passed", "until": self.now})

    def read_on(self, keeper: Keeper) -> None:
        for source in Source:
            start = keeper.partition.next_offset(source)
            records = self.inputs.logs[source][start:]
            keeper.partition.receive(source, self.inputs.admit(source, records))

    def checkpoint(self, cut: int) -> bool:
        """Write a checkpoint and go on; or only its first ``cut`` records, and crash. Whether it went
        all the way.
        """
        self.read_on(self.keeper)
        self.drained += 2
        fresh = [LogRecord(f"0|{self.drained + n}".encode(), b"partial") for n in range(2)]
        found = self.keeper.checkpoint(fresh)
        if found is None:
            return True
        before = [*found.chunks, found.marker]
        if cut >= len(before):
            self.durable = state_of(self.keeper.partition)
            self.partials += fresh
        records = [*before, *self.keeper.committed(found)]
        self.log.append(records[:cut])
        return cut >= len(records)

    def acknowledge(self) -> None:
        acknowledged, self.partials = self.partials[:1], self.partials[1:]
        self.keeper.partials_acknowledged([record.key for record in acknowledged])
        write(self.log, self.keeper)
        self.durable = state_of(self.keeper.partition)

    def take_over(self, *, is_paused: bool = False) -> None:
        if is_paused:
            self.paused.append(self.keeper)
        self.keeper = self.log.take_over(CONFIG, f"w{self.workers}")
        self.workers += 1
        expected = self.durable
        if expected is None:
            expected = state_of(Partition(CONFIG))
        assert state_of(self.keeper.partition) == expected
        assert self.keeper.unsent == self.partials

    def wake_paused(self) -> None:
        """Whoever was paused goes on writing for a while, behind the claim of the present owner."""
        for keeper in self.paused:
            self.read_on(keeper)
            found = keeper.checkpoint([])
            if found is not None:
                self.log.append([*found.chunks, found.marker])


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("events"), st.integers(1, 12)),
            st.tuples(st.just("checkpoint"), st.integers(0, 12)),
            st.tuples(st.just("checkpoint"), st.just(10_000)),
            st.tuples(
                st.sampled_from(["compact", "acknowledge", "pause", "wake", "crash"]), st.just(0)
            ),
        ),
        max_size=30,
    )
)
def test_whatever_happens_to_the_log_the_newest_marker_is_gone_on_from_exactly(
    steps: list[tuple[str, int]],
) -> None:
    world = World()
    for step, number in steps:
        if step == "events":
            world.events(number)
        elif step == "checkpoint":
            if not world.checkpoint(number):
                world.take_over()
        elif step == "compact":
            world.log.compact(tombstones=world.number % 2 == 0)
        elif step == "acknowledge":
            world.acknowledge()
        elif step == "wake":
            world.wake_paused()
        else:
            world.take_over(is_paused=step == "pause")
    world.checkpoint(10_000)
    world.take_over()
    world.read_on(world.keeper)
    uninterrupted = Partition(CONFIG)
    for source in Source:
        uninterrupted.receive(source, world.inputs.admit(source, world.inputs.logs[source]))
    assert differences(world.keeper.partition, uninterrupted) == []


def told(checkpoints: int = 9) -> World:
    """A log of some checkpoints, the last of them one with a delta."""
    world = World()
    for _ in range(checkpoints):
        world.events(7)
        world.checkpoint(10_000)
    return world


def test_compaction_leaves_only_what_the_newest_marker_needs() -> None:
    world = told()
    keys = [key for _, key, value in world.log.records if value is not None]
    world.log.compact(tombstones=False)
    left = [key for _, key, _ in world.log.records]
    assert len(left) < len(keys) / 2
    markers = [key for key in left if key.startswith(b"m|")]
    assert len(markers) <= sizes.WHOLE_EVERY + 1
    chunks = [key for key in left if key.startswith(b"k|")]
    assert len(chunks) == world.keeper.figures.chunks
    world.take_over()


def test_what_nobody_needs_any_more_is_deleted_by_the_next_owner() -> None:
    """Chunks without a marker, records of paused writers, all of the former owner's markers."""
    world = told()
    world.events(5)
    world.checkpoint(1)
    world.take_over(is_paused=True)
    world.wake_paused()
    world.take_over()
    write(world.log, world.keeper)
    world.log.compact(tombstones=False)
    kinds = [key.split(b"|")[0] for _, key, _ in world.log.records]
    assert kinds.count(b"m") == 1
    assert kinds.count(b"k") == world.keeper.figures.chunks


def test_one_flipped_bit_in_any_record_refuses_or_changes_nothing() -> None:
    """In the value or in the key: it never goes back to something older without a word."""
    world = told(5)
    expected = state_of(world.log.read().restore(CONFIG, world.log.claim("x")).partition)
    records = list(world.log.records)
    refused = harmless = 0
    for place, (offset, key, value) in enumerate(records):
        for which, data in (("key", key), ("value", value or b"")):
            for bit in range(0, 8 * len(data), 5 if which == "key" else 61):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                changed = (
                    (offset, bytes(flipped), value)
                    if which == "key"
                    else (offset, key, bytes(flipped))
                )
                damaged = MemoryLog()
                damaged.records = [*records[:place], changed, *records[place + 1 :]]
                try:
                    reader = damaged.read()
                    keeper = reader.restore(CONFIG, reader.owner)
                except StateRefused as error:
                    refused += "state" in str(error)
                else:
                    harmless += 1
                    assert state_of(keeper.partition) == expected
    assert refused > harmless > 0


def restore(log: MemoryLog, config: CoreConfig = CONFIG) -> Keeper:
    return log.read().restore(config, log.claim("y"))


@pytest.mark.parametrize(
    "other",
    [
        CoreConfig(windows=WindowSet.of([Window.parse("1h/10m")])),
        msgspec.structs.replace(
            CONFIG, segments=msgspec.structs.replace(CONFIG.segments, customer=dimensions(tier=()))
        ),
        msgspec.structs.replace(
            CONFIG,
            segments=msgspec.structs.replace(
                CONFIG.segments, customer=CONFIG.segments.customer[::-1]
            ),
        ),
    ],
    ids=["windows", "names of dimensions", "order of dimensions"],
)
def test_another_configuration_is_refused_and_the_way_out_is_named(other: CoreConfig) -> None:
    world = told(2)
    with pytest.raises(
        StateRefused, match="put the configuration back, or `heartline state rebuild`"
    ):
        restore(world.log, other)


def test_another_format_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = told(2)
    monkeypatch.setattr(sizes, "LOG_FORMAT", 2)
    with pytest.raises(StateRefused, match="has format version 1"):
        restore(world.log)


def test_a_missing_chunk_is_refused() -> None:
    world = told(4)
    needed = next(iter(world.keeper._journal.chunks)).key
    world.log.records = [record for record in world.log.records if record[1] != needed]
    with pytest.raises(StateRefused, match="is missing"):
        restore(world.log)


def test_a_delta_without_the_marker_before_it_is_refused() -> None:
    world = told(3)
    markers = [key for _, key, _ in world.log.records if key.startswith(b"m|")]
    world.log.records = [record for record in world.log.records if record[1] != markers[-2]]
    with pytest.raises(StateRefused, match="builds on one that is gone"):
        restore(world.log)


def test_a_record_of_an_unknown_kind_is_refused() -> None:
    world = told(1)
    claim = world.log.claim("z")
    world.log.append([LogRecord(f"q|{claim.epoch}|z|1".encode(), b"?")])
    with pytest.raises(StateRefused, match="kind 'q'"):
        world.log.read()


@pytest.mark.parametrize("rest", ["1", "1|x", "x|1", "1|1|1"])
def test_a_chunk_key_that_is_none_is_refused(rest: str) -> None:
    log = MemoryLog()
    claim = log.claim("z")
    log.append([LogRecord(f"k|{claim.epoch}|z|{rest}".encode(), b"?")])
    with pytest.raises(StateRefused, match="foreign record"):
        log.read()


def test_a_marker_key_that_is_none_is_refused() -> None:
    log = MemoryLog()
    claim = log.claim("z")
    log.append([LogRecord(f"m|{claim.epoch}|z|one".encode(), b"?")])
    with pytest.raises(StateRefused, match="foreign record"):
        log.read()


def test_a_marker_that_was_sent_twice_counts_once() -> None:
    world = told(3)
    newest = world.log.records[-1]
    marker = next(r for r in reversed(world.log.records) if r[1].startswith(b"m|"))
    world.log.append([LogRecord(marker[1], marker[2])])
    assert newest[0] + 1 == world.log.records[-1][0]
    world.take_over()


def test_a_log_whose_newest_marker_was_deleted_starts_afresh() -> None:
    """That is what a rebuild leaves behind."""
    world = told(3)
    world.log.append([LogRecord(key, None) for _, key, _ in list(world.log.records)])
    assert state_of(restore(world.log).partition) == state_of(Partition(CONFIG))
    assert world.log.read().describe().marker is None


def test_inspection_says_what_stands_there_and_why_it_can_not_be_used() -> None:
    world = told(4)
    found = world.log.read().describe()
    assert found.owner == world.keeper.claim
    assert found.marker == "m|1|w0|4"
    assert found.refusal is None
    assert found.figures.customers == len(world.keeper.partition.state.customers)
    assert found.watermark_ms == world.keeper.partition.watermark
    assert found.read_to == [world.keeper.partition.next_offset(source) for source in Source]
    assert found.fingerprint == CONFIG.fingerprint
    missing = copy.deepcopy(world.log)
    needed = next(iter(world.keeper._journal.chunks)).key
    missing.records = [record for record in missing.records if record[1] != needed]
    assert "is missing" in (missing.read().describe().refusal or "")
    assert StateLog().describe().marker is None


def test_memory_that_is_kept_goes_on_under_a_new_claim() -> None:
    world = told(3)
    world.keeper.take_claim(world.log.claim("w0.2"))
    assert write(world.log, world.keeper) is not None, "the new tenure has a marker of its own"
    assert write(world.log, world.keeper) is None
    world.durable = state_of(world.keeper.partition)
    world.take_over()


def test_time_without_a_customer_is_a_checkpoint_too() -> None:
    world = World()
    for source in Source:
        world.inputs.write(source, {"type": "time_passed", "until": T0 + HOUR_MS})
    world.checkpoint(10_000)
    world.take_over()
    assert world.keeper.partition.watermark == T0 + HOUR_MS


def test_customers_of_a_restored_partition_are_unpacked_when_they_are_touched() -> None:
    world = told(6)
    world.take_over()
    state = world.keeper.partition.state
    assert not state.customers
    packed = len(state.packed)
    world.events(1)
    world.read_on(world.keeper)
    world.now += 10 * MINUTE_MS
    assert len(state.customers) + len(state.packed) == packed
