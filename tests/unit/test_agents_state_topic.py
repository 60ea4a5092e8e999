"""Reading the state topic up to an offset: progress, deadline, giving up."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pytest

from agents.state_topic import Progress, StateTopicReader, StateUnreadable


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


class Source:
    """Hands out what lies there, ``most`` records of a partition at a time."""

    def __init__(self, *partitions: Sequence[int], most: int = 2) -> None:
        self.partitions = partitions
        self.most = most
        self.polls = 0

    async def poll(self, positions: Mapping[int, int]) -> Mapping[int, Sequence[Record]]:
        await asyncio.sleep(0.001)
        self.polls += 1
        found = {}
        for n, at in positions.items():
            offsets = [offset for offset in self.partitions[n] if offset >= at][: self.most]
            if offsets:
                found[n] = [Record(offset, None, b"12345") for offset in offsets]
        return found

    async def stop(self) -> None:
        pass


def read(
    source: Source, starts: Mapping[int, int], ends: Mapping[int, int], *, deadline_s: float = 1.0
) -> tuple[list[tuple[int, int]], list[str]]:
    """What was applied, and the progress told on the way."""
    reader = StateTopicReader(source, topic="state", deadline_s=deadline_s)
    applied: list[tuple[int, int]] = []
    told: list[str] = []

    def apply(n: int, offset: int, key: bytes, value: bytes | None) -> None:
        assert key == b""
        assert value == b"12345"
        applied.append((n, offset))
        told.append(str(reader.progress))

    assert asyncio.run(reader.read(starts, ends, apply))
    assert reader.progress is None
    return applied, told


def test_every_partition_is_read_in_order_up_to_its_end() -> None:
    applied, told = read(Source(range(5), range(3)), {0: 0, 1: 1}, {0: 4, 1: 2})
    assert [at for n, at in applied if n == 0] == [0, 1, 2, 3, 4]
    assert [at for n, at in applied if n == 1] == [1, 2]
    assert told[0] == "0%, 0.0 MiB"
    assert told[-1].startswith("86%")


def test_gaps_that_compaction_left_count_as_read() -> None:
    applied, _ = read(Source([3, 90, 100]), {0: 0}, {0: 100})
    assert applied == [(0, 3), (0, 90), (0, 100)]


def test_nothing_to_read_is_read_at_once() -> None:
    source = Source(range(5))
    assert read(source, {0: 5}, {0: 4}) == ([], [])
    assert source.polls == 0


def test_a_broker_that_sends_nothing_more_is_noticed() -> None:
    with pytest.raises(
        StateUnreadable, match=r"nothing read for 0.02 s \(partition 0 stands at 2 of 9\)"
    ):
        read(Source(range(2)), {0: 0}, {0: 9}, deadline_s=0.02)


def test_a_slow_broker_has_as_long_as_it_takes() -> None:
    applied, _ = read(Source(range(60), most=1), {0: 0}, {0: 59}, deadline_s=0.05)
    assert len(applied) == 60


def test_a_reading_that_nobody_wants_any_more_is_given_up() -> None:
    async def run() -> None:
        reader = StateTopicReader(Source(), topic="state", deadline_s=1)
        assert not await reader.read({0: 0}, {0: 9}, lambda *_: None, wanted=lambda: False)
        assert reader.progress is None

    asyncio.run(run())


def test_the_progress_of_nothing_is_whole() -> None:
    assert Progress({0: 5}, {0: 4}).ratio == 1.0
