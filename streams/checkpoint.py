"""What is durable of one partition, and how it becomes so.

A `Keeper` stands beside its `Partition` for as long as it is owned. `Keeper.checkpoint` takes one
consistent state: rows that changed go into chunks (`streams.journal`), what is small and absolute
into the marker. The order in which the records may be sent is the contract of DESIGN.md 4:

    chunks, acknowledged -> marker, acknowledged -> `Checkpoint.resume` committed to Kafka
        -> tombstones (`Keeper.committed`) -> partials, acknowledged -> `partials_acknowledged`

A checkpoint that could not be written that far ends the worker: the keeper takes it for written.

    k|epoch|writer|seq|i    chunk i of checkpoint seq
    m|epoch|writer|seq      its marker: CRC, format version, and in msgpack `Marker`

The manifest in a marker is whole in the first of a tenure and from time to time, else it is what
changed since the marker before; the checkpoints of a tenure have no gap in ``seq``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, cast

import msgspec

from streams.claims import Claim
from streams.config import CoreConfig
from streams.journal import ChunkId, Journal, Rows, crc_of
from streams.partition import Partition, Position
from streams.timeline_rows import TimelineRows

MARKER = "m"
LOG_FORMAT = 1
"""Version of the records; raised whenever an older reader would misread them."""
CUSTOMERS, EVICTED, TIMELINE, PARTIALS = range(4)
TABLES = 4
LOOKED_AT = 2_000
"""So many customers at least, or a 32nd of them, a checkpoint looks at for some who are silent."""
MOVED_AT_ONCE = 2_000
WHOLE_EVERY = 64
"""Every so many checkpoints the manifest is written whole."""

_HEADER = struct.Struct("<IH")
_id_of = attrgetter("id")


class LogRecord(NamedTuple):
    """A record to send; None is a tombstone."""

    key: bytes
    value: bytes | None


class Checkpoint(msgspec.Struct):
    """One consistent state on its way to the log."""

    chunks: list[LogRecord]
    """To be acknowledged before the marker is sent; each is at most 512 KiB."""
    marker: LogRecord
    resume: list[int]
    """By source: what to commit to Kafka after the marker is acknowledged."""
    changed_bytes: int
    """Bytes of the rows that changed; what is written is the sum of the records."""
    superseded: list[bytes]
    """Keys that nobody needs once this checkpoint is committed."""


class Manifest(msgspec.Struct, array_like=True):
    """Chunks as ``(writer, seq, part, crc)`` with ``writers[writer]`` = (epoch, name): all live ones
    when ``is_whole``, oldest first; else those that were added and ``dropped`` since the marker
    before.
    """

    is_whole: bool
    writers: list[tuple[int, str]]
    added: list[tuple[int, int, int, int]]
    dropped: list[tuple[int, int, int]]


class Figures(msgspec.Struct, frozen=True):
    """What is exported of a partition's state."""

    customers: int = 0
    """Those in memory."""
    evicted: int = 0
    """Those of whom only a compact row is left."""
    chunks: int = 0
    state_bytes: int = 0
    """Of all chunks."""


class Marker(msgspec.Struct, array_like=True):
    """All that is no row."""

    fingerprint: str
    manifest: Manifest
    position: Position
    figures: Figures
    next_partial: int

    def encode(self, key: bytes) -> bytes:
        """The record's value; its CRC covers the key too."""
        body = struct.pack("<H", LOG_FORMAT) + msgspec.msgpack.encode(self)
        return struct.pack("<I", crc_of(key, body)) + body


class DamagedMarker(ValueError):
    """Not what was written: its CRC differs."""


class OtherFormat(ValueError):
    """Written in another format version; the message says which."""


def read_marker(key: bytes, value: bytes) -> Marker:
    """The inverse of `Marker.encode`. Raises `DamagedMarker`, `OtherFormat`."""
    if len(value) < _HEADER.size:
        raise DamagedMarker
    crc, version = _HEADER.unpack_from(value)
    if crc != crc_of(key, value[4:]):
        raise DamagedMarker
    if version != LOG_FORMAT:
        raise OtherFormat(f"{version}")
    return _decode(value[_HEADER.size :])


_decode = msgspec.msgpack.Decoder(Marker).decode


def marker_key(claim: Claim, seq: int) -> bytes:
    """The record key of a marker."""
    return f"{MARKER}|{claim.epoch}|{claim.writer}|{seq}".encode()


class Keeper:
    """What is durable of one partition. Lives as long as the partition is owned."""

    def __init__(self, partition: Partition, claim: Claim) -> None:
        """Of a partition of which nothing is durable; `StateLog.restore` makes one that goes on."""
        self.partition = partition
        self.claim = claim
        self.unsent: list[LogRecord] = []
        """Partials that were durable but not known to be acknowledged when we restored, in the order
        in which they were drained: to be sent again after our first marker.
        """
        partition.state.is_tracked = True
        self._journal = Journal(TABLES)
        self._timeline = TimelineRows(partition.state.timeline)
        self._partials: dict[str, bytes] = {}
        self._partial_rows: dict[bytes, list[str]] = {}
        self._partial_changes: Rows = {}
        self._next_partial = 0
        self._seq = 0
        self._since_whole: int | None = None
        """Checkpoints since the whole manifest of this tenure; None before it."""
        self._position: Position | None = None
        self._markers: list[bytes] = []
        """Keys of the markers that a reader still needs, or will find superseded."""
        self._inherited: list[bytes] = []
        """Keys in the log that nobody needs once we have a checkpoint of our own."""

    @classmethod
    def restored(
        cls,
        config: CoreConfig,
        claim: Claim,
        marker: Marker,
        journal: Journal,
        tables: Sequence[dict[str, bytes]],
    ) -> Keeper:
        """Go on from a marker and the rows of its chunks, by table."""
        partition = Partition(config)
        keeper = cls(partition, claim)
        keeper._journal = journal
        keeper._timeline.load(tables[TIMELINE])
        partition.state.load(tables[CUSTOMERS])
        partition.state.evicted.load(tables[EVICTED])
        partition.resume(marker.position)
        # Who was deleted and has not left memory was forgotten: what was begun then is gone on with.
        journal.erase(
            CUSTOMERS,
            [name for name in journal.deleted(CUSTOMERS) if name not in partition.state.evicted],
        )
        keeper._next_partial = marker.next_partial
        for row_key in sorted(tables[PARTIALS]):
            row = tables[PARTIALS][row_key]
            record = LogRecord(*_decode_partial(row))
            keeper._partials[row_key] = row
            keeper._partial_rows.setdefault(record.key, []).append(row_key)
            keeper.unsent.append(record)
        return keeper

    def supersede(self, keys: Iterable[bytes]) -> None:
        """These keys of the log are needed by nobody once we have a checkpoint of our own."""
        self._inherited += keys

    def take_claim(self, claim: Claim) -> None:
        """A new tenure over the same memory: what is written from here on carries ``claim``."""
        self.claim = claim
        self._since_whole = None
        self._position = None

    def checkpoint(self, partials: Sequence[LogRecord]) -> Checkpoint | None:
        """One consistent state of now. None if nothing changed since the last one.

        ``partials`` are those drained since the last call: they are rows until
        `partials_acknowledged`.
        """
        for partial in partials:
            self._keep_partial(partial)
        state = self.partition.state
        looked_at = max(LOOKED_AT, self.figures.customers // 32)
        state.put_away(looked_at=looked_at, moved=MOVED_AT_ONCE)
        changes: list[Rows] = [{} for _ in range(TABLES)]
        changes[CUSTOMERS] = self._changed_customers()
        changes[EVICTED] = state.evicted.changes()
        changes[TIMELINE] = self._timeline.changes()
        changes[PARTIALS], self._partial_changes = self._partial_changes, {}
        position = self.partition.position()
        if position == self._position and not any(changes) and not self._journal.is_erasing:
            return None
        self._position = position
        self._seq += 1
        written = self._journal.write(changes, claim=self.claim, seq=self._seq, read=self._read)
        if state.forgotten:
            self._journal.erase(CUSTOMERS, state.forgotten)
            self._journal.erase(EVICTED, list(changes[EVICTED]))
            state.forgotten.clear()
        superseded = [chunk.key for chunk in written.dropped] + self._inherited
        self._inherited = []
        if self._since_whole is None or self._since_whole >= WHOLE_EVERY:
            superseded += self._markers
            self._markers = []
            self._since_whole = 0
            crcs = {chunk.id: chunk.crc for chunk in self._journal.chunks.values()}
            manifest = manifest_of(crcs, (), is_whole=True)
        else:
            self._since_whole += 1
            manifest = manifest_of(
                {chunk.id: chunk.crc for chunk in written.added}, written.dropped, is_whole=False
            )
        marker = Marker(
            self.partition.config.fingerprint,
            manifest,
            position,
            self.figures,
            self._next_partial,
        )
        key = marker_key(self.claim, self._seq)
        self._markers.append(key)
        return Checkpoint(
            [LogRecord(chunk.id.key, chunk.value) for chunk in written.added],
            LogRecord(key, marker.encode(key)),
            position.resume,
            written.fresh_bytes,
            superseded,
        )

    def committed(self, checkpoint: Checkpoint) -> list[LogRecord]:
        """The tombstones that may be sent now that the marker is acknowledged and the offsets are
        committed.
        """
        return [LogRecord(key, None) for key in checkpoint.superseded]

    def partials_acknowledged(self, keys: Iterable[bytes]) -> None:
        """These partials are on their topic: the next checkpoint drops them."""
        for key in keys:
            for row_key in self._partial_rows.pop(key, ()):
                del self._partials[row_key]
                self._partial_changes[row_key] = None

    @property
    def figures(self) -> Figures:
        """What is exported."""
        state = self.partition.state
        return Figures(
            customers=len(state.customers) + len(state.packed),
            evicted=len(state.evicted),
            chunks=len(self._journal.chunks),
            state_bytes=self._journal.size,
        )

    def _keep_partial(self, partial: LogRecord) -> None:
        row_key = f"{self._next_partial:016x}"
        self._next_partial += 1
        row = _encode_partial(partial)
        self._partials[row_key] = row
        self._partial_changes[row_key] = row
        self._partial_rows.setdefault(partial.key, []).append(row_key)

    def _changed_customers(self) -> Rows:
        state = self.partition.state
        names = list(dict.fromkeys(map(_id_of, state.touched)))
        state.touched.clear()
        return dict(zip(names, state.rows_of(names), strict=True))

    def _read(self, table: int, keys: list[str]) -> list[bytes]:
        if table == CUSTOMERS:
            return cast("list[bytes]", self.partition.state.rows_of(keys))
        if table == EVICTED:
            return self.partition.state.evicted.rows_of(keys)
        rows = self._timeline.rows if table == TIMELINE else self._partials
        return [rows[key] for key in keys]


def manifest_of(
    added: Mapping[ChunkId, int], dropped: Iterable[ChunkId], *, is_whole: bool
) -> Manifest:
    """The manifest that says so; see `Manifest`."""
    dropped = list(dropped)
    numbers: dict[tuple[int, str], int] = {}
    for chunk in (*added, *dropped):
        numbers.setdefault((chunk.epoch, chunk.writer), len(numbers))
    return Manifest(
        is_whole,
        list(numbers),
        [(numbers[c.epoch, c.writer], c.seq, c.part, crc) for c, crc in added.items()],
        [(numbers[c.epoch, c.writer], c.seq, c.part) for c in dropped],
    )


_encode_partial = msgspec.msgpack.Encoder().encode
_decode_partial = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode
