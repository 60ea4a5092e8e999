"""What events tell of their customer, dimension by dimension, and the cell that follows from it."""

from __future__ import annotations

import json

import pytest

from schemas.decode import Decoder
from schemas.events import Event
from streams.arrivals import NO_ATTRIBUTES, SOME_ATTRIBUTES, Door
from streams.attributes import Told, reader_of, taker_of
from streams.customers import Customer
from streams.segments import Segments, dimensions

THREE = Segments(customer=dimensions(persona=("a", "b"), tier=("gold", "silver"), region=("n",)))
DECODE = Decoder(None, THREE.names).decode
GOLD, SILVER, OTHER, UNKNOWN = 0, 1, 2, 3


def telling(**told: str) -> Event:
    event = {
        "type": "page_viewed", "event_id": "e", "customer_id": "c", "occurred_at": "2026-03-01T00:00:00Z",
        "page": "/", **told,
    }  # fmt: skip
    return DECODE(json.dumps(event).encode())[1]


def told(segments: Segments, **values: str) -> Told:
    return reader_of(segments.names)(telling(**values))


def somebody(segments: Segments = THREE) -> Customer:
    return Customer("c", slot=0, cell=segments.nowhere)


@pytest.mark.parametrize(
    "names", [(), ("tier",), ("region", "tier"), ("tier", "persona", "region")]
)
def test_an_event_is_read_by_dimension_in_their_order(names: tuple[str, ...]) -> None:
    values = {"persona": "a", "tier": "gold", "region": "n"}
    assert reader_of(names)(telling(**values)) == tuple(values[name] for name in names)
    assert reader_of(names)(telling()) == (None,) * len(names)


def test_an_event_names_a_cell_only_with_a_listed_value_of_every_dimension() -> None:
    door = Door(THREE)
    assert door.cell_of(telling(persona="b", tier="silver", region="n")) == THREE.cell(1, SILVER, 0)
    assert door.cell_of(telling()) == NO_ATTRIBUTES
    assert door.cell_of(telling(persona="b", region="n")) == SOME_ATTRIBUTES
    assert door.cell_of(telling(persona="b", tier="tin", region="n")) == SOME_ATTRIBUTES


def test_without_a_dimension_there_is_one_cell_and_nothing_is_told() -> None:
    nobody = Segments(customer=())
    assert (nobody.cells, nobody.nowhere, nobody.cell()) == (1, 0, 0)
    assert Door(nobody).cell_of(telling(persona="a")) == NO_ATTRIBUTES
    customer = somebody(nobody)
    taker_of(nobody)(customer, (), 5)
    assert (customer.target, customer.told_at) == (0, ())


def test_each_dimension_has_its_newest_value_whatever_the_others_say() -> None:
    take, customer = taker_of(THREE), somebody()
    take(customer, told(THREE, tier="gold"), 10)
    assert customer.target == THREE.cell(3, GOLD, 2)
    take(customer, told(THREE, persona="b"), 20)
    take(customer, told(THREE, tier="tin", region="n"), 15)
    assert customer.target == THREE.cell(1, OTHER, 0)
    take(customer, told(THREE, persona="a", tier="silver"), 19)
    assert customer.target == THREE.cell(1, SILVER, 0)
    take(customer, told(THREE, persona="a"), 20)
    assert customer.target == THREE.cell(0, SILVER, 0), "at the same moment the later one wins"


def test_a_dimension_of_one_s_own_can_be_the_only_one() -> None:
    only = Segments(customer=dimensions(tier=("gold", "silver")))
    take, customer = taker_of(only), somebody(only)
    assert customer.target == UNKNOWN
    take(customer, told(only, tier="silver", persona="a"), 10)
    take(customer, told(only, tier="gold"), 9)
    assert (customer.target, customer.told_at) == (SILVER, (10,))


def test_nothing_older_than_an_event_that_told_everything_counts() -> None:
    take, customer = taker_of(THREE), somebody()
    customer.attributes_at = 10
    take(customer, told(THREE, tier="gold"), 9)
    assert (customer.target, customer.told_at) == (THREE.nowhere, None)
    take(customer, told(THREE, tier="gold"), 10)
    assert customer.target == THREE.cell(3, GOLD, 2)
