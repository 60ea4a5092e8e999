"""The same events give the same results, byte for byte, from a file and through Kafka and Faust."""

import datetime
import json
import random
from pathlib import Path

import pytest

from schemas.topics import Source
from tests.rig.brokers import Broker
from tests.rig.installation import Installation, canonical
from tests.rig.shoppers import shop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PARTITIONS = 4
START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
HOUR_MS = 3_600_000
WINDOWS = ("30m/10m", "2h/10m", "6h/1h", "1d/6h")
HOURS = (1, 6, 12, 18, 30, 48)
"""When the results are compared: on a boundary of every hop, or of the finer ones."""
DISORDER_MS = 4_000
"""Within the bound of five seconds, so nothing is late."""


def moment(at_ms: int) -> str:
    """As results spell it."""
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


def due(at_ms: int) -> list[str]:
    """The windows that have a boundary there."""
    hops = {"10m": HOUR_MS // 6, "1h": HOUR_MS, "6h": 6 * HOUR_MS}
    return [window for window in WINDOWS if at_ms % hops[window.partition("/")[2]] == 0]


def test_evaluate_and_kafka_give_the_same_results_byte_for_byte(
    broker: Broker, tmp_path: Path
) -> None:
    end_ms = START_MS + 36 * HOUR_MS
    events = list(shop(6_000, start_ms=START_MS, end_ms=end_ms, customers=400, seed=5))
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for _, _, event in events))
    settings = {"windows": {"hopping": list(WINDOWS)}}
    with Installation(broker, tmp_path, partitions=PARTITIONS, settings=settings) as installation:
        draw = random.Random(6)
        shuffled = sorted(events, key=lambda one: one[0] + draw.randrange(DISORDER_MS))
        # Equal times keep their order: by source and line in a file, by source and offset in Kafka.
        names = installation.topics.names
        installation.topics.produce(
            (
                names.sources[source],
                str(event["customer_id"]).encode(),
                json.dumps(event).encode(),
                None,
            )
            for _, source, event in shuffled
        )
        last_ms = START_MS + HOURS[-1] * HOUR_MS
        passed = json.dumps({"type": "time_passed", "until": last_ms + 60_000}).encode()
        installation.topics.produce(
            (names.sources[source], None, passed, partition)
            for source in Source
            for partition in range(PARTITIONS)
        )
        installation.worker()
        for hour in HOURS:
            at_ms = START_MS + hour * HOUR_MS
            windows = due(at_ms)
            chosen = [part for window in windows for part in ("--window", window)]
            done = installation.run(
                *("evaluate", str(file), "--at", moment(at_ms), *chosen, "--format", "json"),
                *("--config", str(installation.config), "--by", "persona", "--by", "region"),
            )
            assert done.returncode == 0, done.stderr
            from_file = canonical(json.loads(done.stdout))
            from_kafka = canonical(installation.results(at_ms, windows, seconds=180))
            assert from_kafka == from_file
