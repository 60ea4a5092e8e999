"""Where a simulation goes: to a file, or to Kafka at its pace. The one module here that does I/O.

The truth goes to a JSONL file beside it, line by line as it becomes final, so memory stays small.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import BinaryIO

import orjson

from agents.event_files import written_file
from agents.event_sender import EventSender
from agents.replay import QuietTopics
from agents.simulation.disturbance import MAX_DELAY_MS, Record
from agents.simulation.world import World
from schemas.topics import Source

NAP_S = 0.25
"""Longest single sleep while waiting for the next record: Ctrl-C is heard in between."""
AHEAD_S = 0.002

Progress = Callable[[int, int], None]
"""Told how many records were written, and the simulated time."""


class Tally:
    """What was written."""

    def __init__(self) -> None:
        self.records = 0
        self.by_source: Counter[int] = Counter()
        self.by_disposition: Counter[str] = Counter()
        self.time_passed = 0

    def lines(self) -> list[str]:
        """The summary for people."""
        topics = ", ".join(
            f"{source.name.lower()} {self.by_source[int(source)]:,}" for source in Source
        )
        odd = ", ".join(f"{name} {count:,}" for name, count in sorted(self.by_disposition.items()))
        return [
            f"{self.records:,} records ({topics})",
            f"of these: {odd or 'all good and in time'}",
        ]


class TruthFile:
    """The lines of the truth. Without a file it only empties what the world collects."""

    def __init__(self, world: World, out: BinaryIO | None, tally: Tally) -> None:
        self._world = world
        self._out = out
        self._tally = tally
        if out is not None:
            self._write({"kind": "run", **world.description()})

    def note(self, record: Record) -> None:
        """Count ``record``, and say so if it is not simply good."""
        tally = self._tally
        if record.note is not None:
            tally.by_disposition[str(record.note["disposition"])] += 1
            self._write({"kind": "record", "line": tally.records, **record.note})
        tally.records += 1
        tally.by_source[record.source] += 1

    def pass_on(self) -> None:
        """Write what has become final since the last call."""
        for line in self._world.truth.take():
            self._write(line)

    def _write(self, line: Mapping[str, object]) -> None:
        if self._out is not None:
            self._out.write(orjson.dumps(line) + b"\n")


def _truth_file(world: World, path: str | None, tally: Tally, files: ExitStack) -> TruthFile:
    out = files.enter_context(written_file(path)) if path else None
    return TruthFile(world, out, tally)


def to_file(world: World, path: str, truth: str | None, progress: Progress) -> Tally:
    """Write the records in order of arrival, one a line."""
    tally = Tally()
    with ExitStack() as files:
        truths = _truth_file(world, truth, tally, files)
        out = files.enter_context(written_file(path))
        for chunk in world.records():
            out.write(b"\n".join([record.value for record in chunk]) + b"\n")
            for record in chunk:
                truths.note(record)
            truths.pass_on()
            progress(tally.records, chunk[-1].arrival_ms)
        truths.pass_on()
    return tally


class Pace:
    """When a record is due on the wall clock.

    Event time runs ``speed`` times as fast as the clock, but never ahead of it: the engine refuses
    events from the future. ``speed`` 0 is as fast as it can be sent, with the same limit.
    """

    def __init__(self, start_ms: int, speed: float) -> None:
        """The run begins now, with event time ``start_ms``."""
        self._start_ms = start_ms
        self._speed = speed
        self._began = time.time()

    def due(self, arrival_ms: int) -> float:
        """The wall clock, in seconds, at which a record of this arrival is sent."""
        if not self._speed:
            return arrival_ms / 1000
        paced = self._began + (arrival_ms - self._start_ms) / 1000 / self._speed
        return max(paced, arrival_ms / 1000)


def to_kafka(
    world: World,
    sender: EventSender,
    pace: Pace,
    truth: str | None,
    progress: Progress,
    *,
    quiet: QuietTopics | None,
    time_passed: bool,
) -> Tally:
    """Send the records at their ``pace``; at the end say that time passed, if asked for.

    ``quiet`` is given where event time runs faster than the clock: then nobody waits long enough to
    notice that a topic is idle, and it is told.
    """
    tally = Tally()
    with ExitStack() as files:
        truths = _truth_file(world, truth, tally, files)
        for chunk in world.records():
            for record in _when_due(chunk, pace):
                if quiet is not None:
                    tally.time_passed += _tell_quiet(sender, quiet, record)
                sender.send(record.source, record.key, record.value)
                truths.note(record)
            truths.pass_on()
            progress(tally.records, chunk[-1].arrival_ms)
        truths.pass_on()
        if time_passed:
            tally.time_passed += sender.time_passed(world.ended_ms)
        sender.flush()
    return tally


def _when_due(chunk: list[Record], pace: Pace) -> Iterator[Record]:
    now = time.time()
    for record in chunk:
        due = pace.due(record.arrival_ms)
        while due > now + AHEAD_S:
            time.sleep(min(due - now, NAP_S))
            now = time.time()
        yield record


def _tell_quiet(sender: EventSender, quiet: QuietTopics, record: Record) -> int:
    sent = 0
    if places := quiet.quiet_at(record.arrival_ms):
        sent = sender.time_passed(record.arrival_ms - MAX_DELAY_MS, places)
    quiet.said(record.source, sender.partition_of(record.key), record.arrival_ms)
    return sent
