"""CDNOW, 6,919 real purchases: the published figures, from a file and through Kafka and Faust."""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.rig import cdnow
from tests.rig.brokers import Broker
from tests.rig.exposition import Exposition
from tests.rig.installation import Installation, Record
from tests.rig.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

# Purchases say nothing of persona or region: without them a day has fewer results.
SETTINGS: dict[str, dict[str, object]] = {
    "windows": {"hopping": list(cdnow.WINDOWS)},
    "segments": {},
}
SECONDS = 5.0
"""What `evaluate` may take: empty stretches of event time cost nothing."""


def figures(rows: Iterable[Mapping[str, object]]) -> dict[tuple[str, str], object]:
    """(metric, window) -> value, over everybody."""
    return {
        (str(row["metric"]), str(row["window"])): row["value"]
        for row in rows
        if not row["segment"] and not row["dimensions"]
    }


def check(rows: Iterable[Record], facts: cdnow.Facts) -> None:
    """Counts and money to the unit; a ratio is one division of exact integers."""
    found = figures(rows)
    assert {key: found.get(key) for key in facts.values} == facts.values


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CDNOW as a file of events."""
    file = tmp_path_factory.mktemp("cdnow") / "cdnow.jsonl"
    file.write_bytes(b"\n".join(order.payload for order in cdnow.orders()) + b"\n")
    return file


def test_evaluate_gives_the_published_figures_in_five_seconds(
    events: Path, embedded_broker: Broker, tmp_path: Path
) -> None:
    installation = Installation(embedded_broker, tmp_path)
    moments = [part for facts in cdnow.FACTS for part in ("--at", facts.at)]
    windows = [part for window in cdnow.WINDOWS for part in ("--window", window)]
    started = time.monotonic()
    done = installation.run("evaluate", events, *moments, *windows, "--format", "json")
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    for facts in cdnow.FACTS:
        check((row for row in rows if row["at"] == facts.at), facts)
    assert seconds <= SECONDS


def test_kafka_and_faust_give_the_published_figures_on_the_results_topic_and_on_metrics(
    broker: Broker, tmp_path: Path
) -> None:
    settings = SETTINGS
    with Installation(broker, tmp_path, partitions=8, settings=settings) as installation:
        names = installation.topics.names
        orders = sorted(cdnow.orders(), key=lambda order: order.at_ms)
        installation.topics.produce(
            (names.purchases, order.customer.encode(), order.payload, None) for order in orders
        )
        last = cdnow.FACTS[-1]
        # Nobody bought anything after it: without word that the time went on no window would end.
        installation.topics.pass_time(last.at_ms + 60_000)
        installation.worker()
        serve = installation.serve()
        moments = {facts.at_ms: cdnow.WINDOWS for facts in cdnow.FACTS}
        published = installation.results_at(moments, seconds=180)
        for facts in cdnow.FACTS:
            check(published[facts.at_ms], facts)

        def shown() -> Exposition | None:
            page = serve.page()
            ends = page.by("heartline_result_end_timestamp_seconds", "window")
            whole = ends == dict.fromkeys(("28d", "7d"), last.at_ms / 1000)
            return page if whole else None

        wait_until(shown, what="serve shows 1998-07-01")
        page = serve.page()
        assert {
            (metric, window): page.everyone(metric, window) for metric, window in last.values
        } == pytest.approx(last.values, rel=1e-12)


def test_replay_brings_the_file_through_kafka(broker: Broker, events: Path, tmp_path: Path) -> None:
    settings = SETTINGS
    with Installation(broker, tmp_path, partitions=4, settings=settings) as installation:
        done = installation.run("replay", events, seconds=180)
        assert done.returncode == 0, done.stderr
        installation.worker()
        first = cdnow.FACTS[0]
        check(installation.results(first.at_ms, cdnow.WINDOWS, seconds=180), first)
