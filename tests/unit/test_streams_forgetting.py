"""What the record that forgets a customer does to the partition, and what it leaves alone.

That the figures stay right is shown against the oracle: tests/property/test_forgetting.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.decode import Decoder
from schemas.reasons import Reason
from schemas.topics import Source
from streams import journal
from streams.admission import Admission, Admitted
from streams.arrivals import name_in
from streams.claims import Claim
from streams.config import CoreConfig
from streams.customers import Customer
from streams.evaluate import evaluate
from streams.last_seen import NEVER
from streams.pseudonyms import Pseudonyms
from streams.state import retention_ms
from streams.timers import Wheel
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.durable import write
from tests.rig.hand import Hand, Record, order, view

T0 = 20_000 * DAY_MS
CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("3h/10m")]),
    max_out_of_orderness_ms=0,
)


def forgotten(customer: str, at_ms: int) -> dict[str, Any]:
    return {"type": "customer_forgotten", "customer_id": customer, "occurred_at": at_ms}


def known(hand: Hand) -> set[str]:
    """Who of c and d is known."""
    return {name for name in ("c", "d") if hand.partition.state.find(name) is not None}


def on_its_way(hand: Hand, source: Source = Source.SESSIONS) -> tuple[int, int]:
    """How many records of an input wait, and how many control records took effect."""
    account = hand.partition.account(source)
    assert account.balances
    return account.waiting, account.control


@pytest.mark.parametrize("source", Source)
def test_it_waits_for_its_time_on_whatever_input_it_stands(source: Source) -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "1"))
    hand.append(source, forgotten("c", T0 + MINUTE_MS))
    hand.pass_time(T0 + MINUTE_MS)
    assert "c" in known(hand)
    assert on_its_way(hand, source) == (1, 1)
    hand.pass_time(T0 + MINUTE_MS + 1)
    assert "c" not in known(hand)
    assert on_its_way(hand, source) == (0, 3)


def test_behind_the_watermark_it_takes_effect_at_once_however_late_it_is() -> None:
    for lateness in (1, 10 * DAY_MS):
        hand = Hand(CONFIG)
        hand.send(view("c", T0, "1"))
        hand.pass_time(T0 + HOUR_MS)
        hand.append(Source.SESSIONS, forgotten("c", T0 + HOUR_MS - lateness))
        assert not known(hand)
        assert on_its_way(hand) == (0, 2)
        assert hand.too_late == []


def test_it_moves_no_watermark_and_wakes_no_input() -> None:
    hand = Hand(CONFIG)
    hand.send(order("c", T0, "1"))
    hand.quiet(Source.SESSIONS, Source.SOCIAL, Source.SUPPORT)
    hand.send(order("c", T0 + MINUTE_MS, "2"))
    assert hand.partition.watermark == T0 + MINUTE_MS
    hand.append(Source.SESSIONS, forgotten("c", T0 + HOUR_MS))
    hand.send(order("c", T0 + 2 * MINUTE_MS, "3"))
    # Had it woken its input, nothing would go on; had it moved it, the order would be late.
    assert hand.partition.watermark == T0 + 2 * MINUTE_MS
    assert hand.partition.account(Source.PURCHASES).late_counted == 0


def test_of_today_it_makes_no_history_live() -> None:
    """Else the clock would move the watermark on, past events still to be replayed."""
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "1"), timestamp_ms=T0 + 400 * DAY_MS)
    hand.append(Source.SESSIONS, forgotten("c", T0 + 400 * DAY_MS))
    hand.silence(T0 + 400 * DAY_MS + HOUR_MS)
    assert hand.partition.watermark == T0


def test_where_time_stands_still_it_takes_effect_without_it() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "1"), timestamp_ms=T0 + 400 * DAY_MS)
    hand.pass_time(T0 + HOUR_MS, timestamp_ms=T0 + 400 * DAY_MS)
    hand.send(view("d", T0 + HOUR_MS, "2"), timestamp_ms=T0 + 400 * DAY_MS)
    hand.append(Source.SESSIONS, forgotten("c", T0 + 400 * DAY_MS))
    hand.quiet(Source.SESSIONS, Source.PURCHASES, Source.SOCIAL)
    hand.partition.tick(T0 + 400 * DAY_MS)
    assert "c" in known(hand)  # support may still have something of them
    hand.silence(T0 + 400 * DAY_MS)
    assert "c" not in known(hand)
    assert on_its_way(hand) == (1, 2)


def test_what_took_effect_while_time_stood_still_is_not_done_again_after_a_crash() -> None:
    hand = Hand(CONFIG)
    late = T0 + 400 * DAY_MS
    hand.pass_time(T0, timestamp_ms=late)
    hand.send(view("d", T0 + 2 * HOUR_MS, "1"), timestamp_ms=late)  # waits, and is read again
    hand.append(Source.SESSIONS, forgotten("c", late))
    hand.silence(late)
    hand.send(order("c", T0 + HOUR_MS, "2"), timestamp_ms=late)
    hand.crash()
    hand.silence(late)
    assert on_its_way(hand) == (1, 2)
    assert known(hand) == {"c"}


def test_what_waits_is_read_again_after_a_crash_and_takes_effect_once() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "1"))
    hand.append(Source.SESSIONS, forgotten("c", T0 + MINUTE_MS))
    hand.crash()
    assert on_its_way(hand) == (2, 0)
    hand.pass_time(T0 + HOUR_MS)
    assert not known(hand)
    hand.send(view("c", T0 + HOUR_MS, "2"))
    hand.crash()
    hand.pass_time(T0 + 2 * HOUR_MS)
    assert known(hand) == {"c"}


def test_nothing_was_ever_read_of_the_partition() -> None:
    hand = Hand(CONFIG)
    hand.append(Source.SESSIONS, forgotten("c", T0))
    hand.silence(T0 + HOUR_MS)
    assert on_its_way(hand) == (0, 1)
    assert hand.partition.watermark == NEVER


def test_an_open_session_ends_when_its_customer_is_forgotten_and_no_other() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "1"))
    hand.send(view("d", T0, "2"))
    hand.append(Source.SESSIONS, forgotten("c", T0 + MINUTE_MS))
    hand.append(Source.SESSIONS, forgotten("nobody", T0 + MINUTE_MS))
    hand.pass_time(T0 + 20 * MINUTE_MS)
    assert hand.value_at("sessions_closed", T0 + 20 * MINUTE_MS) == 1
    hand.pass_time(T0 + HOUR_MS)
    assert hand.value_at("sessions_closed", T0 + HOUR_MS) == 2
    assert hand.value_at("active_customers", T0 + HOUR_MS) == 2


def test_the_figures_of_a_file_are_those_of_a_partition() -> None:
    told = [view("c", T0, "1"), forgotten("c", T0 + 1), view("c", T0 + 2, "2")]
    decode = Decoder().decode
    file = evaluate(CONFIG, [decode(json.dumps(one).encode()) for one in told], [T0 + HOUR_MS])
    hand = Hand(CONFIG)
    for one in told:
        hand.append(Source.SESSIONS, one)
    hand.pass_time(T0 + HOUR_MS + 1)
    assert file == hand.results_at(T0 + HOUR_MS)
    assert [one.value for one in file if one.metric == "new_customers" and not one.segment] == [
        2,
        2,
    ]


def test_tickets_and_stage_of_a_forgotten_customer_are_nobodys() -> None:
    hand = Hand(CONFIG)
    for name in ("c", "d"):
        ticket = {"type": "ticket_opened", "ticket_id": "t", "channel": "email"}
        common = {"customer_id": name, "event_id": f"ticket of {name}", "occurred_at": T0}
        hand.send({**ticket, **common})
    hand.append(Source.SUPPORT, forgotten("c", T0 + MINUTE_MS))
    resolved = {"type": "ticket_resolved", "ticket_id": "t", "customer_id": "c"}
    hand.send({**resolved, "event_id": "2", "occurred_at": T0 + 2 * MINUTE_MS})
    hand.pass_time(T0 + HOUR_MS)
    assert hand.value_at("ticket_backlog", T0 + HOUR_MS) == 1
    assert hand.value_at("tickets_opened", T0 + HOUR_MS) == 2
    assert hand.value_at("journey_customers", T0 + HOUR_MS) == 2


def test_no_chunk_on_record_names_a_forgotten_customer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_CARRY_BYTES", 300)  # it takes many checkpoints
    hand = Hand(CONFIG)

    def on_record() -> bytes:
        chunks = hand.log.read().restore(CONFIG, Claim(99, "reader"))._journal.chunks
        values = {key: value or b"" for _, key, value in hand.log.records}
        return b"".join(values[chunk.key] for chunk in chunks)

    for minute in range(20):
        for name in ("gone", "here", f"c{minute}"):
            hand.send(view(name, T0 + minute * MINUTE_MS, f"{name} {minute}"))
        hand.pass_time(T0 + minute * MINUTE_MS + 1)
        write(hand.log, hand.keeper)
    assert on_record().count(b"gone") > 3
    hand.append(Source.SESSIONS, forgotten("gone", T0 + 20 * MINUTE_MS))
    hand.pass_time(T0 + 21 * MINUTE_MS)
    for number in range(40):
        if number in {1, 20}:
            hand.restore()
        write(hand.log, hand.keeper)
    assert write(hand.log, hand.keeper) is None
    assert b"gone" not in on_record()
    assert hand.partition.state.find("here") is not None


def test_who_is_forgotten_and_back_at_once_has_one_timer() -> None:
    wheel = Wheel()
    customer = Customer("c", slot=0, cell=0)
    for timer in ("c", customer, "d"):
        wheel.arm(1, timer)
    wheel.arm(3, "e")
    wheel.remove(customer)
    wheel.arm(2, "c")
    assert wheel.take(1) == ["d"]
    assert wheel.take(2) == ["c"]
    assert wheel.take(3) == ["e"]


def test_who_has_left_memory_is_forgotten_too() -> None:
    hand = Hand(CONFIG)
    later = T0 + 2 * retention_ms(CONFIG)
    hand.send(view("c", T0, "1"))
    hand.pass_time(later)
    hand.crash()
    state = hand.partition.state
    assert "c" in state.evicted
    hand.append(Source.SESSIONS, forgotten("c", later))
    hand.pass_time(later + 1)
    hand.crash()
    state = hand.partition.state
    assert "c" not in state.evicted
    assert not known(hand)
    hand.send(view("c", later + 1, "2"))
    hand.pass_time(later + HOUR_MS)
    assert hand.value_at("new_customers", later + HOUR_MS) == 1


# -- at the door


def admit(*records: Record) -> Admitted[Record]:
    """Customers called c... live in partition 0 of 4."""
    admission = Admission(
        CONFIG,
        Decoder(),
        partition=0,
        partitions=4,
        partition_of=lambda key, partitions: (key[0] - ord("c")) % partitions,
    )
    return admission.admit(Source.SUPPORT, records)


def record(customer: str, *, key: str | None, timestamp_ms: int = T0) -> Record:
    value = json.dumps(forgotten(customer, T0)).encode()
    return Record(None if key is None else key.encode(), value, 0, timestamp_ms)


@pytest.mark.parametrize(
    "refused, reason",
    [
        (record("c", key=None), Reason.WRONG_KEY),
        (record("c", key="d"), Reason.WRONG_KEY),
        (record("d", key="d"), Reason.WRONG_PARTITION),
        (record("c", key="c", timestamp_ms=T0 - CONFIG.max_future_ms - 1), Reason.FUTURE),
    ],
)
def test_one_that_would_forget_nobody_is_a_dead_letter(refused: Record, reason: Reason) -> None:
    admitted = admit(refused)
    assert [found for _, found, _ in admitted.dead] == [reason]
    assert admitted.arrivals == []


def test_where_ids_are_hashed_it_forgets_the_pseudonym_and_keeps_no_id() -> None:
    pseudonyms = Pseudonyms(b"k" * 32)
    admission = Admission(
        CONFIG,
        Decoder(),
        partition=0,
        partitions=1,
        partition_of=lambda _key, _partitions: 0,
        pseudonyms=pseudonyms,
    )
    event = Record(b"c", json.dumps(nps("c", T0)).encode(), 0, T0)
    admission.admit(Source.SUPPORT, [event])
    assert "c" in pseudonyms.known
    admitted = admission.admit(Source.SUPPORT, [record("c", key="c")])
    assert [name_in(arrival) for arrival in admitted.arrivals] == [Pseudonyms(b"k" * 32).of("c")]
    assert "c" not in pseudonyms.known


def test_it_tells_no_time_and_a_batch_of_nothing_else_has_no_lag() -> None:
    just_inside = record("c", key="c", timestamp_ms=T0 - CONFIG.max_future_ms)
    admitted = admit(just_inside)
    assert (admitted.records, admitted.next_offset) == (1, 1)
    assert admitted.lag_ms is None
    event = Record(b"c", json.dumps({**nps("c", T0)}).encode(), 1, T0 + 7)
    assert admit(event, just_inside).lag_ms == 7


def nps(customer: str, at_ms: int) -> dict[str, Any]:
    common = {"event_id": "n", "customer_id": customer, "occurred_at": at_ms}
    return {"type": "nps_answered", "score": 9, **common}
