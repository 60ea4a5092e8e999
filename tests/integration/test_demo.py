"""`heartline demo`, as a person runs it: it ends in order, its account balances, nothing is left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.rig.brokers import Broker
from tests.rig.needs import needs_parent_death, needs_proc
from tests.rig.processes import wait_until

CDNOW = Path(__file__).parents[1] / "data" / "cdnow" / "CDNOW_sample.txt"
MARK = "DEMO_TEST_MARK"

pytestmark = pytest.mark.timeout(400)


def processes_with(mark: str) -> list[int]:
    """Every process that inherited the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment and state != "Z":
            found.append(int(entry.name))
    return found


class Demo:
    """One demo in a temporary directory of its own, marked so that its processes are found."""

    def __init__(
        self, folder: Path, *arguments: str, environment: dict[str, str] | None = None
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agents.cli", "demo", "--port", "0", *arguments],
            env={**os.environ, MARK: self.mark, "TMPDIR": str(folder), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines_until(self, pattern: str, seconds: float = 120) -> str:
        """Read lines until one matches."""
        assert self.process.stdout is not None
        deadline, text = time.monotonic() + seconds, ""
        for line in self.process.stdout:
            text += line
            if re.search(pattern, line):
                return text
            assert time.monotonic() < deadline, text
        pytest.fail(f"ended without {pattern!r}:\n{text}")

    def end(self, seconds: float = 150) -> tuple[int, str]:
        """Wait for its end; exit status and the rest of what it said."""
        out, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, out

    def nothing_is_left(self, seconds: float = 0) -> bool:
        """No process and no file."""
        deadline = time.monotonic() + seconds
        while processes_with(self.mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        return not processes_with(self.mark)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo's files live; it leaves none."""
    place = tmp_path / "demo"
    place.mkdir()
    return place


@needs_proc
def test_a_bounded_demo_moves_balances_and_leaves_nothing(folder: Path) -> None:
    demo = Demo(folder, "--for", "18s", "--rate", "200")
    told = demo.lines_until(r"^ +\d+ s +20s/2s to .* orders \d+ .* active [1-9]")
    assert re.search(r"http://127\.0\.0\.1:\d+/metrics", told)
    status, rest = demo.end()
    assert status == 0, rest
    assert "balances" in rest
    consumed = re.search(r"consumed.*?([\d,]+) │$", rest, re.MULTILINE)
    assert consumed is not None
    assert int(consumed[1].replace(",", "")) > 1_000
    assert demo.nothing_is_left()
    assert list(folder.iterdir()) == []


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_in_order(folder: Path, number: signal.Signals) -> None:
    demo = Demo(folder)
    demo.lines_until(r"[1-9]\d* events read|orders \d+")
    demo.process.send_signal(number)
    status, rest = demo.end()
    assert status == 0, rest
    assert "balances" in rest
    assert demo.nothing_is_left()
    assert list(folder.iterdir()) == []


@needs_proc
def test_a_signal_during_the_start_leaves_nothing_either(folder: Path) -> None:
    demo = Demo(folder)
    wait_until(lambda: len(processes_with(demo.mark)) >= 2, what="a child", every=0.02)
    demo.process.send_signal(signal.SIGTERM)
    status, rest = demo.end()
    assert status == 130, rest
    assert "Traceback" not in rest
    assert demo.nothing_is_left()
    assert list(folder.iterdir()) == []


@needs_proc
@needs_parent_death
def test_killing_the_demo_takes_its_children_with_it(folder: Path) -> None:
    demo = Demo(folder)
    demo.lines_until("events read")
    assert len(processes_with(demo.mark)) >= 4
    demo.process.kill()
    demo.end()
    assert demo.nothing_is_left(seconds=60)


@needs_proc
def test_replaying_cdnow_shows_its_published_figures(folder: Path) -> None:
    demo = Demo(folder, "--replay", str(CDNOW), "--format", "cdnow", "--rate", "3000")
    status, text = demo.end(seconds=200)
    assert status == 0, text
    assert "1998-07-01" in text
    assert re.search(r"7d/1d .* 28 +992\.50", text)
    assert re.search(r"28d/1d +131 +159 +5,244\.73 .* 30\.0 % +70\.0 %", text)
    assert "balances" in text
    assert demo.nothing_is_left()


def test_a_port_in_use_is_a_plain_error_with_a_way_out(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option, way_out in (("--port", "--port 0"), ("--broker-port", "--bootstrap")):
            status, text = Demo(folder, option, str(port), "--no-live").end()
            assert status in {1, 2}
            assert f"port {port} is in use" in text
            assert way_out in text
            assert len(text.splitlines()) == 1


def test_a_missing_broker_binary_is_a_plain_error_with_a_way_out(folder: Path) -> None:
    status, text = Demo(folder, environment={"CALF_TANSU_BIN": str(folder / "none")}).end()
    assert status == 1
    assert "--bootstrap HOST:PORT" in text
    assert len(text.splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_an_absent_kafka_is_a_plain_error(folder: Path) -> None:
    status, text = Demo(folder, "--bootstrap", "127.0.0.1:1").end()
    assert status == 1
    assert "no Kafka answers at 127.0.0.1:1" in text
    assert len(text.splitlines()) == 1


def test_a_file_without_events_is_a_plain_error(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "nothing.jsonl"
    file.write_text("{}\n")
    status, text = Demo(folder, "--replay", str(file)).end()
    assert status == 2
    assert "nothing to replay" in text
    assert len(text.splitlines()) == 1


@needs_proc
def test_ones_own_kafka_is_left_as_it_was(folder: Path, broker: Broker) -> None:
    client = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    before = set(client.list_topics(timeout=60).topics)
    demo = Demo(folder, "--for", "8s", "--bootstrap", broker.bootstrap)
    status, text = demo.end()
    assert status == 0, text
    assert "balances" in text
    assert demo.nothing_is_left()
    deadline = time.monotonic() + 60
    while (left := set(client.list_topics(timeout=60).topics) - before) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.5)
    assert {topic for topic in left if topic.startswith("heartline-demo")} == set()
