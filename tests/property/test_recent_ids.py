"""The rings of recent event ids against a naive memory: a list for each customer."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from schemas.events import PageViewed
from streams.arrivals import Arrival
from streams.customers import NO_SLOT, Customer
from streams.last_seen import NEVER
from streams.recent_ids import FEW, REMEMBERED, SILENCE_MS, RecentIds

EVENT = PageViewed(event_id="e", customer_id="c", occurred_at=0, page="/")
# Few customers, few ids and long silences, so that everything meets everything.
STEPS = st.tuples(
    st.integers(0, 4),
    st.one_of(st.integers(0, 6), st.integers(0, 10_000)),
    st.sampled_from([0, 1, 7, SILENCE_MS - 1, SILENCE_MS, SILENCE_MS + 1]),
)
BATCHES = st.lists(st.lists(STEPS, min_size=1, max_size=4 * FEW), max_size=6)


class Naive:
    """The rule, word by word."""

    def __init__(self) -> None:
        self.ids: dict[int, list[bytes]] = defaultdict(list)
        self.newest: dict[int, int] = {}

    def accepts(self, customer: int, at: int, digest: bytes) -> bool:
        if at - self.newest.get(customer, at) > SILENCE_MS:
            self.ids[customer].clear()
        if digest in self.ids[customer]:
            return False
        self.ids[customer] = [*self.ids[customer], digest][-REMEMBERED:]
        self.newest[customer] = at
        return True


def digest(number: int) -> bytes:
    return xxh3_64_digest(str(number).encode())


# Within one batch somebody is silent for so long that the first id is forgotten.
_SILENT_WITHIN = [(2, 1, 0), *[(0, 1, 0)] * FEW, (2, 2, SILENCE_MS + 1)]


@example(batches=[_SILENT_WITHIN, [(2, 1, 5)]], is_restored_between=False)
@example(batches=[[*_SILENT_WITHIN, *[(0, 1, 0)] * FEW, (2, 1, 5)]], is_restored_between=False)
@settings(max_examples=200, deadline=None)
@given(batches=BATCHES, is_restored_between=st.booleans())
def test_whole_batches_are_judged_as_the_rule_judges_event_by_event(
    *, batches: list[list[tuple[int, int, int]]], is_restored_between: bool
) -> None:
    recent, naive = RecentIds(), Naive()
    customers = [Customer(str(n), slot=recent.take_slot(), cell=0) for n in range(5)]
    now = 20_000 * SILENCE_MS
    for batch in batches:
        arrivals: list[Arrival] = []
        expected: list[int] = []
        for place, (who, identity, pause) in enumerate(batch):
            now += pause
            arrivals.append((now, place, EVENT, 0, now, str(who), digest(identity), 0))
            if not naive.accepts(who, now, digest(identity)):
                expected.append(place)
        met = [customers[who] for who, _, _ in batch]
        assert recent.duplicates([c.slot for c in met], arrivals, met) == expected
        for number, customer in enumerate(customers):
            customer.touched = naive.newest.get(number, NEVER)
            held = recent.ids(customer.slot)
            assert held == b"".join(naive.ids[number])
            if is_restored_between:
                (count,), (ring,) = recent.dump(np.array([customer.slot]))
                recent.release(customer)
                customer.slot = recent.take_slot()
                recent.restore(customer.slot, count, ring, customer.touched)


def test_more_customers_than_places_are_all_remembered() -> None:
    recent = RecentIds()
    slots = [recent.take_slot() for _ in range(3_000)]
    assert len(set(slots)) == len(slots)
    for slot in slots:
        assert recent.accept(slot, touched_ms=NEVER, now_ms=slot, digest=digest(slot))
    assert [recent.ids(slot) for slot in slots] == [digest(slot) for slot in slots]


def test_a_slot_that_was_given_back_remembers_nothing() -> None:
    recent = RecentIds()
    slot = recent.take_slot()
    customer = Customer("c", slot=slot, cell=0)
    assert recent.accept(slot, touched_ms=NEVER, now_ms=5, digest=digest(1))
    recent.release(customer)
    assert customer.slot == NO_SLOT
    assert recent.take_slot() == slot
    assert recent.accept(slot, touched_ms=NEVER, now_ms=5, digest=digest(1))
