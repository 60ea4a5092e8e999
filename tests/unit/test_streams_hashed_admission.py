"""The door with pseudonyms: who a customer is, is asked before, and known to nobody after."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.decode import Decoder
from schemas.reasons import Reason
from schemas.topics import Source
from streams.admission import Admission, Admitted
from streams.arrivals import name_in
from streams.config import CoreConfig
from streams.customers import Customer
from streams.pseudonyms import Pseudonyms

AT_MS = 1_000_000_000_000
KEY = b"k" * 32
CANARY = "c-canary-4711"


@dataclass(frozen=True, slots=True)
class Record:
    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int


def record(
    offset: int = 0, *, customer: str = CANARY, key: str | None = None, **fields: Any
) -> Record:
    event = {
        "type": "page_viewed",
        "event_id": f"e{offset}",
        "customer_id": customer,
        "occurred_at": AT_MS,
        "page": "/",
        **fields,
    }
    return Record((key or customer).encode(), json.dumps(event).encode(), offset, AT_MS)


def door(pseudonyms: Pseudonyms | None, owner: int = 0) -> Admission:
    """Customers called c... live in partition 0 of 4."""
    return Admission(
        CoreConfig(),
        Decoder(),
        partition=owner,
        partitions=4,
        partition_of=lambda key, partitions: (key[0] - ord("c")) % partitions,
        pseudonyms=pseudonyms,
    )


def reasons(admitted: Admitted[Record]) -> list[Reason]:
    return [reason for _, reason, _ in admitted.dead]


def test_past_the_door_there_is_the_pseudonym_and_nothing_else() -> None:
    pseudonyms = Pseudonyms(KEY)
    admitted = door(pseudonyms).admit(Source.SESSIONS, [record(0), record(1)])
    assert [name_in(one) for one in admitted.arrivals] == [pseudonyms.of(CANARY)] * 2
    assert CANARY not in repr(admitted.arrivals)
    assert pseudonyms.of(CANARY) in repr(admitted.arrivals)


def test_key_and_partition_are_checked_by_the_customers_own_id() -> None:
    hashed = Pseudonyms(KEY)
    wrong_key = record(0, key=hashed.of("c"))
    admitted = door(hashed).admit(Source.SESSIONS, [wrong_key, record(1)])
    assert reasons(admitted) == [Reason.WRONG_KEY]
    elsewhere = door(Pseudonyms(KEY), owner=1).admit(Source.SESSIONS, [record(0), record(1)])
    assert reasons(elsewhere) == [Reason.WRONG_PARTITION] * 2


def test_a_customer_known_by_pseudonym_stands_in_the_arrival() -> None:
    pseudonyms = Pseudonyms(KEY)
    name = pseudonyms.of(CANARY)
    customer = Customer(name, slot=0, cell=0)
    admitted = door(pseudonyms).admit(Source.SESSIONS, [record(0)], known={name: customer})
    assert admitted.arrivals[0][5] is customer


def test_a_restored_customer_vouches_for_nothing_until_the_partition_was_checked() -> None:
    name = Pseudonyms(KEY).of(CANARY)
    customer = Customer(name, slot=0, cell=0)
    admitted = door(Pseudonyms(KEY), owner=1).admit(
        Source.SESSIONS, [record(0)], known={name: customer}
    )
    assert reasons(admitted) == [Reason.WRONG_PARTITION]


def test_whoever_is_forgotten_is_not_remembered_at_the_door_either() -> None:
    pseudonyms = Pseudonyms(KEY)
    forgotten = record(1, type="customer_forgotten")
    admitted = door(pseudonyms).admit(Source.SESSIONS, [record(0), forgotten])
    names = {name_in(one) for one in admitted.arrivals}
    assert pseudonyms.known == {}
    assert names == {pseudonyms.of(CANARY)}


@given(st.lists(st.tuples(st.sampled_from(["c1", "c2", "d1", "g1"]), st.booleans()), max_size=30))
def test_hashing_changes_the_names_and_no_judgement(said: list[tuple[str, bool]]) -> None:
    records = [
        record(offset, customer=customer, key=None if fits else "c9")
        for offset, (customer, fits) in enumerate(said)
    ]
    pseudonyms = Pseudonyms(KEY, remembered=1)
    plain = door(None).admit(Source.SESSIONS, records)
    hashed = door(pseudonyms).admit(Source.SESSIONS, records)
    assert reasons(hashed) == reasons(plain)
    assert [name_in(one) for one in hashed.arrivals] == [
        pseudonyms.of(name_in(one)) for one in plain.arrivals
    ]
    assert (hashed.next_offset, hashed.lag_ms) == (plain.next_offset, plain.lag_ms)
