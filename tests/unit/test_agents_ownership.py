"""Takeover, memory over a rebalance, and standby, against a log in memory."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import pytest

from agents.ownership import Ownership, Takeover, Terms
from agents.publisher import Outgoing, Publisher
from agents.state_topic import StateUnreadable
from streams.checkpoint import Keeper, LogRecord
from streams.claims import Claim, StateRefused
from streams.config import CoreConfig
from streams.partition import Partition
from streams.state_log import StateLog

TOPIC = "heartline.state"
CONFIG = CoreConfig()


class Record(NamedTuple):
    offset: int
    key: bytes
    value: bytes | None


class Log:
    """The state topic in memory: a publisher and a source of it."""

    def __init__(self, partitions: int = 2) -> None:
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.before_publish: Callable[[], None] = lambda: None
        self.polled: list[int] = []
        self.is_silent = False

    def append(self, partition: int, key: bytes, value: bytes | None) -> int:
        at = len(self.records[partition])
        self.records[partition].append(Record(at, key, value))
        return at

    async def publish(self, topic: str, records: Iterable[Outgoing]) -> dict[int, int]:
        assert topic == TOPIC
        self.before_publish()
        ends = {}
        for key, value, partition in records:
            assert partition is not None
            ends[partition] = self.append(partition, key, value)
        return ends

    async def poll(self, positions: Mapping[int, int]) -> Mapping[int, Sequence[Record]]:
        await asyncio.sleep(0.001)
        if self.is_silent:
            return {}
        found = {n: self.records[n][at:] for n, at in positions.items() if self.records[n][at:]}
        self.polled += [record.offset for records in found.values() for record in records]
        return found

    async def stop(self) -> None:
        pass


class LogPublisher(Publisher):
    """The real one's interface on the log in memory."""

    def __init__(self, log: Log) -> None:
        super().__init__({}, deadline_s=1, idempotent=False)
        self._log = log

    async def publish(self, topic: str, records: Iterable[Outgoing]) -> dict[int, int]:
        return await self._log.publish(topic, records)


def ownership(
    log: Log,
    writer: str,
    *,
    terms: Terms | None = None,
    deadline_s: float = 5.0,
    standby: bool = True,
) -> Ownership:
    return Ownership(
        topic=TOPIC,
        writer=writer,
        publisher=LogPublisher(log),
        source=log,
        terms=terms or Terms(partitions=2, partitioner="murmur2"),
        deadline_s=deadline_s,
        standby=standby,
    )


async def take_over(
    owner: Ownership,
    partitions: Collection[int] = (0,),
    *,
    tenure: int = 1,
    kept: Collection[int] = (),
    proofs: list[bool] | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> dict[int, Takeover] | None:
    answers = iter(proofs or [])

    async def prove() -> bool:
        return next(answers, True)

    return await owner.take_over(partitions, tenure=tenure, kept=kept, prove=prove, wanted=wanted)


async def owned(owner: Ownership, tenure: int = 1) -> Claim:
    """Take partition 0 over and restore it."""
    found = await take_over(owner, tenure=tenure)
    assert found is not None
    owner.restored(0)
    return found[0].claim


def checkpoint(log: Log, claim: Claim) -> int:
    """A checkpoint of a fresh partition; the offset of its marker."""
    taken = Keeper(Partition(CONFIG), claim).checkpoint([LogRecord(b"partial", b"p")])
    assert taken is not None
    return [log.append(0, r.key, r.value) for r in (*taken.chunks, taken.marker)][-1]


def test_the_first_takeover_finds_an_empty_log_and_a_new_partition() -> None:
    async def run() -> None:
        log = Log()
        owner = ownership(log, "a")
        found = await take_over(owner, (0, 1))
        assert found is not None
        assert {n: one.claim for n, one in found.items()} == {
            0: Claim(1, "a.1"),
            1: Claim(1, "a.1"),
        }
        assert isinstance(found[0].log, StateLog)
        assert owner.progress is None

    asyncio.run(run())


def test_without_a_proof_of_membership_nothing_is_claimed() -> None:
    async def run() -> None:
        log = Log()
        assert await take_over(ownership(log, "a"), proofs=[False]) is None
        assert log.records == [[], []]

    asyncio.run(run())


def test_a_takeover_that_nobody_wants_any_more_claims_nothing() -> None:
    async def run() -> None:
        log = Log()
        assert await take_over(ownership(log, "a"), wanted=lambda: False) is None
        assert log.records == [[], []]

    asyncio.run(run())


def test_a_revocation_in_the_middle_of_reading_gives_the_takeover_up() -> None:
    async def run() -> None:
        log = Log()
        log.is_silent = True
        answers = iter([True, True, False])
        assert await take_over(ownership(log, "a"), wanted=lambda: next(answers)) is None

    asyncio.run(run())


def test_who_is_beaten_to_an_epoch_claims_the_next_one() -> None:
    async def run() -> None:
        log = Log()
        rivals = [Claim(1, "b.1")]

        def claim_first() -> None:
            if rivals:
                log.append(0, rivals.pop().key, b"")

        log.before_publish = claim_first
        found = await take_over(ownership(log, "a"))
        assert found is not None
        assert found[0].claim == Claim(2, "a.1")

    asyncio.run(run())


def test_memory_stands_when_nobody_claimed_in_between_and_only_the_tail_is_read() -> None:
    async def run() -> None:
        log = Log()
        owner = ownership(log, "a")
        claim = await owned(owner)
        owner.confirmed({0: checkpoint(log, claim)})
        log.polled.clear()
        found = await take_over(owner, tenure=2, kept={0})
        assert found is not None
        assert found[0] == Takeover(Claim(2, "a.2"), None)
        assert log.polled == [3]

    asyncio.run(run())


def test_memory_is_given_up_when_somebody_claimed_in_between() -> None:
    async def run() -> None:
        log = Log()
        owner, other = ownership(log, "a"), ownership(log, "b")
        await owned(owner)
        checkpoint(log, await owned(other, 2))
        found = await take_over(owner, tenure=3, kept={0})
        assert found is not None
        assert found[0].claim == Claim(3, "a.3")
        assert found[0].log is not None
        assert found[0].log.describe().marker == "m|2|b.2|1"

    asyncio.run(run())


def test_a_claim_of_ours_that_led_to_no_tenure_costs_no_memory() -> None:
    async def run() -> None:
        log = Log()
        owner = ownership(log, "a")
        await owned(owner)
        await take_over(owner, tenure=2, kept={0})
        found = await take_over(owner, tenure=3, kept={0})
        assert found is not None
        assert found[0].log is None

    asyncio.run(run())


def test_a_foreign_claim_counts_even_if_we_claimed_again_after_it() -> None:
    async def run() -> None:
        log = Log()
        owner = ownership(log, "a")
        await owned(owner)
        log.append(0, Claim(2, "b.2").key, b"")
        # Given up after the claim was read: the generation changed.
        await take_over(owner, tenure=3, kept={0})
        found = await take_over(owner, tenure=4, kept={0})
        assert found is not None
        assert found[0].log is not None

    asyncio.run(run())


def test_what_is_not_settled_is_read_again() -> None:
    async def run() -> None:
        log = Log()
        owner = ownership(log, "a")
        claim = await owned(owner)
        checkpoint(log, claim)
        found = await take_over(owner, tenure=2, kept=())
        assert found is not None
        assert found[0].log is not None
        assert found[0].log.describe().marker == "m|1|a.1|1"

    asyncio.run(run())


def test_the_standby_reads_ahead_so_that_a_takeover_reads_the_tail() -> None:
    async def run() -> None:
        log = Log()
        checkpoint(log, await owned(ownership(log, "a")))
        second = ownership(log, "b")
        following = asyncio.create_task(second.follow())
        await asyncio.sleep(0.02)
        assert log.polled == [0, 0, 1, 2]
        log.polled.clear()
        found = await take_over(second, tenure=2)
        following.cancel()
        assert found is not None
        assert found[0].log is not None
        assert found[0].log.describe().marker == "m|1|a.1|1"
        assert log.polled == [3]

    asyncio.run(run())


def test_the_standby_leaves_out_what_is_ours_and_begins_again_with_what_was() -> None:
    async def run() -> None:
        log = Log(1)
        owner = ownership(log, "a", terms=Terms(partitions=1))
        checkpoint(log, await owned(owner))
        log.polled.clear()
        following = asyncio.create_task(owner.follow())
        await asyncio.sleep(0.02)
        assert log.polled == []
        following.cancel()
        owner.release(())
        following = asyncio.create_task(owner.follow())
        await asyncio.sleep(0.02)
        following.cancel()
        assert log.polled == [0, 1, 2]

    asyncio.run(run())


def test_without_standby_nothing_is_followed() -> None:
    async def run() -> None:
        log = Log()
        checkpoint(log, await owned(ownership(log, "a")))
        log.polled.clear()
        await ownership(log, "b", standby=False).follow()
        assert log.polled == []

    asyncio.run(run())


def test_a_damaged_log_ends_who_takes_it_over_and_not_who_stands_by() -> None:
    async def run() -> None:
        log = Log()
        log.append(0, b"hello", b"")
        owner = ownership(log, "a")
        following = asyncio.create_task(owner.follow())
        await asyncio.sleep(0.02)
        assert not following.done()
        with pytest.raises(StateRefused, match="offset 0"):
            await take_over(owner)
        following.cancel()

    asyncio.run(run())


def test_a_silent_broker_is_noticed_and_named() -> None:
    async def run() -> None:
        log = Log()
        log.is_silent = True
        with pytest.raises(StateUnreadable, match="partition 0 stands at 0 of 0"):
            await take_over(ownership(log, "a", deadline_s=0.02))

    asyncio.run(run())


@pytest.mark.parametrize(
    "theirs, words",
    [
        (Terms(partitions=4, partitioner="murmur2"), "made of 4 partitions"),
        (Terms(partitions=2, partitioner="crc32"), "the partitioner crc32"),
        (Terms(partitions=2, topic_ids={"s": "1"}), "recreated since"),
    ],
)
def test_a_state_under_other_terms_is_refused_with_the_way_out(theirs: Terms, words: str) -> None:
    async def run() -> None:
        log = Log()
        log.append(0, Claim(1, "b.1").key, msgspec.json.encode(theirs))
        ours = Terms(partitions=2, partitioner="murmur2", topic_ids={"s": "2"})
        with pytest.raises(StateRefused, match=words) as refused:
            await take_over(ownership(log, "a", terms=ours))
        assert "heartline state rebuild" in str(refused.value)

    asyncio.run(run())


@pytest.mark.parametrize(
    "theirs",
    [
        Terms(),
        Terms(partitions=2, partitioner="murmur2", topic_ids={"s": "2"}),
        Terms(partitions=2, topic_ids={"t": "1"}),
    ],
    ids=["said nothing", "the same", "of other topics"],
)
def test_a_state_under_the_same_terms_is_taken(theirs: Terms) -> None:
    async def run() -> None:
        log = Log()
        log.append(0, Claim(1, "b.1").key, msgspec.json.encode(theirs))
        ours = Terms(partitions=2, partitioner="murmur2", topic_ids={"s": "2"})
        found = await take_over(ownership(log, "a", terms=ours))
        assert found is not None
        assert found[0].claim.epoch == 2

    asyncio.run(run())


def test_a_damaged_claim_is_refused() -> None:
    async def run() -> None:
        log = Log()
        log.append(0, Claim(1, "b.1").key, b"{")
        with pytest.raises(StateRefused, match="value of a claim"):
            await take_over(ownership(log, "a"))

    asyncio.run(run())
