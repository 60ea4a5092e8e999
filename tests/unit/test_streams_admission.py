"""The door: keys, partitions, the future, and where a batch begins and ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from schemas.decode import Decoder
from schemas.events import PageViewed
from schemas.reasons import Reason
from schemas.topics import Source
from streams.admission import OFFSET_MASK, ORDER_BITS, Admission, Admitted
from streams.arrivals import View
from streams.config import CoreConfig
from streams.customers import Customer

AT_MS = 1_000_000_000_000
CONFIG = CoreConfig(max_future_ms=1_000)


@dataclass(frozen=True, slots=True)
class Record:
    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int


def record(
    offset: int = 0, *, timestamp: int = AT_MS, key: str | None = "c", **fields: Any
) -> Record:
    event = {
        "type": "page_viewed",
        "event_id": "e",
        "customer_id": "c",
        "occurred_at": AT_MS,
        "page": "/",
        **fields,
    }
    value = json.dumps(event).encode()
    return Record(None if key is None else key.encode(), value, offset, timestamp)


def control(offset: int, until: int, timestamp: int = AT_MS) -> Record:
    return Record(
        None, json.dumps({"type": "time_passed", "until": until}).encode(), offset, timestamp
    )


def admit(
    *records: Record,
    known: tuple[str, ...] = (),
    start: int = 0,
    owner: int = 0,
    keeps_views: bool = False,
) -> Admitted[Record]:
    """Customers called c... live in partition 0 of 4."""
    admission = Admission(
        CONFIG,
        Decoder(),
        partition=owner,
        partitions=4,
        partition_of=lambda key, partitions: (key[0] - ord("c")) % partitions,
        keeps_views=keeps_views,
    )
    customers = {name: Customer(name, slot=slot, cell=0) for slot, name in enumerate(known)}
    return admission.admit(Source.SESSIONS, records, known=customers, start=start)


def reasons(admitted: Admitted[Record]) -> list[Reason]:
    assert all(detail for _, _, detail in admitted.dead)
    return [reason for _, reason, _ in admitted.dead]


def test_a_good_record_arrives_with_its_time_rank_and_contribution() -> None:
    admitted = admit(record(7))
    (arrival,) = admitted.arrivals
    assert arrival[:2] == (AT_MS, (Source.SESSIONS << ORDER_BITS) | 7)
    assert arrival[4] == AT_MS
    assert (admitted.records, admitted.next_offset, admitted.dead) == (1, 8, [])


def test_of_a_page_view_only_what_is_folded_goes_on_unless_it_is_to_be_read() -> None:
    unknown = len(CONFIG.segments.channel.all) - 1
    cases: tuple[tuple[dict[str, Any], View], ...] = (
        ({}, View(None, unknown)),
        ({"session_id": "s", "channel": "no such"}, View("s", unknown - 1)),
        ({"persona": "no such"}, View(None, unknown, ("no such", None))),
    )
    for fields, light in cases:
        ((_, _, event, *_),) = admit(record(**fields)).arrivals
        assert event == light
        ((_, _, event, *_),) = admit(record(**fields), keeps_views=True).arrivals
        assert isinstance(event, PageViewed)


def test_the_rank_of_the_input_stands_above_every_offset() -> None:
    admission = Admission(
        CONFIG, Decoder(), partition=0, partitions=1, partition_of=lambda _key, _partitions: 0
    )
    order: dict[str, Any] = {
        "type": "order_placed",
        "order_id": "o",
        "amount": 1,
        "currency": "USD",
    }
    (arrival,) = admission.admit(Source.PURCHASES, [record(OFFSET_MASK, **order)]).arrivals
    assert arrival[1] >> ORDER_BITS == Source.PURCHASES
    assert arrival[1] & OFFSET_MASK == OFFSET_MASK
    assert arrival[3] == 1_000_000


def test_what_the_decoder_refuses_is_dead_with_its_reason() -> None:
    broken = Record(b"c", b"{", 0, AT_MS)
    tombstone = Record(b"c", None, 1, AT_MS)
    admitted = admit(broken, tombstone, record(2))
    assert reasons(admitted) == [Reason.NOT_JSON, Reason.EMPTY]
    assert [dead for dead, _, _ in admitted.dead] == [broken, tombstone]
    assert (admitted.records, len(admitted.arrivals), admitted.next_offset) == (3, 1, 3)


def test_the_key_is_the_customer_id() -> None:
    assert reasons(admit(record(key="c"))) == []
    for key in (None, "", "C", "cc"):
        assert reasons(admit(record(key=key))) == [Reason.WRONG_KEY]


def test_a_key_of_another_partition_is_refused() -> None:
    assert reasons(admit(record(key="d", customer_id="d"))) == [Reason.WRONG_PARTITION]
    assert reasons(admit(record(key="d", customer_id="d"), owner=1)) == []


def test_a_known_customer_vouches_for_the_key() -> None:
    """Hashing every key would cost more than folding the event."""
    assert reasons(admit(record(key="d", customer_id="d"), known=("d",))) == []


def test_the_key_is_checked_before_the_partition_and_that_before_the_future() -> None:
    late = AT_MS + CONFIG.max_future_ms + 1
    assert reasons(admit(record(key="x", customer_id="d", occurred_at=late))) == [Reason.WRONG_KEY]
    assert reasons(admit(record(key="d", customer_id="d", occurred_at=late))) == [
        Reason.WRONG_PARTITION
    ]


def test_an_event_may_lie_so_far_ahead_of_its_record_and_a_millisecond_more_is_the_future() -> None:
    inside = admit(record(occurred_at=AT_MS + 1_000))
    assert (inside.arrivals[0][0], inside.arrivals[0][4]) == (AT_MS + 1_000, AT_MS)
    assert reasons(admit(record(occurred_at=AT_MS + 1_001))) == [Reason.FUTURE]


def test_an_event_behind_its_record_contributes_its_own_time() -> None:
    admitted = admit(record(timestamp=AT_MS + 5_000))
    assert admitted.arrivals[0][4] == AT_MS
    assert admitted.lag_ms == 5_000


def test_a_control_record_needs_no_key_and_no_partition_and_may_lie_ahead() -> None:
    """It moves the watermark no further than its own timestamp."""
    (arrival,) = admit(control(3, until=AT_MS + 10**9)).arrivals
    assert (arrival[0], arrival[4]) == (AT_MS + 10**9, AT_MS)


def test_records_before_the_start_were_judged_before() -> None:
    admitted = admit(record(4), record(5), record(6), start=5)
    assert [arrival[1] & OFFSET_MASK for arrival in admitted.arrivals] == [5, 6]
    assert (admitted.records, admitted.next_offset) == (2, 7)


def test_a_batch_of_which_nothing_is_new_says_nothing() -> None:
    for admitted in (admit(), admit(record(4), start=5)):
        assert (admitted.records, admitted.next_offset, admitted.lag_ms) == (0, None, None)


def test_a_batch_of_dead_records_moves_the_offset_and_nothing_else() -> None:
    admitted = admit(record(4, key="x"))
    assert (admitted.records, admitted.next_offset, admitted.lag_ms) == (1, 5, None)


def test_the_lag_is_that_of_the_newest_usable_record() -> None:
    admitted = admit(record(1, timestamp=AT_MS + 7), record(2, timestamp=AT_MS + 9, key="x"))
    assert admitted.lag_ms == 7
