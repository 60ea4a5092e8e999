"""The watermark over four inputs: marks, idleness, the wall clock, and inputs that run ahead."""

from __future__ import annotations

from schemas.topics import Source
from streams.config import REPLAY_LAG_MS, CoreConfig
from streams.last_seen import NEVER
from streams.merge import Watermark
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.hand import Hand, order, view

SESSIONS, PURCHASES, SOCIAL, SUPPORT = Source
DISORDER_MS = 5_000
IDLE_MS = 10_000
T0 = 20_000 * DAY_MS
CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m")]),
    max_out_of_orderness_ms=DISORDER_MS,
    idle_after_ms=IDLE_MS,
    allowed_lateness_ms=HOUR_MS,
)


def like(customer: str, at_ms: int, event_id: str) -> dict[str, object]:
    return {
        "type": "social_interacted",
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": at_ms,
        "network": "fedi",
        "action": "like",
    }


def answer(customer: str, at_ms: int, event_id: str) -> dict[str, object]:
    return {
        "type": "nps_answered",
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": at_ms,
        "score": 9,
    }


def all_speak(hand: Hand, at_ms: int) -> None:
    """One event on each input."""
    number = len(hand.logs[SESSIONS])
    for make in (view, order, like, answer):
        hand.send(make("speaker", at_ms, f"{make.__name__}{number}"))


# -- marks


def test_there_is_no_watermark_before_every_input_has_spoken() -> None:
    hand = Hand(CONFIG)
    for make in (view, order, like):
        hand.send(make("c", T0, make.__name__))
        assert hand.partition.watermark == NEVER
    assert hand.partition.waiting == 3
    hand.send(answer("c", T0, "answer"))
    assert hand.partition.watermark == T0 - DISORDER_MS


def test_the_watermark_is_the_lowest_mark_and_never_goes_back() -> None:
    hand = Hand(CONFIG)
    all_speak(hand, T0)
    hand.send(view("c", T0 + MINUTE_MS, "v1"))
    assert hand.partition.watermark == T0 - DISORDER_MS
    for make in (order, like, answer):
        hand.send(make("c", T0 + 2 * MINUTE_MS, make.__name__))
    assert hand.partition.watermark == T0 + MINUTE_MS - DISORDER_MS
    hand.send(view("c", T0, "old"))
    assert hand.partition.watermark == T0 + MINUTE_MS - DISORDER_MS


def test_a_fast_clock_moves_the_mark_no_further_than_the_record_timestamp() -> None:
    hand = Hand(CONFIG)
    all_speak(hand, T0)
    for make in (view, order, like, answer):
        hand.send(make("c", T0 + MINUTE_MS, f"fast {make.__name__}"), timestamp_ms=T0 + 1_000)
    assert hand.partition.watermark == T0 + 1_000 - DISORDER_MS


def test_control_records_move_the_watermark_exactly_to_their_moment() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0)
    assert hand.partition.watermark == T0
    hand.pass_time(T0 + MINUTE_MS, timestamp_ms=T0 + 7)
    assert hand.partition.watermark == T0 + 7


def test_what_is_as_old_as_the_watermark_waits_and_a_millisecond_older_is_folded() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0)
    hand.send(view("c", T0 + 1, "edge"))
    hand.pass_time(T0 + 1)
    assert (hand.partition.waiting, hand.partition.account(SESSIONS).waiting) == (1, 1)
    hand.pass_time(T0 + 2)
    assert hand.partition.waiting == 0
    assert hand.partition.account(SESSIONS).late_counted == 0


def test_late_counts_up_to_the_allowed_lateness_and_a_millisecond_more_is_too_late() -> None:
    hand = Hand(CONFIG)
    hand.pass_time(T0)
    hand.send(view("c", T0 - 1, "late"))
    hand.send(view("c", T0 - HOUR_MS, "latest"))
    hand.send(view("c", T0 - HOUR_MS - 1, "too late"))
    account = hand.partition.account(SESSIONS)
    assert (account.folded, account.late_counted, account.too_late) == (2, 2, 1)
    assert hand.too_late == [(SESSIONS, 3)]
    assert account.balances


# -- idleness


def test_an_input_is_idle_after_its_time_at_the_high_water_and_not_a_millisecond_before() -> None:
    hand = Hand(CONFIG)
    all_speak(hand, T0)
    hand.send(view("c", T0 + MINUTE_MS, "v1"))
    hand.send(order("c", T0 + 2 * MINUTE_MS, "o1"))
    for source in (SOCIAL, SUPPORT):
        hand.partition.observe(source, at_high_water=True, now_ms=0)
        hand.partition.observe(source, at_high_water=True, now_ms=IDLE_MS - 1)
    hand.partition.tick(IDLE_MS - 1)
    assert hand.partition.watermark == T0 - DISORDER_MS
    for source in (SOCIAL, SUPPORT):
        hand.partition.observe(source, at_high_water=True, now_ms=IDLE_MS)
    hand.partition.tick(IDLE_MS)
    assert hand.partition.watermark == T0 + MINUTE_MS - DISORDER_MS


def test_an_input_with_something_left_to_read_is_never_idle() -> None:
    time = Watermark(CONFIG)
    time.observe(SOCIAL, at_high_water=True, now_ms=0)
    time.observe(SOCIAL, at_high_water=False, now_ms=IDLE_MS)
    for source in Source:
        time.observe(source, at_high_water=True, now_ms=IDLE_MS + 1)
        time.observe(source, at_high_water=source != SOCIAL, now_ms=2 * IDLE_MS + 1)
    assert not time.is_idle
    time.observe(SOCIAL, at_high_water=True, now_ms=2 * IDLE_MS + 2)
    time.observe(SOCIAL, at_high_water=True, now_ms=3 * IDLE_MS + 1)
    assert not time.is_idle
    time.observe(SOCIAL, at_high_water=True, now_ms=3 * IDLE_MS + 2)
    assert time.is_idle


def test_a_record_wakes_its_input() -> None:
    hand = Hand(CONFIG)
    all_speak(hand, T0)
    hand.quiet(SOCIAL, SUPPORT)
    hand.partition.tick(0)
    hand.send(view("c", T0 + MINUTE_MS, "v1"))
    hand.send(order("c", T0 + MINUTE_MS, "o1"))
    woken = hand.partition.watermark
    assert woken == T0 + MINUTE_MS - DISORDER_MS
    hand.send(like("c", T0 + MINUTE_MS, "back"))
    hand.send(view("c", T0 + HOUR_MS, "v2"))
    hand.send(order("c", T0 + HOUR_MS, "o2"))
    assert hand.partition.watermark == woken


def test_idle_inputs_hold_nobody_back_not_even_each_other() -> None:
    """History: the newest mark is as far as time goes, however late it is on the wall."""
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "v"), timestamp_ms=T0 + 2 * REPLAY_LAG_MS)
    hand.quiet(*Source)
    hand.partition.tick(T0 + DAY_MS)
    assert hand.partition.watermark == T0 - DISORDER_MS


# -- the wall clock


def test_in_silence_the_wall_clock_moves_live_inputs() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "v"), timestamp_ms=T0 + REPLAY_LAG_MS)
    hand.quiet(*Source)
    hand.partition.tick(T0 + HOUR_MS)
    assert hand.partition.watermark == T0 + HOUR_MS - DISORDER_MS
    hand.partition.tick(T0)  # a clock that is set back moves nothing
    assert hand.partition.watermark == T0 + HOUR_MS - DISORDER_MS


def test_a_partition_of_which_nothing_was_read_has_no_watermark_however_late_it_is() -> None:
    hand = Hand(CONFIG)
    hand.quiet(*Source)
    hand.partition.tick(T0)
    assert hand.partition.watermark == NEVER


def test_a_record_an_hour_late_is_live_and_a_millisecond_more_is_history() -> None:
    for lag_ms, is_replay in ((REPLAY_LAG_MS, False), (REPLAY_LAG_MS + 1, True)):
        time = Watermark(CONFIG)
        assert not time.is_replay
        time.lag_ms = lag_ms
        assert time.is_replay is is_replay


# -- inputs that run ahead


def test_inputs_that_run_ahead_are_held_when_too_much_waits_and_never_all() -> None:
    hand = Hand(CoreConfig(windows=CONFIG.windows, buffer_limit=3))
    all_speak(hand, T0)
    for number in range(3):
        hand.send(view("c", T0 + (number + 1) * HOUR_MS, f"v{number}"))
    hand.send(order("c", T0 + HOUR_MS, "o1"))
    assert hand.partition.ahead() == {SESSIONS, PURCHASES}
    hand.pass_time(T0 + 2 * HOUR_MS)
    assert hand.partition.waiting <= 3
    assert hand.partition.ahead() == set()


def test_an_idle_input_makes_nobody_run_ahead() -> None:
    time = Watermark(CONFIG)
    time.marks = [T0 + 1, T0, NEVER, NEVER]
    assert time.ahead() == {SESSIONS, PURCHASES}
    for source in (SOCIAL, SUPPORT):
        time.observe(source, at_high_water=True, now_ms=0)
        time.observe(source, at_high_water=True, now_ms=IDLE_MS)
    assert time.ahead() == {SESSIONS}
    for source in Source:
        time.observe(source, at_high_water=True, now_ms=0)
        time.observe(source, at_high_water=True, now_ms=IDLE_MS)
    assert time.ahead() == set()
    assert time.limit_of_others(SESSIONS) == -NEVER


# -- after a restart


def test_the_watermark_stands_still_until_every_input_is_back_where_it_was() -> None:
    hand = Hand(CONFIG)
    all_speak(hand, T0)
    hand.send(view("c", T0 + MINUTE_MS, "ahead"))
    position = hand.partition.position()
    assert position.resume != position.read_to
    hand.restore()
    before = hand.partition.watermark
    for source in (PURCHASES, SOCIAL, SUPPORT):
        hand.receive(source, hand.admit(source, hand.logs[source][position.resume[source] :]))
    for make in (order, like, answer):
        hand.send(make("c", T0 + HOUR_MS, f"new {make.__name__}"))
    hand.quiet(*Source)
    hand.partition.tick(T0 + DAY_MS)
    assert hand.partition.watermark == before
    assert hand.partition.ahead() == {PURCHASES, SOCIAL, SUPPORT}
    hand.receive(SESSIONS, hand.admit(SESSIONS, hand.logs[SESSIONS][position.resume[SESSIONS] :]))
    hand.send(view("c", T0 + HOUR_MS, "new view"))
    assert hand.partition.watermark == T0 + HOUR_MS - DISORDER_MS
    for source in Source:
        account = hand.partition.account(source)
        assert account.balances
        assert account.consumed == len(hand.logs[source])
        assert account.duplicate == account.too_late == 0
