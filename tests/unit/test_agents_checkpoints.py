"""The order of a checkpoint's steps, and that whatever fails keeps all later ones from being done."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import pytest
from faust.types import TP

from agents.checkpoints import CheckpointFigures, Checkpoints, CommitFailed, CommitRefused
from agents.outbox import Outbox
from agents.owned import Owned
from agents.publisher import Outgoing, Publisher, PublishFailed
from agents.stages import Stages
from schemas.decode import Decoder
from schemas.topics import Source, Topics
from streams.admission import Admission
from streams.checkpoint import Keeper, LogRecord
from streams.claims import Claim
from streams.config import CoreConfig
from streams.partition import Partition

TOPICS = Topics.with_prefix("t")
CONFIG = CoreConfig()


class Broker(Publisher):
    """Acknowledges in order and writes down what it was sent; fails at ``fails_at``."""

    def __init__(self) -> None:
        super().__init__({}, deadline_s=1, idempotent=False)
        self.steps: list[str] = []
        self.sent: list[tuple[str, Outgoing]] = []
        self.fails_at = ""
        self.offset = -1

    def note(self, step: str) -> None:
        if step == self.fails_at:
            msg = f"{step} failed"
            raise PublishFailed(msg)
        self.steps.append(step)

    async def publish(self, topic: str, records: Iterable[Outgoing]) -> dict[int, int]:
        await asyncio.sleep(0)
        ends = {}
        for record in records:
            kind = record.key.partition(b"|")[0].decode()
            name = {"k": "chunk", "m": "marker"}.get(kind, topic.partition(".")[2])
            self.note("tombstone" if record.value is None else name)
            self.sent.append((topic, record))
            self.offset += 1
            ends[record.partition or 0] = self.offset
        return ends


class Rig:
    """Checkpoints of one fresh partition."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.outbox = Outbox(self.broker)
        self.checkpoints = Checkpoints(self.broker, self.outbox, TOPICS, deadline_s=0.05)
        admission: Admission = Admission(
            CONFIG, Decoder(), partition=3, partitions=4, partition_of=lambda *_: 3
        )
        self.owned = Owned(3, Keeper(Partition(CONFIG), Claim(1, "a.1")), admission, Stages())
        self.committed: list[Mapping[TP, int]] = []
        self.is_taken = True

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        self.broker.note("commit")
        self.committed.append(offsets)
        return self.is_taken

    def write(self, collect: Callable[[Owned], None] = lambda _owned: None) -> dict[int, int]:
        return asyncio.run(self.checkpoints.write([self.owned], collect, self.commit))

    def report(self, name: bytes) -> Callable[[Owned], None]:
        """Reports a partial, and refuses a record, in the step of the snapshot."""

        def collect(owned: Owned) -> None:
            owned.unsent.append(LogRecord(name, b"{}"))
            self.outbox.put(TOPICS.dead_letters, Outgoing(b"letter", b"{}"))

        return collect


def test_the_steps_come_in_order() -> None:
    rig = Rig()
    assert rig.write(rig.report(b"0|1m")) == {3: 2}
    assert rig.broker.steps == ["dead-letters", "chunk", "marker", "commit", "partials"]
    assert rig.committed == [{TP(topic, 3): 0 for topic in TOPICS.sources}]
    assert [record.partition for topic, record in rig.broker.sent if topic == TOPICS.state] == [
        3,
        3,
    ]


def test_acknowledged_partials_leave_with_the_next_checkpoint_and_nothing_follows_nothing() -> None:
    rig = Rig()
    rig.write(rig.report(b"0|1m"))
    rig.broker.steps.clear()
    rig.write()
    assert rig.broker.steps[:3] == ["chunk", "marker", "commit"]
    rig.broker.steps.clear()
    assert rig.write() == {}
    assert rig.broker.steps == []


@pytest.mark.parametrize(
    "fails_at, done",
    [
        ("dead-letters", []),
        ("chunk", ["dead-letters"]),
        ("marker", ["dead-letters", "chunk"]),
        ("commit", ["dead-letters", "chunk", "marker"]),
        ("partials", ["dead-letters", "chunk", "marker", "commit"]),
    ],
)
def test_a_step_that_fails_is_the_last_one(fails_at: str, done: list[str]) -> None:
    rig = Rig()
    rig.broker.fails_at = fails_at
    with pytest.raises(PublishFailed, match=fails_at):
        rig.write(rig.report(b"0|1m"))
    assert rig.broker.steps == done
    assert rig.checkpoints.figures.count == 0


def test_a_refused_commit_says_what_happened_and_sends_no_partial() -> None:
    rig = Rig()
    rig.is_taken = False
    with pytest.raises(CommitRefused, match="goes on from their last checkpoint"):
        rig.write(rig.report(b"0|1m"))
    assert rig.broker.steps[-1] == "commit"


def test_a_commit_that_is_never_answered_fails_in_time() -> None:
    rig = Rig()

    async def commit(_offsets: Mapping[TP, int]) -> bool:
        await asyncio.sleep(10)
        return True

    with pytest.raises(CommitFailed, match=r"not answered in 0\.05 s"):
        asyncio.run(rig.checkpoints.write([rig.owned], rig.report(b"0|1m"), commit))
    assert "partials" not in rig.broker.steps


def test_tombstones_come_after_the_commit_and_before_the_partials() -> None:
    rig = Rig()
    rig.owned.keeper.supersede([b"k|0|z|1|0"])
    rig.write(rig.report(b"0|1m"))
    assert rig.broker.steps[-3:] == ["commit", "tombstone", "partials"]
    assert rig.checkpoints.figures.tombstones == 1


def test_what_retention_removed_is_not_committed() -> None:
    rig = Rig()
    rig.owned.first_offset[Source.SOCIAL] = 70
    rig.write(rig.report(b"0|1m"))
    assert rig.committed[0][TP(TOPICS.social, 3)] == 70


def test_the_figures_add_up() -> None:
    rig = Rig()
    rig.write(rig.report(b"0|1m"))
    state = [record for topic, record in rig.broker.sent if topic == TOPICS.state]
    figures = rig.checkpoints.figures
    assert figures.written_records == 2
    assert figures.written_bytes == sum(len(r.key) + len(r.value or b"") for r in state)
    assert 0 < figures.changed_bytes < figures.written_bytes
    assert figures.count == 1
    assert figures.completed_at is not None


def test_a_duration_falls_into_every_bucket_that_is_not_below_it() -> None:
    figures = CheckpointFigures()
    for seconds in (0.01, 0.0100001, 99.0):
        figures.note(seconds, 0.0)
    buckets = dict(figures.cumulative())
    assert [buckets[bound] for bound in ("0.01", "0.025", "30.0", "+Inf")] == [1, 2, 2, 3]
