"""Silence is a signal: timers on event time, in a wheel of buckets one base pane wide.

A customer stands in at most one bucket, by name as long as nobody has looked at the row. A timer
that comes due too early, because the customer was active since, is put into the bucket of its new
moment; so an event never moves a timer, and there is one heap entry a bucket, not one an event.
"""

from __future__ import annotations

import heapq

from streams.customers import Customer


class Wheel:
    """Buckets of customers by the base pane in which their timer comes due."""

    def __init__(self) -> None:
        """An empty wheel."""
        self._buckets: dict[int, list[Customer | str]] = {}
        self._order: list[int] = []
        self._leaving: set[Customer | str] = set()
        """Who still stands in a bucket and is to come due no more."""

    def arm(self, pane: int, customer: Customer | str) -> None:
        """Let ``customer`` come due in base pane ``pane``."""
        if customer in self._leaving:
            self._sweep()
        bucket = self._buckets.get(pane)
        if bucket is None:
            self._buckets[pane] = [customer]
            heapq.heappush(self._order, pane)
        else:
            bucket.append(customer)

    def remove(self, customer: Customer) -> None:
        """Let ``customer``, who stands in a bucket, come due no more.

        Which bucket is not known: they are looked through once for all who leave, at the latest when
        the next timers come due.
        """
        self._leaving |= {customer, customer.id}

    def next_pane(self) -> int | None:
        """The earliest pane in which a timer comes due."""
        return self._order[0] if self._order else None

    def take(self, pane: int) -> list[Customer | str]:
        """Remove and return everyone due in ``pane`` or before it."""
        if self._leaving:
            self._sweep()
        due: list[Customer | str] = []
        while self._order and self._order[0] <= pane:
            due += self._buckets.pop(heapq.heappop(self._order))
        return due

    def _sweep(self) -> None:
        leaving = self._leaving
        for bucket in self._buckets.values():
            if not leaving.isdisjoint(bucket):
                bucket[:] = [one for one in bucket if one not in leaving]
        leaving.clear()
