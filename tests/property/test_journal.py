"""The journal held against a dict: writes, deletions, cleanings, crashes, compactions, stale writers."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams import journal as sizes
from streams.claims import Claim
from streams.journal import ChunkId, Journal, Rows, Written

pytestmark = pytest.mark.property

TABLES = 2
KEYS = [f"k{number}" for number in range(12)]
rows = st.one_of(st.none(), st.binary(max_size=300))
changes = st.lists(st.dictionaries(st.sampled_from(KEYS), rows), min_size=TABLES, max_size=TABLES)


class Store:
    """A journal, the chunks that exist, and what a dict says."""

    def __init__(self) -> None:
        self.journal = Journal(TABLES)
        self.rows: list[dict[str, bytes]] = [{} for _ in range(TABLES)]
        self.values: dict[ChunkId, bytes] = {}
        self.seq = 0
        self.fresh_bytes = 0
        self.written_bytes = 0

    def write(self, changes: Sequence[Rows], *, epoch: int = 1) -> Written:
        for table, rows in enumerate(changes):
            for key, row in rows.items():
                if row is None:
                    self.rows[table].pop(key, None)
                else:
                    self.rows[table][key] = row
        self.seq += 1
        written = self.journal.write(
            changes,
            claim=Claim(epoch, "w"),
            seq=self.seq,
            read=lambda table, keys: [self.rows[table][key] for key in keys],
        )
        self.fresh_bytes += written.fresh_bytes
        self.written_bytes += sum(len(chunk.value) for chunk in written.added)
        return written

    def manifest(self) -> dict[ChunkId, int]:
        return {chunk.id: chunk.crc for chunk in self.journal.chunks.values()}

    def check(self) -> None:
        """What a reader of the present manifest finds is what the dict says."""
        journal, found = Journal.load(self.manifest(), self.values, TABLES)
        assert found == self.rows
        assert list(journal.chunks) == list(self.journal.chunks)
        mine, theirs = self.journal.chunks.values(), journal.chunks.values()
        for one, other in zip(mine, theirs, strict=True):
            # A reader can't know for how long a deletion row has been carried: it keeps it longer.
            kept = sum(other.live) - sum(one.live)
            assert 0 <= kept <= journal.buried - self.journal.buried
        assert self.journal.size == sum(len(self.values[c]) for c in self.journal.chunks)
        assert self.journal.live_bytes == sum(chunk.live_bytes for chunk in mine)


class JournalModel(RuleBasedStateMachine):
    """Chunks small enough that a few rows are many chunks, so that everything happens."""

    @initialize(space=st.integers(0, 400), few=st.integers(1, 6), graves=st.integers(0, 3))
    def start(self, space: int, few: int, graves: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(sizes, "TARGET_BYTES", 300)
        self.patch.setattr(sizes, "LIMIT_BYTES", 500)
        self.patch.setattr(sizes, "SLACK_BYTES", space)
        self.patch.setattr(sizes, "SMALL_CHUNKS", few)
        self.patch.setattr(sizes, "MERGED_AT_ONCE", 4)
        self.patch.setattr(sizes, "GRAVES", graves)
        self.store = Store()
        self.epoch = 1

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()

    @rule(changes=changes)
    def write(self, changes: list[Rows]) -> None:
        """A checkpoint whose marker arrives: what was dropped may be gone at once."""
        store = self.store
        written = store.write(changes, epoch=self.epoch)
        for chunk in written.added:
            assert len(chunk.value) <= 500
            store.values[chunk.id] = chunk.value
        for dropped in written.dropped:
            del store.values[dropped]

    @precondition(lambda self: hasattr(self, "store"))
    @rule(changes=changes)
    def crash_before_the_marker(self, changes: list[Rows]) -> None:
        """The chunks of a checkpoint stand in the log, its marker doesn't: the one before counts."""
        store = self.store
        manifest, before = store.manifest(), [dict(rows) for rows in store.rows]
        store.write(changes, epoch=self.epoch)
        store.rows = before
        self.epoch += 1
        store.journal, found = Journal.load(manifest, store.values, TABLES)
        assert found == before

    @precondition(lambda self: hasattr(self, "store"))
    @rule()
    def take_over(self) -> None:
        self.epoch += 1
        self.store.journal, _ = Journal.load(self.store.manifest(), self.store.values, TABLES)

    @precondition(lambda self: hasattr(self, "store"))
    @rule(
        gone=st.sets(st.sampled_from(KEYS), min_size=1, max_size=3),
        more=st.lists(changes, max_size=2),
    )
    def erase(self, gone: set[str], more: list[list[Rows]]) -> None:
        """While others change, and until it is done: then no chunk names the keys any more."""
        store = self.store
        self.write([dict.fromkeys(gone, None), {}])
        store.journal.erase(0, gone)
        for rows in more:
            self.write([{key: row for key, row in rows[0].items() if key not in gone}, rows[1]])
        for _ in range(100):
            if not store.journal.is_erasing:
                break
            self.write([{}, {}])
        assert not store.journal.is_erasing
        for chunk in store.journal.chunks.values():
            assert gone.isdisjoint(chunk.keys[0])

    @precondition(lambda self: hasattr(self, "store"))
    @rule(key=st.sampled_from(KEYS), again=rows, crashes=st.booleans())
    def erase_and_write_again(self, key: str, again: bytes | None, crashes: bool) -> None:
        """What is written or deleted under the key before the erasure is done is as any other row."""
        store = self.store
        self.write([{key: None}, {}])
        store.journal.erase(0, [key])
        if crashes:
            self.take_over()
            store.journal.erase(0, store.journal.deleted(0))
        self.write([{key: b"back"}, {}])
        self.write([{key: again}, {}])
        self.write([{}, {}])

    @invariant()
    def reads_back(self) -> None:
        if hasattr(self, "store"):
            self.store.check()


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_a_row_larger_than_a_record_is_refused_by_name() -> None:
    store = Store()
    with pytest.raises(ValueError, match=r"'big' of \d+ bytes fits no record"):
        store.write([{"big": bytes(sizes.LIMIT_BYTES)}, {}])


def test_rows_of_very_different_sizes_are_cut_until_each_record_fits() -> None:
    store = Store()
    small: Rows = {f"s{number}": b"x" for number in range(1_000)}
    large: Rows = {f"l{number}": bytes(200_000) for number in range(4)}
    for chunk in store.write([small | large, large]).added:
        assert len(chunk.value) <= sizes.LIMIT_BYTES
        store.values[chunk.id] = chunk.value
    store.check()


def test_rows_whose_mean_size_is_a_fraction_all_find_their_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sizes, "TARGET_BYTES", 300)
    for total in range(200, 500):
        store = Store()
        sizes_of = [total // 10 + (number < total % 10) for number in range(10)]
        rows: Rows = {f"{n}": bytes(size - 1) for n, size in enumerate(sizes_of)}
        for chunk in store.write([rows, {}]).added:
            store.values[chunk.id] = chunk.value
        store.check()


def test_a_chunk_of_deletion_rows_that_delete_nothing_any_more_is_dropped_by_whoever_reads_it() -> (
    None
):
    store = Store()
    for row in (b"row", None):
        for chunk in store.write([{"a": row}, {}]).added:
            store.values[chunk.id] = chunk.value
    assert len(store.journal.chunks) == 1
    store.journal, found = Journal.load(store.manifest(), store.values, TABLES)
    assert found == [{}, {}]
    assert store.write([{}, {}]).dropped == [ChunkId(1, "w", 2, 0)]


def steady(rows: int, per_checkpoint: int, checkpoints: int, *, row_bytes: int = 200) -> Store:
    """A store in which random rows change for a long time."""
    rng = random.Random(7)
    store = Store()
    chunks = store.write([{f"c{n:07d}": rng.randbytes(row_bytes) for n in range(rows)}, {}]).added
    store.values.update((chunk.id, chunk.value) for chunk in chunks)
    store.fresh_bytes = store.written_bytes = 0
    for _ in range(checkpoints):
        names = [f"c{rng.randrange(rows):07d}" for _ in range(per_checkpoint)]
        written = store.write([dict.fromkeys(names, rng.randbytes(row_bytes)), {}])
        store.values.update((chunk.id, chunk.value) for chunk in written.added)
        for dropped in written.dropped:
            del store.values[dropped]
        journal = store.journal
        assert journal.size <= 2 * journal.live_bytes + sizes.SLACK_BYTES + 2 * 1_048_576
        assert len(journal.chunks) <= journal.chunk_limit + sizes.MERGED_AT_ONCE
    return store


def test_uniform_changes_write_at_most_twice_what_changed_and_keep_garbage_below_what_is_live() -> (
    None
):
    store = steady(60_000, 4_000, 60)
    assert store.written_bytes > 1.02 * store.fresh_bytes, "the test must reach the cleaning"
    assert store.written_bytes <= 2 * store.fresh_bytes
    store.check()


def test_tiny_checkpoints_for_a_day_leave_a_bounded_number_of_chunks() -> None:
    store = steady(4_000, 3, 6_000)
    journal = store.journal
    assert len(journal.chunks) <= journal.chunk_limit
    assert store.written_bytes <= 2 * store.fresh_bytes
    store.check()


def test_deletion_rows_go_when_nothing_older_is_left() -> None:
    """Customers come and go for ever; the oldest rows never change."""
    store = Store()
    rng = random.Random(3)
    store.write([{f"old{n}": bytes(200) for n in range(5_000)}, {}])
    for round_ in range(400):
        born: Rows = {f"{round_}.{n}": rng.randbytes(150) for n in range(100)}
        gone: Rows = {f"{round_ - 5}.{n}": None for n in range(100)} if round_ >= 5 else {}
        store.write([born | gone, {}])
    live = sum(map(len, store.rows))
    assert 5 * live < 400 * 100, "the test must delete many more than live"
    # To let them go, everything older has to be rewritten once, on the credit of those who came.
    assert store.journal.buried <= sizes.GRAVES + 3 * live // 2
    assert store.written_bytes <= 2 * store.fresh_bytes


@given(st.lists(st.lists(st.integers(0, 30), max_size=30), max_size=30))
def test_a_chunk_none_of_whose_rows_lives_is_dropped_at_once(writes: list[list[int]]) -> None:
    store = Store()
    for write in writes:
        store.write([{f"k{n}": b"row" for n in write}, {}])
        assert all(any(chunk.live) for chunk in store.journal.chunks.values())
