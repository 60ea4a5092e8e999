"""What the engine has to say to Kafka, on its way: partials, dead letters, late records.

The engine puts records in without waiting; one task sends whatever has gathered. So the number of
requests depends on how fast the broker answers, not on how many partitions report. The outbox is
bounded: whoever feeds it waits in `room` while LIMIT records or more are unsent. `flush` is what a
checkpoint waits for before it commits: everything put in before it is acknowledged then.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from agents.publisher import Outgoing, Publisher, PublishFailed

LIMIT = 4_000
_AT_ONCE = 1_000


class Outbox:
    """Records by topic, those of one topic in the order in which they were put in."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._waiting: dict[str, list[Outgoing]] = {}
        self._unsent = 0
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._sending = asyncio.Lock()
        self._failure: PublishFailed | None = None
        self.published: Counter[str] = Counter()

    def put(self, topic: str, record: Outgoing) -> None:
        """Take one record to send."""
        self._waiting.setdefault(topic, []).append(record)
        self._unsent += 1
        self._filled.set()
        if self._unsent >= LIMIT:
            self._has_room.clear()

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._has_room.wait()

    async def flush(self) -> None:
        """Send everything that is here, and wait until all of it is acknowledged. Raises
        PublishFailed, and from then on again: what was lost on the way stays lost, and nobody may
        take an empty outbox for a sent one.
        """
        async with self._sending:
            if self._failure is not None:
                raise self._failure
            while self._unsent:
                batches = {topic: records[:_AT_ONCE] for topic, records in self._waiting.items()}
                self._waiting = {
                    topic: records[_AT_ONCE:]
                    for topic, records in self._waiting.items()
                    if len(records) > _AT_ONCE
                }
                try:
                    await asyncio.gather(
                        *(self._publisher.publish(topic, batch) for topic, batch in batches.items())
                    )
                except PublishFailed as failure:
                    self._failure = failure
                    raise
                for topic, records in batches.items():
                    self._unsent -= len(records)
                    self.published[topic] += len(records)
                if self._unsent < LIMIT:
                    self._has_room.set()
            self._filled.clear()

    async def run(self) -> None:
        """Send for as long as we live."""
        while True:
            await self._filled.wait()
            await self.flush()
