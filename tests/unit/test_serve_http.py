"""The HTTP face of serve: label rules, every series once, refusals in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from agents.exported import exported_metrics
from agents.failures import Unusable
from agents.results_api import create_web
from agents.serve import create_serving
from agents.serving import Serving
from agents.settings import Settings
from schemas.records import PublishedResult
from streams.config import CoreConfig
from streams.metrics import METRICS, Kind
from streams.metrics import Metric as Declared

CONFIG = Settings.from_mapping(
    {
        "windows": {"hopping": ["5m/10s", "1h/1m"]},
        "segments": {"persona": ["loyal"], "region": ["north"]},
        "channels": {"values": ["email"]},
    },
    source="test",
    environment={},
).core()


class FakeTail:
    """A tail that a test moves by hand."""

    def __init__(self) -> None:
        self.is_caught_up = True
        self.trouble: str | None = None
        self.records_read = 3

    async def batches(self) -> AsyncIterator[tuple[()]]:
        """Nothing comes by itself."""
        yield ()


def set_of(config: CoreConfig, window: str, end_ms: int, value: float | None) -> list[bytes]:
    """Every result of one window end, as the roll-up publishes them."""
    size, _, hop = window.partition("/")
    results: list[PublishedResult] = []
    wanted = [
        (metric, column)
        for metric in METRICS
        for column in config.segments.columns(metric.dimension)
    ]
    for metric, column in wanted:
        ratio = metric.kind is Kind.RATIO
        proportion = metric.has_interval and value is not None
        results.append(
            PublishedResult(
                metric=metric.name,
                window=size,
                hop=hop,
                at="1970-01-01T01:00:00Z",
                segment=column.segment,
                dimensions=column.dimensions,
                value=value,
                numerator=3 if ratio else None,
                denominator=0 if value is None and ratio else 4 if ratio else None,
                n=None,
                low=0.1 if proportion else None,
                high=0.9 if proportion else None,
                complete=True,
                result_id="",
                end_ms=end_ms,
                revision=0,
                watermark_ms=end_ms,
                missing_partitions=0,
                results_in_tick=len(wanted),
            )
        )
    return [msgspec.json.encode(one) for one in results]


def serving_of(tail: FakeTail) -> Serving:
    """A serving state of the test's configuration."""
    return Serving(
        windows=[(str(window), window.hop_ms) for window in CONFIG.windows.windows],
        segments={
            "persona": ("loyal", "other", "unknown"),
            "region": ("north", "other", "unknown"),
        },
        channels=CONFIG.segments.channel.all,
        metrics=exported_metrics(),
        tail=tail,
    )


@pytest.fixture
def tail() -> FakeTail:
    return FakeTail()


@pytest.fixture
def serving(tail: FakeTail) -> Serving:
    return serving_of(tail)


@pytest.fixture
async def client(serving: Serving) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(create_web(serving), host="127.0.0.1")) as one:
        yield one
        serving.is_ending = True


def number_of_series(config: CoreConfig) -> int:
    """How many business series `/metrics` has: fixed by the configuration alone."""
    a_window = sum(
        _samples(metric) * len(config.segments.columns(metric.dimension)) for metric in METRICS
    )
    return len(config.windows.windows) * (a_window + 1)


def _samples(metric: Declared) -> int:
    """The value, numerator and denominator of a ratio, both ends of an interval."""
    return 1 + (2 if metric.kind is Kind.RATIO else 0) + (2 if metric.has_interval else 0)


async def families(client: TestClient[Any, Any]) -> list[Metric]:
    """`/metrics`, parsed by Prometheus' own parser."""
    answer = await client.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return list(text_string_to_metric_families(await answer.text()))


def business(found: list[Metric]) -> list[Metric]:
    """Without what serve says of itself."""
    return [one for one in found if not one.name.startswith("heartline_serve_")]


async def test_every_series_appears_exactly_once_with_one_set_of_labels_a_name(
    client: TestClient[Any, Any], serving: Serving
) -> None:
    serving.take(set_of(CONFIG, "5m/10s", 3_600_000, 0.5))
    serving.take(set_of(CONFIG, "1h/1m", 3_600_000, 0.5))
    found = business(await families(client))
    samples = [sample for family in found for sample in family.samples]
    counted = Counter((one.name, tuple(sorted(one.labels.items()))) for one in samples)
    assert set(counted.values()) == {1}
    assert len(samples) == number_of_series(CONFIG)
    assert all(one.timestamp is None for one in samples)
    labels: dict[str, set[tuple[str, ...]]] = {}
    for one in samples:
        labels.setdefault(one.name, set()).add(tuple(sorted(one.labels)))
    assert {len(sets) for sets in labels.values()} == {1}
    assert labels["heartline_orders"] == {("persona", "region", "window")}
    assert labels["heartline_sessions_closed"] == {("channel", "persona", "region", "window")}


async def test_a_dimension_of_ones_own_is_a_label_and_a_segment_as_a_persona_is(
    tail: FakeTail,
) -> None:
    settings = Settings.from_mapping(
        {
            "windows": {"hopping": ["5m/10s"]},
            "segments": {"tier": ["gold"], "region": ["north"]},
        },
        source="test",
        environment={},
    )
    configured = create_serving(settings).status()["segments"]
    assert configured == {
        "tier": ["gold", "other", "unknown"], "region": ["north", "other", "unknown"],
    }  # fmt: skip
    serving = Serving(
        windows=[("5m/10s", 10_000)],
        segments={name: tuple(values) for name, values in configured.items()},
        channels=(),
        metrics=exported_metrics(),
        tail=tail,
    )
    serving.take(set_of(settings.core(), "5m/10s", 3_600_000, 1.0))
    async with TestClient(TestServer(create_web(serving), host="127.0.0.1")) as client:
        (orders,) = [one for one in await families(client) if one.name == "heartline_orders"]
        labels = [tuple(sorted(one.labels.items())) for one in orders.samples]
        assert (("region", "all"), ("tier", "gold"), ("window", "5m")) in labels
        assert len(labels) == len(settings.core().segments.columns())
        answer = await client.get("/api/v1/results?metric=orders&segment=tier=gold")
        assert [one["segment"] for one in (await answer.json())["results"]] == [{"tier": "gold"}]
        serving.is_ending = True


async def test_names_follow_prometheus_rules(
    client: TestClient[Any, Any], serving: Serving
) -> None:
    serving.take(set_of(CONFIG, "5m/10s", 3_600_000, 0.5))
    found = await families(client)
    for family in business(found):
        assert family.type == "gauge"
        assert family.documentation
        assert not family.name.endswith("_total")
    names = {family.name for family in found}
    for suffix in ("", "_numerator", "_denominator", "_low", "_high"):
        assert f"heartline_retention_ratio{suffix}" in names
    assert "heartline_average_order_value_numerator" in names
    assert "heartline_average_order_value_low" not in names
    assert "heartline_orders_numerator" not in names


async def test_everyone_is_all_and_segments_never_combine(
    client: TestClient[Any, Any], serving: Serving
) -> None:
    serving.take(set_of(CONFIG, "5m/10s", 3_600_000, 7))
    orders = next(one for one in await families(client) if one.name == "heartline_orders")
    labels = [one.labels for one in orders.samples]
    assert {"window": "5m", "persona": "all", "region": "all"} in labels
    assert {"window": "5m", "persona": "loyal", "region": "all"} in labels
    assert {"window": "5m", "persona": "all", "region": "north"} in labels
    assert all("all" in (one["persona"], one["region"]) for one in labels)


async def test_what_is_undefined_is_absent_but_its_denominator_is_not(
    client: TestClient[Any, Any], serving: Serving
) -> None:
    serving.take(set_of(CONFIG, "5m/10s", 3_600_000, None))
    names = {family.name for family in await families(client)}
    assert "heartline_churn_ratio" not in names
    assert "heartline_churn_ratio_low" not in names
    assert "heartline_churn_ratio_denominator" in names
    assert "NaN" not in await (await client.get("/metrics")).text()


async def test_the_end_of_what_is_shown_is_exported(
    client: TestClient[Any, Any], serving: Serving
) -> None:
    serving.take(set_of(CONFIG, "5m/10s", 3_600_000, 1))
    serving.take(set_of(CONFIG, "5m/10s", 3_610_000, 1)[:-1])
    ends = next(
        one
        for one in await families(client)
        if one.name == "heartline_result_end_timestamp_seconds"
    )
    assert [(one.labels, one.value) for one in ends.samples] == [({"window": "5m"}, 3_600)]


async def test_results_can_be_chosen_and_carry_their_history(
    client: TestClient[Any, Any], serving: Serving
) -> None:
    for step in range(3):
        serving.take(set_of(CONFIG, "5m/10s", 3_600_000 + 10_000 * step, step))
    query = "metric=orders&window=5m&segment=persona=loyal&history=2"
    answer = await (await client.get(f"/api/v1/results?{query}")).json()
    assert [one["value"] for one in answer["results"]] == [2]
    assert answer["results"][0]["segment"] == {"persona": "loyal"}
    assert answer["results"][0]["history"] == [
        [3_610_000, 1, None, None],
        [3_620_000, 2, None, None],
    ]
    assert answer["windows"][0]["name"] == "5m/10s"
    totals = await (
        await client.get("/api/v1/results?segment=everyone&dimension=total&window=5m/10s")
    ).json()
    assert len(totals["results"]) == len(METRICS)


@pytest.mark.parametrize(
    "query,words",
    [
        ("window=3m", "unknown window '3m': configured are 5m/10s, 1h/1m"),
        ("metric=nothing", "unknown metric 'nothing'"),
        ("history=9999", "history takes the number of points"),
        ("history=-1", "history takes the number of points"),
        ("metrics=orders", "unknown parameter 'metrics'"),
    ],
)
async def test_what_does_not_exist_is_refused_in_plain_words(
    client: TestClient[Any, Any], query: str, words: str
) -> None:
    answer = await client.get(f"/api/v1/results?{query}")
    assert answer.status == 400
    assert words in (await answer.json())["error"]


async def test_ready_only_when_the_topic_was_read_to_its_end(
    client: TestClient[Any, Any], tail: FakeTail
) -> None:
    assert (await client.get("/readyz")).status == 200
    tail.is_caught_up = False
    assert (await client.get("/readyz")).status == 503
    tail.is_caught_up, tail.trouble = True, "no Kafka"
    answer = await client.get("/readyz")
    assert (answer.status, await answer.text()) == (503, "no Kafka\n")
    assert (await client.get("/healthz")).status == 200


async def test_undecodable_records_are_counted_and_stop_nothing(
    client: TestClient[Any, Any], serving: Serving
) -> None:
    serving.take([b"{", b'{"metric":1}', None, *set_of(CONFIG, "5m/10s", 3_600_000, 1)])
    status = await (await client.get("/api/v1/status")).json()
    assert status["undecodable"] == 2
    assert status["windows"][0]["end_ms"] == 3_600_000
    assert status["windows"][1]["end_ms"] is None


async def test_the_page_carries_a_policy_that_admits_only_itself(
    client: TestClient[Any, Any],
) -> None:
    answer = await client.get("/")
    text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert (await client.get("/nothing")).status == 404


async def test_the_stream_tells_of_every_new_snapshot(
    client: TestClient[Any, Any], serving: Serving
) -> None:
    async with client.get("/api/v1/stream") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert await answer.content.readuntil(b"\n\n") == (
            b'event: snapshot\ndata: {"version":0}\n\n'
        )
        serving.take(set_of(CONFIG, "5m/10s", 3_600_000, 1))
        assert b'"version":1' in await answer.content.readuntil(b"\n\n")


async def test_nothing_is_shown_before_the_topic_was_read_to_its_end(
    client: TestClient[Any, Any], serving: Serving, tail: FakeTail
) -> None:
    tail.is_caught_up = False
    serving.take(set_of(CONFIG, "5m/10s", 3_600_000, 1))
    assert not serving.board.snapshot.windows
    tail.is_caught_up = True
    serving.take(())
    assert serving.board.snapshot.windows["5m/10s"].end_ms == 3_600_000


async def test_a_value_that_reads_like_everyone_is_refused() -> None:
    settings = Settings.from_mapping(
        {"segments": {"persona": ["all"]}}, source="test", environment={}
    )
    with pytest.raises(Unusable, match="that means everyone"):
        create_serving(settings)
