"""Serve against a broker: it finds what is there, waits for what is not, and follows."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiokafka
import msgspec
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents.board import Series
from agents.results_api import create_web
from agents.serve import create_serving
from agents.serving import Serving
from agents.settings import Settings
from schemas.records import PublishedResult
from tests.rig.brokers import Broker
from tests.rig.processes import PATIENCE_SECONDS

pytestmark = pytest.mark.timeout(300)

HOUR_MS = 3_600_000
NOW_MS = int(time.time() * 1000)


def settings_of(broker: Broker, prefix: str) -> Settings:
    """A small installation of its own on the broker."""
    return Settings.from_mapping(
        {
            "kafka": {"bootstrap": broker.bootstrap, "topic_prefix": prefix},
            "windows": {"hopping": ["1m/10s", "1h/1m"]},
        },
        source="test",
        environment={},
    )


def tick(end_ms: int, value: float, *, missing: int = 0, revision: int = 1) -> list[bytes]:
    """Two metrics of the shorter window."""
    return [
        msgspec.json.encode(
            PublishedResult(
                metric=metric,
                window="1m",
                hop="10s",
                at="",
                segment={},
                dimensions={},
                value=value,
                numerator=None,
                denominator=None,
                n=None,
                low=None,
                high=None,
                complete=True,
                result_id=f"{metric}|1m|10s|{end_ms}",
                end_ms=end_ms,
                revision=revision,
                watermark_ms=end_ms,
                missing_partitions=missing,
                results_in_tick=2,
            )
        )
        for metric in ("orders", "buyers")
    ]


async def create_topic(broker: Broker, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


async def publish(
    broker: Broker, topic: str, payloads: Sequence[bytes], *, at_ms: int | None = None
) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    try:
        for payload in payloads:
            await producer.send_and_wait(topic, payload, key=b"k", timestamp_ms=at_ms)
    finally:
        await producer.stop()


@contextlib.asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[Serving]:
    """A serving state that reads the broker."""
    serving = create_serving(settings)
    task = asyncio.create_task(serving.follow())
    try:
        yield serving
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)


def orders(serving: Serving) -> float | None:
    """What is shown as orders."""
    window = serving.board.snapshot.windows.get("1m/10s")
    return None if window is None else window.results[Series("orders")].value


async def test_serve_waits_for_its_topic_then_reads_follows_and_starts_again(
    broker: Broker,
) -> None:
    prefix = f"serve-{uuid.uuid4().hex[:8]}"
    settings = settings_of(broker, prefix)
    topic = settings.topics().results
    async with following(settings) as serving:
        await until(lambda: "does not exist yet" in (serving.not_ready() or ""), "told to wait")
        await create_topic(broker, topic)
        await until(lambda: serving.not_ready() is None, "ready")
        assert orders(serving) is None
        await publish(broker, topic, tick(NOW_MS, 1))
        await until(lambda: orders(serving) == 1, "the first set")
        await publish(broker, topic, tick(NOW_MS + 10_000, 2, missing=1))
        await publish(broker, topic, tick(NOW_MS + 10_000, 3, revision=2)[:1])
        await asyncio.sleep(1)
        assert orders(serving) == 1
        await publish(broker, topic, tick(NOW_MS + 10_000, 3, revision=2)[1:])
        await until(lambda: orders(serving) == 3, "the whole set")
    async with following(settings) as again:
        await until(lambda: again.not_ready() is None and orders(again) == 3, "the same again")
        async with (
            TestServer(create_web(again), host="127.0.0.1") as server,
            ClientSession() as web,
        ):
            async with web.get(server.make_url("/metrics")) as answer:
                text = await answer.text()
            assert 'heartline_orders{persona="all",region="all",window="1m"} 3.0' in text


async def test_after_a_long_pause_the_last_results_are_still_found(broker: Broker) -> None:
    prefix = f"serve-{uuid.uuid4().hex[:8]}"
    settings = settings_of(broker, prefix)
    topic = settings.topics().results
    await create_topic(broker, topic)
    last_ms = NOW_MS - 48 * HOUR_MS
    for hours_before in (60, 1, 0):
        at_ms = last_ms - hours_before * HOUR_MS
        await publish(broker, topic, tick(at_ms, hours_before + 5), at_ms=at_ms)
    async with following(settings) as serving:
        await until(lambda: serving.not_ready() is None, "ready")
        await until(lambda: orders(serving) == 5, "the last results")
        # Apache Kafka finds offsets by time: what is older than three hops was not even read.
        assert serving.records_read == (6 if broker.is_embedded else 4)


async def test_without_kafka_it_says_so_and_is_not_ready() -> None:
    absent = Broker(bootstrap="127.0.0.1:1", is_embedded=False)
    async with following(settings_of(absent, "serve")) as serving:
        await until(lambda: "no Kafka answers" in (serving.not_ready() or ""), "told")
        await asyncio.sleep(0.1)
