"""What happens to the shop during a simulation."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

STEADY = "steady"
CHURN_SPIKE = "churn-spike"
CHECKOUT_BROKEN = "checkout-broken"
FLASH_SALE = "flash-sale"
SCENARIOS = (STEADY, CHURN_SPIKE, CHECKOUT_BROKEN, FLASH_SALE)

LEAVING_SHARE = 0.35
"""Of the customers alive when a churn spike begins, those who leave for good in its course."""
ATTRACTED_SHARE = {"bargain": 0.6}
ATTRACTED_DEFAULT = 0.25
"""Customers whom a flash sale brings to the site once more."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``name`` holds in ``[start_ms, end_ms)``; before and after, the shop is steady."""

    name: str = STEADY
    start_ms: int = 0
    end_ms: int = 0

    def end_of_life(self, random: Random, *, born_ms: int, ends_ms: int) -> int:
        """When a customer really leaves, who would otherwise leave at ``ends_ms``."""
        if self.name != CHURN_SPIKE or born_ms >= self.start_ms:
            return ends_ms
        if random.random() >= LEAVING_SHARE:
            return ends_ms
        leaves_ms = self.start_ms + int(random.random() * (self.end_ms - self.start_ms))
        return min(ends_ms, leaves_ms)

    def next_visit(self, random: Random, persona: str, *, now_ms: int, planned_ms: int) -> int:
        """A flash sale brings some customers earlier than they had planned, once each."""
        if self.name != FLASH_SALE or now_ms >= self.start_ms or planned_ms < self.start_ms:
            return planned_ms
        if random.random() >= ATTRACTED_SHARE.get(persona, ATTRACTED_DEFAULT):
            return planned_ms
        return min(planned_ms, self.start_ms + int(random.random() * (self.end_ms - self.start_ms)))

    def conversion(self, at_ms: int, conversion: float) -> float:
        """The chance of an order in a session that begins at ``at_ms``."""
        if not self.start_ms <= at_ms < self.end_ms:
            return conversion
        if self.name == CHECKOUT_BROKEN:
            return conversion * 0.05
        return min(0.9, conversion * 2.5) if self.name == FLASH_SALE else conversion

    def basket(self, at_ms: int, basket: float) -> float:
        """The median order amount at ``at_ms``."""
        on_sale = self.name == FLASH_SALE and self.start_ms <= at_ms < self.end_ms
        return basket * 0.7 if on_sale else basket

    def tickets(self, at_ms: int, ticket: float) -> float:
        """The chance of a ticket in a session that begins at ``at_ms``."""
        broken = self.name == CHECKOUT_BROKEN and self.start_ms <= at_ms < self.end_ms
        return min(1.0, ticket * 4) if broken else ticket
