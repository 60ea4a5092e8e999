"""What customers have been worth so far: orders less refunds, ever, of everybody who ordered.

A customer's money goes with the customer to another cell. A refund of somebody of whom no order is
known waits until the first one: the mean is over those who ordered, and so is the money.
"""

from __future__ import annotations

from streams.customers import Customer
from streams.last_seen import NEVER
from streams.open_pane import OpenPane
from streams.sums import Stock


class Lifetime:
    """Keeps the stocks of lifetime value, by way of the open pane.

    The money of orders and refunds in the open pane enters the stock with the pane's own sums
    (`OpenPane.stocks`); here is logged where that is not all, or too much.
    """

    def __init__(self, pane: OpenPane) -> None:
        self._pane = pane

    def order(self, customer: Customer, micros: int, *, is_late: bool = False) -> None:
        """An order, before it is noted as the customer's first. ``is_late``: it counts in a pane
        that has closed.
        """
        waiting = customer.net_micros
        customer.net_micros = waiting + micros
        entering = micros if is_late else 0
        if customer.first_order == NEVER:
            self._pane.stock(Stock.BUYERS_EVER, customer.cell, 1)
            entering += waiting
        if entering:
            self._pane.stock(Stock.NET_MICROS_EVER, customer.cell, entering)

    def refund(self, customer: Customer, micros: int, *, is_late: bool = False) -> None:
        """Money was given back."""
        customer.net_micros -= micros
        is_buyer = customer.first_order != NEVER
        if is_buyer is is_late:
            self._pane.stock(Stock.NET_MICROS_EVER, customer.cell, -micros if is_late else micros)

    def change_cell(self, customer: Customer, old: int, new: int) -> None:
        """The customer goes over to another cell."""
        if customer.first_order == NEVER:
            return
        for cell, sign in ((old, -1), (new, 1)):
            self._pane.stock(Stock.BUYERS_EVER, cell, sign)
            self._pane.stock(Stock.NET_MICROS_EVER, cell, sign * customer.net_micros)
