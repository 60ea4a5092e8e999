"""topics, simulate, replay and doctor against real brokers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition

from agents.cli import main
from agents.partitioners import Partitions
from schemas.topics import Topics
from tests.rig.brokers import Broker
from tests.rig.processes import PATIENCE_SECONDS

pytestmark = [pytest.mark.timeout(400)]

PARTITIONS = 3
QUIET_SECONDS = 2
SOURCES = ("sessions", "purchases", "social", "support")
TOPICS = len(Topics.__struct_fields__)

Run = Callable[..., Result]


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Topics of its own for each test: the brokers are shared."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


@pytest.fixture
def run(broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("HEARTLINE_KAFKA_BOOTSTRAP", broker.bootstrap)
    monkeypatch.setenv("HEARTLINE_KAFKA_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("HEARTLINE_KAFKA_PARTITIONS", str(PARTITIONS))
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, prog_name="heartline")

    return invoke


def read(broker: Broker, prefix: str, source: str, count: int) -> list[Any]:
    """Up to ``count`` records of an input topic; fewer when some came and then no more."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "test", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(f"{prefix}.{source}", p, 0) for p in range(PARTITIONS)])
    found: list[Any] = []
    end = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count and time.monotonic() < end:
        batch = consumer.consume(count - len(found), timeout=0.5)
        if batch:
            end = time.monotonic() + QUIET_SECONDS
        found += batch
    consumer.close()
    return found


def test_topics_are_created_once_and_every_difference_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run("topics", "check")
    assert missing.exit_code == 1
    assert missing.stdout.count("is missing") == TOPICS
    created = run("topics", "create")
    assert created.exit_code == 0
    assert created.stdout.count(": created: ") == TOPICS
    again = run("topics", "create")
    assert again.exit_code == 0
    assert again.stdout.count("exists already") == TOPICS
    checked = run("topics", "check")
    assert checked.exit_code == 0, checked.stdout
    monkeypatch.setenv("HEARTLINE_KAFKA_PARTITIONS", "5")
    other = run("topics", "check")
    assert other.exit_code == 1
    assert "has 3 partitions, not 5" in other.stdout


def test_a_simulation_reaches_the_topics_by_key_and_ends_with_time_passed(
    run: Run, broker: Broker, prefix: str, tmp_path: Path
) -> None:
    assert run("topics", "create").exit_code == 0
    done = run(
        "simulate", "--events", "3000", "--customers", "300", "--for", "60d", "--speed", "0",
        "--truth", "truth.jsonl",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    (total,) = (line for line in lines if line["kind"] == "total")
    odd = Counter(line["disposition"] for line in lines if line["kind"] == "record")
    found = {source: read(broker, prefix, source, 10_000) for source in SOURCES}
    controls = [
        (source, message.partition(), json.loads(message.value()))
        for source, messages in found.items()
        for message in messages
        if message.key() is None
    ]
    last = [
        control
        for control in controls
        if control[2]["until"] == max(c[2]["until"] for c in controls)
    ]
    assert {(source, partition) for source, partition, _ in last} == {
        (source, partition) for source in SOURCES for partition in range(PARTITIONS)
    }
    events = [m for messages in found.values() for m in messages if m.key() is not None]
    assert len(events) == 3000
    partition_of = Partitions("murmur2", PARTITIONS)
    assert all(partition_of(message.key()) == message.partition() for message in events)
    views = Counter(
        b'"page_viewed"' in message.value() for message in events if message.value().endswith(b"}")
    )
    assert views[True] >= total["page_views"]
    assert sum(odd.values()) > 0


def test_a_replay_sends_every_event_in_order_and_counts_what_it_cannot_route(
    run: Run, broker: Broker, prefix: str
) -> None:
    assert run("topics", "create").exit_code == 0
    lines = [
        b'{"type":"order_placed","event_id":"2","customer_id":"a","occurred_at":"2026-01-03T00:00:00Z"}',
        b'{"type":"order_placed","event_id":"1","customer_id":"a","occurred_at":"2026-01-01T00:00:00Z"}',
        b'{"type":"nothing","customer_id":"a"}',
    ]
    done = run("replay", "-", stdin=b"\n".join(lines))
    assert done.exit_code == 3
    assert "not sent: unknown_type 1" in done.stderr
    assert "time passed until 2026-01-04T00:00:00Z" in done.stderr
    messages = read(broker, prefix, "purchases", 2 + 2 * PARTITIONS)
    partition = Partitions("murmur2", PARTITIONS)(b"a")
    values = [json.loads(m.value()) for m in messages if m.partition() == partition]
    # The gap of two days is bridged for everybody before the second event, and closed after it.
    assert [value.get("event_id", value.get("until")) for value in values] == [
        "1", 1767398400000, "2", 1767484800000,
    ]  # fmt: skip
    others = [json.loads(m.value())["until"] for m in messages if m.partition() != partition]
    assert others == [1767398400000, 1767484800000] * (PARTITIONS - 1)


def test_the_doctor_finds_all_well_after_a_live_simulation(run: Run) -> None:
    assert run("topics", "create").exit_code == 0
    assert run("simulate", "--rate", "100", "--for", "2s").exit_code == 0
    result = run("doctor")
    assert result.exit_code == 0, result.stdout
    assert "fit their key and partition" in result.stdout
    assert "never committed" in result.stdout


def test_the_doctor_names_the_setting_of_a_producer_that_partitions_otherwise(
    run: Run, broker: Broker, prefix: str
) -> None:
    assert run("topics", "create").exit_code == 0
    # librdkafka's default partitioner.
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(200):
        value = {
            "type": "page_viewed", "event_id": f"{number}", "customer_id": f"c{number}",
            "occurred_at": 1767225600000, "page": "/",
        }  # fmt: skip
        producer.produce(f"{prefix}.sessions", json.dumps(value).encode(), f"c{number}".encode())
    producer.produce(
        f"{prefix}.sessions", json.dumps({**value, "event_id": "x"}).encode(), b"someone"
    )
    assert producer.flush(30) == 0
    producer.close()
    result = run("doctor")
    assert result.exit_code == 1
    assert "partitioner=murmur2_random" in result.stdout
    assert "make the producer send customer_id as the record key" in result.stdout


def test_inputs_with_different_partition_counts_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, broker: Broker, prefix: str
) -> None:
    from kafka.admin import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics(
        {
            f"{prefix}.{source}": {"num_partitions": count, "replication_factor": 1}
            for source, count in zip(SOURCES, (3, 3, 3, 4), strict=True)
        },
        wait_for_metadata=True,
    )
    admin.close()
    result = run("replay", "-", stdin=b"")
    assert result.exit_code == 2
    assert "different numbers of partitions" in result.stderr


def test_ctrl_c_ends_a_live_simulation_with_130_and_no_traceback(
    run: Run, broker: Broker, prefix: str
) -> None:
    assert run("topics", "create").exit_code == 0
    # A background job inherits an ignored SIGINT: the program says that it wants it.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from agents.cli import main; main(['simulate', '--rate', '100'], prog_name='heartline')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert read(broker, prefix, "sessions", 1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip() == "Interrupted."
