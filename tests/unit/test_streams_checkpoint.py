"""Markers, rows and tables of a checkpoint, each by itself; the log as a whole: tests/property."""

from __future__ import annotations

import struct

import msgspec
import numpy as np
import pytest

from schemas.topics import Source
from streams import checkpoint as sizes
from streams import claims, journal, timeline_rows
from streams.checkpoint import (
    DamagedMarker,
    Figures,
    Keeper,
    LogRecord,
    Manifest,
    Marker,
    OtherFormat,
    manifest_of,
    read_marker,
)
from streams.claims import Claim, StateRefused
from streams.config import CoreConfig
from streams.contacts import Contact, Ticket
from streams.customers import FIELDS, Customer
from streams.journal import ChunkId, crc_of
from streams.last_seen import NEVER
from streams.narrow import pack_integers, unpack_integers
from streams.open_pane import LOGS, OpenPane
from streams.partition import Partition
from streams.recent_ids import RecentIds
from streams.rows import ELSEWHERE, NOT_DUE, ROW_FIELDS, dues_of, pack, touched_of, unpack
from streams.state import retention_ms
from streams.state_log import StateLog
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.durable import MemoryLog, write
from tests.rig.hand import Hand, order, view
from tests.rig.sameness import differences

T0 = 1_700_006_400_000
CONFIG = CoreConfig(windows=WindowSet.of([Window.parse("1h/1m")]), allowed_lateness_ms=HOUR_MS)


# -- integers


@pytest.mark.parametrize(
    "values",
    [
        [],
        [0],
        [127, -128],
        [128, -129],
        [32_767, -32_768],
        [32_768],
        [2**31 - 1, -(2**31)],
        [2**31, 1],
        [2**63 - 1, -(2**63)],
        [NEVER, 0, 5],
        [0] * 300 + [7],
        [0] * 70_000 + [-5],
    ],
    ids=str,
)
def test_integers_come_back_exactly(values: list[int]) -> None:
    packed = pack_integers(np.array(values, np.int64))
    assert unpack_integers(packed).tolist() == values


def test_small_integers_and_zeros_take_little() -> None:
    assert len(pack_integers(np.full(1_000, 100))) < 1_020
    assert len(pack_integers(np.eye(1, 1_000, 500, dtype=np.int64)[0])) < 20


# -- rows of customers


def test_every_field_of_a_customer_is_in_the_row_or_known_from_elsewhere() -> None:
    assert sorted((*ROW_FIELDS, *ELSEWHERE)) == sorted(FIELDS)
    slots = {name for kind in Customer.__mro__ for name in getattr(kind, "__slots__", ())}
    assert slots == {*FIELDS, "slot"}


def test_every_log_of_the_open_pane_is_written() -> None:
    logs = {name for name in OpenPane.__slots__ if not name.startswith("_")}
    assert logs == set(LOGS)


def somebody() -> Customer:
    customer = Customer("c", slot=0, cell=3)
    for number, name in enumerate(FIELDS):
        if name not in {"id", "is_armed", "returns", "session_id", "contact"}:
            setattr(customer, name, T0 + number)
    customer.session_id = "ü"
    customer.told_at = (T0, NEVER, T0 + 1)
    customer.returns = (3, 2, (2, 1, None))
    customer.contact = Contact(tickets={"t": Ticket(T0, T0 + 5, channel=1, is_replied=True)})
    return customer


@pytest.mark.parametrize("events", [0, 5, 16, 40])
def test_a_packed_customer_comes_back_with_the_ids_it_remembers(events: int) -> None:
    recent, customer = RecentIds(), somebody()
    customer.slot = recent.take_slot()
    for number in range(events):
        digest = number.to_bytes(8, "little")
        recent.accept(customer.slot, touched_ms=T0, now_ms=T0, digest=digest)
    (row,) = pack([customer], [T0 + 9], recent)
    assert touched_of(row) == customer.touched
    assert dues_of([row]).tolist() == [T0 + 9]
    others = RecentIds()
    again = unpack("c", row, others)
    assert not again.is_armed, "the timer of its row stands under its name"
    for name in FIELDS:
        assert name == "is_armed" or getattr(again, name) == getattr(customer, name)
    assert others.ids(again.slot) == recent.ids(customer.slot)


def test_a_customer_without_a_timer_or_an_event_has_its_moments_in_the_same_places() -> None:
    customer = somebody()
    customer.touched, customer.returns, customer.told_at = NEVER, None, None
    (row,) = pack([customer], [NOT_DUE], None)
    assert touched_of(row) == NEVER
    assert dues_of([row]).tolist() == [NOT_DUE]
    again = unpack("c", row, RecentIds())
    assert again.returns is None
    assert again.told_at is None


# -- markers


def marker() -> Marker:
    position = Partition(CONFIG).position()
    return Marker("f", Manifest(True, [], [], []), position, Figures(), 0)


def test_a_marker_reads_back_under_its_own_key_only() -> None:
    value = marker().encode(b"m|1|w|1")
    assert read_marker(b"m|1|w|1", value) == marker()
    with pytest.raises(DamagedMarker):
        read_marker(b"m|1|w|2", value)


@pytest.mark.parametrize("length", [0, 3, 5])
def test_a_marker_that_was_cut_off_is_damaged(length: int) -> None:
    with pytest.raises(DamagedMarker):
        read_marker(b"k", marker().encode(b"k")[:length])


def test_a_marker_of_another_format_says_which() -> None:
    body = struct.pack("<H", 9) + b"whatever"
    with pytest.raises(OtherFormat, match="9"):
        read_marker(b"k", struct.pack("<I", crc_of(b"k", body)) + body)


def test_a_manifest_names_each_writer_once() -> None:
    ids = [ChunkId(1, "a", 5, 0), ChunkId(2, "b", 1, 0), ChunkId(2, "b", 1, 1)]
    found = manifest_of(dict.fromkeys(ids[1:], 7), ids[:1], is_whole=False)
    assert found == Manifest(False, [(2, "b"), (1, "a")], [(0, 1, 0, 7), (0, 1, 1, 7)], [(1, 5, 0)])


# -- checkpoints


def test_nothing_new_is_no_checkpoint() -> None:
    log = MemoryLog()
    keeper = log.take_over(CONFIG)
    assert write(log, keeper) is not None, "the first says that there is nothing yet"
    assert write(log, keeper) is None
    assert (keeper.figures.customers, keeper.figures.evicted) == (0, 0)


def test_a_checkpoint_says_what_changed_and_from_where_to_read_on() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0)
    hand.send(view("c", T0 + MINUTE_MS, "waits"))
    hand.send(order("c", T0 - 9 * MINUTE_MS, "late"))
    found = hand.keeper.checkpoint([])
    assert found is not None
    assert found.resume == [1, 2, 1, 1]
    assert 0 < found.changed_bytes <= sum(len(record.value or b"") for record in found.chunks)


def test_partials_are_kept_until_they_are_acknowledged_and_come_back_in_order() -> None:
    log = MemoryLog()
    keeper = log.take_over(CONFIG)
    partials = [LogRecord(f"0|{n}".encode(), b"old") for n in range(20)]
    write(log, keeper, partials)
    newer = [LogRecord(b"0|0", b"new")]
    write(log, keeper, newer)
    assert log.take_over(CONFIG).unsent == [*partials, *newer]
    keeper.take_claim(log.claim("again"))
    keeper.partials_acknowledged([record.key for record in partials[:19]])
    keeper.partials_acknowledged([b"never sent"])
    write(log, keeper)
    assert log.take_over(CONFIG).unsent == partials[19:]


def test_every_kind_of_row_survives_the_cleaning_of_its_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Customers in memory, packed and evicted, the timeline, partials: all in chunks that go."""
    monkeypatch.setattr(journal, "SLACK_BYTES", 0)
    monkeypatch.setattr(journal, "SMALL_CHUNKS", 2)
    hand = Hand(CONFIG)
    at = T0
    for number in range(60):
        at += retention_ms(CONFIG) // 20
        hand.send(view(f"c{number % 37}", at, f"v{number}"))
        hand.send(view("always", at, f"a{number}"))
        hand.pass_time(at)
        write(hand.log, hand.keeper, [LogRecord(f"{number}".encode(), b"p" * 50)])
    figures = hand.keeper.figures
    assert figures.evicted
    assert len(hand.partition.state.packed) > 1
    assert figures.chunks < 10
    before = hand.partition
    keeper = hand.log.take_over(CONFIG)
    assert differences(before, keeper.partition) == []
    assert len(keeper.unsent) == 60
    assert keeper.figures == figures


def test_a_pane_larger_than_a_piece_is_put_together_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeline_rows, "PIECE_BYTES", 50)
    monkeypatch.setattr(timeline_rows, "PART", 3)
    hand = Hand(CONFIG)
    for number in range(90):
        hand.send(view(f"c{number}", T0 + number * 20_000, f"v{number}", channel=f"h{number}"))
    hand.pass_time(T0 + 25 * MINUTE_MS)
    before = hand.partition
    hand.restore()
    assert differences(before, hand.partition) == []
    assert any(key.startswith("p|") and key.endswith("|1") for key in hand.keeper._timeline.rows)


def test_a_closed_pane_that_changes_late_is_written_again() -> None:
    hand = Hand(CONFIG)
    for number in range(5):
        hand.send(view("c", T0 + number * MINUTE_MS, f"v{number}"))
    hand.pass_time(T0 + 30 * MINUTE_MS)
    write(hand.log, hand.keeper)
    hand.send(order("c", T0 + MINUTE_MS, "late"), timestamp_ms=T0 + 31 * MINUTE_MS)
    before = hand.partition
    hand.restore()
    assert differences(before, hand.partition) == []
    hand.pass_time(T0 + 40 * MINUTE_MS)
    assert hand.value_at("orders", T0 + 40 * MINUTE_MS) == 1


def test_whoever_was_packed_in_the_same_breath_as_they_changed_is_written() -> None:
    """A long silence ends, an event, and a longer one: all between two checkpoints."""
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "v"))
    write(hand.log, hand.keeper)
    hand.send(view("c", T0 + HOUR_MS, "w"))
    hand.pass_time(T0 + DAY_MS + 2 * HOUR_MS)
    hand.partition.state._next_sweep_ms = NEVER
    write(hand.log, hand.keeper)
    assert list(hand.partition.state.packed) == ["c"]
    before = hand.partition
    hand.restore()
    assert differences(before, hand.partition) == []


# -- what a reader refuses


def relabelled(log: MemoryLog, body: bytes) -> StateLog:
    """A log whose newest marker has this body, under a right CRC."""
    keeper = log.take_over(CONFIG)
    found = keeper.checkpoint([])
    assert found is not None
    key = found.marker.key
    head = struct.pack("<H", sizes.LOG_FORMAT) + body
    log.append([*found.chunks, LogRecord(key, struct.pack("<I", crc_of(key, head)) + head)])
    return log.read()


def test_a_marker_that_is_not_what_this_version_writes_is_refused() -> None:
    reader = relabelled(MemoryLog(), msgspec.msgpack.encode(["f", "no manifest"]))
    with pytest.raises(StateRefused, match="can't be read"):
        reader.restore(CONFIG, Claim(2, "w"))
    assert "can't be read" in (reader.describe().refusal or "")


def test_a_chunk_that_is_not_what_this_version_writes_is_refused() -> None:
    log = MemoryLog()
    claim = log.claim()
    chunk = ChunkId(*claim, 1, 0)
    manifest = manifest_of({chunk: crc_of(chunk.key, b"\x90")}, (), is_whole=True)
    position = Partition(CONFIG).position()
    key = sizes.marker_key(claim, 1)
    value = Marker(CONFIG.fingerprint, manifest, position, Figures(), 0).encode(key)
    log.append([LogRecord(chunk.key, b"\x90"), LogRecord(key, value)])
    with pytest.raises(StateRefused, match="can't be read"):
        log.read().restore(CONFIG, Claim(2, "w"))


def test_a_reader_says_where_it_stands() -> None:
    log = MemoryLog()
    first = log.claim("a")
    log.claim("b")
    reader = log.read()
    assert (reader.offset, reader.owner.writer, reader.previous) == (1, "b", first)
    assert reader.claims.owner == reader.owner


def test_a_claim_may_be_deleted_after_a_thousand_epochs() -> None:
    log = MemoryLog()
    old = log.claim("a")
    log.append([LogRecord(Claim(5_000, "b").key, b"{}"), LogRecord(old.key, None)])
    assert log.read().owner == Claim(5_000, "b")


def test_claims_that_are_no_longer_remembered_are_deleted_with_what_is_superseded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "REMEMBERED_EPOCHS", 3)
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "v"))
    hand.pass_time(T0)
    for _ in range(9):
        before = hand.partition
        hand.restore()
        hand.log.compact(tombstones=False)
        assert differences(before, hand.partition) == []
    kept = [key for _, key, _ in hand.log.records if key.startswith(b"c|")]
    # The first owner's chunk is still live.
    assert kept == [Claim(epoch, "w").key for epoch in (1, 7, 8, 9, 10)]


def test_a_fresh_partition_cleans_up_what_stands_in_its_log() -> None:
    log = MemoryLog()
    claim = log.claim("a")
    log.append([LogRecord(ChunkId(*claim, 1, 0).key, b"chunk of a marker that never came")])
    keeper: Keeper = log.take_over(CONFIG)
    for source in Source:
        assert keeper.partition.next_offset(source) == 0
    found = keeper.checkpoint([])
    assert found is not None
    assert keeper.committed(found) == [LogRecord(ChunkId(*claim, 1, 0).key, None)]
