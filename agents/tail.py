"""The loop of `heartline tail`: follow a topic and print what passes the filters.

Records are printed as they come. Of results the filters look at metric, window and segment; a record
that is no JSON object is counted and named on standard error at the end, never dropped in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import orjson

from agents.failures import CommandFailed
from agents.figures import figure
from agents.results_reader import TopicTail

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filters:
    """What to print; empty lets everything through."""

    metrics: frozenset[str] = frozenset()
    windows: frozenset[str] = frozenset()
    segment: str | None = None

    def lets_through(self, record: Document) -> bool:
        """Whether a record is printed."""
        if self.metrics and record.get("metric") not in self.metrics:
            return False
        size, hop = record.get("window", ""), record.get("hop", "")
        if self.windows and not {size, f"{size}/{hop}"} & self.windows:
            return False
        return self.segment is None or self._segment_of(record) == self.segment

    @staticmethod
    def _segment_of(record: Document) -> str:
        labels = {**(record.get("segment") or {}), **(record.get("dimensions") or {})}
        return ",".join(f"{name}={value}" for name, value in labels.items()) or "everyone"


def result_line(record: Document, units: dict[str, str]) -> str:
    """One result as a line of a table."""
    name = str(record.get("metric", ""))
    labels = {**record.get("segment", {}), **record.get("dimensions", {})}
    whose = ",".join(f"{key}={value}" for key, value in labels.items()) or "everyone"
    n = record.get("n")
    notes = [
        text
        for text, applies in (
            (f"n={n:,}" if n is not None else "", n is not None),
            (f"revision {record.get('revision')}", (record.get("revision") or 0) > 1),
            (
                f"{record.get('missing_partitions')} partitions missing",
                bool(record.get("missing_partitions")),
            ),
            ("warming up", not record.get("complete", True)),
        )
        if applies
    ]
    value = figure(name, units.get(name, ""), record.get("value"))
    window = f"{record.get('window')}/{record.get('hop')}"
    line = f"{record.get('at', ''):20}  {window:8}  {name:31} {whose:18} {value:>14}  "
    return (line + ", ".join(notes)).rstrip()


class Follower:
    """Prints a topic until it is told to end."""

    def __init__(
        self,
        tail: TopicTail,
        filters: Filters,
        show: Callable[[Document], str],
        *,
        limit: int | None,
        stop_at_end: bool,
    ) -> None:
        """``limit``: end after so many lines. ``stop_at_end``: end when all was read."""
        self._tail, self._filters, self._show = tail, filters, show
        self._limit, self._stop_at_end = limit, stop_at_end
        self.printed = 0
        self.unreadable = 0

    async def follow(self, seconds: float | None) -> None:
        """Until the limit, the end, ``seconds``, or cancellation. Raises `CommandFailed`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._follow()

    async def _follow(self) -> None:
        was_connected = False
        batches = self._tail.batches()
        try:
            async for batch in batches:
                if self._tail.trouble and not was_connected:
                    raise CommandFailed(self._tail.trouble)
                was_connected = True
                for record in batch:
                    self._print(record.value)
                    if self._limit is not None and self.printed >= self._limit:
                        return
                if self._stop_at_end and self._tail.is_caught_up:
                    return
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    def _print(self, payload: bytes | None) -> None:
        if payload is None:
            return
        try:
            record = orjson.loads(payload)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            self.unreadable += 1
            return
        if self._filters.lets_through(record):
            self.printed += 1
            click.echo(self._show(record))
