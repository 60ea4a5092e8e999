"""What a partition reports, keeps over a restart, and refuses."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest

from schemas.topics import Source
from streams.config import CoreConfig
from streams.last_seen import NEVER
from streams.partition import FOREVER, Account, Partition
from streams.state import State
from streams.timeline import Timeline
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.hand import Hand, order, view

T0 = 20_000 * DAY_MS
CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("3h/1h")]),
    max_out_of_orderness_ms=0,
)


# -- announcements


def test_nothing_is_reported_before_anything_is_known() -> None:
    assert Hand(CONFIG).partition.drain() == []


def test_an_untouched_partition_says_so_again_and_again() -> None:
    """Only a word given after a boundary was due counts: see the roll-up."""
    hand = Hand(CONFIG)
    hand.quiet(*Source)
    for _ in range(2):
        ticks = hand.partition.drain()
        assert [(tick.window, tick.end_ms, tick.valid_through_ms) for tick in ticks] == [
            (0, 0, FOREVER),
            (1, 0, FOREVER),
        ]
        assert all(tick.is_untouched and not tick.sums.any() for tick in ticks)


def test_a_partition_that_time_has_reached_without_events_holds_zero_until_there() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0 + 25 * MINUTE_MS)
    assert [(one.window, one.end_ms, one.valid_through_ms) for one in hand.ticks] == [
        (0, 0, T0 + 20 * MINUTE_MS),
        (1, 0, T0),
    ]
    assert not any(tick.is_untouched for tick in hand.ticks)
    assert hand.partition.drain() == []  # said once, until time goes on
    hand.pass_time(T0 + 30 * MINUTE_MS)
    assert len(hand.ticks) == 4


def test_the_first_report_is_preceded_by_one_that_says_there_was_nothing() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0 + 5 * MINUTE_MS, "v"))
    hand.pass_time(T0 + 10 * MINUTE_MS)
    hand.pass_time(T0 + 20 * MINUTE_MS)
    first, other, *rest = hand.ticks
    assert (first.end_ms, first.valid_through_ms) == (0, T0)
    assert (other.end_ms, other.valid_through_ms, other.window) == (0, T0, 1)
    assert not first.sums.any()
    assert rest[0].end_ms == T0 + 10 * MINUTE_MS
    assert rest[0].observed_from_ms == T0


def test_every_boundary_is_spoken_of_by_one_report_also_over_silent_years() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "v"))
    hand.pass_time(T0 + HOUR_MS)
    hand.pass_time(T0 + 3_650 * DAY_MS)
    hand.send(view("c", T0 + 3_650 * DAY_MS, "w"))
    hand.pass_time(T0 + 3_651 * DAY_MS)
    for number, window in enumerate(CONFIG.windows.windows):
        ticks = [tick for tick in hand.ticks if tick.window == number]
        for before, after in pairwise(ticks):
            assert before.valid_through_ms + window.hop_ms == after.end_ms or before.end_ms == 0
            assert before.valid_through_ms < after.end_ms
    assert len(hand.ticks) < 200


def test_history_is_reported_at_multiples_of_history_hop() -> None:
    config = msgspec.structs.replace(CONFIG, history_hop_ms=HOUR_MS)
    hand = Hand(config)
    for number in range(12):
        at = T0 + number * 7 * MINUTE_MS
        hand.send(view("c", at, f"v{number}"), timestamp_ms=T0 + DAY_MS)
    hand.pass_time(T0 + DAY_MS, timestamp_ms=T0 + 3 * DAY_MS)
    ends = {tick.end_ms for tick in hand.ticks if tick.window == 0 and tick.end_ms}
    assert ends
    assert all(end % HOUR_MS == 0 for end in ends)
    assert all(tick.is_replay for tick in hand.ticks if tick.end_ms)
    assert hand.value_at("page_views", T0 + HOUR_MS) == 9


# -- accounts


def test_an_account_that_loses_a_record_does_not_balance() -> None:
    whole = Account(consumed=7, folded=2, too_late=1, duplicate=1, dead=1, control=1, waiting=1)
    assert whole.balances
    assert not msgspec.structs.replace(whole, folded=1).balances
    assert (whole + whole).consumed == 14
    assert (whole + whole).balances


def test_an_empty_batch_changes_nothing() -> None:
    hand = Hand(CONFIG)
    assert hand.partition.receive(Source.SOCIAL, hand.admit(Source.SOCIAL, [])) == []
    assert hand.partition.account(Source.SOCIAL) == Account()
    assert hand.partition.next_offset(Source.SOCIAL) == 0


def test_a_batch_of_dead_records_is_counted_and_moves_no_time() -> None:
    hand = Hand(CONFIG)
    hand.append(Source.SOCIAL, {"type": "order_placed", "customer_id": "c", "occurred_at": T0})
    account = hand.partition.account(Source.SOCIAL)
    assert (account.consumed, account.dead, account.balances) == (1, 1, True)
    assert hand.partition.next_offset(Source.SOCIAL) == 1
    assert hand.partition.watermark == NEVER


# -- restarts


def test_waiting_events_are_read_again_and_counted_once() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0)
    for number in range(6):
        hand.send(view("c", T0 + number * MINUTE_MS, f"v{number}"))
    hand.pass_time(T0 + 3 * MINUTE_MS)
    for _ in range(3):
        hand.crash()
    hand.pass_time(T0 + HOUR_MS)
    account = hand.partition.account(Source.SESSIONS)
    assert (account.folded, account.duplicate, account.balances) == (6, 0, True)
    assert hand.value_at("page_views", T0 + HOUR_MS) == 6


@pytest.mark.parametrize("crashes", [False, True])
def test_a_crash_before_the_first_watermark_loses_no_mark_and_no_control_record(
    crashes: bool,
) -> None:
    """One batch holds what was read before the crash and what was not."""
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "old view"))
    hand.send(order("c", T0, "old order"))
    hand.write(Source.SESSIONS, view("c", T0 + 2 * MINUTE_MS, "new view"))
    hand.write(Source.SESSIONS, {"type": "time_passed", "until": T0 + 3 * MINUTE_MS})
    hand.write(Source.PURCHASES, order("c", T0 + 5 * MINUTE_MS, "new order"))
    for source in (Source.SOCIAL, Source.SUPPORT):
        hand.write(source, {"type": "time_passed", "until": T0 + HOUR_MS})
    if crashes:
        hand.crash()
    else:
        for source in Source:
            rest = hand.logs[source][hand.partition.next_offset(source) :]
            hand.receive(source, hand.admit(source, rest))
    assert hand.partition.watermark == T0 + 3 * MINUTE_MS
    assert hand.partition.waiting == 1
    sessions, purchases, *_ = accounts = [hand.partition.account(one) for one in Source]
    assert (sessions.folded, sessions.control, purchases.folded) == (2, 1, 1)
    assert all(account.balances for account in accounts)


# -- sums stay exact


def test_a_sum_beyond_64_bits_is_an_error_and_never_a_wrap() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0)
    for number in range(4_700):
        hand.send(order("c", T0 + 1, f"o{number}", amount=10**9))
    with pytest.raises(OverflowError, match="exceeds 2\\^62"):
        hand.pass_time(T0 + HOUR_MS)


def test_there_is_no_report_of_a_window_that_is_not_configured() -> None:
    with pytest.raises(IndexError, match="there is no window number 2"):
        State(CONFIG).timeline.report(2)


def test_time_does_not_begin_before_the_first_event() -> None:
    timeline = Timeline(CONFIG, fire=lambda _end: None, next_due_ms=lambda: None)
    timeline.advance(T0)
    assert timeline.pane_start == NEVER
    assert timeline.empty_report(0).sums.dtype == np.int64


def test_what_was_read_stays_read_while_it_is_read_again() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "1"))
    assert hand.partition.waiting == 1
    assert hand.partition.read_to(Source.SESSIONS) == 1

    restored = Partition(CONFIG)
    restored.resume(hand.partition.position())

    assert restored.next_offset(Source.SESSIONS) == 0
    assert restored.read_to(Source.SESSIONS) == 1
