"""Satisfaction: who is satisfied, and whose answer is the latest."""

from __future__ import annotations

import math

import pytest

from streams.config import CoreConfig
from streams.segments import Segments, Values, dimensions
from streams.windows import HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.told import T0, Told

CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("2h/10m")]),
    segments=Segments(
        customer=dimensions(persona=("a", "b"), region=()), support=Values(("chat",))
    ),
)
END = T0 + HOUR_MS
CLASSES = ("nps_promoters", "nps_passives", "nps_detractors")


@pytest.fixture
def told() -> Told:
    return Told(CONFIG)


def classes(told: Told, at_ms: int, **labels: str) -> list[object]:
    return [told.at(name, at_ms, 0, **labels).value for name in CLASSES]


@pytest.mark.parametrize(
    "score, scale, satisfied",
    [(3, 5, 0), (4, 5, 1), (5, 5, 1), (8, 10, 0), (9, 10, 1), (10, 10, 1)],
)
def test_who_is_satisfied_depends_on_the_scale(
    told: Told, score: int, scale: int, satisfied: int
) -> None:
    told.tell("csat_answered", "c", T0, score=score, scale_max=scale)

    assert told.at("csat_satisfied", END, channel="chat").value == satisfied
    assert told.at("csat_responses", END, channel="chat").value == 1
    ratio = told.at("csat_ratio", END)
    assert (ratio.numerator, ratio.n) == (satisfied, 1)
    assert ratio.low is not None


def test_a_channel_that_is_not_configured_is_other(told: Told) -> None:
    told.tell("csat_answered", "c", T0, channel="letter")

    assert told.at("csat_responses", END, channel="other").value == 1


@pytest.mark.parametrize(
    "score, expected",
    [
        (0, [0, 0, 1]),
        (6, [0, 0, 1]),
        (7, [0, 1, 0]),
        (8, [0, 1, 0]),
        (9, [1, 0, 0]),
        (10, [1, 0, 0]),
    ],
)
def test_the_class_of_an_answer(told: Told, score: int, expected: list[int]) -> None:
    told.tell("nps_answered", "c", T0, score=score)

    assert classes(told, END) == expected


def test_only_the_latest_answer_counts_also_within_one_pane(told: Told) -> None:
    told.tell("nps_answered", "c", T0, score=10)
    told.tell("nps_answered", "c", T0 + 1, score=3)
    told.tell("nps_answered", "c", T0 + 30 * MINUTE_MS, score=8)

    assert classes(told, T0 + 10 * MINUTE_MS) == [0, 0, 1]
    assert classes(told, END) == [0, 1, 0]


def test_of_two_answers_at_one_time_the_later_in_order_counts(told: Told) -> None:
    told.tell("nps_answered", "c", T0, score=10)
    told.tell("nps_answered", "c", T0, score=7)

    assert classes(told, END) == [0, 1, 0]


def test_an_answer_leaves_the_window_with_its_moment(told: Told) -> None:
    told.tell("nps_answered", "c", T0, score=9)

    assert classes(told, T0 + HOUR_MS) == [1, 0, 0]
    assert classes(told, T0 + 70 * MINUTE_MS) == [0, 0, 0]
    assert told.at("nps_promoters", T0 + 70 * MINUTE_MS, window=1).value == 1


def test_the_answer_goes_with_the_customer(told: Told) -> None:
    told.tell("nps_answered", "c", T0, score=9, persona="a")
    told.tell("page_viewed", "c", T0 + 1, persona="b")

    assert classes(told, END, persona="a") == [0, 0, 0]
    assert classes(told, END, persona="b") == [1, 0, 0]


def test_the_score_and_its_standard_error(told: Told) -> None:
    for number, score in enumerate((10, 9, 9, 7, 2)):
        told.tell("nps_answered", f"c{number}", T0, score=score)
    found = told.at("nps", END)

    assert (found.numerator, found.denominator, found.n, found.value) == (2, 5, 5, 40)
    error = 100 * math.sqrt(4 - 4 / 5) / 5
    assert found.low == pytest.approx(40 - 1.96 * error, abs=1e-12)
    assert found.high == pytest.approx(40 + 1.96 * error, abs=1e-12)


def test_a_score_that_all_give_has_no_spread_and_none_at_all_is_null(told: Told) -> None:
    assert told.at("nps", END).value is None
    told.tell("nps_answered", "c", T0, score=0)
    found = told.at("nps", END)

    assert (found.value, found.low, found.high) == (-100, -100, -100)


def test_a_late_answer_counts_only_if_none_newer_is_known(told: Told) -> None:
    told.pass_time(T0)
    told.send("nps_answered", "c", T0 + 20 * MINUTE_MS, score=10)
    told.pass_time(T0 + 31 * MINUTE_MS)
    told.send("nps_answered", "c", T0 + 20 * MINUTE_MS - 1, score=0)  # older: says nothing
    told.send("nps_answered", "d", T0 + 5 * MINUTE_MS, score=7)
    told.pass_time(T0 + 41 * MINUTE_MS)
    told.send("nps_answered", "c", T0 + 20 * MINUTE_MS, score=0)  # the same moment, later in order
    told.pass_time(T0 + 3 * HOUR_MS)

    found = [
        [told.live(name, T0 + minutes * MINUTE_MS).value for name in CLASSES]
        for minutes in (30, 40, 50, 70, 80, 90)
    ]
    assert found == [[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
