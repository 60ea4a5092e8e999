"""Two workers share the partitions; what is shown stays global, whole and true, whoever leaves."""

import contextlib
import datetime
import json
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.rig.brokers import Broker
from tests.rig.exposition import Exposition
from tests.rig.installation import Installation, Service
from tests.rig.processes import PATIENCE_SECONDS, wait_until
from tests.rig.shoppers import event

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PARTITIONS = 4
WINDOWS = ("30s/5s", "2m/10s")
PER_SECOND = 150
SHOWN = ("page_views", "orders", "revenue", "active_customers", "sessions_started")
FEED_SECONDS = 28
LEAVES_AFTER_SECONDS = 6
SHOWN_AT_LEAST = 3


@dataclass(slots=True)
class Feed:
    """Events with the time of day, produced in the background; every one is kept for the check."""

    installation: Installation
    events: list[dict[str, object]] = field(default_factory=list)
    failure: BaseException | None = None

    def run(self) -> None:
        """Ten batches a second, until the time is over."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - handed to the test, which raises it
            self.failure = error

    def _run(self) -> None:
        draw = random.Random(21)
        end = time.monotonic() + FEED_SECONDS
        while time.monotonic() < end:
            batch = []
            for _ in range(PER_SECOND // 10):
                number = len(self.events)
                source, body = event(draw, number, time.time_ns() // 1_000_000, customers=200)
                self.events.append(body)
                batch.append((source, body))
            self.installation.topics.tell(batch)
            time.sleep(0.1)


@dataclass(slots=True)
class Watcher:
    """What serve shows, five times a second."""

    serve: Service
    seen: dict[tuple[str, float], dict[str, float | None]] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Note every new end with its values; an end that goes back, or changes, is wrong."""
        while not self.stop.wait(0.2):
            with contextlib.suppress(OSError):
                try:
                    page = self.serve.page()
                except AssertionError as error:
                    self.wrong.append(str(error))
                    continue
                self._note(page)

    def _note(self, page: Exposition) -> None:
        for window, end in page.by("heartline_result_end_timestamp_seconds", "window").items():
            if end < self.ends.get(window, 0):
                self.wrong.append(f"{window} went back from {self.ends[window]} to {end}")
            self.ends[window] = end
            values = {metric: page.everyone(metric, window) for metric in SHOWN}
            if self.seen.setdefault((window, end), values) != values:
                self.wrong.append(f"{window} at {end}: {self.seen[window, end]}, then {values}")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["sigterm", "kill-9"])
def test_a_worker_leaves_and_every_shown_number_is_whole_and_true(
    broker: Broker, tmp_path: Path, how: signal.Signals
) -> None:
    settings: dict[str, dict[str, object]] = {
        "windows": {"hopping": list(WINDOWS)},
        "time": {"idle_after": "3s"},
    }
    with Installation(broker, tmp_path, partitions=PARTITIONS, settings=settings) as installation:
        stays, leaves = (installation.worker(ready_within=None) for _ in range(2))
        serve = installation.serve()
        for worker in (stays, leaves):
            worker.wait_for("/readyz", seconds=PATIENCE_SECONDS)
        wait_until(
            lambda: stays.owned() and leaves.owned(),
            what="both workers own partitions",
        )
        feed, watcher = Feed(installation), Watcher(serve)
        threads = [threading.Thread(target=feed.run), threading.Thread(target=watcher.run)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(LEAVES_AFTER_SECONDS)
            leaves.process.signal(how)
            leaves.process.wait(60)
            threads[0].join()
            if feed.failure is not None:
                raise feed.failure
            last_s = (time.time() // 10 + 1) * 10
            wait_until(
                lambda: watcher.ends.get("2m", 0) >= last_s,
                seconds=120,
                what=f"serve shows the end {last_s} after the worker left",
            )
        finally:
            watcher.stop.set()
            for thread in threads:
                thread.join()
        assert watcher.wrong == []
        assert stays.process.exit_status is None

        file = tmp_path / "events.jsonl"
        file.write_text("".join(json.dumps(body) + "\n" for body in feed.events))
        truth = _truth(installation, file, watcher)
        shown = {key: values for key, values in watcher.seen.items() if key in truth}
        assert len(shown) >= SHOWN_AT_LEAST
        assert shown == truth


def _truth(
    installation: Installation, file: Path, watcher: Watcher
) -> dict[tuple[str, float], dict[str, float | None]]:
    """What `evaluate` says of every end that was shown while events came."""
    found: dict[tuple[str, float], dict[str, float | None]] = {}
    for window in WINDOWS:
        size = window.partition("/")[0]
        ends = [end for shown, end in watcher.seen if shown == size]
        moments = [
            datetime.datetime.fromtimestamp(end, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            for end in ends
        ]
        at = [part for text in moments for part in ("--at", text)]
        metrics = [part for metric in SHOWN for part in ("--metric", metric)]
        for row in installation.evaluate(file, *at, "--window", window, *metrics):
            if not row["segment"] and not row["dimensions"]:
                end = ends[moments.index(row["at"])]
                found.setdefault((size, end), {})[row["metric"]] = row["value"]
    return found
