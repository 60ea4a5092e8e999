"""Customers are forgotten while events flow: the figures are those of the file in which that stands, and the state
that is on record knows them no more."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.topics import Source
from tests.rig.brokers import Broker
from tests.rig.installation import Installation, canonical

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

PARTITIONS = 2
CUSTOMERS = 60
FORGOTTEN = ("c1", "c2", "c3")
RETURNING = FORGOTTEN[:2]
HOP_MS = 600_000
SETTINGS: dict[str, dict[str, object]] = {
    "windows": {"hopping": ["1h/10m"]},
    "time": {"idle_after": "2s"},
}


def event_of(
    draw: random.Random, number: int, customer: str, at_ms: int
) -> tuple[Source, dict[str, Any]]:
    common = {"event_id": f"e{number}", "customer_id": customer, "occurred_at": at_ms}
    if draw.random() < 0.3:
        price = {"order_id": f"o{number}", "amount": draw.randrange(1, 99), "currency": "USD"}
        return Source.PURCHASES, {"type": "order_placed", **common, **price}
    return Source.SESSIONS, {"type": "page_viewed", "page": "/", **common}


class Flow(threading.Thread):
    """Events of now, a hundred a second, until `stop`."""

    def __init__(self, installation: Installation) -> None:
        super().__init__()
        self._installation = installation
        self._draw = random.Random(5)
        self._is_over = threading.Event()
        self._number = 0

    def run(self) -> None:
        while not self._is_over.is_set():
            names = [f"c{self._draw.randrange(CUSTOMERS)}" for _ in range(20)]
            self.send(name for name in names if name not in FORGOTTEN)
            time.sleep(0.2)

    def send(self, names: Iterator[str]) -> None:
        now_ms = time.time_ns() // 1_000_000
        topics = self._installation.topics
        records = []
        for name in names:
            self._number += 1
            source, event = event_of(self._draw, self._number, name, now_ms)
            records.append(
                (topics.names.sources[source], name.encode(), json.dumps(event).encode(), None)
            )
        topics.produce(records, timestamps_ms=[now_ms] * len(records))

    def stop(self) -> None:
        self._is_over.set()
        self.join(60)


def test_the_figures_and_the_state_after_customers_were_forgotten(
    broker: Broker, tmp_path: Path
) -> None:
    with Installation(broker, tmp_path, partitions=PARTITIONS, settings=SETTINGS) as installation:
        names = installation.topics.names
        flow = Flow(installation)
        flow.send(f"c{n}" for n in range(CUSTOMERS))
        worker = installation.worker()
        flow.start()
        try:
            early = installation.run("forget", *FORGOTTEN, "--wait", "60s")
        finally:
            flow.stop()
        assert early.returncode == 0, early.stderr
        assert "done" in early.stdout
        assert names.dead_letters in early.stderr
        # Whoever takes over goes on from the state that is on record.
        worker.process.signal(signal.SIGKILL)
        worker.process.wait(30)
        flow.send(iter(RETURNING))
        installation.worker()

        at_ms = (time.time_ns() // 1_000_000 // HOP_MS + 1) * HOP_MS
        installation.topics.pass_time(at_ms + 60_000, timestamp_ms=at_ms + 60_000)
        through_kafka = installation.results(at_ms, ["1h/10m"], seconds=120)

        file = tmp_path / "input.jsonl"
        with file.open("wb") as lines:
            for topic in names.sources[:2]:
                for message in installation.topics.read(topic, seconds=60, quiet_after=2):
                    lines.write((message.value() or b"") + b"\n")
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1_000))
        expected = installation.evaluate(file, "--at", at, "--window", "1h/10m")
        everyone = [row for row in through_kafka if not row["segment"]]
        assert canonical(everyone) == canonical(expected)
        (new,) = (row for row in expected if row["metric"] == "new_customers")
        assert new["value"] == CUSTOMERS + len(RETURNING)


def test_whom_to_forget_may_come_from_standard_input_and_is_checked(
    broker: Broker, tmp_path: Path
) -> None:
    with Installation(broker, tmp_path, partitions=PARTITIONS) as installation:
        told = installation.run("forget", "-", stdin="one\n\ntwo\none\n")
        assert (told.returncode, told.stdout) == (0, "2 customers to be forgotten\n")
        records = list(
            installation.topics.read(installation.topics.names.sessions, seconds=60, quiet_after=1)
        )
        assert sorted(record.key() for record in records) == [b"one", b"two"]
        for wrong in (("x" * 129,), ("-", "one"), ("",)):
            refused = installation.run("forget", *wrong)
            assert refused.returncode == 2
            assert refused.stderr.count("\n") == 1
