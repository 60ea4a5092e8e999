"""The same events give the same results, byte for byte, from a file, through Kafka and Faust, and on
/metrics.
"""

import datetime
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.metrics import BY_NAME, METRICS, Kind
from streams.segments import OWN_LABELS
from tests.rig.brokers import Broker
from tests.rig.exposition import Exposition, Series
from tests.rig.installation import Installation, Record, canonical
from tests.rig.processes import wait_until
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


def due(at_ms: int) -> tuple[str, ...]:
    """The windows that have a boundary there."""
    hops = {"10m": HOUR_MS // 6, "1h": HOUR_MS, "6h": 6 * HOUR_MS}
    return tuple(window for window in WINDOWS if at_ms % hops[window.partition("/")[2]] == 0)


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
        installation.topics.tell((source, event) for _, source, event in shuffled)
        moments = [START_MS + hour * HOUR_MS for hour in HOURS]
        installation.topics.pass_time(moments[-1] + 60_000)
        installation.worker()
        published = installation.results_at({at_ms: due(at_ms) for at_ms in moments}, seconds=180)
        by_windows: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for at_ms in moments:
            by_windows[due(at_ms)].append(at_ms)
        for windows, together in by_windows.items():
            asked = [part for at_ms in together for part in ("--at", moment(at_ms))]
            asked += [part for window in windows for part in ("--window", window)]
            from_file = installation.evaluate(file, *asked, "--by", "persona", "--by", "region")
            assert {row["at"] for row in from_file} == {moment(at_ms) for at_ms in together}
            from_kafka = [row for at_ms in together for row in published[at_ms]]
            assert canonical(from_kafka) == canonical(from_file)

        serve = installation.serve()
        wait_until(lambda: shows(serve.page(), moments[-1]), what="serve shows the last moment")
        page = serve.page()
        assert {series: value for series, value in page.samples.items() if is_business(series)} == {
            series: value for row in published[moments[-1]] for series, value in series_of(row)
        }
        assert {f"heartline_{metric.name}" for metric in METRICS} <= page.names()


def shows(page: Exposition, at_ms: int) -> bool:
    """Whether every window on /metrics ends at this moment."""
    ends = page.by("heartline_result_end_timestamp_seconds", "window")
    return len(ends) == len(WINDOWS) and set(ends.values()) == {at_ms / 1000}


def is_business(series: Series) -> bool:
    """Whether it is a figure of the windows, and not of the process that shows them."""
    name, labels = series
    return "window" in dict(labels) and name != "heartline_result_end_timestamp_seconds"


def series_of(row: Record) -> Iterator[tuple[Series, float]]:
    """What a result is on /metrics: what is undefined is absent."""
    metric = BY_NAME[row["metric"]]
    whole = ("persona", "region", *(OWN_LABELS[metric.dimension] if metric.dimension else ()))
    labels = dict.fromkeys(whole, "all") | row["segment"] | row["dimensions"]
    placed = tuple(sorted({"window": row["window"], **labels}.items()))
    parts = {"": "value", "_low": "low", "_high": "high"}
    if metric.kind is Kind.RATIO:
        parts |= {"_numerator": "numerator", "_denominator": "denominator"}
    for suffix, field in parts.items():
        if row[field] is not None:
            yield (f"heartline_{metric.name}{suffix}", placed), row[field]
