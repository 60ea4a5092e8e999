"""A customer's last 16 folded event ids are remembered, until 24 hours of silence."""

from __future__ import annotations

import pytest

from schemas.topics import Source
from streams.config import CoreConfig
from streams.windows import DAY_MS, MINUTE_MS, Window, WindowSet
from tests.rig.hand import Hand, order, view

T0 = 20_000 * DAY_MS
CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("7d/1h")]),
    max_out_of_orderness_ms=0,
    allowed_lateness_ms=3 * DAY_MS,
)


def duplicates(hand: Hand) -> int:
    """How many of all records were duplicates, once everything is folded."""
    accounts = [hand.partition.account(source) for source in Source]
    assert all(account.balances for account in accounts)
    return sum(account.duplicate for account in accounts)


def folded(hand: Hand, until_ms: int) -> int:
    hand.pass_time(until_ms)
    return duplicates(hand)


@pytest.mark.parametrize("others, expected", [(15, 1), (16, 0)])
def test_an_id_is_remembered_until_sixteen_others_came(others: int, expected: int) -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "same"))
    for number in range(others):
        hand.send(view("c", T0 + 1 + number, f"other {number}"))
    hand.send(view("c", T0 + MINUTE_MS, "same"))
    assert folded(hand, T0 + DAY_MS) == expected
    assert hand.value_at("page_views", T0 + DAY_MS) == 2 + others - expected


def test_an_id_is_a_duplicate_on_any_topic_and_of_one_customer_only() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "same"))
    hand.send(order("c", T0 + 1, "same"))
    hand.send(view("d", T0 + 1, "same"))
    assert folded(hand, T0 + DAY_MS) == 1
    assert hand.value_at("orders", T0 + DAY_MS) == 0
    assert hand.value_at("page_views", T0 + DAY_MS) == 2


@pytest.mark.parametrize("beyond_ms, expected", [(0, 1), (1, 0)])
def test_after_more_than_24_hours_of_silence_the_ids_are_forgotten(
    beyond_ms: int, expected: int
) -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "same"))
    hand.send(view("c", T0 + DAY_MS + beyond_ms, "same"))
    assert folded(hand, T0 + 2 * DAY_MS) == expected


@pytest.mark.parametrize("beyond_ms, expected", [(0, 1), (1, 0)])
def test_of_a_late_event_the_silence_lasts_until_the_watermark(
    beyond_ms: int, expected: int
) -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "same"))
    hand.pass_time(T0 + DAY_MS + beyond_ms)
    hand.send(view("c", T0 + 1, "same"))
    assert folded(hand, T0 + 2 * DAY_MS) == expected
    account = hand.partition.account(Source.SESSIONS)
    assert account.late_counted == 1 - expected


def test_a_duplicate_refreshes_nothing() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "same"))
    hand.send(view("c", T0 + DAY_MS, "same"))
    hand.send(view("c", T0 + DAY_MS + 1, "same"))
    assert folded(hand, T0 + 2 * DAY_MS) == 1
    assert hand.value_at("page_views", T0 + 2 * DAY_MS) == 2


def test_a_late_event_of_somebody_new_is_counted_once() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0)
    for _ in range(3):
        hand.send(order("c", T0 - 5 * MINUTE_MS, "same"))
    assert folded(hand, T0 + DAY_MS) == 2
    assert hand.value_at("orders", T0 + DAY_MS) == 1
    assert hand.value_at("new_buyers", T0 + DAY_MS) == 1


def test_ids_survive_a_crash() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "same"))
    hand.pass_time(T0 + 1)
    hand.crash()
    hand.send(view("c", T0 + MINUTE_MS, "same"))
    assert folded(hand, T0 + DAY_MS) == 1
