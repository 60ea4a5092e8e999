"""The journey: the stage of every customer, moves between stages, silence that ends a stage.

Rules:

- Everybody of whom an event was folded is in one stage, `Stage.AWARE` first. What was reached is
  never lost; silence makes any stage `Stage.LAPSED`, and only an activity leads back.
- A customer lapses 30 days after the later of the last activity and the entry into the stage. An
  event exactly then still comes in time. Timers are lazy, as those of sessions: the wheel holds
  everybody who has not lapsed once, at a moment not after the true one.
- One event makes at most one move. A lapse that was due before it is counted first, in the cell the
  customer had until then: whoever moves a customer to another cell calls `expire` before.
- Late events change the journey when they arrive, at the watermark.
"""

from __future__ import annotations

from collections.abc import Iterable

from streams.customers import Customer
from streams.stages import LAPSE_MS, MOVE_OF, NOWHERE, Stage
from streams.sums import Stock
from streams.timeline import Timeline
from streams.timers import Wheel

# As plain integers: in the fold a look-up of a member, or a set of members, costs as much as a call.
_AWARE, _LAPSED = int(Stage.AWARE), int(Stage.LAPSED)


class Journey:
    """Moves customers between stages and counts it into a timeline."""

    def __init__(self, timeline: Timeline, *, cells: int, base_ms: int) -> None:
        """``cells`` is how many there are, ``base_ms`` the width of the base pane."""
        self._cells = cells
        self.wheel = Wheel()
        self._timeline = timeline
        self._pane = timeline.pane
        self._base = base_ms

    def reach(self, customer: Customer, stage: int, at: int, *, is_activity: bool) -> None:
        """An event at ``at`` reaches ``stage``; the first one enters the journey. Whoever has
        lapsed comes back if it is an activity.
        """
        now = customer.stage
        if now == NOWHERE:
            customer.stage, customer.stage_at, now = _AWARE, at, _AWARE
            self._pane.met.append(customer.cell)
            self._arm(customer)
        reached = customer.reached
        if stage > reached:
            reached = customer.reached = stage
        if now == _LAPSED:
            if is_activity:
                # Whoever lapsed in this very pane still stands in the wheel.
                is_armed = customer.stage_at >= self._timeline.pane_start
                self._move(customer, reached, at)
                if not is_armed:
                    self._arm(customer)
        elif now < reached:
            self.expire(customer, at)
            if customer.stage != _LAPSED:
                self._move(customer, reached, at)

    def expire(self, customer: Customer, at: int) -> None:
        """Let a customer lapse who was due before ``at``."""
        due = self.due_of(customer)
        if due is not None and due < at:
            self._move(customer, _LAPSED, due)

    def due_of(self, customer: Customer) -> int | None:
        """When the customer lapses if nothing more happens; None if there is nothing to lapse."""
        if customer.stage == NOWHERE or customer.stage == _LAPSED:  # noqa: PLR1714 - see `_LAPSED`
            return None
        entered, active = customer.stage_at, customer.last_activity
        return (active if active > entered else entered) + LAPSE_MS  # noqa: FURB136 - twice as fast

    def change_cell(self, customer: Customer, old: int, new: int) -> None:
        """The customer goes over to another cell."""
        if customer.stage != NOWHERE:
            self._pane.stock(Stock.CUSTOMERS, old, -1)
            self._pane.stock(Stock.CUSTOMERS, new, 1)

    def forget(self, customer: Customer) -> None:
        """Nobody is left who could be in a stage. Whoever is known is in one."""
        self.wheel.remove(customer)
        self._pane.stock(Stock.CUSTOMERS, customer.cell, -1)
        self._pane.stock_own(Stock.CUSTOMERS, customer.stage, -1)
        customer.stage = NOWHERE

    def fire(self, due_now: Iterable[Customer], end: int) -> None:
        """The timers of these came: who was silent for long enough before ``end`` lapses."""
        for customer in due_now:
            self.expire(customer, end)
            self._arm(customer)

    def _arm(self, customer: Customer) -> None:
        due = self.due_of(customer)
        if due is not None:
            # By name: whoever is silent for long is packed away, and this timer runs for 30 days.
            self.wheel.arm(due // self._base, customer.id)

    def _move(self, customer: Customer, new: int, at: int) -> None:
        move = MOVE_OF[customer.stage][new]
        self._pane.moved.append(move * self._cells + customer.cell)
        self._pane.moved_ms.append(at - customer.stage_at)
        customer.stage, customer.stage_at = new, at
