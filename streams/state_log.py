"""One partition's state topic as a reader follows it: takeover, hot standby, inspection.

Fed record by record in offset order, it holds what the newest marker of the owners so far needs, and
lets go of the rest: chunks that the manifest no longer names are superseded for good, because an
older marker is never gone back to. Whatever is missing or damaged then refuses; nothing falls back
silently.

Compaction may have taken anything that was superseded, so an older marker may name chunks that are
gone, and the first marker in the log may be a delta on one that is gone. Only the newest counts.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from streams.checkpoint import (
    MARKER,
    TABLES,
    DamagedMarker,
    Figures,
    Keeper,
    Marker,
    OtherFormat,
    marker_key,
    read_marker,
)
from streams.claims import CLAIM, Claim, ClaimLog, StateRefused
from streams.config import CoreConfig
from streams.journal import CHUNK, ChunkId, Journal, crc_of
from streams.partition import Partition

__all__ = ["Description", "StateLog", "StateRefused"]

REBUILD = "`heartline state rebuild` makes it anew from the input"


class Description(NamedTuple):
    """What `heartline state inspect` shows of a partition."""

    owner: Claim
    marker: str | None
    """Key of the newest marker; None if there is none."""
    refusal: str | None
    """Why it can't be gone on from; None if it can, as far as seen without decoding the chunks."""
    figures: Figures
    watermark_ms: int | None
    read_to: list[int]
    resume: list[int]
    fingerprint: str | None
    records: int
    """Live keys in the log, superseded ones included."""


class StateLog:
    """The log of one partition, as far as it was read."""

    def __init__(self) -> None:
        """Nothing was read."""
        self._claims = ClaimLog()
        self._chunks: dict[ChunkId, bytes] = {}
        self._manifest: dict[ChunkId, int] = {}
        self._marker: Marker | None = None
        self._marker_of: tuple[Claim, int] = self._claims.owner, -1
        """Whose marker the newest is, and its sequence number."""
        self._broken: str | None = None
        """Why the newest marker can't be used."""
        self._keys: dict[bytes, None] = {}
        """Keys with a value in the log, without claims, as far as read."""
        self._claim_keys: set[bytes] = set()

    @property
    def claims(self) -> ClaimLog:
        """Who owned it, without what they wrote: all that its owner has to follow."""
        return self._claims

    @property
    def offset(self) -> int:
        """The last offset that was applied; -1 before the first."""
        return self._claims.offset

    @property
    def owner(self) -> Claim:
        """The last valid claim."""
        return self._claims.owner

    @property
    def previous(self) -> Claim:
        """The claim that it replaced."""
        return self._claims.previous

    def apply(self, offset: int, key: bytes, value: bytes | None) -> None:
        """Take the next record. Raises `StateRefused` for one that can't be Heartline's."""
        is_owners = self._claims.apply(offset, key)
        kind, _, rest = key.partition(b"|")
        if kind == CLAIM.encode():
            if value is None:
                self._claim_keys.discard(key)
            else:
                self._claim_keys.add(key)
            return
        if value is None:
            self._keys.pop(key, None)
            self._bury(offset, kind, key, rest)
            return
        self._keys[key] = None
        if not is_owners:
            return
        if kind == CHUNK.encode():
            self._chunks[_chunk_id(offset, rest)] = value
        elif kind == MARKER.encode():
            self._take_marker(offset, key, value)
        else:
            raise StateRefused(
                f"the state topic holds a record of kind {kind.decode(errors='replace')!r} at offset "
                f"{offset}, written by another version of Heartline: run that version, or {REBUILD}"
            )

    def _bury(self, offset: int, kind: bytes, key: bytes, rest: bytes) -> None:
        """A tombstone counts whoever wrote it: the record is gone from the log."""
        if kind == CHUNK.encode():
            self._chunks.pop(_chunk_id(offset, rest), None)
        elif key == marker_key(*self._marker_of):
            # Nobody but `heartline state rebuild` does this.
            self._marker, self._broken, self._manifest = None, None, {}

    def _take_marker(self, offset: int, key: bytes, value: bytes) -> None:
        owner = self.owner
        seq = _number(offset, key.rpartition(b"|")[2])
        known_owner, known_seq = self._marker_of
        if known_owner == owner and known_seq >= seq:
            return  # The producer sent it twice.
        follows = known_owner == owner and seq == known_seq + 1
        self._marker_of = owner, seq
        try:
            marker = read_marker(key, value)
        except DamagedMarker:
            self._broken = f"the marker at offset {offset} is damaged"
            return
        except OtherFormat as other:
            self._broken = f"the marker at offset {offset} has format version {other}"
            return
        except msgspec.DecodeError as error:
            self._broken = f"the marker at offset {offset} can't be read: {error}"
            return
        self._marker = marker
        manifest = marker.manifest
        ids = [ChunkId(*manifest.writers[w], seq, part) for w, seq, part, _ in manifest.added]
        added = dict(zip(ids, (crc for *_, crc in manifest.added), strict=True))
        if manifest.is_whole:
            self._broken = None
            self._manifest = added
        else:
            if not follows and self._broken is None:
                self._broken = f"the marker at offset {offset} builds on one that is gone"
            for w, one, part in manifest.dropped:
                self._manifest.pop(ChunkId(*manifest.writers[w], one, part), None)
            self._manifest.update(added)
        if self._broken is None:
            self._chunks = {c: v for c, v in self._chunks.items() if c in self._manifest}

    # -- going on from it

    def restore(self, config: CoreConfig, claim: Claim) -> Keeper:
        """The partition as the newest marker has it, for ``claim``; a fresh one if there is none.

        Raises `StateRefused` when the state is damaged or was made by another configuration.
        """
        garbage = self._superseded()
        if self._marker is None and self._broken is None:
            keeper = Keeper(Partition(config), claim)
            keeper.supersede(garbage)
            return keeper
        marker = self._checked(config)
        try:
            journal, tables = Journal.load(self._manifest, self._chunks, TABLES)
        except ValueError as error:
            raise StateRefused(f"a chunk of the state can't be read ({error}); {REBUILD}") from None
        keeper = Keeper.restored(config, claim, marker, journal, tables)
        keeper.supersede(garbage)
        return keeper

    def _checked(self, config: CoreConfig) -> Marker:
        if self._broken is not None or self._marker is None:
            raise StateRefused(f"{self._broken}; {REBUILD}")
        marker = self._marker
        if marker.fingerprint != config.fingerprint:
            raise StateRefused(
                "the state was made with other windows, segments or another format "
                f"({marker.fingerprint}, now {config.fingerprint}): put the configuration back, or "
                f"{REBUILD}"
            )
        for chunk, crc in self._manifest.items():
            value = self._chunks.get(chunk)
            if value is None:
                raise StateRefused(f"chunk {chunk.key.decode()} of the state is missing; {REBUILD}")
            if crc_of(chunk.key, value) != crc:
                raise StateRefused(f"chunk {chunk.key.decode()} of the state is damaged; {REBUILD}")
        return marker

    def _superseded(self) -> list[bytes]:
        """Keys in the log that nobody needs once there is a newer checkpoint: everything but live
        chunks and the claims that count. A new owner's first manifest is whole.
        """
        live = {chunk.key for chunk in self._manifest} if self._marker is not None else set()
        superseded = [key for key in self._keys if key not in live]
        # A chunk counts because its writer owned the partition then: that claim has to stay.
        writers = {Claim(chunk.epoch, chunk.writer) for chunk in self._manifest}
        remembered = {claim.key for claim in self._claims.claimed | writers}
        return superseded + sorted(self._claim_keys - remembered)

    def describe(self) -> Description:
        """What stands here, whether or not it can be gone on from."""
        marker = self._marker
        owner, seq = self._marker_of
        missing = [c for c in self._manifest if c not in self._chunks]
        refusal = self._broken
        if refusal is None and missing:
            refusal = f"chunk {missing[0].key.decode()} of the state is missing"
        if marker is None:
            return Description(
                self.owner, None, refusal, Figures(), None, [], [], None, len(self._keys)
            )
        position = marker.position
        return Description(
            self.owner,
            marker_key(owner, seq).decode(),
            refusal,
            marker.figures,
            position.time["value"],
            position.read_to,
            position.resume,
            marker.fingerprint,
            len(self._keys),
        )


def _chunk_id(offset: int, rest: bytes) -> ChunkId:
    parts = rest.decode().split("|")
    if len(parts) != 4:
        raise StateRefused(f"the state topic has a foreign record at offset {offset}; {REBUILD}")
    epoch, writer, seq, part = parts
    return ChunkId(
        int(epoch), writer, _number(offset, seq.encode()), _number(offset, part.encode())
    )


def _number(offset: int, text: bytes) -> int:
    if not text.isdigit():
        raise StateRefused(f"the state topic has a foreign record at offset {offset}; {REBUILD}")
    return int(text)
