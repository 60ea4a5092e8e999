"""What the engine remembers of one customer.

One object with slots a customer: measured against array columns, lists and a vectorised fold it is
the fastest and not the largest (FACTS: 782 ns an event, against 794 for lists and about 2x for
array columns). It holds nothing per window. Moments are event times in milliseconds; `NEVER` is one
that has not happened.
"""

from __future__ import annotations

from typing import cast

from streams.last_seen import NEVER

Return = tuple[int, int, "Return | None"]
"""A return: when, after which last activity, and the one before it that a window may still
count.
"""

NO_SESSION = -1
FIELDS = (
    "id",
    "cell",
    "target",
    "persona",
    "region",
    "persona_at",
    "region_at",
    "attributes_at",
    "touched",
    "recent",
    "first_activity",
    "last_activity",
    "last_visit",
    "last_order",
    "first_order",
    "first_order_cell",
    "session_start",
    "session_last",
    "session_pages",
    "session_converted",
    "session_channel",
    "session_id",
    "last_session_start",
    "is_armed",
    "returns",
)


HOT = (
    "attributes_at",
    "cell",
    "last_activity",
    "last_order",
    "last_visit",
    "recent",
    "session_id",
    "session_last",
    "session_pages",
    "session_start",
    "target",
    "touched",
)
"""What a page view touches: it lies together, in two cache lines instead of four (5 % of the fold)."""


class _Hot:
    """The slots of a base class come first in memory."""

    __slots__ = HOT


class Customer(_Hot):
    """One customer; see `FIELDS` for what a row of a snapshot holds."""

    __slots__ = tuple(name for name in FIELDS if name not in HOT)

    def __init__(self, identity: str, *, persona: int, region: int, cell: int) -> None:
        """A customer of whom nothing is known but the name."""
        self.id = identity
        self.cell = cell
        """The cell in which the customer counts now."""
        self.target = cell
        """The cell by the newest attributes: taken at the next activity."""
        self.persona = persona
        self.region = region
        self.persona_at = NEVER
        self.region_at = NEVER
        self.attributes_at = NEVER
        """When an event last carried both attributes, unchanged."""
        self.touched = NEVER
        """Newest event time of any folded event."""
        self.recent = b""
        """Hashes of the last folded event ids, 8 bytes each, oldest first.

        One string of 128 bytes: a dict of the same is seven times as large and as slow when the
        customers don't fit the cache. A match across two hashes is as improbable as one of two
        hashes.
        """
        self.first_activity = NEVER
        self.last_activity = NEVER
        self.last_visit = NEVER
        self.last_order = NEVER
        self.first_order = NEVER
        self.first_order_cell = 0
        self.session_start = NO_SESSION
        self.session_last = NEVER
        self.session_pages = 0
        self.session_converted = 0
        self.session_channel = 0
        self.session_id: str | None = None
        self.last_session_start = NEVER
        self.is_armed = False
        """Whether the wheel holds a timer for the open or the last session."""
        self.returns: Return | None = None

    def row(self) -> list[object]:
        """The customer as a row of a snapshot, in the order of `FIELDS`."""
        return [getattr(self, name) for name in FIELDS]

    @classmethod
    def from_row(cls, row: list[object]) -> Customer:
        """The inverse of `row`."""
        customer = cls.__new__(cls)
        for name, value in zip(FIELDS, row, strict=True):
            setattr(customer, name, value)
        customer.returns = _nested(customer.returns)
        return customer


def _nested(returns: object) -> Return | None:
    """A chain of returns whose tuples became lists on the way."""
    if returns is None:
        return None
    back, last, older = cast("tuple[int, int, object]", returns)
    return back, last, _nested(older)
