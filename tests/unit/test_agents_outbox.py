"""What waits to be sent, and what happens when it can't be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from agents.outbox import Outbox
from agents.publisher import Outgoing, Publisher, PublishFailed


class Sink(Publisher):
    """Takes what is published, until it is told to fail."""

    def __init__(self) -> None:
        super().__init__({}, deadline_s=1.0, idempotent=True)
        self.taken: list[bytes] = []
        self.fails = False

    async def publish(self, topic: str, records: Iterable[Outgoing]) -> dict[int, int]:
        await asyncio.sleep(0)
        if self.fails:
            raise PublishFailed(f"{topic}: not acknowledged")
        self.taken += [record.key for record in records]
        return {0: len(self.taken)}


def test_a_flush_sends_what_was_put_in_in_order() -> None:
    async def run() -> None:
        sink = Sink()
        outbox = Outbox(sink)
        for number in range(3):
            outbox.put("late", Outgoing(b"%d" % number, b""))
        await outbox.flush()
        assert sink.taken == [b"0", b"1", b"2"]
        assert outbox.published["late"] == 3

    asyncio.run(run())


@pytest.mark.timeout(20)
def test_a_failed_send_is_raised_again_by_every_later_flush() -> None:
    """It was lost on the way: an empty outbox must not be taken for a sent one, nor spin for ever."""

    async def run() -> None:
        sink = Sink()
        outbox = Outbox(sink)
        sink.fails = True
        outbox.put("late", Outgoing(b"1", b""))
        first, second = await asyncio.gather(outbox.flush(), outbox.flush(), return_exceptions=True)
        assert isinstance(first, PublishFailed)
        assert isinstance(second, PublishFailed)
        sink.fails = False
        with pytest.raises(PublishFailed):
            await outbox.flush()
        assert not sink.taken

    asyncio.run(run())
