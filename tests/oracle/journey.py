"""The stages of one customer, from the definitions: where they stand, and every move with its moment.

Rows are (customer, seq, moment, stage left, stage entered, time in the stage left, the cell); the first
has no stage left. A lapse stands where silence ended it, even if nothing follows: a tick at t sees it iff its
moment lies before t.
"""

from __future__ import annotations

from typing import Any

from tests.oracle.rules import DAY_MS

LAPSE_MS = 30 * DAY_MS
STAGES = ("aware", "engaged", "customer", "loyal", "lapsed")
LAPSED = "lapsed"
RANK = {stage: rank for rank, stage in enumerate(STAGES[:-1])}
MOVES = (
    *((a, b) for a in STAGES[:-1] for b in STAGES[:-1] if RANK[a] < RANK[b]),
    *((stage, LAPSED) for stage in STAGES[:-1]),
    *((LAPSED, stage) for stage in STAGES[:-1]),
)


class Journey:
    """One customer's way through the stages."""

    def __init__(self, customer: str, rows: list[tuple[Any, ...]]) -> None:
        self._customer = customer
        self._rows = rows
        self._stage: str | None = None
        self._entered = 0
        self._last_activity: int | None = None
        self._sessions = 0
        self._first_views = 0
        self._order_days: set[int] = set()
        self._is_promoter = False
        self._promoted_by: int | None = None

    # -- what happened

    def session_started(self) -> None:
        """A session began, on time."""
        self._sessions += 1

    def viewed(self) -> None:
        """A page view on time, after its session started."""
        if self._sessions == 1:
            self._first_views += 1

    def ordered(self, time: int) -> None:
        """An order, however late."""
        self._order_days.add(time // DAY_MS)

    def answered(self, score: int, time: int) -> None:
        """An NPS answer; one older than the latest known says nothing."""
        if self._promoted_by is None or time >= self._promoted_by:
            self._promoted_by = time
            self._is_promoter = self._is_promoter or score >= 9

    # -- what follows

    def lapse_before(self, place: int, cell: tuple[str, ...]) -> None:
        """Silence that ended before `place` comes first, in the cell held until then."""
        if self._stage is not None and self._stage != LAPSED and self._due() < place:
            self._move(LAPSED, self._due(), cell)

    def move_on(self, place: int, activity: int | None, cell: tuple[str, ...]) -> None:
        """After an event: at most one move. `activity` is its time if it is one."""
        if self._stage is None:
            self._enter("aware", place, cell)
        if activity is not None:
            known = self._last_activity
            self._last_activity = activity if known is None else max(known, activity)
        if self._stage == LAPSED:
            if activity is not None:
                self._move(self._reached(), place, cell)
        elif RANK[self._reached()] > RANK[str(self._stage)]:
            self._move(self._reached(), place, cell)

    def finish(self, cell: tuple[str, ...]) -> None:
        """Nothing follows: one day the customer lapses."""
        if self._stage is not None and self._stage != LAPSED:
            self._move(LAPSED, self._due(), cell)

    def _reached(self) -> str:
        if self._is_promoter or len(self._order_days) > 1:
            return "loyal"
        if self._order_days:
            return "customer"
        return "engaged" if self._sessions > 1 or self._first_views >= 5 else "aware"

    def _due(self) -> int:
        entered, active = self._entered, self._last_activity
        return (entered if active is None else max(active, entered)) + LAPSE_MS

    def _move(self, stage: str, moment: int, cell: tuple[str, ...]) -> None:
        self._row(self._stage, stage, moment, moment - self._entered, cell)

    def _enter(self, stage: str, moment: int, cell: tuple[str, ...]) -> None:
        self._row(None, stage, moment, 0, cell)

    def _row(
        self, left: str | None, stage: str, moment: int, dwell: int, cell: tuple[str, ...]
    ) -> None:
        self._rows.append((self._customer, len(self._rows), moment, left, stage, dwell, *cell))
        self._stage, self._entered = stage, moment
