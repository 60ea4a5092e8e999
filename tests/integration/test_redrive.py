"""Letters go back once: to the partition of their key, under their own time, whatever happens to the command."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.partitioners import Partitions
from agents.redrive import HEADER
from schemas.records import DeadLetter, LateRecord, Redriven
from streams.moments import to_text
from tests.rig.brokers import Broker
from tests.rig.installation import Installation
from tests.rig.processes import PATIENCE_SECONDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

PARTITIONS = 3
HOUR_MS = 3_600_000
WRITTEN_MS = (time.time_ns() // 1_000_000 // HOUR_MS - 2) * HOUR_MS
"""Not longer ago than the inputs keep records: what goes back keeps its timestamp."""
MANY = 10_000
"""So many letters are ten batches."""
QUIET_S = 2.0
FIRST = 100_000
"""The letters stand for records long gone: their offsets are nobody's here."""


def letter(
    topic: str, number: int, reason: str, *, key: bytes | None, payload: bytes | None = None
) -> DeadLetter:
    if payload is None:
        payload = order(key or b"nobody")
    return DeadLetter(
        topic=topic,
        partition=0,
        offset=FIRST + number,
        timestamp_ms=WRITTEN_MS + number,
        reason=reason,
        detail="",
        key=key,
        payload=payload or None,
        payload_bytes=len(payload),
        payload_sha256=None,
    )


def order(customer: bytes) -> bytes:
    return b'{"type":"order_placed","customer_id":"%s"}' % customer


def write(
    installation: Installation, topic: str, letters: Iterable[DeadLetter | LateRecord]
) -> None:
    encode = msgspec.json.encode
    installation.topics.produce((topic, one.origin, encode(one), None) for one in letters)


def came_back(installation: Installation) -> list[Any]:
    topic = installation.topics.names.purchases
    return list(installation.topics.read(topic, seconds=PATIENCE_SECONDS, quiet_after=QUIET_S))


def origin_of(message: Any) -> bytes:
    ((name, origin),) = message.headers()
    assert name == HEADER
    return bytes(origin)


def number_of(message: Any) -> int:
    return int(origin_of(message).rpartition(b"|")[2]) - FIRST


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], int]:
    """By reason and outcome, from `--format json`."""
    return {(line["reason"], line["outcome"]): line["letters"] for line in json.loads(done.stdout)}


def wait_for_another(installation: Installation, runs: set[str]) -> None:
    """Return when a run that is not among `runs` has noted that it sent something; it is then."""
    before = len(runs)
    for message in installation.topics.read(
        installation.topics.names.redriven,
        seconds=PATIENCE_SECONDS,
        until=lambda: len(runs) > before,
    ):
        value = message.value()
        if value is None:  # What a run that was cut off had intended and not sent.
            continue
        note = msgspec.json.decode(value, type=Redriven)
        if note.state == "sent":
            runs.add(note.run)


def test_letters_go_back_once_to_where_they_belong(broker: Broker, tmp_path: Path) -> None:
    with Installation(broker, tmp_path, partitions=PARTITIONS) as installation:
        names = installation.topics.names
        topic = names.purchases
        whole = order(b"oversize").ljust(64 << 10)
        write(
            installation,
            names.dead_letters,
            [
                letter(topic, 0, "unknown_currency", key=b"a"),
                letter(topic, 1, "wrong_partition", key=b"b"),
                letter(topic, 2, "wrong_key", key=b"not c", payload=order(b"c")),
                letter(topic, 3, "wrong_key", key=None, payload=b"[]"),
                letter(topic, 4, "not_json", key=None, payload=b"{"),
                msgspec.structs.replace(
                    letter(topic, 5, "oversize", key=b"d", payload=whole), payload_bytes=1 << 20
                ),
                letter(topic, 6, "empty", key=b"e", payload=b""),
                letter("elsewhere.purchases", 7, "unknown_currency", key=b"f"),
                letter(topic, 0, "unknown_currency", key=b"a"),  # left again by a second reading
            ],
        )
        late = LateRecord(
            topic=topic, partition=0, offset=FIRST + 8, timestamp_ms=WRITTEN_MS + 8, event_time_ms=0,
            watermark_ms=1, key=b"g", payload=order(b"g"), payload_bytes=len(order(b"g")),
            payload_sha256=None,
        )  # fmt: skip
        write(installation, names.late, [late])
        as_json = ("--config", installation.config, "--format", "json")

        dry = installation.run("redrive", *as_json, "--dry-run", "--late")
        unsendable = {
            ("wrong_key", "needs a key"): 2,
            ("oversize", "cut"): 1,
            ("empty", "empty"): 1,
            ("unknown_currency", "foreign"): 1,
        }
        sendable = ("unknown_currency", "wrong_partition", "not_json", "too_late")
        assert dry.returncode == 3, dry.stderr
        assert outcomes(dry) == unsendable | {(one, "would be sent"): 1 for one in sendable}

        only = installation.run(
            "redrive", *as_json, "--reason", "wrong_partition", "--topic", "purchases",
            "--since", to_text(WRITTEN_MS + 1), "--until", to_text(WRITTEN_MS + 2),
        )  # fmt: skip
        assert (only.returncode, outcomes(only)) == (0, {("wrong_partition", "sent"): 1})
        done = installation.run("redrive", *as_json, "--late", "--fix-key")
        assert outcomes(done) == {
            ("unknown_currency", "sent"): 1,
            ("unknown_currency", "foreign"): 1,
            ("wrong_partition", "sent before"): 1,
            ("wrong_key", "sent"): 1,
            ("wrong_key", "nameless"): 1,
            ("not_json", "sent"): 1,
            ("too_late", "sent"): 1,
            ("oversize", "cut"): 1,
            ("empty", "empty"): 1,
        }
        again = installation.run("redrive", "--config", installation.config, "--late", "--fix-key")
        assert "64 KiB" in again.stdout
        assert again.stdout.count("sent before") == 5
        assert again.returncode == 3

        partition_of = Partitions("murmur2", PARTITIONS)
        records = {number_of(one): one for one in came_back(installation)}
        keys = {0: b"a", 1: b"b", 2: b"c", 4: None, 8: b"g"}
        assert {number: one.key() for number, one in records.items()} == keys
        for number, message in records.items():
            key = message.key()
            assert message.partition() == (0 if key is None else partition_of(key))
            assert message.timestamp()[1] == WRITTEN_MS + number
        assert records[2].value() == order(b"c")

        # What was sent back and refused again leaves a letter of its own: it goes round no second time.
        second = msgspec.structs.replace(
            letter(topic, 9, "not_json", key=None, payload=b"{"),
            partition=records[4].partition(),
            offset=records[4].offset(),
        )
        write(installation, names.dead_letters, [second])
        asked = ("redrive", *as_json, "--reason", "not_json")
        kept = installation.run(*asked)
        assert outcomes(kept) == {("not_json", "sent before"): 1, ("not_json", "refused again"): 1}
        once_more = installation.run(*asked, "--again")
        assert outcomes(once_more) == {("not_json", "sent before"): 1, ("not_json", "sent"): 1}

        old = msgspec.structs.replace(
            letter(topic, 10, "bad_value", key=b"h"), timestamp_ms=WRITTEN_MS - 30 * 24 * HOUR_MS
        )
        write(installation, names.dead_letters, [old])
        warned = installation.run("redrive", *as_json, "--reason", "bad_value", "--dry-run")
        # The embedded broker keeps everything, and says nothing of it.
        assert ("keeps records for 7 days" in warned.stderr) is not broker.is_embedded
        assert once_more.stderr == ""


def test_a_redrive_that_is_killed_is_completed_by_the_next(broker: Broker, tmp_path: Path) -> None:
    with Installation(broker, tmp_path, partitions=PARTITIONS) as installation:
        names = installation.topics.names
        letters = [
            letter(names.purchases, n, "unknown_currency", key=b"c%d" % n) for n in range(MANY)
        ]
        write(installation, names.dead_letters, letters)
        runs: set[str] = set()
        for number, end in enumerate((signal.SIGKILL, signal.SIGINT), 1):
            process = installation.start("redrive", "--config", str(installation.config))
            wait_for_another(installation, runs)
            process.signal(end)
            process.wait(30)
            assert process.exit_status == (-signal.SIGKILL if number == 1 else 130), (
                process.output()
            )
            assert "Traceback" not in process.output()
        done = installation.run("redrive", "--config", installation.config, "--format", "json")
        assert done.returncode == 0, done.stderr
        # Neither was at the end when it was cut off.
        assert 0 < outcomes(done)["unknown_currency", "sent"] < MANY
        origins = Counter(map(origin_of, came_back(installation)))
        assert set(origins.values()) == {1}
        assert len(origins) == MANY
        again = installation.run("redrive", "--config", installation.config, "--format", "json")
        assert outcomes(again) == {("unknown_currency", "sent before"): MANY}


def test_a_filter_that_can_mean_nothing_and_a_missing_topic_are_said_in_a_line(
    broker: Broker, tmp_path: Path
) -> None:
    with Installation(broker, tmp_path, partitions=PARTITIONS) as installation:
        config = ("--config", installation.config)
        unknown = installation.run("redrive", *config, "--reason", "bad_luck")
        assert unknown.returncode == 2
        assert "unknown_currency" in unknown.stderr
        assert unknown.stderr.count("\n") == 1
        nothing = installation.run("redrive", *config)
        assert (nothing.returncode, nothing.stderr) == (0, "")
        assert "no letter" in nothing.stdout


def test_orders_in_a_currency_without_a_rate_count_once_it_has_one(
    broker: Broker, tmp_path: Path
) -> None:
    windows: dict[str, dict[str, object]] = {"windows": {"hopping": ["1h/10m"]}}
    with Installation(broker, tmp_path, partitions=PARTITIONS, settings=windows) as installation:
        names = installation.topics.names
        orders = [
            {
                "type": "order_placed", "event_id": f"e{n}", "customer_id": f"c{n}",
                "occurred_at": WRITTEN_MS + n * 1_000, "order_id": f"o{n}", "amount": n + 1,
                "currency": "EUR" if n % 2 else "USD",
            }
            for n in range(40)
        ]  # fmt: skip
        values = [json.dumps(one).encode() for one in orders]

        installation.topics.produce(
            (
                (names.purchases, str(one["customer_id"]).encode(), value, None)
                for one, value in zip(orders, values, strict=True)
            ),
            timestamps_ms=[WRITTEN_MS + n * 1_000 for n in range(40)],
        )
        until_ms = WRITTEN_MS + HOUR_MS // 3
        installation.topics.pass_time(until_ms, timestamp_ms=until_ms)
        worker = installation.worker()
        letters = {
            message.key()
            for message in installation.topics.read(
                names.dead_letters, seconds=PATIENCE_SECONDS, quiet_after=QUIET_S
            )
        }
        assert len(letters) == 20
        worker.process.stop()
        config = installation.config.read_text()
        installation.config.write_text(config + '\n[currencies]\nrates = {EUR = "1.25"}\n')
        for sent in (20, 0):
            done = installation.run("redrive", "--config", installation.config, "--format", "json")
            assert done.returncode == 0, done.stderr
            assert outcomes(done).get(("unknown_currency", "sent"), 0) == sent
        installation.worker()
        at_ms = WRITTEN_MS + HOUR_MS
        installation.topics.pass_time(at_ms + 60_000, timestamp_ms=at_ms + 60_000)
        through_kafka = {
            row["metric"]: row["value"]
            for row in installation.results(at_ms, ["1h/10m"], seconds=120)
            if not row["segment"] and not row["dimensions"]
        }
        file = tmp_path / "orders.jsonl"
        file.write_bytes(b"\n".join(values))
        expected = {
            row["metric"]: row["value"]
            for row in installation.evaluate(file, "--at", to_text(at_ms), "--window", "1h/10m")
            if not row["segment"] and not row["dimensions"]
        }
        chosen = ("orders", "revenue", "buyers", "new_buyers", "active_customers", "new_customers")
        assert {name: through_kafka[name] for name in chosen} == {
            name: expected[name] for name in chosen
        }
        assert expected["orders"] == 40
