"""The stages of a customer's journey and the moves between them, as declarations.

A customer is `AWARE` from the first touch on and climbs; what was reached is never lost. Silence
makes any stage `LAPSED`, and a return leads back to the highest stage reached.
"""

from __future__ import annotations

import enum

from streams.windows import DAY_MS


class Stage(enum.IntEnum):
    """Where a customer stands; the order is that of the climb, lapsed apart."""

    AWARE = 0
    ENGAGED = 1
    CUSTOMER = 2
    LOYAL = 3
    LAPSED = 4


NOWHERE = -1
"""No stage: before the first event, and of whoever was forgotten."""
LAPSE_MS = 30 * DAY_MS
"""Silence after which a customer has lapsed; it must be exceeded, as a session's gap."""
ENGAGED_PAGES = 5
"""So many page views of a first session show interest; a second session shows it too."""
PROMOTER_SCORE = 9
"""From this answer on a customer promotes the shop."""

STAGES = tuple(stage.name.lower() for stage in Stage)
MOVES = tuple(
    (old, new) for old in Stage for new in Stage if new > old or (old is Stage.LAPSED and new < old)
)
"""All moves there are: up, into silence, and back from it."""
MOVE_OF = tuple(
    tuple(MOVES.index((old, new)) if (old, new) in MOVES else -1 for new in Stage) for old in Stage
)
"""``MOVE_OF[old][new]`` is the move's place in `MOVES`; -1 where there is none."""
