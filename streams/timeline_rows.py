"""The timeline as rows: what changed since the last time, found by comparison.

Nothing here depends on somebody's flag: arrays are compared block by block with what was last
written, small values by their bytes, panes by identity and version, logs by their length. What
there is to write is declared by `Timeline` (`arrays`, `values`, `levels`) and by `open_pane.LOGS`.

    v|NAME          a small value of the timeline
    a|NAME|i        block i of an array
    p|LEVEL|r|j     piece j of the closed pane whose index is r modulo the number of panes its level keeps
    o|LEVEL|j       piece j of a level's open pane
    l|i             part i of the open base pane's logs

Keys of panes and parts are used again, so nothing has to be deleted: a row says which pane it is
of, and one that is of no present pane is over.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from streams.journal import Rows
from streams.last_seen import NEVER
from streams.narrow import pack_integers, unpack_integers
from streams.open_pane import LOGS
from streams.panes import Level, Pane
from streams.segments import Integers
from streams.timeline import Timeline

BLOCK = 256
"""Integers of an array that are written together."""
PART = 8_192
"""Entries of each log in one part."""
PIECE_BYTES = 128 * 1_024

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.decode
_decode_piece = msgspec.msgpack.Decoder(tuple[int, int, bytes]).decode
_decode_part = msgspec.msgpack.Decoder(tuple[int, dict[str, bytes], dict[int, int]]).decode


class TimelineRows:
    """The rows of one timeline as they were last written, and what it takes to compare."""

    def __init__(self, timeline: Timeline) -> None:
        """Of a fresh timeline; see `load`."""
        self.rows: dict[str, bytes] = {}
        self._timeline = timeline
        self._written: dict[str, Integers] = {}
        self._panes: dict[str, tuple[Pane, int, int]] = {}
        """The pane at each place, by the key of its rows; its index, its version."""
        self._pane_start = NEVER
        self._parts = 0
        self._lengths: dict[str, int] = {}
        self._summed: dict[int, int] = {}

    def changes(self) -> Rows:
        """What is to be written now; it counts as written from here on."""
        found: dict[str, bytes] = {}
        timeline = self._timeline
        for name, value in timeline.values().items():
            self._note(found, f"v|{name}", _encode(value))
        for name, array in timeline.arrays().items():
            self._compare(found, name, array)
        for number, level in enumerate(timeline.levels):
            self._panes_of(found, number, level)
        self._logs(found)
        self.rows.update(found)
        return dict(found)

    def _note(self, found: dict[str, bytes], key: str, row: bytes) -> None:
        if self.rows.get(key) != row:
            found[key] = row

    def _compare(self, found: dict[str, bytes], name: str, array: Integers) -> None:
        flat = array.reshape(-1)
        written = self._written.get(name)
        if written is None:
            written = self._written[name] = np.zeros_like(flat)
        differs = flat != written
        if not differs.any():
            return
        starts = np.arange(0, len(flat), BLOCK)
        for block in np.flatnonzero(np.logical_or.reduceat(differs, starts)).tolist():
            start = block * BLOCK
            found[f"a|{name}|{block}"] = pack_integers(flat[start : start + BLOCK])
        written[:] = flat

    def _panes_of(self, found: dict[str, bytes], number: int, level: Level) -> None:
        for index, pane in level.panes.items():
            self._put(found, f"p|{number}|{index % level.kept}", index, pane)
        if level.open is not None:
            self._put(found, f"o|{number}", level.boundary, level.open)

    def _put(self, found: dict[str, bytes], key: str, index: int, pane: Pane) -> None:
        now = pane, index, pane.version
        if self._panes.get(key) == now:
            return
        self._panes[key] = now
        packed = pane.pack()
        count = -(-len(packed) // PIECE_BYTES)
        for piece in range(count):
            part = packed[piece * PIECE_BYTES : (piece + 1) * PIECE_BYTES]
            found[f"{key}|{piece}"] = _encode((index, count, part))

    def _logs(self, found: dict[str, bytes]) -> None:
        timeline, pane = self._timeline, self._timeline.pane
        if timeline.pane_start != self._pane_start:
            self._pane_start, self._parts = timeline.pane_start, 0
            self._lengths, self._summed = {}, {}
        logs: dict[str, list[int]] = {
            name: getattr(pane, name) for name in LOGS if name != "summed"
        }
        while True:
            tails: dict[str, bytes] = {}
            for name, log in logs.items():
                start = self._lengths.get(name, 0)
                if len(log) > start:
                    tail = log[start : start + PART]
                    tails[name] = pack_integers(np.array(tail, np.int64))
                    self._lengths[name] = start + len(tail)
            summed = {p: a for p, a in pane.summed.items() if self._summed.get(p) != a}
            if not tails and not summed:
                return
            self._summed.update(summed)
            found[f"l|{self._parts}"] = _encode((self._pane_start, tails, summed))
            self._parts += 1

    # -- reading

    def load(self, rows: Mapping[str, bytes]) -> None:
        """Put these rows into the timeline, which is a fresh one of the same configuration, and go
        on from there.
        """
        self.rows = dict(rows)
        timeline = self._timeline
        timeline.take_values(
            {key[2:]: _decode(row) for key, row in rows.items() if key[:2] == "v|"}
        )
        for name, array in timeline.arrays().items():
            flat = array.reshape(-1)
            for block in range(-(-len(flat) // BLOCK)):
                row = rows.get(f"a|{name}|{block}")
                if row is not None:
                    flat[block * BLOCK : (block + 1) * BLOCK] = unpack_integers(row)
            self._written[name] = flat.copy()
        for number, level in enumerate(timeline.levels):
            self._load_level(number, level)
        self._load_logs()

    def _load_level(self, number: int, level: Level) -> None:
        panes: dict[int, Pane] = {}
        for place in range(level.kept):
            key = f"p|{number}|{place}"
            index, pane = self._read_pane(key, level)
            if pane is not None and level.boundary - level.kept <= index < level.boundary:
                panes[index] = pane
                self._panes[key] = pane, index, pane.version
        key = f"o|{number}"
        index, pane = self._read_pane(key, level)
        if pane is not None and index == level.boundary:
            level.open = pane
            self._panes[key] = pane, index, pane.version
        level.take_panes(panes)

    def _read_pane(self, key: str, level: Level) -> tuple[int, Pane | None]:
        first = self.rows.get(f"{key}|0")
        if first is None:
            return 0, None
        index, count, packed = _decode_piece(first)
        for piece in range(1, count):
            packed += _decode_piece(self.rows[f"{key}|{piece}"])[2]
        return index, Pane.unpack(packed, level.shape)

    def _load_logs(self) -> None:
        timeline, pane = self._timeline, self._timeline.pane
        self._pane_start = timeline.pane_start
        while (row := self.rows.get(f"l|{self._parts}")) is not None:
            start, tails, summed = _decode_part(row)
            if start != self._pane_start:
                return
            for name, tail in tails.items():
                log: list[int] = getattr(pane, name)
                log += unpack_integers(tail).tolist()
                self._lengths[name] = len(log)
            pane.summed.update(summed)
            self._summed.update(summed)
            self._parts += 1
