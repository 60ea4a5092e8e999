"""Topics read once, from a moment to what was their end when reading began.

No consumer group, nothing committed. The end of a topic-partition is the high water of its first
fetch: `ListOffsets(latest)` is wrong on the embedded broker. Bounded in records by whoever asks, and
in time: nothing for `STALLED_S` ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from agents.failures import CommandFailed
from agents.kafka_client import let_go, reader

STALLED_S = 30.0
_POLL_MS = 250
_BATCH = 5_000

Handle = Callable[[str, int, list[Any]], None]
"""Told topic, partition and records, in the order of the partition."""


async def read_once(
    options: dict[str, Any],
    partitions: Mapping[str, int],
    handle: Handle,
    *,
    from_ms: int | None,
    limit: int,
    advance: Callable[[int], None] = lambda _read: None,
) -> bool:
    """Read topics, given with their number of partitions; True if ``limit`` cut it short.

    ``from_ms`` is the earliest record timestamp of interest (None: everything that is kept); a broker
    that can't look up times starts at the beginning. Raises `CommandFailed`.
    """
    consumer = reader(options, poll_ms=_POLL_MS)
    where = options["bootstrap_servers"]
    try:
        await consumer.start()
        places = [
            TopicPartition(topic, n) for topic, count in partitions.items() for n in range(count)
        ]
        consumer.assign(places)
        await _seek(consumer, places, from_ms)
        return await _read(consumer, places, handle, limit, advance)
    except (KafkaError, OSError) as error:
        raise CommandFailed(f"Kafka at {where}: {type(error).__name__} {error}") from error
    finally:
        await let_go(consumer)


async def _seek(
    consumer: AIOKafkaConsumer, places: list[TopicPartition], from_ms: int | None
) -> None:
    await consumer.seek_to_beginning(*places)
    if from_ms is None:
        return
    found = await consumer.offsets_for_times(dict.fromkeys(places, max(from_ms, 0)))
    later = [place for place in places if found.get(place) is not None]
    for place in later:
        consumer.seek(place, found[place].offset)
    # Nothing that young: the end is all there is to see.
    nothing = [place for place in places if found.get(place) is None]
    if nothing:
        await consumer.seek_to_end(*nothing)


async def _read(
    consumer: AIOKafkaConsumer,
    places: Iterable[TopicPartition],
    handle: Handle,
    limit: int,
    advance: Callable[[int], None],
) -> bool:
    ends: dict[TopicPartition, int] = {}
    waiting = set(places)
    read = 0
    heard_at = time.monotonic()
    while waiting:
        batches = await consumer.getmany(*waiting, timeout_ms=_POLL_MS, max_records=_BATCH)
        for place, records in batches.items():
            heard_at = time.monotonic()
            end = ends.setdefault(place, consumer.highwater(place) or 0)
            wanted = [record for record in records if record.offset < end][: limit - read]
            handle(place.topic, place.partition, wanted)
            read += len(wanted)
        advance(read)
        if read >= limit:
            return True
        for place in list(waiting):
            high_water = consumer.highwater(place)
            if high_water is None:
                continue
            if await consumer.position(place) >= ends.setdefault(place, high_water):
                waiting.discard(place)
        if time.monotonic() - heard_at > STALLED_S:
            names = ", ".join(f"{place.topic}/{place.partition}" for place in sorted(waiting))
            raise CommandFailed(f"Kafka gave nothing of {names} for {STALLED_S:.0f} s")
    return False
