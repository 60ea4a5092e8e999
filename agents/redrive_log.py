"""The topics of a redrive, by kafka-python: letters, notes, and the inputs to which letters go back.

How far to read is told by the high water of the fetches: asking for the end of a partition gives
too low an offset on some brokers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import msgspec

from agents.checked_producer import CheckedProducer
from agents.failures import CommandFailed
from agents.kafka_admin import (
    admin_client,
    input_partitions,
    lone_consumer,
    partition_counts,
    topic_configs,
)
from agents.letters import Letter
from agents.redrive import HEADER, Place, Resent
from agents.settings import Settings
from schemas.records import DeadLetter, LateRecord, Redriven

STALLED_S = 30.0
POLL_MS = 500

_encode = msgspec.json.Encoder().encode
_read_note = msgspec.json.Decoder(Redriven).decode
_read_dead_letter = msgspec.json.Decoder(DeadLetter).decode
_read_late_record = msgspec.json.Decoder(LateRecord).decode


class KafkaRedriveLog:
    """Use as a context manager, inside `agents.kafka_admin.plain_failures`."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected yet."""
        self._settings = settings
        self._topics = settings.topics()
        self._stack = ExitStack()
        self._producer: CheckedProducer | None = None
        self._notes_read = 0
        self._own_end = 0
        """The offset after the last note of ours."""
        self.inputs: dict[str, int] = {}
        """The input topics and how many partitions they have."""
        self.retention_ms: dict[str, int] = {}
        """How long each input keeps a record, by its timestamp; absent: for good, or nobody says."""
        self.unreadable = 0
        """Records among the letters that are none."""

    def __enter__(self) -> Self:
        """Connect. Raises `Unusable` if a topic is missing."""
        self.inputs = dict.fromkeys(self._topics.sources, input_partitions(self._settings))
        names = (self._topics.dead_letters, self._topics.late, self._topics.redriven)
        with admin_client(self._settings) as admin:
            self._partitions = partition_counts(admin, names)
            self.retention_ms = _retention(admin, self._topics.sources)
        for name in names:
            if name not in self._partitions:
                raise CommandFailed(f"no topic {name}: run `heartline topics create` first")
        self._notes_reader = self._consumer()
        # What a note says must be acknowledged before the next step: no time is spent on gathering more.
        self._producer = self._stack.enter_context(CheckedProducer(self._settings, linger_ms=0))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    # -- letters

    def letters(self, *, late: bool, progress: Callable[[int, int], None]) -> Iterator[Letter]:
        """The letters that are there now, of one partition in order; with ``late`` the late records
        too.

        ``progress(done, total)`` is told how many records were looked at.
        """
        readers: dict[str, Callable[[bytes], DeadLetter | LateRecord]] = {
            self._topics.dead_letters: _read_dead_letter
        }
        if late:
            readers[self._topics.late] = _read_late_record
        places = {(topic, n): 0 for topic in readers for n in range(self._partitions[topic])}
        consumer = self._consumer()
        done = 0
        for batch, total in _read_now(consumer, places):
            for record in batch:
                done += 1
                if record.value is None:
                    continue
                try:
                    letter = readers[record.topic](record.value)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    self.unreadable += 1
                    continue
                yield Letter.of(letter)
            progress(done, total)

    # -- notes

    def notes(self) -> list[tuple[bytes, Redriven | None]]:
        """See `RedriveLog`."""
        if self._own_end > self._notes_read:
            # All that stands before our own last note is wanted: no need to ask how much there is.
            return self._notes_until(self._own_end)
        found: list[tuple[bytes, Redriven | None]] = []
        place = (self._topics.redriven, 0)
        for batch, _ in _read_now(self._notes_reader, {place: self._notes_read}):
            found += self._decoded(batch)
        return found

    def _notes_until(self, end: int) -> list[tuple[bytes, Redriven | None]]:
        from kafka import TopicPartition

        reader, place = self._notes_reader, TopicPartition(self._topics.redriven, 0)
        if not reader.assignment():
            reader.assign([place])
        reader.resume(place)
        if reader.position(place) != self._notes_read:
            reader.seek(place, self._notes_read)
        found: list[tuple[bytes, Redriven | None]] = []
        give_up_at = time.monotonic() + STALLED_S
        while self._notes_read < end:
            for records in reader.poll(timeout_ms=POLL_MS).values():
                found += self._decoded(records)
            if time.monotonic() > give_up_at:
                raise _stalled(place)
        return found

    def _decoded(self, records: Iterable[Any]) -> Iterator[tuple[bytes, Redriven | None]]:
        for record in records:
            self._notes_read = record.offset + 1
            if record.key is not None:
                yield record.key, None if record.value is None else _note_of(record)

    def note(self, notes: Sequence[tuple[bytes, Redriven | None]]) -> None:
        """See `RedriveLog`."""
        producer = self._connected()
        futures = [
            producer.send(self._topics.redriven, 0, origin, None if note is None else _encode(note))
            for origin, note in notes
        ]
        producer.flush()
        self._own_end = max(int(future.value.offset) for future in futures) + 1

    # -- inputs

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """See `RedriveLog`."""
        from kafka import TopicPartition

        asked = [TopicPartition(*place) for place in places]
        return {
            (tp.topic, tp.partition): n for tp, n in self._notes_reader.end_offsets(asked).items()
        }

    def send(self, records: Sequence[Resent]) -> list[int]:
        """See `RedriveLog`."""
        producer = self._connected()
        futures = [
            producer.send(
                record.topic,
                record.partition,
                record.key,
                record.value,
                timestamp_ms=record.timestamp_ms,
                headers=[(HEADER, record.origin)],
            )
            for record in records
        ]
        producer.flush()
        return [int(future.value.offset) for future in futures]

    def find(self, wanted: Mapping[bytes, Redriven]) -> dict[bytes, int | None]:
        """See `RedriveLog`."""
        from kafka import TopicPartition

        consumer = self._consumer()
        starts: dict[Place, int] = {}
        for note in wanted.values():
            place = (note.topic, note.partition)
            starts[place] = min(note.after, starts.get(place, note.after))
        firsts = consumer.beginning_offsets([TopicPartition(*place) for place in starts])
        first = {(tp.topic, tp.partition): n for tp, n in firsts.items()}
        found: dict[bytes, int | None] = {
            origin: None
            for origin, note in wanted.items()
            if note.after >= first[note.topic, note.partition]
        }
        begins = {place: max(start, first[place]) for place, start in starts.items()}
        for batch, _ in _read_now(consumer, begins):
            for record in batch:
                for name, origin in record.headers:
                    if name == HEADER and origin in wanted:
                        found[origin] = record.offset
        return found

    def _connected(self) -> CheckedProducer:
        if self._producer is None:
            raise RuntimeError("the log is not open")
        return self._producer

    def _consumer(self) -> Any:
        return self._stack.enter_context(lone_consumer(self._settings, fetch_max_wait_ms=100))


def _read_now(consumer: Any, starts: Mapping[Place, int]) -> Iterator[tuple[list[Any], int]]:
    """Everything that stands in some partitions now, in batches with the number of records in all."""
    from kafka import TopicPartition

    left = {TopicPartition(*place): start for place, start in starts.items()}
    consumer.assign(list(left))
    for tp, start in left.items():
        consumer.seek(tp, start)
    begins, ends = dict(left), dict.fromkeys(left, 0)
    unknown = set(left)
    moved_at = time.monotonic()
    while left:
        found = consumer.poll(timeout_ms=POLL_MS)
        for tp in [tp for tp in unknown if consumer.highwater(tp) is not None]:
            # The first word counts: what is written from now on is not ours to read.
            ends[tp] = consumer.highwater(tp)
            unknown.discard(tp)
            moved_at = time.monotonic()
        total = sum(max(0, ends[tp] - begins[tp]) for tp in ends)
        for tp, records in found.items():
            moved_at = time.monotonic()
            batch = [record for record in records if record.offset < ends[tp]]
            if batch:
                yield batch, total
        for tp in [tp for tp in left if tp not in unknown and consumer.position(tp) >= ends[tp]]:
            del left[tp]
            consumer.pause(tp)
        if left and time.monotonic() - moved_at > STALLED_S:
            raise _stalled(next(iter(left)))


def _retention(admin: Any, topics: Sequence[str]) -> dict[str, int]:
    from kafka.errors import TopicAuthorizationFailedError

    try:
        found = topic_configs(admin, topics)
    except TopicAuthorizationFailedError:
        return {}
    kept = {topic: int(configs.get("retention.ms") or -1) for topic, configs in found.items()}
    return {topic: ms for topic, ms in kept.items() if ms >= 0}


def _stalled(place: Any) -> CommandFailed:
    return CommandFailed(
        f"{place.topic}-{place.partition} can't be read: nothing came in {STALLED_S:g} s"
    )


def _note_of(record: Any) -> Redriven:
    try:
        return _read_note(record.value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CommandFailed(
            f"{record.topic} holds something else than notes of redrives at offset {record.offset}: who "
            "else writes there?"
        ) from None
