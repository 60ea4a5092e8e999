"""Where a customer is forgotten among the events that are folded.

A `CustomerForgotten` record waits and is ordered as an event of its time: everything folded before
it is deleted with the customer, and what is folded after it belongs to a new one.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.events import CustomerForgotten
from streams.arrivals import Arrival, name_in
from streams.state import State


def is_forgetting(arrival: Arrival) -> bool:
    """Whether this is no event, but says that a customer is forgotten."""
    return arrival[2].kind is CustomerForgotten


def fold_and_forget(state: State, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """`State.fold` for ``arrivals`` some of which forget a customer; returns the duplicates."""
    duplicates: list[Arrival] = []
    start = 0
    for place, arrival in enumerate(arrivals):
        if is_forgetting(arrival):
            duplicates += state.fold(arrivals[start:place])
            state.forget(name_in(arrival), arrival[0])
            start = place + 1
    return duplicates + state.fold(arrivals[start:])
