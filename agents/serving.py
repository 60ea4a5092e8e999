"""What `heartline serve` knows: the board, how far the results topic was read, what is configured.

One task (`Serving.follow`) reads the topic and is the only writer; the HTTP handlers only read.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from agents.board import HISTORY_POINTS, Board, WindowResults
from agents.collector import Exported, Exposition
from schemas.records import PublishedResult

STALE_HOPS = 3
"""A window is called stale when it showed nothing new for this many hops, and at least STALE_S."""
STALE_S = 15.0


class Tail(Protocol):
    """What `agents.results_reader.TopicTail` offers."""

    is_caught_up: bool
    trouble: str | None
    records_read: int

    def batches(self) -> Any:
        """Asynchronous iterator of batches of records with ``.value``."""


class Serving:
    """The state of one serve process."""

    def __init__(
        self,
        *,
        windows: Sequence[tuple[str, int]],
        segments: dict[str, tuple[str, ...]],
        channels: Sequence[str],
        metrics: Sequence[Exported],
        tail: Tail,
        currency: str = "",
    ) -> None:
        """``windows``: names with the hop in milliseconds. ``segments``: dimension -> values."""
        self.board = Board(name for name, _ in windows)
        self.exposition = Exposition(metrics, tuple(segments), self.board.names)
        self.metrics = tuple(metrics)
        self.metric_names = frozenset(metric.name for metric in metrics)
        self.history_limit = HISTORY_POINTS
        self.undecodable = 0
        self.streams = 0
        self.is_ending = False
        self._hops_ms = dict(windows)
        self._segments = segments
        self._channels = tuple(channels)
        self._tail = tail
        self._currency = currency
        self._decoder = msgspec.json.Decoder(PublishedResult)
        self._shown_at_ms: dict[str, tuple[int, int]] = {}

    @property
    def is_caught_up(self) -> bool:
        """The results topic was read to its end once."""
        return self._tail.is_caught_up

    @property
    def records_read(self) -> int:
        """Records of the results topic that were read since the start."""
        return self._tail.records_read

    def now_ms(self) -> int:
        """Wall clock, for ages only: no figure depends on it."""
        return time.time_ns() // 1_000_000

    async def follow(self) -> None:
        """Read results until cancelled."""
        async for batch in self._tail.batches():
            self.take(record.value for record in batch)

    def take(self, payloads: Any) -> None:
        """Take a batch of encoded results; publish what became whole, once all was read.

        Not before: the first records that are found may be mere corrections of a set whose
        beginning lies further back than was read.
        """
        for payload in payloads:
            if payload is None:
                continue
            try:
                result = self._decoder.decode(payload)
            except msgspec.DecodeError:
                self.undecodable += 1
                continue
            self.board.take(result)
        if not self.is_caught_up:
            return
        for name, window in self.board.publish().windows.items():
            end_ms, _ = self._shown_at_ms.get(name, (-1, 0))
            if window.end_ms != end_ms:
                self._shown_at_ms[name] = (window.end_ms, self.now_ms())

    def not_ready(self) -> str | None:
        """Why this process should get no traffic, or None."""
        if self._tail.trouble:
            return self._tail.trouble
        return None if self.is_caught_up else "still reading the results topic"

    def is_stale(self, name: str) -> bool:
        """True when a window that is shown had nothing new for three hops (at least 15 s)."""
        _, shown_at_ms = self._shown_at_ms.get(name, (0, self.now_ms()))
        patience_ms = max(STALE_HOPS * self._hops_ms[name], STALE_S * 1000)
        return self.now_ms() - shown_at_ms > patience_ms

    def describe(self, window: WindowResults) -> dict[str, Any]:
        """One shown window: its end, when it was shown, and whether it is stale."""
        return {
            "window": window.window,
            "hop": window.hop,
            "name": window.name,
            "hop_ms": self._hops_ms[window.name],
            "end_ms": window.end_ms,
            "at": rfc3339(window.end_ms),
            "watermark_ms": window.watermark_ms,
            "shown_at_ms": self._shown_at_ms.get(window.name, (0, 0))[1],
            "is_stale": self.is_stale(window.name),
        }

    def status(self) -> dict[str, Any]:
        """What is configured, read and shown."""
        shown = self.board.snapshot.windows
        return {
            "version": self.board.snapshot.version,
            "now_ms": self.now_ms(),
            "ready": self.not_ready() is None,
            "trouble": self._tail.trouble,
            "caught_up": self.is_caught_up,
            "records_read": self.records_read,
            "undecodable": self.undecodable,
            "results": {key.value: count for key, count in self.board.outcomes.items()},
            "given_up_sets": self.board.given_up_sets,
            "history_points": self.history_limit,
            "windows": [
                self.describe(shown[name]) if name in shown else self._waiting(name)
                for name in self.board.names
            ],
            "segments": {name: [*values] for name, values in self._segments.items()},
            "currency": self._currency,
            "channels": [*self._channels],
            "metrics": [
                {
                    "name": metric.name,
                    "unit": metric.unit,
                    "group": metric.group,
                    "help": metric.help,
                    "dimensions": [*metric.dimensions],
                }
                for metric in self.metrics
            ],
        }

    def _waiting(self, name: str) -> dict[str, Any]:
        """A configured window that has nothing to show yet."""
        size, _, hop = name.partition("/")
        unfinished = self.board.unfinished(name)
        return {
            "window": size,
            "hop": hop,
            "name": name,
            "hop_ms": self._hops_ms[name],
            "end_ms": None,
            "arriving": unfinished and {"end_ms": unfinished[0], "of": unfinished[1:]},
        }


def rfc3339(moment_ms: int) -> str:
    """Event time as text, in UTC."""
    moment = datetime.datetime.fromtimestamp(moment_ms / 1000, datetime.UTC)
    return moment.isoformat(
        timespec="seconds" if moment_ms % 1000 == 0 else "milliseconds"
    ).replace("+00:00", "Z")
