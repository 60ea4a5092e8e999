"""What an explanation is made from: events of files, or what Kafka still has of them.

Of files everything is read. Of Kafka: the number from the results topic, the events from the inputs
(judged at the same door as in a worker), from the moment on which the number can depend, and the
records that were too late from the late topic. Reading is bounded in records; what that leaves out
is said.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agents.bounded_reader import read_once
from agents.explain_question import MAX_PANES, Course, Question, labels_of
from agents.failures import Unusable
from agents.kafka_admin import admin_client, partition_counts, plain_failures
from agents.kafka_client import client_arguments
from agents.partitioners import Partitions
from agents.settings import Settings
from schemas.decode import Decoder
from schemas.events import CustomerEvent
from schemas.reasons import Rejected
from schemas.records import LateRecord, PublishedResult, Result
from schemas.topics import Source
from streams.admission import Admission, Admitted
from streams.evaluate import Evaluated
from streams.moments import from_text, to_text

PUBLISHING_MS = 600_000
"""A result is published at its boundary or later, if clocks agree to this."""

_result = msgspec.json.Decoder(PublishedResult).decode
_late = msgspec.json.Decoder(LateRecord).decode

Advance = Callable[[int], None]


@dataclass(slots=True)
class Evidence:
    """What was found."""

    events: list[Evaluated] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    published: list[Result] | None = None
    notes: list[str] = field(default_factory=list)


class _Dated(msgspec.Struct):
    """As much of a rejected line as tells its time."""

    occurred_at: Any = None


_dated = msgspec.json.Decoder(_Dated).decode


def of_files(lines: Iterable[bytes], decoder: Decoder, question: Question) -> Evidence:
    """The events of files before the window's end, and the lines that are none."""
    evidence = Evidence()
    append, decode, end_ms = evidence.events.append, decoder.decode, question.at_ms
    undated = 0
    for line in lines:
        try:
            event = decode(line)
        except Rejected as rejected:
            at_ms = _time_of(line)
            undated += at_ms is None
            if at_ms is None or question.start_ms <= at_ms < end_ms:
                evidence.rejected[rejected.reason.value] += 1
            continue
        if event[0] < end_ms and isinstance(event[1], CustomerEvent):
            append(event)
    if undated:
        evidence.notes.append(
            f"{undated:,} of the rejected lines tell no time: they may lie elsewhere"
        )
    evidence.notes.append("a file is taken as complete: none of its events is late")
    return evidence


def _time_of(line: bytes) -> int | None:
    """The event time of a rejected line, if it can be read."""
    try:
        written = _dated(line).occurred_at
        if isinstance(written, str):
            return from_text(written)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError):
        return None
    return written if isinstance(written, int) else None


def of_kafka(settings: Settings, question: Question, *, limit: int, advance: Advance) -> Evidence:
    """What the topics still have. Raises `CommandFailed`."""
    topics = settings.topics()
    names = (*topics.sources, topics.results, topics.late)
    with plain_failures(settings):
        with admin_client(settings) as admin:
            counts = partition_counts(admin, names)
        missing = [name for name in (*topics.sources, topics.results) if name not in counts]
        if missing:
            raise Unusable(
                f"no topic {', '.join(missing)}: run `heartline topics create`, or name files of events"
            )
        reading = _Reading(settings, question, counts, limit=limit, advance=advance)
        return asyncio.run(reading.run())


class _Reading:
    """One pass over results, inputs and late records."""

    def __init__(
        self,
        settings: Settings,
        question: Question,
        counts: dict[str, int],
        *,
        limit: int,
        advance: Advance,
    ) -> None:
        self._question, self._counts = question, counts
        self._topics = settings.topics()
        self._options = client_arguments(settings)
        self._limit, self._advance = limit, advance
        self._core = settings.core(keyless=True)
        self._sources = {name: Source(number) for number, name in enumerate(self._topics.sources)}
        self._decoder = settings.decoder()
        self._partitioner = settings.kafka.partitioner
        self._doors: dict[int, Admission] = {}
        self._newest: dict[tuple[str, int], int] = {}
        self._name = question.metric.name.encode()
        self._revisions: dict[str, PublishedResult] = {}
        self._evidence = Evidence()

    async def run(self) -> Evidence:
        question, topics, evidence = self._question, self._topics, self._evidence
        first = question.at_ms
        if question.course is Course.HISTORY:
            first -= MAX_PANES * question.step_ms
        await self._read([topics.results], self._take_results, first - PUBLISHING_MS)
        found = sorted(self._revisions.values(), key=lambda one: one.end_ms)
        evidence.published = list(found)
        needed = question.needed_from_ms
        if needed is not None:
            needed -= self._core.max_future_ms
        await self._read(topics.sources, self._take_events, needed)
        if topics.late in self._counts:
            await self._read([topics.late], self._take_late, None)
        if not any(one.at == to_text(question.at_ms) for one in found):
            evidence.notes.append(
                "the results topic has no such result (any more): is the window configured, and was "
                "its end reached?"
            )
        return evidence

    async def _read(self, names: Sequence[str], handle: Any, from_ms: int | None) -> None:
        partitions = {name: self._counts[name] for name in names}
        is_cut = await read_once(
            self._options,
            partitions,
            handle,
            from_ms=from_ms,
            limit=self._limit,
            advance=self._advance,
        )
        if is_cut:
            listed = ", ".join(names)
            self._evidence.notes.append(
                f"reading of {listed} ended after {self._limit:,} records (--limit): what follows is "
                "not in the panes"
            )

    def _take_results(self, _topic: str, _partition: int, records: list[Any]) -> None:
        question = self._question
        for record in records:
            if record.value is None or self._name not in record.value:
                continue
            try:
                found = _result(record.value)
            except msgspec.MsgspecError:
                continue  # the topic is compacted: what others wrote there is none of ours
            is_asked = (
                found.metric == question.metric.name
                and (found.window, found.hop) == (question.window.size, question.window.hop)
                and found.end_ms <= question.at_ms
                and labels_of(found) == question.where
            )
            if is_asked:
                known = self._revisions.get(found.at)
                if known is None or known.revision <= found.revision:
                    self._revisions[found.at] = found

    def _take_events(self, topic: str, partition: int, records: list[Any]) -> None:
        door = self._doors.get(partition)
        if door is None:
            count = self._counts[topic]
            partitions = Partitions(self._partitioner, count)
            door = self._doors[partition] = Admission(
                self._core,
                self._decoder,
                partition=partition,
                partitions=count,
                partition_of=lambda key, _count: partitions(key),
                keeps_views=True,
            )
        admitted: Admitted[Any] = door.admit(self._sources[topic], records)
        question, evidence = self._question, self._evidence
        for record, reason, _detail in admitted.dead:
            at_ms = None if record.value is None else _time_of(record.value)
            # Without a readable time, that of its record: in a live stream they lie close together.
            at_ms = record.timestamp if at_ms is None else at_ms
            if question.start_ms <= at_ms < question.at_ms:
                evidence.rejected[reason.value] += 1
        place = (topic, partition)
        newest = self._newest.get(place, 0)
        for at, _order, event, micros, contribution, *_rest in admitted.arrivals:
            if isinstance(event, CustomerEvent):
                if at < question.at_ms:
                    evidence.events.append((at, event, micros))
                inside = question.start_ms <= at < question.at_ms
                if inside and newest - at > self._core.max_out_of_orderness_ms:
                    evidence.late["behind its topic-partition"] += 1
            newest = max(newest, contribution)
        self._newest[place] = newest

    def _take_late(self, _topic: str, _partition: int, records: list[Any]) -> None:
        for record in records:
            if record.value is None:
                continue
            try:
                late = _late(record.value)
            except msgspec.MsgspecError:
                continue
            if self._question.start_ms <= late.event_time_ms < self._question.at_ms:
                self._evidence.late["too late to count"] += 1
