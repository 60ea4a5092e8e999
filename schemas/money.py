"""Money: decimal amounts in, integer millionths of one reporting currency out.

An amount is exact: at most six decimals on the wire, converted by a configured rate, rounded half
to even once per event, and from then on an integer. Sums of integers are exact in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, Inexact
from types import MappingProxyType

import msgspec

from schemas.reasons import Reason, Rejected

MICROS = 1_000_000
MAX_UNITS = 10**9
MAX_MICROS = MAX_UNITS * MICROS

# Wide enough for any amount below 10^9 with six decimals times any sensible rate without rounding.
# Nothing is trapped: what an absurd rate makes of it is infinite, and refused.
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[])
# What does not fit has more than six decimals: it is refused, not rounded.
_UNROUNDED = Context(prec=60, traps=[Inexact])
_ONE = Decimal(1)
_LARGEST_EXPONENT = 30


class Currencies(msgspec.Struct, frozen=True, kw_only=True):
    """The reporting currency, and for each accepted currency the units of it that one unit is
    worth.
    """

    reporting: str = "USD"
    rates: Mapping[str, Decimal] = MappingProxyType({})

    def micros(self, amount: Decimal, currency: str) -> int:
        """Convert ``amount`` to millionths of the reporting currency, rounding half to even.

        Raises `Rejected`: ``unknown_currency`` without a rate; ``bad_value`` for a negative amount,
        one with more than six decimals, one that is no number, or one above 10^9 after the
        conversion.
        """
        rate = _ONE if currency == self.reporting else self.rates.get(currency)
        if rate is None:
            raise Rejected(Reason.UNKNOWN_CURRENCY, "currency has no rate in [currencies]")
        if not amount.is_finite():
            raise Rejected(Reason.BAD_VALUE, "amount must be a finite number")
        if amount.is_signed() and amount != 0:
            raise Rejected(Reason.BAD_VALUE, "amount must not be negative")
        # Bounded before any arithmetic: 1e999999 would otherwise become a million digits.
        if amount and not -_LARGEST_EXPONENT < amount.adjusted() < _LARGEST_EXPONENT:
            raise Rejected(Reason.BAD_VALUE, "amount must be at most 10^9 with at most 6 decimals")
        try:
            scaled = _UNROUNDED.scaleb(amount, 6)
        except DecimalException:
            raise Rejected(Reason.BAD_VALUE, "amount must have at most 6 decimals") from None
        if scaled != scaled.to_integral_value():
            raise Rejected(Reason.BAD_VALUE, "amount must have at most 6 decimals")
        if rate is not _ONE:
            scaled = _EXACT.multiply(scaled, rate)
        micros = scaled.to_integral_value(ROUND_HALF_EVEN)
        if micros > MAX_MICROS:
            raise Rejected(Reason.BAD_VALUE, "amount must be at most 10^9 after conversion")
        return int(micros)
