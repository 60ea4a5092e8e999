"""What the roll-up writes down for whoever has its seat next, and how a takeover reads it again.

Late events correct boundaries of a whole day (hop of 10 minutes or more). For that the roll-up must know
every partition's word on them, and what is out. In the partials topic these words lie among a hundred
times as many of the finer windows, so they are noted in a topic of their own: before each commit what was
read and published since the one before. A takeover reads that topic from the place that the commit names.

A note is a fact: that a stale seat writes one too, or a seat writes it twice, changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition

from agents.kafka_client import reader, stop
from agents.publisher import Outgoing, Publisher
from schemas.records import Partial, PublishedBoundary
from streams.rollup import RollUp

log = logging.getLogger(__name__)

_POLL_MS = 200
_WORD = b"word|"
_BOUNDARY = b"boundary|"
_ENCODE = msgspec.json.Encoder().encode
_DECODE_WORD = msgspec.json.Decoder(Partial).decode
_DECODE_BOUNDARY = msgspec.json.Decoder(PublishedBoundary).decode

Take = Callable[[int, int, bytes, bytes], None]
"""Takes (partition, offset, key, value)."""
Place = tuple[int, str, str]
"""Partition, window and hop of a word."""


async def read_to_end(
    client: Mapping[str, Any],
    topic: str,
    starts: Mapping[int, int],
    take: Take,
    wanted: Callable[[], bool],
) -> dict[int, int] | None:
    """Hand every record of ``topic`` to ``take``, of each partition from its start on; where each ends.

    The end is the high water of a fetch: the embedded broker's end offsets are wrong. None when it is
    ``wanted`` no more; no end at all where there is no such topic. Raises KafkaError, and what ``take``
    raises.
    """
    consumer = reader(client, poll_ms=_POLL_MS)
    await consumer.start()
    ends: dict[int, int] = {}
    try:
        # Asked for all topics: asking for one by name creates it on some brokers.
        if topic not in await consumer.topics():
            return {}
        inputs = [TopicPartition(topic, n) for n in starts]
        consumer.assign(inputs)
        for tp in inputs:
            if start := starts[tp.partition]:
                consumer.seek(tp, start)
            else:
                await consumer.seek_to_beginning(tp)
        while len(ends) < len(inputs):
            if not wanted():
                return None
            for tp, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                for record in records:
                    if record.value is not None:
                        take(tp.partition, record.offset, record.key or b"", record.value)
                # Thousands are read in one go, and a rebalance must be heard of in between.
                await asyncio.sleep(0)
            for tp in inputs:
                high_water, at = consumer.highwater(tp), await consumer.position(tp)
                if high_water is not None and at >= high_water:
                    ends[tp.partition] = at
    finally:
        await stop(consumer)
    return ends


class RollUpMemory:
    """The notes of one tenure of the seat."""

    def __init__(self, topic: str, publisher: Publisher) -> None:
        self._topic = topic
        self._publisher = publisher
        self._next: int | None = None
        """The end of the topic; None where there is none: then nothing is noted."""
        self._words: dict[Place, deque[tuple[int, int]]] = defaultdict(deque)
        """Offset and boundary of each word that may still be needed."""

    async def recall(
        self, client: Mapping[str, Any], core: RollUp, start: int, wanted: Callable[[], bool]
    ) -> bool:
        """Let ``core`` know what former seats have noted; False when it is ``wanted`` no more.

        Raises KafkaError.
        """

        def take(_partition: int, offset: int, key: bytes, value: bytes) -> None:
            if key.startswith(_BOUNDARY):
                core.recall_boundary(_DECODE_BOUNDARY(value))
            else:
                word = _DECODE_WORD(value)
                if core.recall_word(word):
                    self._note(word, offset)

        ends = await read_to_end(client, self._topic, {0: start}, take, wanted)
        if ends is None:
            return False
        if not ends:
            log.warning(
                "there is no topic %s: what late events correct is not published once another worker "
                "has taken the roll-up. Create it with: heartline topics create",
                self._topic,
            )
        self._next = ends.get(0)
        return True

    async def write(self, core: RollUp) -> None:
        """Note down what is new. Raises PublishFailed."""
        words, boundaries = core.take_notes()
        if self._next is None or not (words or boundaries):
            return
        # Words first: a boundary that is known to be out can be computed.
        records = [Outgoing(_WORD + word.key, _ENCODE(word), 0) for word in words]
        records += [Outgoing(_BOUNDARY + one.key, _ENCODE(one), 0) for one in boundaries]
        last = await self._publisher.publish(self._topic, records)
        for word in words:
            # A stale seat may have written in between: not before here.
            self._note(word, self._next)
        self._next = last[0] + 1

    def needed(self, core: RollUp) -> int:
        """From where a successor has to read."""
        for (_, window, hop), words in self._words.items():
            oldest = core.oldest_ms(window, hop)
            # The first word holds until the second one's boundary.
            while len(words) > 1 and words[1][1] <= oldest:
                words.popleft()
        return min((words[0][0] for words in self._words.values()), default=self._next or 0)

    def _note(self, word: Partial, offset: int) -> None:
        if not word.is_correction:
            place = (word.partition, word.window, word.hop)
            self._words[place].append((offset, word.end_ms))
