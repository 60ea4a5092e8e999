"""A log-structured store: which rows are durable, in which chunks, and which chunks are worth
rewriting.

- A *row* is a key of a table and its bytes. A *chunk* holds the rows that one checkpoint wrote, at
  most `LIMIT_BYTES` of them. Chunks are never changed: a row that is written again leaves a dead one
  behind, in an older chunk. The *manifest* is the list of live chunks, oldest first; read in that
  order, the last word on a key counts.
- A row is deleted by a *deletion row*. It stays as long as a chunk is live that is older than it,
  since that may hold a dead row of its key.
- *Cleaning*: a chunk's live rows go into the next checkpoint's chunks, and the chunk leaves the
  manifest. It is paid from a credit that fresh bytes earn, one for one. So what is written is at
  most twice what changed, and by taking the emptiest chunks first that is enough to keep all chunks
  together below about twice what is live.
- The number of chunks is bounded too: beyond `chunk_limit` the smallest are put together.
- A key can be *erased*: every chunk that holds a row of it, dead or alive, is cleaned by the next
  checkpoints whatever that costs, and then the chunk that holds its deletion row.

Only the manifest and the index are held here. The rows' bytes belong to whoever hands them over;
``read`` gives them again when a chunk is cleaned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple, cast
from zlib import crc32

import msgspec

from streams.claims import Claim

Rows = dict[str, bytes | None]
"""Rows of one table by key; None deletes."""

Read = Callable[[int, list[str]], list[bytes]]
"""The present rows of these keys of a table, in their order."""

Body = list[tuple[list[str], list[bytes | None]]]
"""What a chunk holds: of each table the keys and the rows."""

CHUNK = "k"
TARGET_BYTES = 320 * 1_024
LIMIT_BYTES = 512 * 1_024
"""No record of a chunk is larger: a broker's default limit is a megabyte."""
SLACK_BYTES = 4 * 1_048_576
"""So much garbage is nothing to clean up for."""
SMALL_CHUNKS = 512
"""So many chunks may be small."""
MERGED_AT_ONCE = 256
GRAVES = 1_024
GRAVES_SHARE = 8
"""So many deletion rows may wait for older chunks to go, and one for each so many live rows: beyond
that the oldest chunks are cleaned.
"""
OLDEST_AT_ONCE = 16
CREDIT_LIMIT_BYTES = 8 * 1_048_576
_CARRY_BYTES = 1_048_576
"""A checkpoint cleans at most this much, or as much as is fresh in it: it is to stay short."""
_ROW_OVERHEAD = 8

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Body).decode


class ChunkId(NamedTuple):
    """Unique: no writer uses a sequence number of an epoch twice."""

    epoch: int
    writer: str
    seq: int
    part: int

    @property
    def key(self) -> bytes:
        """The record key."""
        return f"{CHUNK}|{self.epoch}|{self.writer}|{self.seq}|{self.part}".encode()


def crc_of(key: bytes, value: bytes) -> int:
    """What the manifest remembers of a record."""
    return crc32(value, crc32(key))


class Chunk:
    """What the index knows of a live chunk. By table: its keys, the bytes of its rows, and how many
    of them are live.
    """

    __slots__ = ("crc", "id", "keys", "live", "live_bytes", "number", "row_bytes", "size")

    def __init__(self, chunk_id: ChunkId, number: int, crc: int, value: bytes, body: Body) -> None:
        """``number`` rises from chunk to chunk. Nothing is live before somebody says so."""
        self.id = chunk_id
        self.number = number
        self.crc = crc
        self.size = len(value)
        self.keys = [keys for keys, _ in body]
        self.row_bytes = [_bytes_in(rows) + sum(map(len, keys)) for keys, rows in body]
        self.live = [0] * len(body)
        self.live_bytes = 0
        """By the mean size of its rows: the size of a dead row is not remembered."""

    def weigh(self) -> int:
        """Set `live_bytes`; returns by how much it changed."""
        before = self.live_bytes
        self.live_bytes = sum(
            (size + _ROW_OVERHEAD * len(keys)) * live // len(keys)
            for keys, size, live in zip(self.keys, self.row_bytes, self.live, strict=True)
            if keys
        )
        return self.live_bytes - before


class NewChunk(NamedTuple):
    """A chunk that is to be written."""

    id: ChunkId
    crc: int
    value: bytes


class Erasure(NamedTuple):
    """Keys of a table, the chunks that still hold rows of them, and the numbers of their deletion
    rows.
    """

    table: int
    chunks: set[ChunkId]
    buried: dict[str, int]


class Written(NamedTuple):
    """What a checkpoint changes in the store."""

    added: list[NewChunk]
    dropped: list[ChunkId]
    fresh_bytes: int
    """The changed rows, without what was carried over from older chunks."""


class Journal:
    """The index of one partition's durable rows."""

    def __init__(self, tables: int) -> None:
        """An empty store of so many tables."""
        self.chunks: dict[ChunkId, Chunk] = {}
        """The manifest, oldest first."""
        self.size = 0
        """Bytes of all live chunks."""
        self.live_bytes = 0
        """Bytes of all live rows, about."""
        self._where: list[dict[str, Chunk]] = [{} for _ in range(tables)]
        """The chunk of each live row, deletion rows included; of one that is being written the
        chunk before.
        """
        self._buried: list[dict[str, int]] = [{} for _ in range(tables)]
        """Which of them are deletion rows, and the number below which chunks may hold dead rows of
        the key; ascending.
        """
        self._dead: list[Chunk] = []
        """Chunks without a live row that are still in the manifest."""
        self._erasures: list[Erasure] = []
        self._number = 0
        self._credit = 0

    @property
    def chunk_limit(self) -> int:
        """Beyond so many chunks the smallest are put together."""
        return SMALL_CHUNKS + 2 * self.size // TARGET_BYTES

    @property
    def buried(self) -> int:
        """How many deletion rows there are."""
        return sum(map(len, self._buried))

    @property
    def is_erasing(self) -> bool:
        """Whether there are rows left of a key that was erased."""
        return bool(self._erasures)

    # -- writing

    def erase(self, table: int, keys: Collection[str]) -> None:
        """Of these keys no chunk is to keep a row but a live one, nor the word that they were deleted.

        To be said after the write that deleted them. `write` does it, at most `_CARRY_BYTES` at a
        time.
        """
        where, wanted = self._where[table], frozenset(keys)
        holding = {
            chunk.id
            for chunk in self.chunks.values()
            if any(where.get(key) is not chunk for key in wanted.intersection(chunk.keys[table]))
        }
        buried = self._buried[table]
        graves = {key: buried[key] for key in wanted & buried.keys()}
        if holding or graves:
            self._erasures.append(Erasure(table, holding, graves))

    def deleted(self, table: int) -> list[str]:
        """The keys of which a deletion row is left."""
        return list(self._buried[table])

    def write(
        self,
        changes: Sequence[Rows],
        *,
        claim: Claim,
        seq: int,
        read: Read,
    ) -> Written:
        """Take the changed rows of each table into chunks of ``claim``'s checkpoint ``seq``.

        ``read`` is asked only for rows that are not among the changes.
        """
        # After `load` nothing has expired yet, so that `erase` may still be told of it.
        self._go_on_erasing()
        self._expire()
        rows = [self._replace(table, one) for table, one in enumerate(changes)]
        fresh_bytes = sum(map(_bytes_of, rows))
        self._credit = min(self._credit + fresh_bytes, CREDIT_LIMIT_BYTES)
        for victim in self._victims(max(fresh_bytes, _CARRY_BYTES)):
            self._carry(victim, rows, read)
        dropped, self._dead = self._dead, []
        for chunk in dropped:
            del self.chunks[chunk.id]
            self.size -= chunk.size
        added = [
            self._add(ChunkId(*claim, seq, part), body, value)
            for part, (body, value) in enumerate(_encoded(rows))
        ]
        self._go_on_erasing()
        self._expire()
        return Written(added, [chunk.id for chunk in dropped], fresh_bytes)

    def _replace(self, table: int, rows: Rows) -> Rows:
        """The rows that these replace are dead. Returns them without deletions of what is not
        there.
        """
        where, buried = self._where[table], self._buried[table]
        if None in rows.values():
            rows = {
                key: row
                for key, row in rows.items()
                if row is not None or (key in where and key not in buried)
            }
        self._lose(table, Counter(map(where.get, rows)))
        if buried:
            for key in buried.keys() & rows.keys():
                del buried[key]
        if None in rows.values():
            buried.update((key, self._number) for key, row in rows.items() if row is None)
        return rows

    def _lose(self, table: int, rows: Counter[Chunk | None]) -> None:
        """So many rows have died in each of these chunks."""
        for chunk, count in rows.items():
            if chunk is not None:
                chunk.live[table] -= count
                self.live_bytes += chunk.weigh()
                if not any(chunk.live):
                    self._dead.append(chunk)

    def _victims(self, at_most: int) -> list[Chunk]:
        """The chunks to clean now: emptiest, smallest or oldest, as far as the credit reaches."""
        found: dict[ChunkId, Chunk] = {}
        live = [chunk for chunk in self.chunks.values() if any(chunk.live)]
        size = sum(chunk.size for chunk in live)
        self._take_erased(found)
        left = min(self._credit, at_most)
        wanted: list[Chunk] = []
        if self.buried > GRAVES + sum(map(len, self._where)) // GRAVES_SHARE:
            wanted += live[:OLDEST_AT_ONCE]
        if size > (most := 2 * self.live_bytes + SLACK_BYTES):
            emptiest = iter(sorted(live, key=_fullness))
            # Without what is dead in all of them, less than `most` is left.
            while size > most:
                wanted.append(next(emptiest))
                size -= wanted[-1].size - wanted[-1].live_bytes
        if len(live) > self.chunk_limit:
            wanted += sorted(live, key=_liveness)[:MERGED_AT_ONCE]
        for chunk in wanted:
            if chunk.live_bytes > left:
                # Nothing cheaper comes first: the credit has to reach this one some day.
                break
            if chunk.id not in found:
                found[chunk.id] = chunk
                left -= chunk.live_bytes
                self._credit -= chunk.live_bytes
        return list(found.values())

    def _take_erased(self, found: dict[ChunkId, Chunk]) -> None:
        """The first of the chunks that hold erased rows, outside of any credit."""
        room = _CARRY_BYTES
        for chunk_id in dict.fromkeys(one for erasure in self._erasures for one in erasure.chunks):
            chunk = self.chunks.get(chunk_id)
            if chunk is not None and any(chunk.live):
                room -= chunk.live_bytes
                if room < 0 and found:
                    return
                found[chunk_id] = chunk

    def _go_on_erasing(self) -> None:
        """Where no chunk holds a row of the keys any more, their deletion rows go as well."""
        going, self._erasures = self._erasures, []
        for erasure in going:
            erasure.chunks.intersection_update(self.chunks)
            if erasure.chunks:
                self._erasures.append(erasure)
                continue
            buried = self._buried[erasure.table]
            # A key that was written or deleted since is not meant.
            over = [key for key, born in erasure.buried.items() if buried.get(key) == born]
            graves = self._unbury(erasure.table, over)
            if graves:
                last = {chunk.id for chunk in graves}
                self._erasures.append(Erasure(erasure.table, last, {}))

    def _carry(self, victim: Chunk, rows: list[Rows], read: Read) -> None:
        """The live rows of a chunk that is cleaned go with the fresh ones."""
        for table, keys in enumerate(victim.keys):
            where, buried = self._where[table], self._buried[table]
            fresh = rows[table]
            live = [key for key in keys if where.get(key) is victim and key not in fresh]
            if live:
                kept = [key for key in live if key not in buried]
                carried: Rows = dict.fromkeys(buried.keys() & live)
                carried.update(zip(kept, read(table, kept), strict=True))
                rows[table] = fresh | carried
                self._lose(table, Counter({victim: len(live)}))

    def _add(self, chunk_id: ChunkId, body: Body, value: bytes) -> NewChunk:
        crc = crc_of(chunk_id.key, value)
        chunk = Chunk(chunk_id, self._number, crc, value, body)
        chunk.live = list(map(len, chunk.keys))
        self._number += 1
        self._enter(chunk)
        for table, keys in enumerate(chunk.keys):
            self._where[table].update(dict.fromkeys(keys, chunk))
        return NewChunk(chunk_id, crc, value)

    def _enter(self, chunk: Chunk) -> None:
        self.chunks[chunk.id] = chunk
        self.size += chunk.size
        self.live_bytes += chunk.weigh()

    def _expire(self) -> None:
        """Deletion rows that are older than every chunk have nothing left to delete."""
        oldest = next((chunk.number for chunk in self.chunks.values()), self._number)
        for table, buried in enumerate(self._buried):
            over: list[str] = []
            for key, born in buried.items():
                if born > oldest:
                    break
                over.append(key)
            self._unbury(table, over)

    def _unbury(self, table: int, keys: Collection[str]) -> list[Chunk]:
        """These deletion rows are needed no more; returns the chunks in which they stand."""
        where, buried = self._where[table], self._buried[table]
        graves = [where.pop(key) for key in keys]
        for key in keys:
            del buried[key]
        self._lose(table, Counter(graves))
        return graves

    # -- reading

    @classmethod
    def load(
        cls, manifest: Mapping[ChunkId, int], values: Mapping[ChunkId, bytes], tables: int
    ) -> tuple[Journal, list[dict[str, bytes]]]:
        """The index and the live rows of each table, from the chunks of ``manifest`` (id to CRC,
        oldest first).

        Raises `msgspec.DecodeError`, `ValueError` for a chunk that is none.
        """
        journal = cls(tables)
        found: list[Rows] = [{} for _ in range(tables)]
        for chunk_id, crc in manifest.items():
            value = values[chunk_id]
            body = _decode(value)
            chunk = Chunk(chunk_id, journal._number, crc, value, body)
            journal._number += 1
            for known, where, (keys, rows) in zip(found, journal._where, body, strict=True):
                known.update(zip(keys, rows, strict=True))
                where.update(dict.fromkeys(keys, chunk))
            journal.chunks[chunk_id] = chunk
        for table, where in enumerate(journal._where):
            for chunk, count in Counter(where.values()).items():
                chunk.live[table] = count
        for chunk in list(journal.chunks.values()):
            journal._enter(chunk)
        journal._dead = [chunk for chunk in journal.chunks.values() if not any(chunk.live)]
        live: list[dict[str, bytes]] = []
        for table, known in enumerate(found):
            gone = [key for key, row in known.items() if row is None]
            where = journal._where[table]
            numbers = {key: where[key].number for key in gone}
            journal._buried[table] = dict(sorted(numbers.items(), key=itemgetter(1)))
            for key in gone:
                del known[key]
            live.append(cast("dict[str, bytes]", known))
        return journal, live


def _bytes_of(rows: Rows) -> int:
    """Bytes of keys and rows; a deletion row has only a key."""
    return _bytes_in(rows.values()) + sum(map(len, rows))


def _bytes_in(rows: Collection[bytes | None]) -> int:
    if None in rows:
        rows = [row or b"" for row in rows]
    return sum(map(len, rows))  # type: ignore[arg-type]


def _fullness(chunk: Chunk) -> float:
    return chunk.live_bytes / chunk.size


def _liveness(chunk: Chunk) -> int:
    return chunk.live_bytes


def _encoded(rows: Sequence[Rows]) -> Iterator[tuple[Body, bytes]]:
    """Cut rows into the bodies of chunks, each with its record."""
    for body in _bodies(rows):
        yield from _fitting(body)


def _bodies(rows: Sequence[Rows]) -> Iterator[Body]:
    """Bodies of about `TARGET_BYTES`, by the mean size of each table's rows."""
    body: Body = [([], []) for _ in rows]
    room = TARGET_BYTES
    for table, one in enumerate(rows):
        if not one:
            continue
        keys, values = list(one), list(one.values())
        each = _bytes_of(one) / len(keys) + _ROW_OVERHEAD
        start = 0
        while start < len(keys):
            end = min(start + max(1, int(room / each)), len(keys))
            body[table] = keys[start:end], values[start:end]
            room -= int((end - start) * each)
            start = end
            if start < len(keys) or room < each:
                yield body
                body, room = [([], []) for _ in rows], TARGET_BYTES
    if any(keys for keys, _ in body):
        yield body


def _fitting(body: Body) -> Iterator[tuple[Body, bytes]]:
    """The body with its record, or its halves with theirs where that is too large."""
    value = _encode(body)
    if len(value) <= LIMIT_BYTES:
        yield body, value
        return
    counts = [len(keys) for keys, _ in body]
    if sum(counts) == 1:
        key = next(keys[0] for keys, _ in body if keys)
        raise ValueError(f"row {key!r} of {len(value)} bytes fits no record")
    middle = sum(counts) // 2
    first: Body = []
    second: Body = []
    for keys, rows in body:
        cut = min(middle, len(keys))
        middle -= cut
        first.append((keys[:cut], rows[:cut]))
        second.append((keys[cut:], rows[cut:]))
    yield from _fitting(first)
    yield from _fitting(second)
