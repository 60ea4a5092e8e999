"""Who has left memory: the compact rows held against a dict, and that leaving changes no figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from schemas.topics import Source
from streams.config import CoreConfig
from streams.customers import FIELDS, Customer
from streams.evicted import FORGOTTEN, KEPT, ROW_BYTES, Evicted
from streams.last_seen import NEVER
from streams.segments import Segments, dimensions
from streams.state import SWEEP_EVERY_MS, retention_ms
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.durable import write
from tests.rig.hand import Hand, order, view
from tests.rig.sameness import differences

pytestmark = pytest.mark.property

T0 = 1_700_006_400_000


def test_every_field_of_a_customer_is_kept_or_forgotten_for_a_reason() -> None:
    kept = [name for name, _, _ in KEPT]
    assert sorted([*kept, *FORGOTTEN]) == sorted(FIELDS)


def test_a_compact_row_is_small() -> None:
    assert ROW_BYTES <= 64


def somebody(identity: str, cell: int, moment: int) -> Customer:
    customer = Customer(identity, slot=0, cell=cell)
    customer.first_activity = customer.last_activity = moment
    customer.last_session_start = moment + 1
    return customer


steps = st.lists(st.tuples(st.sampled_from("pptx"), st.integers(0, 40), st.integers(0, 400)))


@given(steps=steps)
def test_the_table_is_a_dict_of_what_is_kept(steps: list[tuple[str, int, int]]) -> None:
    table, naive = Evicted(), dict[str, int]()
    durable: dict[str, bytes] = {}
    for step, who, minutes in steps:
        name = f"c{who}"
        if step == "p" and name not in naive:
            table.put(somebody(name, who, minutes * MINUTE_MS))
            naive[name] = minutes * MINUTE_MS
        elif step == "t":
            kept = table.take(name)
            assert (kept is None) == (name not in naive)
            if kept is not None:
                moment = naive.pop(name)
                assert kept["cell"] == who
                assert kept["last_activity"] == moment
                assert kept["last_session_start"] == moment + 1
                assert kept["first_order"] == NEVER
        elif step == "x":
            durable.update({block: row or b"" for block, row in table.changes().items()})
            assert table.changes() == {}
            table = Evicted()
            table.load(durable)
        assert len(table) == len(naive)
        assert all((f"c{n}" in table) == (f"c{n}" in naive) for n in range(41))


def test_ten_thousand_who_left_are_all_found_again_after_a_restart() -> None:
    table = Evicted()
    names = [f"customer {n}" for n in range(10_000)]
    for number, name in enumerate(names):
        table.put(somebody(name, number % 60_000, number * MINUTE_MS))
    again = Evicted()
    again.load({block: row for block, row in table.changes().items() if row is not None})
    assert len(again) == len(names)
    assert "customer 10000" not in again
    assert all(again.take(name) == table.take(name) is not None for name in names[:100])
    assert all(name in again for name in names[100:])


CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("6h/1h"), Window.parse("12h/1h")]),
    segments=Segments(customer=dimensions(persona=("a", "b"), region=("x", "y"))),
    allowed_lateness_ms=2 * HOUR_MS,
)
RETENTION_MS = retention_ms(CONFIG)
OTHERS: dict[str, dict[str, Any]] = {
    "session_ended": {},
    "order_refunded": {"order_id": "o", "amount": 2, "currency": "USD"},
    "social_interacted": {"network": "n", "action": "like", "sentiment": 0.5},
    "nps_answered": {"score": 9},
    "csat_answered": {"channel": "mail", "score": 4, "scale_max": 5},
    "ticket_opened": {"ticket_id": "t", "channel": "mail"},
    "ticket_replied": {"ticket_id": "t"},
    "ticket_resolved": {"ticket_id": "t"},
}
GAPS_MS = (
    1_000,
    20 * MINUTE_MS,
    5 * HOUR_MS,
    11 * HOUR_MS,
    14 * HOUR_MS,
    23 * HOUR_MS,
    30 * HOUR_MS,
    RETENTION_MS - HOUR_MS,
    RETENTION_MS + 2 * HOUR_MS,
    3 * RETENTION_MS,
)
lives = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["view", "view", "view", "order", "order", *OTHERS]),
        st.sampled_from(GAPS_MS),
        st.sampled_from([0, 0, 0, HOUR_MS, 119 * MINUTE_MS]),
        st.sampled_from([{}, {"persona": "a"}, {"persona": "b", "region": "y"}]),
    ),
    min_size=4,
    max_size=40,
)


def event_of(
    who: str, kind: str, at: int, number: int, fields: Mapping[str, str]
) -> dict[str, Any]:
    if kind == "view":
        return view(who, at, f"e{number}", **fields)
    if kind == "order":
        return order(who, at, f"e{number}", **fields)
    common = {"event_id": f"e{number}", "customer_id": who, "occurred_at": at, **fields}
    return {"type": kind, **common, **OTHERS[kind]}


@settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(life=lives, crashes=st.booleans())
def test_leaving_memory_changes_no_figure_now_or_on_return(
    life: list[tuple[str, str, int, int, dict[str, str]]], crashes: bool
) -> None:
    """One partition keeps everybody, the other lets everybody go whom it may."""
    one, other = Hand(CONFIG), Hand(CONFIG)
    other.partition.state.is_tracked = True
    now, most = T0, 0
    for number, (who, kind, gap, late, fields) in enumerate(life):
        now += gap
        # Now and then an id again that was used two events ago.
        event = event_of(who, kind, now - late, number - 2 * (number % 5 == 4), fields)
        for hand in (one, other):
            hand.pass_time(now - MINUTE_MS)
            hand.send(event, timestamp_ms=now)
        write(other.log, other.keeper)
        most = max(most, other.keeper.figures.evicted)
        assert other.keeper.figures.customers + other.keeper.figures.evicted == len(
            one.partition.state.customers
        )
        if crashes:
            before = other.partition
            other.crash()
            assert differences(before, other.partition) == []
    for hand in (one, other):
        hand.pass_time(now + 3 * DAY_MS)
    has_open_ticket = any(kind == "ticket_opened" for _, kind, _, _, _ in life)
    if any(gap > RETENTION_MS for _, _, gap, _, _ in life[1:]) and not has_open_ticket:
        assert most, "somebody must have left"
    ends = sorted({tick.end_ms for tick in one.ticks if tick.end_ms})
    for end in ends:
        for window in range(len(CONFIG.windows.windows)):
            if end % CONFIG.windows.windows[window].hop_ms == 0:
                mine, theirs = one.sums_at(window, end), other.sums_at(window, end)
                for field in mine.__struct_fields__:
                    assert np.array_equal(getattr(mine, field), getattr(theirs, field)), field
    for source in Source:
        assert one.partition.account(source) == other.partition.account(source)


def test_a_search_for_the_silent_costs_little_at_a_time_and_misses_nobody() -> None:
    hand = Hand(CONFIG)
    for number in range(50):
        hand.send(view(f"c{number}", T0 + number, f"e{number}"))
    hand.pass_time(T0 + RETENTION_MS + HOUR_MS)
    state = hand.partition.state
    left = []
    for _ in range(20):
        state.put_away(looked_at=20, moved=5)
        left.append(len(state.evicted))
    assert left[:3] == [5, 10, 15]
    assert left[-1] == 50
    assert not state.customers


def test_nobody_leaves_a_moment_too_early() -> None:
    hand = Hand(CONFIG)
    hand.send(view("c", T0, "e"))
    for until, expected in ((T0 + RETENTION_MS, 0), (T0 + RETENTION_MS + 11 * MINUTE_MS, 1)):
        hand.pass_time(until + CONFIG.max_out_of_orderness_ms)
        hand.partition.state._next_sweep_ms = NEVER
        hand.partition.state.put_away(looked_at=10, moved=10)
        assert len(hand.partition.state.evicted) == expected


def test_a_base_that_comes_and_goes_for_a_year_stays_as_large_as_it_is() -> None:
    """Twenty newcomers a day who stay for a day: after the retention as many leave as come."""
    hand = Hand(CONFIG)
    per_day, sizes = 20, []
    for day in range(400):
        at = T0 + day * DAY_MS
        for number in range(per_day):
            hand.send(view(f"{day}.{number}", at + number * MINUTE_MS, f"v{day}.{number}"))
        for hours in (6, 24):
            hand.pass_time(at + hours * HOUR_MS)
            write(hand.log, hand.keeper)
        if day % 50 == 49:
            hand.log.compact(tombstones=False)
            held = sum(len(value or b"") for _, _, value in hand.log.records)
            figures = hand.keeper.figures
            sizes.append((figures.customers, figures.chunks, held - 66 * figures.evicted))
        hand.ticks.clear()
    steady = sizes[1:]
    for which, name in enumerate(("customers", "chunks", "bytes")):
        of_one = [size[which] for size in steady]
        assert max(of_one) < 1.7 * min(of_one) + 100, (name, of_one)
    stays = (RETENTION_MS + SWEEP_EVERY_MS) // DAY_MS + 2
    assert max(customers for customers, _, _ in steady) <= per_day * stays
    figures = hand.keeper.figures
    assert figures.customers + figures.evicted == 400 * per_day
