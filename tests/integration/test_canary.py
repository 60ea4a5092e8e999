"""A customer whose id is a canary, in a whole hostile run: where the id is found, and where never.

Logs, metrics and accounts hold topic, partition, offset and reason. With hashed ids and without raw
bytes nothing that Heartline writes anywhere holds an id.
"""

import base64
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.reasons import Reason
from schemas.topics import Source
from tests.rig.brokers import Broker
from tests.rig.hostile import good_event, hostile, partition_of
from tests.rig.installation import Installation, canonical
from tests.rig.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CANARY = "canary-7f3a"
KEY = "0123456789abcdef" * 4
PARTITIONS = 2
HOSTILE = 1_500
GOOD = 500
START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
AT_MS = START_MS + 3_600_000
AT = "2026-03-01T01:00:00Z"
LATE_MS = START_MS - 40 * 86_400_000
AHEAD_MS = 4_102_444_800_000


class Sent(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes
    partition: int | None


def _with_canary(raw: bytes) -> bytes:
    return raw.replace(b'"customer_id": "c', b'"customer_id": "' + CANARY.encode() + b"-c")


def good() -> Iterator[tuple[Source, dict[str, Any]]]:
    draw = random.Random(5)
    for number in range(GOOD):
        source, event = good_event(draw, number, START_MS + number * 5_000, prefix="good-")
        event["customer_id"] = f"{CANARY}-{event['customer_id']}"
        yield source, event


def records(topics: tuple[str, ...]) -> Iterator[Sent]:
    """Good events, hostile ones and late ones, all of customers with the canary in their id."""
    for source, event in good():
        key = event["customer_id"].encode()
        yield Sent(topics[source], key, json.dumps(event).encode(), partition_of(key, PARTITIONS))
    for one in hostile(HOSTILE, at_ms=START_MS, future_ms=AHEAD_MS, partitions=PARTITIONS, seed=6):
        if one.reason is Reason.WRONG_PARTITION:
            # With the canary in its key it may belong where it is.
            continue
        key = None if one.key is None else CANARY.encode() + b"-" + one.key
        yield Sent(topics[one.source], key, _with_canary(one.payload), one.partition)
    for source in Source:
        for partition in range(PARTITIONS):
            passed = {"type": "time_passed", "until": START_MS + 7_200_000}
            yield Sent(topics[source], None, json.dumps(passed).encode(), partition)


def late(topics: tuple[str, ...]) -> Iterator[Sent]:
    for number in range(20):
        key = f"{CANARY}-c{number}".encode()
        event = {
            "type": "page_viewed",
            "event_id": f"late-{number}",
            "customer_id": key.decode(),
            "occurred_at": LATE_MS,
            "page": "/",
        }
        yield Sent(topics[0], key, json.dumps(event).encode(), partition_of(key, PARTITIONS))


def holds_canary(raw: bytes | None) -> bool:
    """As it is, or in base64 at any of its three alignments."""
    if raw is None:
        return False
    inside = (base64.b64encode(b"x" * shift + CANARY.encode())[4:-4] for shift in range(3))
    return CANARY.encode() in raw or any(one in raw for one in inside)


def test_the_search_finds_a_canary_in_base64() -> None:
    for shift in range(6):
        assert holds_canary(base64.b64encode(b"y" * shift + CANARY.encode() + b"tail"))
    assert not holds_canary(base64.b64encode(b"something else entirely"))


@pytest.mark.parametrize("is_private", [True, False], ids=["hashed", "as-they-are"])
def test_ids_are_never_logged_and_hashed_ones_are_nowhere_embedded(
    embedded_broker: Broker, tmp_path: Path, is_private: bool
) -> None:
    key_file = tmp_path / "hash-key"
    key_file.write_text(KEY)
    privacy: dict[str, object] = {"hash_key_file": str(key_file), "raw_bytes": False}
    settings: dict[str, dict[str, object]] = {
        "windows": {"hopping": ["1h/10m"]},
        "worker": {"log_level": "debug", "log_format": "json"},
    }
    if is_private:
        settings["privacy"] = privacy
    with Installation(
        embedded_broker, tmp_path, partitions=PARTITIONS, settings=settings
    ) as heartline:
        names = heartline.topics.names
        heartline.topics.produce(records(names.sources))
        summary = tmp_path / "summary.json"
        worker = heartline.worker("--summary", str(summary))
        serve = heartline.serve()
        rows = heartline.results(AT_MS, ["1h/10m"], seconds=60)
        file = tmp_path / "good.jsonl"
        file.write_text("".join(json.dumps(event) + "\n" for _, event in good()))
        # No number depends on whether ids are hashed: `evaluate` hashes none.
        evaluated = heartline.evaluate(file, "--at", AT, "--window", "1h/10m")
        everyone = [row for row in rows if not row["segment"]]
        assert canonical(everyone) == canonical(evaluated)
        heartline.topics.produce(late(names.sources))
        wait_until(
            lambda: sum(v for s, v in worker.samples() if "too_late" in s) >= 20,
            what="late records were refused",
        )
        doctor = heartline.run("doctor")
        shown = [
            worker.get("/metrics"),
            worker.get("/readyz"),
            serve.get("/metrics"),
            serve.get("/api/v1/results"),
            serve.get("/api/v1/status"),
            doctor.stdout,
            doctor.stderr,
        ]
        worker.process.stop()
        shown += [worker.process.output(), serve.process.output(), summary.read_text()]
        assert [text for text in shown if holds_canary(text.encode())] == []
        assert KEY not in "".join(shown)

        own = [names.state, names.partials, names.results, names.signals, names.alerts]
        letters = [names.dead_letters, names.late]

        def canaries(topic: str) -> int:
            return sum(
                holds_canary(message.key()) or holds_canary(message.value())
                for message in heartline.topics.read(topic, seconds=4, quiet_after=0.5)
            )

        # An empty one is listened to for all the seconds.
        topics = (*own, *letters)
        with ThreadPoolExecutor(len(topics)) as side_by_side:
            found = dict(zip(topics, side_by_side.map(canaries, topics), strict=True))
        if is_private:
            assert not any(found.values()), found
            # Under another key every customer would be a new one: the kept state is refused.
            key_file.write_text(KEY[::-1])
            other = heartline.start("worker", HEARTLINE_WORKER_PORT="0")
            assert other.wait(60) == 1
            assert "heartline state rebuild" in other.output()
            assert not any(key in other.output() for key in (KEY, KEY[::-1]))
        else:
            # What shows that the search works, and what the documents say: raw bytes travel.
            assert found[names.state] > 0
            assert found[names.dead_letters] > HOSTILE // 2
            assert found[names.late] == 20
            assert not any(found[topic] for topic in (names.partials, names.results))
