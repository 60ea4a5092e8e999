"""One run of the chaos tests: a stream, an installation, a fleet, and the verdict at the end.

A test plays the phases of its stream one after the other and does something terrible while each is on its
way. Then `verdict` compares, exactly:
- every result that can be told in advance, of every metric, for everyone, each segment and each channel,
  with the independent computation over the whole input (`tests.oracle`);
- every *other* revision that was ever published whole: it may say nothing else;
- the account of each input: folded, late, too late, duplicate, dead, control, waiting;
- the dead letters and the late records, by their origin and reason, each at least once and no others.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from schemas.records import PublishedResult
from schemas.topics import Source
from streams.metrics import METRICS as ENGINE_METRICS
from tests.oracle.metrics import METRICS, compute
from tests.oracle.rules import Fate, Judged, account
from tests.property.comparison import differences, text_of
from tests.rig import phased_stream
from tests.rig.brokers import Broker
from tests.rig.fleet import Fleet
from tests.rig.installation import Installation
from tests.rig.phased_stream import Phase, PhasedStream, Planned
from tests.rig.processes import wait_until
from tests.rig.state_records import StateTopic, read_state
from tests.rig.topics import TopicSet

SESSION_S = 6
DEADLINE_S = 15
PATIENCE_S = 180.0
PHASE_S = 20.0
"""So long does the load of a phase last, unless the test is done with it before."""
COMPACTION = {
    # As small as Kafka allows, and rolled by time besides; cleaned at once, and what was deleted is gone
    # for good at the next cleaning.
    "segment.bytes": str(1 << 20),
    "segment.ms": "400",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "0",
}
_END = re.compile(rb'"end_ms":(\d+)')
_SLICES_PER_SECOND = 10


@dataclass(slots=True)
class Tally:
    """What all runs of a session did and compared; printed at its end."""

    runs: int = 0
    records: int = 0
    results: int = 0
    revisions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)
    stale: int = 0
    compacted: int = 0

    def lines(self) -> Iterator[str]:
        """For people."""
        yield (
            f"{self.runs} runs, {self.records:,} records in; {self.results:,} results compared, "
            f"{self.revisions:,} superseded or repeated ones besides"
        )
        yield f"{self.faults.total()} faults injected:"
        for name, count in sorted(self.faults.items()):
            yield f"  {count:4} x {name}"
        ends = ", ".join(f"{n} with status {status}" for status, n in sorted(self.ended.items()))
        yield f"workers that ended on their own: {ends or 'none'}"
        yield f"state topic: {self.stale} stale records of paused workers, {self.compacted:,} removed by compaction"


TALLY = Tally()


class ChaosRun:
    """A context manager."""

    def __init__(
        self,
        broker: Broker,
        directory: Path,
        stream: PhasedStream,
        *,
        copies: int = 1,
        engine: dict[str, object] | None = None,
    ) -> None:
        """`engine` is laid over [engine]."""
        self.stream = stream
        self._hurry = threading.Event()
        settings = phased_stream.settings()
        settings["kafka"] = {"replication": copies}
        settings["engine"] = {
            "session_timeout": f"{SESSION_S}s",
            "deadline": f"{DEADLINE_S}s",
            "checkpoint_interval": "300ms",
            **(engine or {}),
        }
        topics = TopicSet(broker, stream.partitions, replication=copies, state_configs=COMPACTION)
        self.installation = Installation(
            broker, directory, partitions=stream.partitions, settings=settings, topics=topics
        )
        self.faults: Counter[str] = Counter()
        self.fleet = Fleet(self.installation, self.faults)
        self.sent = 0
        self.state: StateTopic | None = None
        self._stale: Counter[str] = Counter()
        self._names = topics.names
        self._failures: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap,
                "linger.ms": 5,
                # In order and once, also over the restarts of a broker.
                "enable.idempotence": True,
                # A broker that knows nothing of a producer takes any sequence number as the first: of
                # two requests to a topic that is just coming up the second could be the first to be
                # written.
                "max.in.flight": 1,
                "message.timeout.ms": 300_000,
                "message.max.bytes": 4 << 20,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Self:
        self.installation.__enter__()
        self.fleet.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.fleet.__exit__()
        self.installation.__exit__()
        TALLY.faults.update(self.faults)
        TALLY.ended.update(self.fleet.ended)

    # -- input

    @contextlib.contextmanager
    def playing(self, number: int) -> Iterator[Phase]:
        """Send a phase in the background, evenly over PHASE_S; what is left of it at the end of the
        block is sent at once. After that all of it is acknowledged.
        """
        phase = self.stream.phases[number]
        if phase.waits:
            self.settle()
        failure: list[BaseException] = []

        def send() -> None:
            try:
                self._send(phase)
            except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
                failure.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield phase
        finally:
            self._hurry.set()
            sender.join()
            self._hurry.clear()
        if failure:
            raise failure[0]
        left = self._producer.flush(PATIENCE_S)
        assert not left, f"{left} records not acknowledged"
        assert not self._failures, self._failures[0]

    def play(self, number: int) -> None:
        """Send a phase and wait for its acknowledgement."""
        with self.playing(number):
            pass

    def _send(self, phase: Phase) -> None:
        started = time.monotonic()
        per_second = len(phase.records) / PHASE_S
        for sent, one in enumerate(phase.records):
            if not sent % max(1, int(per_second / _SLICES_PER_SECOND)):
                due = started + sent / per_second
                self._hurry.wait(max(0.0, due - time.monotonic()))
            self._producer.produce(
                self._names.sources[one.arrival.source],
                one.payload,
                one.key,
                one.partition,
                on_delivery=self._delivered(one.arrival.offset),
            )
            self._producer.poll(0)
        self.sent += len(phase.records)
        TALLY.records += len(phase.records)

    def _delivered(self, offset: int) -> Callable[[object, Message], None]:
        """Every record must stand at the offset for which its fate was computed. None: it was sent
        again, and the broker only says that it has it (`_check_ends` sees the whole).
        """

        def delivered(error: object, message: Message) -> None:
            if error is not None:
                self._failures.append(str(error))
            elif message.offset() not in {offset, None}:
                self._failures.append(f"a record stands at {message.offset()}, not {offset}")

        return delivered

    def _check_ends(self) -> None:
        """No topic-partition has a record more or less than was planned."""
        consumer = Consumer(
            {"bootstrap.servers": self.installation.topics.broker.bootstrap, "group.id": "none"}
        )
        planned = Counter(one.origin[:2] for one in self.stream.all())
        try:
            for (source, partition), count in planned.items():
                place = TopicPartition(self._names.sources[source], partition)
                _, end = consumer.get_watermark_offsets(place, timeout=30)
                assert end == count, f"{place.topic}-{partition} ends at {end}, not {count}"
        finally:
            consumer.close()

    def settle(self, *, seconds: float = PATIENCE_S) -> None:
        """Return once everything sent so far is folded and committed by the group."""
        ends: dict[tuple[int, int], int] = defaultdict(int)
        left = self.sent
        for one in self.stream.all():
            if left == 0:
                break
            left -= 1
            ends[one.arrival.source, one.partition] = one.arrival.offset + 1
        wanted = {
            (self._names.sources[source], partition): end
            for (source, partition), end in ends.items()
        }
        consumer = Consumer(
            {
                "bootstrap.servers": self.installation.topics.broker.bootstrap,
                "group.id": self.installation.topics.prefix,
                "log_level": 0,
            }
        )
        behind: dict[tuple[str, int], int] = {}

        def is_committed() -> bool:
            asked = [TopicPartition(topic, partition) for topic, partition in wanted]
            try:
                found = consumer.committed(asked, timeout=5)
            except KafkaException:
                return False
            behind.clear()
            for one in found:
                missing = wanted[one.topic, one.partition] - max(one.offset, 0)
                if missing > 0:
                    behind[one.topic, one.partition] = missing
            return not behind

        try:
            wait_until(is_committed, what="everything committed", seconds=seconds)
        except TimeoutError as error:
            raise AssertionError(f"{error}; records behind: {behind}") from None
        finally:
            consumer.close()

    def note_stale(self) -> Counter[str]:
        """What stands in the state topic behind the claim of another worker, until it is buried."""
        stale = read_state(self.installation.topics).stale
        self._stale |= stale
        return stale

    def wait_until_compacted(self) -> None:
        """Return once the cleaner has come to rest: nobody writes, and it removes nothing more."""
        seen: list[int] = []

        def is_at_rest() -> bool:
            seen.append(read_state(self.installation.topics).records)
            return len(seen) > 1 and seen[-1] == seen[-2]

        wait_until(is_at_rest, what="the cleaner comes to rest", every=0.5)

    # -- the verdict

    def verdict(self) -> None:
        """Everything was sent: compare all of it. Ends the fleet."""
        seed = f"seed {self.stream.seed}"
        self._check_ends()
        judged = self.stream.judged()
        assert all(one.fate is not Fate.WAITING for one in judged)
        self.settle()
        published = self._results()
        accounts = self._accounts()
        wrong = [*self.fleet.wrong]
        wrong += self._compare(published, judged)
        for source in Source:
            right = account(judged, source)
            said = accounts[self._names.sources[source]]
            if {name: said[name] for name in right} != right:
                wrong.append(f"account of {source.name.lower()}: {said}, not {right}")
        wrong += self._letters()
        self.state = read_state(self.installation.topics)
        TALLY.stale += (self._stale | self.state.stale).total()
        TALLY.compacted += self.state.removed
        TALLY.runs += 1
        report = "\n".join(wrong[:40])
        assert not wrong, f"{seed}: {len(wrong)} things wrong after {dict(self.faults)}:\n{report}"

    def _compare(self, published: Sequence[PublishedResult], judged: Sequence[Judged]) -> list[str]:
        known = {metric.name for metric in ENGINE_METRICS}
        names = [name for name in METRICS if name in known]
        ticks = self.stream.ticks()
        expected = compute(judged, phased_stream.oracle_config(), [(t, w) for t, w, _ in ticks])
        wanted = {(t, text_of(w), text_of(hop)) for t, w, hop in ticks}
        newest: dict[str, PublishedResult] = {}
        older: list[PublishedResult] = []
        for one in published:
            if (one.end_ms, one.window, one.hop) not in wanted or one.missing_partitions:
                continue
            before = newest.get(one.result_id)
            if before is None or before.revision <= one.revision:
                newest[one.result_id] = one
                if before is not None:
                    older.append(before)
            else:
                older.append(one)
        wrong = differences(newest.values(), expected, metrics=names)
        compared = sum(one.metric in set(names) for one in newest.values())
        assert len(names) == len(METRICS), f"unknown to the engine: {METRICS.keys() - known}"
        assert compared > 1_000, f"only {compared} results to compare"
        for one in older:
            if one.metric not in names:
                continue
            right = newest[one.result_id]
            parts = ("value", "numerator", "denominator", "n", "low", "high", "complete")
            if any(getattr(one, part) != getattr(right, part) for part in parts):
                wrong.append(
                    f"{one.result_id}: revision {one.revision} said {one.value}, "
                    f"revision {right.revision} says {right.value}"
                )
        TALLY.results += compared
        TALLY.revisions += len(older)
        return wrong

    def _results(self) -> list[PublishedResult]:
        """Every result on the topic, read until those of the last moment are all there."""
        windows = [f"{text_of(w)}/{text_of(hop)}" for w, hop in phased_stream.WINDOWS]
        self.installation.results(self.stream.end_ms, windows, seconds=PATIENCE_S)
        wanted = {t for t, _, _ in self.stream.ticks()}
        decode = msgspec.json.Decoder(PublishedResult).decode
        found = []
        topics = self.installation.topics
        for message in topics.read(topics.names.results, seconds=PATIENCE_S, quiet_after=3):
            value = message.value()
            if value is None:
                continue
            end = _END.search(value)
            if end is not None and int(end[1]) in wanted:
                found.append(decode(value))
        return found

    def _accounts(self) -> dict[str, Counter[str]]:
        """What the last worker, which has taken everything over, says of all inputs."""
        self.fleet.scale(1)
        self.fleet.wait_until_owned(self.stream.partitions)
        (member,) = self.fleet.members
        self.settle()
        self.fleet.scale(0)
        found: dict[str, dict[str, int]] = json.loads(member.summary.read_text())["accounts"]
        return {topic: Counter(one) for topic, one in found.items()}

    def _letters(self) -> list[str]:
        """Dead letters and late records against what the stream says."""
        judged = {id(one.arrival): one.fate for one in self.stream.judged()}
        dead = {self._origin(one): str(one.reason) for one in self.stream.all() if one.reason}
        late = {
            self._origin(one)
            for one in self.stream.all()
            if judged[id(one.arrival)] is Fate.TOO_LATE
        }
        told: dict[tuple[str, int, int], set[str]] = defaultdict(set)
        for letter in self._read_json(self._names.dead_letters):
            told[letter["topic"], letter["partition"], letter["offset"]].add(letter["reason"])
        wrong = [
            f"dead letter of {origin}: {told.get(origin)}, not {reason}"
            for origin, reason in dead.items()
            if told.get(origin) != {reason}
        ]
        wrong += [
            f"dead letter of {origin}, which is no dead record"
            for origin in told.keys() - dead.keys()
        ]
        sent = {
            (one["topic"], one["partition"], one["offset"])
            for one in self._read_json(self._names.late)
        }
        if sent != late:
            wrong.append(
                f"the late topic lacks {sorted(late - sent)[:5]} "
                f"and has {sorted(sent - late)[:5]} too many"
            )
        return wrong

    def _origin(self, one: Planned) -> tuple[str, int, int]:
        source, partition, offset = one.origin
        return self._names.sources[source], partition, offset

    def _read_json(self, topic: str) -> Iterator[dict[str, Any]]:
        for message in self.installation.topics.read(topic, seconds=15, quiet_after=2):
            value = message.value()
            assert value is not None
            yield json.loads(value)
