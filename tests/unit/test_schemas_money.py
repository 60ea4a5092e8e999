"""Amounts are exact: what is accepted, what it becomes, and how halves are rounded."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decode import Decoder
from schemas.money import MAX_MICROS, Currencies
from schemas.reasons import Reason, Rejected

DOLLARS = Currencies()
HALF = Currencies(reporting="USD", rates={"HLF": Decimal("0.5"), "TEN": Decimal(10)})


def micros_on_the_wire(amount: str, currency: str = "USD") -> int:
    """As raw JSON text, so that exponents and minus zero arrive as they were written."""
    event = {"type": "order_placed", "event_id": "e", "customer_id": "c", "order_id": "o"}
    head = json.dumps({**event, "occurred_at": 10**12, "currency": currency})[:-1]
    return Decoder(HALF).decode(f'{head},"amount":{amount}}}'.encode())[2]


def refusal(amount: str, currencies: Currencies = DOLLARS, currency: str = "USD") -> Reason:
    with pytest.raises(Rejected) as caught:
        currencies.micros(Decimal(amount), currency)
    return caught.value.reason


@pytest.mark.parametrize(
    "amount, micros",
    [
        ("0", 0),
        ("-0", 0),
        ('"-0"', 0),
        ("-0.0", 0),
        ("0e999999", 0),
        ("0.1", 100_000),
        ('"0.1"', 100_000),
        ("12.345678", 12_345_678),
        ("1e-6", 1),
        ("1E3", 1_000_000_000),
        ("1000000000", MAX_MICROS),
        ("1.000000000", 1_000_000),
        ('"1.' + "0" * 70 + '"', 1_000_000),
    ],
)
def test_amounts_that_are_accepted(amount: str, micros: int) -> None:
    assert micros_on_the_wire(amount) == micros


@pytest.mark.parametrize(
    "amount",
    [
        "-1",
        "-0.000001",
        "1e999999",
        '"1e999999"',
        "-1e-999999",
        "1e-999999",
        "1e99999999999999999999",
        '"NaN"',
        '"sNaN"',
        '"Infinity"',
        '"-Infinity"',
        '"twelve"',
        '""',
        "0.0000001",
        "1000000000.000001",
        "1" * 100,
        '"1.' + "0" * 62 + '1"',
    ],
)
def test_amounts_that_are_a_bad_value(amount: str) -> None:
    with pytest.raises(Rejected) as caught:
        micros_on_the_wire(amount)
    assert caught.value.reason is Reason.BAD_VALUE


def test_six_decimals_are_accepted_and_seven_are_not() -> None:
    assert DOLLARS.micros(Decimal("0.123456"), "USD") == 123_456
    assert refusal("0.1234567") is Reason.BAD_VALUE


def test_10_to_the_9_is_the_most_after_conversion_and_a_millionth_more_is_refused() -> None:
    assert DOLLARS.micros(Decimal(10**9), "USD") == MAX_MICROS
    assert refusal("1000000000.000001") is Reason.BAD_VALUE
    assert HALF.micros(Decimal(2 * 10**9), "HLF") == MAX_MICROS
    assert HALF.micros(Decimal("2000000000.000001"), "HLF") == MAX_MICROS  # half a millionth: even
    assert refusal("2000000000.000002", HALF, "HLF") is Reason.BAD_VALUE
    assert HALF.micros(Decimal(10**8), "TEN") == MAX_MICROS
    assert refusal("100000000.000001", HALF, "TEN") is Reason.BAD_VALUE


@pytest.mark.parametrize("millionths, rounded", [(1, 0), (3, 2), (5, 2), (7, 4), (2, 1), (9, 4)])
def test_half_a_millionth_is_rounded_to_even(millionths: int, rounded: int) -> None:
    assert HALF.micros(Decimal(millionths).scaleb(-6), "HLF") == rounded


def test_the_reporting_currency_needs_no_rate_and_takes_none() -> None:
    odd = Currencies(reporting="EUR", rates={"EUR": Decimal(7)})
    assert odd.micros(Decimal(1), "EUR") == 1_000_000


def test_a_currency_without_a_rate_comes_before_a_bad_amount() -> None:
    assert refusal("-1", currency="EUR") is Reason.UNKNOWN_CURRENCY


@pytest.mark.parametrize("rate", ["1e30", "1e999999"])
def test_an_absurd_rate_refuses_the_amount_and_stops_nothing(rate: str) -> None:
    absurd = Currencies(rates={"ABS": Decimal(rate)})
    assert refusal("1000000", absurd, "ABS") is Reason.BAD_VALUE


@given(
    millionths=st.integers(0, 10**13),
    rate=st.decimals(min_value="0.0001", max_value="90", places=6, allow_nan=False),
)
def test_conversion_is_exact_arithmetic_rounded_once(millionths: int, rate: Decimal) -> None:
    currencies = Currencies(rates={"EUR": rate})
    exact = Fraction(millionths) * Fraction(rate)
    assert currencies.micros(Decimal(millionths).scaleb(-6), "EUR") == round(exact)
