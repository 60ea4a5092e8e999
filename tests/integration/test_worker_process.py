"""The worker as a process: how it starts, shows itself, keeps its memory, and ends."""

import functools
import json
import re
import signal
import time
from pathlib import Path

import pytest

from schemas.topics import Source
from tests.rig.brokers import Broker
from tests.rig.installation import Installation, Service
from tests.rig.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

PARTITIONS = 2
START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
SETTINGS: dict[str, dict[str, object]] = {
    "windows": {"hopping": ["1m/10s"]},
    "time": {"idle_after": "1s"},
}


def view(number: int, at_ms: int) -> dict[str, object]:
    return {
        "type": "page_viewed",
        "event_id": f"e{number}",
        "customer_id": f"c{number % 20}",
        "occurred_at": at_ms,
        "page": "/",
    }


def produce(installation: Installation, events: list[dict[str, object]]) -> None:
    topic = installation.topics.names.sources[Source.SESSIONS]
    installation.topics.produce(
        (topic, str(event["customer_id"]).encode(), json.dumps(event).encode(), None)
        for event in events
    )


def shown(worker: Service, name: str) -> float:
    """A total of its metrics page."""
    return worker.page().total(name)


def consumed(worker: Service) -> float:
    return shown(worker, "heartline_events_consumed_total")


def takeovers(worker: Service) -> list[tuple[str, str]]:
    """(partitions, those of them read from the state again) of each takeover that it tells of."""
    return re.findall(
        r"owns partitions (.+) \(read from the state again: (.+?)\)", worker.process.output()
    )


def owns_one_of(worker: Service, choices: list[str]) -> bool:
    """Whether its last takeover gave it one of these."""
    told = takeovers(worker)
    return bool(told) and told[-1][0] in choices


def has_started(worker: Service) -> bool:
    return "operating endpoint" in worker.process.output()


def test_a_worker_ends_in_order_and_its_summary_balances(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    with Installation(
        embedded_broker, tmp_path, partitions=PARTITIONS, settings=SETTINGS
    ) as installation:
        produce(installation, [view(n, START_MS + n * 100) for n in range(1_000)])
        produce(installation, [{"customer_id": "c1", "type": "nonsense"}])
        summary = tmp_path / "summary.json"
        running = installation.worker("--summary", str(summary))
        wait_until(lambda: consumed(running) == 1_001, what="everything read")
        worker = running.process
        worker.signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        found = json.loads(summary.read_text())
        account = found["accounts"][installation.topics.names.sessions]
        assert account["consumed"] == 1_001
        assert account["dead"] == 1
        assert account["consumed"] == sum(
            account[fate]
            for fate in ("folded", "too_late", "duplicate", "dead", "control", "waiting")
        )
        assert found["failure"] is None
        assert "Traceback" not in worker.output()


def test_a_second_worker_takes_half_and_what_stayed_is_not_read_again(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    with Installation(
        embedded_broker, tmp_path, partitions=PARTITIONS, settings=SETTINGS
    ) as installation:
        produce(installation, [view(n, START_MS + n * 100) for n in range(2_000)])
        first = installation.worker()
        wait_until(lambda: consumed(first) == 2_000, what="everything read")
        (both,) = takeovers(first)
        assert both == ("[0, 1]", "[0, 1]")
        second = installation.worker()
        # Told at the end of a takeover; the metrics page shows what is owned while it goes on.
        halves = ["[0]", "[1]"]
        for worker in (first, second):
            wait_until(functools.partial(owns_one_of, worker, halves), what="a half for each")
        (*_, (taken, read_again)) = takeovers(second)
        assert read_again == taken
        kept = takeovers(first)[1:]
        assert {taken, kept[-1][0]} == set(halves)
        assert {again for _, again in kept} == {"none"}
        for worker in (first, second):
            assert shown(worker, "heartline_assigned_partitions") == 1
        before = consumed(first), consumed(second)
        produce(installation, [view(n, START_MS + n * 100) for n in range(2_000, 2_500)])
        wait_until(
            lambda: consumed(first) + consumed(second) >= sum(before) + 500,
            what="both go on from where the first one stood",
        )
        # What waited for the watermark was read again by its new owner, and nothing else.
        assert before[0] == 2_000
        assert before[1] < 100
        for worker in (first, second):
            assert json.loads(worker.get("/readyz")) == {"ready": True, "reasons": []}
            assert json.loads(worker.get("/healthz")) == {"alive": True}


def test_a_worker_that_is_stopped_while_it_joins_does_not_wait_for_the_rebalance(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    with Installation(
        embedded_broker, tmp_path, partitions=PARTITIONS, settings=SETTINGS
    ) as installation:
        # The embedded broker answers the first request to join after three seconds.
        for pause in (0.3, 1.5):
            worker = installation.worker(ready_within=None)
            wait_until(functools.partial(has_started, worker), what="the worker starts")
            time.sleep(pause)
            worker.process.signal(signal.SIGTERM)
            assert worker.process.wait(60) == 0
            assert "did not stop within" not in worker.process.output()
            assert "Traceback" not in worker.process.output()


def test_topics_that_are_missing_are_named_with_the_way_out(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    installation = Installation(embedded_broker, tmp_path, partitions=PARTITIONS)
    ended = installation.run("worker", "--port", "0")
    assert ended.returncode == 2
    assert installation.topics.names.results in ended.stderr
    assert "heartline topics create" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_number_of_partitions_is_refused(embedded_broker: Broker, tmp_path: Path) -> None:
    with Installation(embedded_broker, tmp_path, partitions=PARTITIONS) as installation:
        text = installation.config.read_text()
        assert f"partitions = {PARTITIONS}" in text
        installation.config.write_text(text.replace(f"partitions = {PARTITIONS}", "partitions = 3"))
        ended = installation.run("worker", "--port", "0")
    assert ended.returncode == 2
    assert "has 2 partitions, not 3" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_broker_that_is_not_there_is_one_plain_line(tmp_path: Path) -> None:
    installation = Installation(
        Broker("127.0.0.1:1", is_embedded=True), tmp_path, partitions=PARTITIONS
    )
    ended = installation.run("worker", "--port", "0")
    assert ended.returncode == 1
    assert ended.stderr.startswith("heartline: no Kafka answers at 127.0.0.1:1")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_foreign_record_in_the_state_topic_ends_the_worker_with_status_1(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    with Installation(
        embedded_broker, tmp_path, partitions=PARTITIONS, settings=SETTINGS
    ) as installation:
        installation.topics.produce([(installation.topics.names.state, b"hello", b"{}", 0)])
        worker = installation.start("worker", HEARTLINE_WORKER_PORT="0")
        assert worker.wait(120) == 1
        assert "the worker ends: StateRefused" in worker.output()
        assert "Traceback" not in worker.output()
