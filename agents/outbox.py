"""Partials on their way to the partials topic.

The engine puts them in without waiting; one task sends whatever has gathered. So the number of requests
depends on how fast the broker answers, not on how many partitions report. The outbox is bounded: whoever
feeds it waits in `room` while more than LIMIT partials are unsent.
"""

from __future__ import annotations

import asyncio

import msgspec

from agents.publisher import Outgoing, Publisher
from schemas.records import Partial

LIMIT = 4_000
_AT_ONCE = 1_000


class Outbox:
    """Encoded partials, in the order in which they were reported."""

    def __init__(self, topic: str, publisher: Publisher) -> None:
        self._topic = topic
        self._publisher = publisher
        self._encode = msgspec.json.Encoder().encode
        self._waiting: list[Outgoing] = []
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.published = 0

    def put(self, partial: Partial) -> None:
        """Take one partial to send."""
        self._waiting.append(Outgoing(partial.key, self._encode(partial)))
        self._filled.set()
        if len(self._waiting) >= LIMIT:
            self._has_room.clear()

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._has_room.wait()

    async def send_waiting(self) -> None:
        """Send what is there, acknowledged. Raises PublishFailed."""
        while self._waiting:
            run, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            await self._publisher.publish(self._topic, run)
            self.published += len(run)
            if len(self._waiting) < LIMIT:
                self._has_room.set()
        self._filled.clear()

    async def run(self) -> None:
        """Send for as long as we live."""
        while True:
            await self._filled.wait()
            await self.send_waiting()
