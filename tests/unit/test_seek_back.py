"""Every input sought back to its start on warm state: nothing is folded, no byte changes."""

import random

import msgspec
import pytest

from schemas.topics import Source
from streams.config import CoreConfig
from streams.segments import Segments, Values, dimensions
from streams.windows import Window, WindowSet
from tests.rig.durable import write
from tests.rig.hand import Hand, Record
from tests.rig.shoppers import shop

START_MS = 1_772_323_200_000
HOUR_MS = 3_600_000
CONFIG = CoreConfig(
    windows=WindowSet.of(
        (Window.parse("1h/10m"), Window.parse("6h/1h")), session_gap_ms=HOUR_MS // 2
    ),
    segments=Segments(
        customer=dimensions(persona=("newcomer", "regular"), region=("north", "south")),
        channel=Values(("direct", "search")),
    ),
    allowed_lateness_ms=HOUR_MS,
)


def warm(seed: int) -> Hand:
    """A partition that has seen everything: late, too late, repeated and unreadable records, and
    events that still wait.
    """
    draw = random.Random(seed)
    hand = Hand(CONFIG)
    events = shop(700, start_ms=START_MS, end_ms=START_MS + 9 * HOUR_MS, customers=60, seed=seed)
    # A few come out of order, some of them late, some later than that.
    scale = (0, 0, 0, 0, 4_000, 20_000, 3 * HOUR_MS)
    for _, source, event in sorted(events, key=lambda one: one[0] + draw.choice(scale)):
        hand.write(source, event, timestamp_ms=START_MS + 20 * HOUR_MS)
        if draw.random() < 0.05:
            hand.write(source, event, timestamp_ms=START_MS + 20 * HOUR_MS)
        if draw.random() < 0.03:
            hand.logs[source].append(Record(b"c1", b"nonsense", len(hand.logs[source]), START_MS))
    for source in Source:
        hand.receive(source, hand.admit(source, hand.logs[source]))
    return hand


def everything(hand: Hand) -> bytes:
    """The account and the position, as bytes."""
    accounts = [hand.partition.account(source) for source in Source]
    return msgspec.msgpack.encode([accounts, hand.partition.position()])


@pytest.mark.parametrize("seed", range(4))
def test_memory_that_is_fed_again_from_offset_0_takes_nothing(seed: int) -> None:
    hand = warm(seed)
    write(hand.log, hand.keeper)
    before, ticks = everything(hand), len(hand.ticks)
    for source in Source:
        admitted = hand._admission.admit(
            source,
            hand.logs[source],
            known=hand.partition.state.customers,
            start=hand.partition.next_offset(source),
        )
        hand.receive(source, admitted)
    assert everything(hand) == before
    assert len(hand.ticks) == ticks
    assert hand.keeper.checkpoint([]) is None


@pytest.mark.parametrize("seed", range(4))
def test_a_restored_state_that_is_fed_again_from_offset_0_folds_nothing(seed: int) -> None:
    hand = warm(seed)
    before, waiting, ticks = everything(hand), hand.partition.waiting, len(hand.ticks)
    assert waiting
    folded = [hand.partition.account(source).folded for source in Source]
    assert all(folded)
    assert hand.too_late
    hand.restore()
    # As if the checkpoint had said so: every input comes back from its very first record.
    position = hand.partition.position()
    hand.partition.resume(msgspec.structs.replace(position, resume=[0] * len(Source)))
    for source in random.Random(seed).sample(list(Source), len(Source)):
        for start in range(0, len(hand.logs[source]), 50):
            hand.receive(source, hand.admit(source, hand.logs[source][start : start + 50]))
    assert [hand.partition.account(source).folded for source in Source] == folded
    assert hand.partition.waiting == waiting
    assert everything(hand) == before
    assert len(hand.ticks) == ticks
    # Nothing changed: the first checkpoint of a tenure has a marker of its own, and no chunk.
    again = hand.keeper.checkpoint([])
    assert again is not None
    assert (again.chunks, again.changed_bytes) == ([], 0)


def test_the_stories_have_what_they_are_about() -> None:
    accounts = [warm(seed).partition.account(source) for seed in range(4) for source in Source]
    for fate in ("late_counted", "too_late", "duplicate", "dead", "waiting"):
        assert sum(getattr(account, fate) for account in accounts), fate
