"""The order of a replay: events of files by event time, and when to say that time passed. Pure but
for the spill.

Rules:
- A line is routed by its ``type`` (which topic) and ``customer_id`` (which partition). A line
  without a usable one of either can't be: it is counted by reason and reported. Every other line is
  sent as it is, whatever else is wrong with it: the engine judges it. A line whose time can't be
  read keeps its place: it takes the time of the line before it. That a customer was forgotten may
  stand on any topic, and goes where `heartline forget` sends it.
- Events are sorted by event time over all files; at equal times sessions before purchases before
  social before support, then line order: the order in which the engine folds them.
- A topic-partition that says nothing for `QUIET_MS` of event time would hold the watermark of its
  partition, so it is sent a ``time_passed`` record. At the end every topic-partition gets one.

Memory: up to `LINES_IN_MEMORY` lines (about 400 bytes each) are sorted in memory; more are sorted
in runs that are spilled to temporary files and merged.
"""

from __future__ import annotations

import datetime
import heapq
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO, NamedTuple

import msgspec

from schemas.events import LONGEST_ID, SOURCE_OF, TYPE_NAMES, TimePassed
from schemas.topics import Source

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
QUIET_MS = HOUR_MS
LINES_IN_MEMORY = 1_000_000
EARLIEST_MS = 365 * DAY_MS
LATEST_MS = 7_258_118_400_000

FORGETTING = Source.SESSIONS
"""The input on which `heartline forget` says that a customer is to be forgotten."""

_SOURCES = {
    name: int(SOURCE_OF.get(kind, FORGETTING))
    for name, kind in TYPE_NAMES.items()
    if kind is not TimePassed
}


class Envelope(msgspec.Struct, gc=False):
    """What routing needs of an event; all else stays unread."""

    type: str
    customer_id: str
    occurred_at: int | datetime.datetime = 0


class Routed(NamedTuple):
    """A line and where it goes. Sorts in the order of sending."""

    at_ms: int
    source: int
    line: int
    key: bytes
    value: bytes


_ENVELOPE = msgspec.json.Decoder(Envelope)
_LOOSE = msgspec.json.Decoder()


class Router:
    """Lines to `Routed`. ``unroutable`` counts by reason what can't be sent."""

    def __init__(self) -> None:
        self.unroutable: Counter[str] = Counter()
        self.routed = 0
        self._line = 0
        self._before_ms = EARLIEST_MS

    def route(self, line: bytes) -> Routed | None:
        """Where ``line`` goes; None if it can't be routed."""
        self._line += 1
        try:
            envelope = _ENVELOPE.decode(line)
            name, customer, when = envelope.type, envelope.customer_id, envelope.occurred_at
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            loose = self._loosely(line)
            if loose is None:
                return None
            name, customer = loose
            when = 0
        source = _SOURCES.get(name)
        if source is None:
            self.unroutable["time_passed" if name == "time_passed" else "unknown_type"] += 1
            return None
        if not 0 < len(customer) <= LONGEST_ID:
            self.unroutable["bad_customer_id"] += 1
            return None
        at_ms = self._milliseconds(when)
        self.routed += 1
        return Routed(at_ms, source, self._line, customer.encode(), line)

    def _loosely(self, line: bytes) -> tuple[str, str] | None:
        """Type and customer of a line whose other fields are odd."""
        try:
            raw = _LOOSE.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            self.unroutable["not_json"] += 1
            return None
        if not isinstance(raw, dict):
            self.unroutable["not_an_object"] += 1
        elif not isinstance(raw.get("type"), str):
            self.unroutable["missing_type"] += 1
        elif raw["type"] == "time_passed":
            self.unroutable["time_passed"] += 1
        elif not isinstance(raw.get("customer_id"), str):
            self.unroutable["missing_customer_id"] += 1
        else:
            return raw["type"], raw["customer_id"]
        return None

    def _milliseconds(self, when: int | datetime.datetime) -> int:
        if isinstance(when, datetime.datetime) and when.tzinfo is not None:
            when = (when - EPOCH) // MILLISECOND
        if isinstance(when, int) and EARLIEST_MS <= when < LATEST_MS:
            self._before_ms = when
        return self._before_ms


def in_order(routed: Iterable[Routed], *, in_memory: int = LINES_IN_MEMORY) -> Iterator[Routed]:
    """``routed`` sorted, holding about ``in_memory`` of them at a time."""
    with ExitStack() as files:
        runs: list[IO[bytes]] = []
        pending: list[Routed] = []
        for item in routed:
            pending.append(item)
            if len(pending) >= in_memory:
                runs.append(_spill(sorted(pending), files))
                pending = []
        pending.sort()
        yield from heapq.merge(*(_read_back(run) for run in runs), pending)


def _spill(items: list[Routed], files: ExitStack) -> IO[bytes]:
    run = files.enter_context(
        tempfile.TemporaryFile(prefix="heartline-replay-")  # noqa: SIM115 - the stack closes it
    )
    for at_ms, source, line, key, value in items:
        run.write(b"%d %d %d %d %d\n" % (at_ms, source, line, len(key), len(value)))
        run.write(key)
        run.write(value)
    run.seek(0)
    return run


def _read_back(run: IO[bytes]) -> Iterator[Routed]:
    while head := run.readline():
        at_ms, source, line, key_size, value_size = map(int, head.split())
        yield Routed(at_ms, source, line, run.read(key_size), run.read(value_size))


class QuietTopics:
    """Which topic-partitions have said nothing for `QUIET_MS` of event time."""

    def __init__(self, partitions: int) -> None:
        """Four sources of ``partitions`` partitions each."""
        self._said_ms = dict.fromkeys(
            ((source, partition) for source in range(4) for partition in range(partitions)), 0
        )
        self._look_at_ms = 0

    def said(self, source: int, partition: int, at_ms: int) -> None:
        """An event of ``at_ms`` goes to this topic-partition."""
        self._said_ms[source, partition] = at_ms

    def quiet_at(self, at_ms: int) -> list[tuple[int, int]]:
        """Those that need a ``time_passed`` record of ``at_ms`` before an event of that time is sent."""
        if at_ms < self._look_at_ms:
            return []
        first = not self._look_at_ms
        self._look_at_ms = at_ms + QUIET_MS // 4
        if first:
            # Nothing was said yet by anybody: time starts here.
            self._said_ms = dict.fromkeys(self._said_ms, at_ms)
            return []
        quiet = [place for place, said_ms in self._said_ms.items() if at_ms - said_ms >= QUIET_MS]
        for place in quiet:
            self._said_ms[place] = at_ms
        return quiet


def first_midnight_after(moment_ms: int) -> int:
    """The first UTC midnight strictly after ``moment_ms``."""
    return (moment_ms // DAY_MS + 1) * DAY_MS
