"""What ``heartline doctor`` looks at. Each check yields findings: ok, warn or fail, with what to do.

The checks only read: they join no group, commit nothing and create nothing. Those that need the
broker run in the order broker, topics, records, lag, and each only makes sense after the one before.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from agents.kafka_admin import admin_client, lone_consumer
from agents.partitioners import hash_of
from agents.settings import Settings
from agents.topic_plan import Finding, check_topics

FAUST = "0.15.3"
PACKAGES = ("faust-streaming", "aiokafka", "kafka-python", "msgspec", "numpy", "orjson")
SAMPLED = 200
"""Newest records looked at in each topic-partition."""
SAMPLE_S = 10.0
SKEW_MS = 2_000
HIGH_LAG = 100_000
EMBEDDED_CLUSTER = "tansu"


def check_installation() -> Iterator[Finding]:
    """Versions, and what makes the difference between fast and slow."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            yield Finding("fail", "installation", f"{name} is missing: reinstall heartline")
    python = ".".join(str(part) for part in sys.version_info[:3])
    listed = ", ".join(f"{name} {number}" for name, number in found.items())
    yield Finding("ok", "installation", f"Python {python}, {listed}")
    if found.get("faust-streaming", FAUST) != FAUST:
        yield Finding(
            "fail",
            "installation",
            f"faust-streaming is {found['faust-streaming']}, but the transport is made for {FAUST}: "
            f"install faust-streaming=={FAUST}",
        )
    for name, effect in (
        ("uvloop", "the worker is slower"),
        ("crc32c", "replay and simulate are three times slower"),
    ):
        if find_spec(name) is None:
            yield Finding("warn", "installation", f"without {name} {effect}: pip install {name}")


def check_configuration(settings: Settings) -> Iterator[Finding]:
    """What the settings amount to. Raises the core's ConfigurationError for windows that don't fit."""
    core = settings.core(keyless=True)
    windows = ", ".join(str(window) for window in core.windows.windows)
    yield Finding("ok", "configuration", f"{settings.source}: windows {windows}")
    for kind in settings.activity.types:
        if kind not in {"page_viewed", "order_placed"}:
            yield Finding("warn", "configuration", f"[activity] types names {kind}: is it meant?")


def check_broker(settings: Settings) -> Iterator[Finding]:
    """Who answers. Raises kafka-python's errors if nobody does."""
    with admin_client(settings) as admin:
        cluster = admin.describe_cluster()
    brokers = cluster.get("brokers") or []
    name = str(cluster.get("cluster_id") or "")
    yield Finding(
        "ok",
        "broker",
        f"{settings.kafka.bootstrap} answers: cluster {name}, {len(brokers)} broker(s)",
    )
    if name.startswith(EMBEDDED_CLUSTER):
        yield Finding(
            "warn",
            "broker",
            "this is the embedded broker of the demo: it keeps everything in memory and knows "
            "neither transactions nor compaction; use Apache Kafka for real data",
        )
    elif len(brokers) < settings.kafka.replication:
        yield Finding(
            "fail",
            "broker",
            f"[kafka] replication is {settings.kafka.replication}, but there are {len(brokers)} brokers",
        )


def check_plan(settings: Settings) -> Iterator[Finding]:
    """Topics: existence, partitions, cleanup."""
    levels = {"wrong": "fail", "note": "warn"}
    good = 0
    for finding in check_topics(settings):
        if finding.level == "ok":
            good += 1
        else:
            yield Finding(levels[finding.level], "topics", f"{finding.topic} {finding.message}")
    yield Finding("ok", "topics", f"{good} topics are as they should be")


@dataclass(slots=True)
class Sample:
    """What a sample of the newest records of the inputs shows."""

    records: int = 0
    wrong_key: Counter[str] = field(default_factory=Counter)
    wrong_partition: Counter[str] = field(default_factory=Counter)
    fits_other: int = 0
    """Of those in a wrong partition, how many the other partitioner would put there."""
    ahead_ms: int = 0
    """The farthest a record timestamp lies ahead of the clock here."""
    future: int = 0
    """Events farther ahead of their record's timestamp than is accepted."""
    newest_ms: int | None = None


def check_records(settings: Settings) -> Iterator[Finding]:
    """Keys, partitions and clocks of the newest records."""
    sample = _sample(settings)
    if not sample.records:
        yield Finding("warn", "records", "the inputs are empty: nothing to look at yet")
        return
    configured = settings.kafka.partitioner
    if sample.wrong_key:
        yield Finding(
            "fail",
            "keys",
            f"{_share(sample.wrong_key, sample.records)} have a key that is not their customer_id: "
            "make the producer send customer_id as the record key",
        )
    if sample.wrong_partition:
        advice = f"the producer's partitioner is not {configured}"
        if sample.fits_other * 10 >= sample.wrong_partition.total() * 9:
            advice = (
                "the producer uses librdkafka's default: set its partitioner=murmur2_random, or set "
                'partitioner = "crc32" under [kafka] if all four do'
                if configured == "murmur2"
                else 'the producer uses the Java default: set partitioner = "murmur2" under [kafka]'
            )
        yield Finding(
            "fail", "keys", f"{_share(sample.wrong_partition, sample.records)} are in a wrong "
            f"partition: {advice}"
        )  # fmt: skip
    if not sample.wrong_key and not sample.wrong_partition:
        yield Finding(
            "ok", "keys", f"{sample.records:,} sampled records fit their key and partition"
        )
    yield from _clocks(sample)


def _clocks(sample: Sample) -> Iterator[Finding]:
    good = True
    if sample.ahead_ms > SKEW_MS:
        good = False
        yield Finding(
            "warn",
            "clock",
            f"record timestamps are up to {sample.ahead_ms / 1000:.1f} s ahead of the clock here: "
            "synchronise the clocks of producers, brokers and this machine (NTP)",
        )
    if sample.future:
        good = False
        yield Finding(
            "fail",
            "clock",
            f"{sample.future:,} of {sample.records:,} events lie in the future of their record: they "
            "become dead letters; correct the producer's clock",
        )
    if good and sample.newest_ms is not None:
        age_s = time.time() - sample.newest_ms / 1000
        yield Finding("ok", "clock", f"no skew seen; the newest record is {age_s:,.0f} s old")


def _share(counts: Counter[str], records: int) -> str:
    topics = ", ".join(f"{topic} {count:,}" for topic, count in counts.items())
    return f"{counts.total():,} of {records:,} sampled records ({topics})"


def check_lag(settings: Settings) -> Iterator[Finding]:
    """How far the worker group is behind the inputs."""
    from kafka import TopicPartition

    with lone_consumer(settings, settings.kafka.group) as consumer:
        places = [
            TopicPartition(topic, partition)
            for topic in settings.topics().sources
            for partition in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        ends = consumer.end_offsets(places)
        committed = {place: consumer.committed(place) for place in places}
    if all(offset is None for offset in committed.values()):
        yield Finding(
            "warn",
            "lag",
            f"the group {settings.kafka.group} has never committed: start one with `heartline worker`",
        )
        return
    lag = sum(max(0, ends[place] - (committed[place] or 0)) for place in places)
    level = "ok" if lag < HIGH_LAG else "warn"
    advice = "" if lag < HIGH_LAG else ": is a worker running? More workers share the partitions"
    yield Finding(
        level, "lag", f"the group {settings.kafka.group} is {lag:,} records behind{advice}"
    )


def _sample(settings: Settings) -> Sample:
    """The newest records of each topic-partition of the inputs."""
    from kafka import TopicPartition

    sample = Sample()
    now_ms = int(time.time() * 1000)
    with lone_consumer(settings) as consumer:
        places = [
            TopicPartition(topic, partition)
            for topic in settings.topics().sources
            for partition in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        counts = Counter(place.topic for place in places)
        consumer.assign(places)
        first, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        waiting = {place for place in places if ends[place] > first[place]}
        for place in places:
            consumer.seek(place, max(first[place], ends[place] - SAMPLED))
        deadline = time.monotonic() + SAMPLE_S
        while waiting and time.monotonic() < deadline:
            for place, records in consumer.poll(timeout_ms=500).items():
                for record in records:
                    _look_at(record, settings, counts[place.topic], now_ms, sample)
                if records[-1].offset + 1 >= ends[place]:
                    waiting.discard(place)
                    consumer.pause(place)
    return sample


def _look_at(record: Any, settings: Settings, partitions: int, now_ms: int, sample: Sample) -> None:
    from schemas.events import CustomerEvent
    from schemas.reasons import Rejected

    sample.newest_ms = max(sample.newest_ms or 0, record.timestamp)
    sample.ahead_ms = max(sample.ahead_ms, record.timestamp - now_ms)
    try:
        at_ms, event, _ = settings.decoder().decode(record.value)
    except Rejected:
        return
    if not isinstance(event, CustomerEvent):
        return
    sample.records += 1
    sample.future += at_ms > record.timestamp + settings.time.max_future_ms
    key = event.customer_id.encode()
    if record.key != key:
        sample.wrong_key[record.topic] += 1
        return
    configured = settings.kafka.partitioner
    other = "crc32" if configured == "murmur2" else "murmur2"
    if hash_of(configured)(key) % partitions != record.partition:
        sample.wrong_partition[record.topic] += 1
        sample.fits_other += hash_of(other)(key) % partitions == record.partition
