"""10,000 records that are no events, among good ones: each leaves one dead letter with the right
reason; no number changes and nothing stops.
"""

import base64
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.rig.brokers import Broker
from tests.rig.hostile import good_event, hostile
from tests.rig.installation import Installation, canonical

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

HOSTILE = 10_000
GOOD = 4_000
PARTITIONS = 4
START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
STEP_MS = 900
"""Between two good events: 4,000 of them fill an hour."""
AT_MS = START_MS + 3_600_000
AT = "2026-03-01T01:00:00Z"
WINDOWS = ("1h/10m", "2h/1h")
AHEAD_MS = 4_102_444_800_000  # 2100-01-01: ahead of any record timestamp of today


def test_hostile_records_leave_one_dead_letter_each_and_change_no_number(
    broker: Broker, tmp_path: Path
) -> None:
    draw = random.Random(11)
    good = [
        good_event(draw, number, START_MS + number * STEP_MS, prefix="good-")
        for number in range(GOOD)
    ]
    bad = list(hostile(HOSTILE, at_ms=START_MS, future_ms=AHEAD_MS, partitions=PARTITIONS, seed=12))
    settings = {"windows": {"hopping": list(WINDOWS)}}
    with Installation(broker, tmp_path, partitions=PARTITIONS, settings=settings) as installation:
        names = installation.topics.names
        records: list[tuple[str, bytes | None, bytes, int | None]] = []
        strangers = iter(bad)
        for source, event in good:
            key = str(event["customer_id"]).encode()
            records.append((names.sources[source], key, json.dumps(event).encode(), None))
            for _ in range(HOSTILE // GOOD + 1):
                if stranger := next(strangers, None):
                    where = (names.sources[stranger.source], stranger.key, stranger.payload)
                    records.append((*where, stranger.partition))
        assert next(strangers, None) is None
        installation.topics.produce(records)
        installation.topics.pass_time(AT_MS + 60_000)
        worker = installation.worker()
        through_kafka = installation.results(AT_MS, WINDOWS, seconds=180)

        letters = [
            json.loads(message.value())
            for message in installation.topics.read(names.dead_letters, seconds=120, quiet_after=5)
        ]
        assert len({(one["topic"], one["partition"], one["offset"]) for one in letters}) == HOSTILE
        assert len(letters) == HOSTILE
        assert Counter(one["reason"] for one in letters) == Counter(one.reason for one in bad)
        # By its payload each letter is told apart: the right reason stands on the right record.
        expected = Counter((one.payload[: 64 << 10], one.reason.value) for one in bad)
        told = Counter((base64.b64decode(one["payload"] or ""), one["reason"]) for one in letters)
        assert told == expected

        file = tmp_path / "good.jsonl"
        file.write_text("".join(json.dumps(event) + "\n" for _, event in good))
        windows = [part for window in WINDOWS for part in ("--window", window)]
        everyone = [row for row in through_kafka if not row["segment"]]
        evaluated = installation.evaluate(file, "--at", AT, *windows)
        assert canonical(everyone) == canonical(evaluated)

        assert worker.answers("/healthz")
        assert worker.process.exit_status is None
        page = worker.page()
        assert page.names()
