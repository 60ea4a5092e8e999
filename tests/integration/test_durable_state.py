"""State that is never lost or counted twice, seen from outside: workers as processes, both brokers.

The results are those of `heartline evaluate` over the whole input, whatever happened on the way. What
happens inside a checkpoint is told apart by the simulation and by the chaos tests.
"""

import contextlib
import json
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.topics import Source
from tests.rig.brokers import Broker
from tests.rig.installation import Installation, Service, canonical
from tests.rig.needs import needs_apache_kafka
from tests.rig.processes import wait_until
from tests.rig.shoppers import Event, shop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PARTITIONS = 2
START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
HOUR_MS = 3_600_000
HOURS = 12
AT = "2026-03-01T12:00:00Z"
WINDOWS = ("1h/10m", "6h/1h")
SETTINGS: dict[str, dict[str, object]] = {
    "windows": {"hopping": list(WINDOWS)},
    # Told in pieces: an input that comes back from idleness later than the others would be late.
    "time": {"idle_after": "10m"},
}
COUNT = 3_000
WAITING = 400
"""More than what waits for the watermark: that is read again by whoever takes over."""


@dataclass(slots=True)
class Story:
    """Events of half a day in an installation, told in pieces."""

    installation: Installation
    events: list[tuple[int, Source, Event]]
    told: int = 0

    def tell(self, upto: int) -> None:
        """Produce the next events, up to the one numbered ``upto``."""
        told = self.events[self.told : upto]
        self.installation.topics.tell((source, event) for _, source, event in told)
        self.told = upto

    def end(self) -> None:
        """The rest, and that time has passed."""
        self.tell(len(self.events))
        self.installation.topics.pass_time(START_MS + HOURS * HOUR_MS + 60_000)

    def truth(self, windows: tuple[str, ...] = WINDOWS) -> list[str]:
        """What `evaluate` says of all events."""
        file = self.installation.directory / "events.jsonl"
        file.write_text("".join(json.dumps(event) + "\n" for _, _, event in self.events))
        chosen = [part for window in windows for part in ("--window", window)]
        asked = ("--at", AT, *chosen, "--by", "persona", "--by", "region")
        return canonical(self.installation.evaluate(file, *asked))

    def results(self, windows: tuple[str, ...] = WINDOWS) -> list[str]:
        """What the results topic says."""
        at_ms = START_MS + HOURS * HOUR_MS
        return canonical(self.installation.results(at_ms, windows, seconds=120))


@contextlib.contextmanager
def story(broker: Broker, tmp_path: Path, *, seed: int, **engine: object) -> Iterator[Story]:
    """``engine`` is the section of that name."""
    end_ms = START_MS + HOURS * HOUR_MS
    events = list(shop(COUNT, start_ms=START_MS, end_ms=end_ms, customers=150, seed=seed))
    settings = {**SETTINGS, "engine": engine}
    with Installation(broker, tmp_path, partitions=PARTITIONS, settings=settings) as installation:
        yield Story(installation, events)


def inspected(installation: Installation) -> list[dict[str, Any]]:
    done = installation.run("state", "inspect", "--json")
    assert done.stdout, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def durable(installation: Installation) -> int:
    """How many records the checkpoints have read."""
    return sum(sum(one["read_to"].values()) for one in inspected(installation))


def gained(worker: Service, what: str) -> float:
    return worker.page().total(f"heartline_events_{what}_total")


def stopped(worker: Service, how: signal.Signals = signal.SIGTERM) -> int:
    worker.process.signal(how)
    status = worker.process.wait(60)
    # Shown when the test fails: why a worker ended otherwise than it should.
    sys.stderr.write(worker.process.output()[-4_000:])
    return status


def wait_until_durable(told: Story, worker: Service) -> None:
    """Return once the checkpoints have read all that was told."""
    wait_until(lambda: gained(worker, "consumed") >= told.told, what="everything told is read")
    wait_until(
        lambda: durable(told.installation) == told.told,
        what="everything told is durable",
        every=0.5,
    )


def has_run(told: Story) -> None:
    """The first 500 events are told and durable, and the worker that saw to it has ended."""
    told.tell(500)
    worker = told.installation.worker()
    wait_until_durable(told, worker)
    stopped(worker)


def refused(installation: Installation) -> str:
    """What a worker says that refuses to go on; it ends with status 1."""
    worker = installation.start("worker", HEARTLINE_WORKER_PORT="0")
    assert worker.wait(120) == 1
    said = worker.output()
    assert "Traceback" not in said
    return said


def test_a_killed_worker_goes_on_from_its_checkpoint(broker: Broker, tmp_path: Path) -> None:
    with story(broker, tmp_path, seed=31) as told:
        told.tell(2_000)
        first = told.installation.worker()
        wait_until_durable(told, first)
        stopped(first, signal.SIGKILL)
        told.tell(2_500)
        second = told.installation.worker()
        wait_until(lambda: gained(second, "consumed") >= 500, what="the next part is read")
        assert gained(second, "consumed") <= 500 + WAITING
        page = second.page()
        assert page.total("heartline_customers") == sum(
            one["customers"] for one in inspected(told.installation)
        )
        for name in ("state_bytes", "state_chunks", "recovery_progress_ratio", "takeover_seconds"):
            assert page.total(f"heartline_{name}") > 0
        # Once more in the middle of whatever it does.
        told.end()
        stopped(second, signal.SIGKILL)
        told.installation.worker()
        assert told.results() == told.truth()


def test_partitions_handed_to_a_second_worker_and_back_are_read_by_one_alone(
    broker: Broker, tmp_path: Path
) -> None:
    with story(broker, tmp_path, seed=32) as told:
        told.tell(1_500)
        first = told.installation.worker()
        wait_until(lambda: gained(first, "consumed") == 1_500, what="the first part is read")
        second = told.installation.worker()

        wait_until(lambda: first.owned() == second.owned() == 1, what="a half for each")
        told.tell(2_200)
        wait_until(
            lambda: gained(first, "folded") + gained(second, "folded") > 2_000,
            what="both fold",
        )
        assert stopped(second) == 0
        told.end()
        assert told.results() == told.truth()
        read = gained(first, "consumed")
        assert read <= COUNT + 4 * PARTITIONS + WAITING


def test_a_paused_worker_that_wakes_up_ends_and_what_it_still_writes_is_ignored(
    broker: Broker, tmp_path: Path
) -> None:
    with story(broker, tmp_path, seed=40, checkpoint_interval="8s") as told:
        told.tell(1_000)
        first = told.installation.worker()
        wait_until_durable(told, first)
        told.tell(1_500)
        wait_until(lambda: gained(first, "consumed") == 1_500, what="the next part is in memory")
        first.process.signal(signal.SIGSTOP)
        second = told.installation.worker(ready_within=None)
        wait_until(lambda: second.owned() == PARTITIONS, what="the second worker has taken over")
        first.process.signal(signal.SIGCONT)
        assert first.process.wait(60) == 1
        assert "the group refused a commit" in first.process.output()
        assert "Start it again" in first.process.output()
        assert "Traceback" not in first.process.output()
        told.end()
        assert told.results() == told.truth()
        assert second.process.exit_status is None


def records(installation: Installation, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Everything that stands in a topic."""
    return [
        (message.key(), message.value())
        for message in installation.topics.read(topic, seconds=60, quiet_after=2)
    ]


def commit(installation: Installation, offset: int) -> None:
    """Commit this offset of every input for the group, as an operator might."""
    topics = installation.topics
    consumer = Consumer({"bootstrap.servers": topics.broker.bootstrap, "group.id": topics.prefix})
    try:
        consumer.commit(
            offsets=[
                TopicPartition(name, n, offset)
                for name in topics.names.sources
                for n in range(PARTITIONS)
            ],
            asynchronous=False,
        )
    finally:
        consumer.close()


# The embedded broker counts a member that has ended until the next one joins.
@needs_apache_kafka
def test_offsets_set_back_to_0_fold_nothing_and_change_no_byte_apache(
    apache_kafka: Broker, tmp_path: Path
) -> None:
    with story(apache_kafka, tmp_path, seed=33) as told:
        told.end()
        first = told.installation.worker()
        assert told.results() == told.truth()
        assert stopped(first) == 0
        before = records(told.installation, told.installation.topics.names.results)
        customers = [one["customers"] for one in inspected(told.installation)]
        commit(told.installation, 0)
        second = told.installation.worker()
        wait_until(
            lambda: second.page().total("heartline_checkpoint_seconds_count"),
            what="a checkpoint",
        )
        # Long enough for a thousand records that would be there at once.
        assert records(told.installation, told.installation.topics.names.results) == before
        assert gained(second, "folded") == 0
        assert [one["customers"] for one in inspected(told.installation)] == customers
        assert stopped(second) == 0
        # Ahead of the state they would mean that its newest checkpoint is lost.
        commit(told.installation, COUNT)
        assert "has lost its newest records, or somebody set the offsets forward" in refused(
            told.installation
        )


def test_a_refused_state_names_the_way_out_and_rebuilding_goes_it(
    broker: Broker, tmp_path: Path
) -> None:
    with story(broker, tmp_path, seed=34) as told:
        installation = told.installation
        told.end()
        worker = installation.worker()
        assert told.results() == told.truth()
        active = installation.run("state", "rebuild", "--yes")
        assert active.returncode == 1
        assert "stop all of them first" in active.stderr
        stopped(worker)

        text = installation.config.read_text()
        installation.config.write_text(text.replace("6h/1h", "3h/1h"))
        assert "3h/1h" in installation.config.read_text()
        assert "put the configuration back, or `heartline state rebuild`" in refused(installation)
        shown = installation.run("state", "inspect")
        assert shown.returncode == 1
        assert "can't be gone on from" in shown.stdout

        asked = installation.run("state", "rebuild", stdin="n\n")
        assert asked.returncode != 0
        assert durable(installation) > 0

        def given_up() -> bool:
            return installation.run("state", "rebuild", "--yes").returncode == 0

        # The broker counts a member that has ended for a while.
        wait_until(given_up, what="the group is empty", every=1)
        assert durable(installation) == 0
        worker = installation.worker()
        windows = ("1h/10m", "3h/1h")
        assert told.results(windows) == told.truth(windows)
        assert stopped(worker) == 0


def test_one_flipped_bit_in_a_chunk_is_noticed_embedded(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    with story(embedded_broker, tmp_path, seed=35) as told:
        installation = told.installation
        has_run(told)
        state = installation.topics.names.state
        chunks = [
            message
            for message in installation.topics.read(state, seconds=60, quiet_after=2)
            if (message.key() or b"").startswith(b"k|") and message.value()
        ]
        chunk = max(chunks, key=lambda message: len(message.value() or b""))
        key, value, partition = chunk.key(), chunk.value(), chunk.partition()
        assert value
        at = random.Random(35).randrange(len(value))
        damaged = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        installation.topics.produce([(state, key, damaged, partition)])
        assert "is damaged; `heartline state rebuild`" in refused(installation)
        findings = [one["refusal"] for one in inspected(installation)]
        assert sum(finding is not None for finding in findings) == 1


def test_a_marker_that_is_gone_is_missed_embedded(embedded_broker: Broker, tmp_path: Path) -> None:
    with story(embedded_broker, tmp_path, seed=39) as told:
        installation = told.installation
        has_run(told)
        state = installation.topics.names.state
        newest = {one["partition"]: one["marker"] for one in inspected(installation)}
        installation.topics.produce([(state, newest[0].encode(), None, 0)])
        assert "was that topic recreated or emptied?" in refused(installation)


def test_an_emptied_state_topic_is_no_fresh_start_embedded(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    with story(embedded_broker, tmp_path, seed=36) as told:
        installation = told.installation
        has_run(told)
        recreate(installation, installation.topics.names.state)
        assert "was that topic recreated or emptied?" in refused(installation)


def recreate(installation: Installation, topic: str) -> None:
    """Delete a topic and create it again."""
    admin = AdminClient({"bootstrap.servers": installation.topics.broker.bootstrap})
    admin.delete_topics([topic])[topic].result(timeout=60)

    def created() -> bool:
        # The broker deletes in its own time.
        try:
            admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(timeout=60)
        except Exception:  # noqa: BLE001 - the client has one exception for everything
            return False
        return True

    wait_until(created, what=f"{topic} is there again")


def test_a_recreated_input_is_refused(broker: Broker, tmp_path: Path) -> None:
    with story(broker, tmp_path, seed=37) as told:
        installation = told.installation
        has_run(told)
        recreate(installation, installation.topics.names.sessions)
        assert "has another topic id" in refused(installation)


@needs_apache_kafka
def test_due_records_that_retention_removed_are_missed_apache(
    apache_kafka: Broker, tmp_path: Path
) -> None:
    with story(apache_kafka, tmp_path, seed=38) as told:
        installation = told.installation
        has_run(told)
        told.end()
        sessions = installation.topics.names.sessions
        admin = AdminClient({"bootstrap.servers": apache_kafka.bootstrap})
        ends = [one["read_to"][sessions] + 1 for one in inspected(installation)]
        removed = admin.delete_records(
            [TopicPartition(sessions, n, end) for n, end in enumerate(ends)]
        )
        for one in removed.values():
            one.result(timeout=60)
        assert "retention has removed" in refused(installation)
