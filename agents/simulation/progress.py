"""How far customers have come, counted plainly: stages, moves between them, and what they were worth.

One of the pieces of `agents.simulation.truth`. Everything comes in event-time order; a lapse is counted
before anything later is.
"""

from __future__ import annotations

import heapq

from agents.simulation.personas import DAY_MS

LAPSE_MS = 30 * DAY_MS
STAGES = ("aware", "engaged", "customer", "loyal")
LAPSED = "lapsed"
COUNTS = ("journey_moves", "journey_lapses")


class _Walk:
    __slots__ = (
        "entered_ms", "first_day", "first_views", "is_armed", "last_day", "last_ms",
        "net_micros", "number", "reached", "sessions", "stage",
    )  # fmt: skip

    def __init__(self, number: int, at_ms: int) -> None:
        self.number = number
        self.stage = STAGES[0]
        self.reached = 0
        self.entered_ms = self.last_ms = at_ms
        self.sessions = self.first_views = self.net_micros = 0
        self.first_day: int | None = None
        self.last_day: int | None = None
        self.is_armed = False


class Progress:
    """Counts into ``hour``, a mapping of `COUNTS` that its owner empties hour by hour."""

    def __init__(self, hour: dict[str, int]) -> None:
        self._hour = hour
        self._walks: dict[int, _Walk] = {}
        self._lapses: list[tuple[int, int]] = []
        """A heap of when a customer may lapse, at the earliest; one entry for each."""
        self.stages = dict.fromkeys((*STAGES, LAPSED), 0)
        self.buyers = self.net_micros = 0

    def pass_time(self, now_ms: int) -> None:
        """Whoever was silent for more than 30 days before ``now_ms`` has lapsed."""
        lapses = self._lapses
        while lapses and lapses[0][0] < now_ms:
            _, number = heapq.heappop(lapses)
            walk = self._walks[number]
            walk.is_armed = False
            due_ms = max(walk.last_ms, walk.entered_ms) + LAPSE_MS
            if due_ms < now_ms:
                self._move(walk, LAPSED, due_ms)
                self._hour["journey_lapses"] += 1
            else:
                self._arm(walk, due_ms)

    def viewed(self, number: int, at_ms: int, *, starts_session: bool) -> None:
        """A page view, after time has passed until it."""
        walk = self._walk(number, at_ms)
        walk.sessions += starts_session
        walk.first_views += walk.sessions == 1
        if walk.sessions > 1 or walk.first_views >= 5:
            walk.reached = max(walk.reached, 1)
        self._go_on(walk, at_ms, is_activity=True)

    def ordered(self, number: int, at_ms: int, amount_micros: int) -> None:
        """An order."""
        walk = self._walk(number, at_ms)
        walk.last_day = at_ms // DAY_MS
        if walk.first_day is None:
            walk.first_day = walk.last_day
            self.buyers += 1
            self.net_micros += walk.net_micros
        self._pay(walk, amount_micros)
        walk.reached = max(walk.reached, 2 if walk.first_day == walk.last_day else 3)
        self._go_on(walk, at_ms, is_activity=True)

    def refunded(self, number: int, at_ms: int, amount_micros: int) -> None:
        """Money given back, of whoever."""
        walk = self._walk(number, at_ms)
        self._pay(walk, -amount_micros)

    def answered(self, number: int, at_ms: int, score: int) -> None:
        """An NPS answer."""
        walk = self._walk(number, at_ms)
        if score >= 9:
            walk.reached = 3
        self._go_on(walk, at_ms, is_activity=False)

    def touched(self, number: int, at_ms: int) -> None:
        """Any other event."""
        self._walk(number, at_ms)

    def levels(self) -> dict[str, int]:
        """How things stand now."""
        found = {f"journey_{stage}": count for stage, count in self.stages.items()}
        return {
            **found,
            "journey_customers": len(self._walks),
            "buyers_ever": self.buyers,
            "net_ever_micros": self.net_micros,
        }

    def _walk(self, number: int, at_ms: int) -> _Walk:
        walk = self._walks.get(number)
        if walk is None:
            walk = self._walks[number] = _Walk(number, at_ms)
            self.stages[walk.stage] += 1
            self._arm(walk, at_ms + LAPSE_MS)
        return walk

    def _pay(self, walk: _Walk, amount_micros: int) -> None:
        walk.net_micros += amount_micros
        if walk.first_day is not None:
            self.net_micros += amount_micros

    def _go_on(self, walk: _Walk, at_ms: int, *, is_activity: bool) -> None:
        if is_activity:
            walk.last_ms = at_ms
        elif walk.stage == LAPSED:
            return
        if walk.stage != STAGES[walk.reached]:
            self._move(walk, STAGES[walk.reached], at_ms)
        if not walk.is_armed:
            self._arm(walk, at_ms + LAPSE_MS)

    def _move(self, walk: _Walk, stage: str, at_ms: int) -> None:
        self.stages[walk.stage] -= 1
        self.stages[stage] += 1
        self._hour["journey_moves"] += 1
        walk.stage, walk.entered_ms = stage, at_ms

    def _arm(self, walk: _Walk, due_ms: int) -> None:
        walk.is_armed = True
        heapq.heappush(self._lapses, (due_ms, walk.number))
