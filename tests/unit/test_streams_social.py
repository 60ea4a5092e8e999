"""Social involvement: what counts, as what, and of whom."""

from __future__ import annotations

import pytest

from streams.config import CoreConfig
from streams.segments import Segments, Values, dimensions
from streams.windows import HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.told import T0, Told

CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("2h/10m")]),
    segments=Segments(customer=dimensions(persona=("a", "b"), region=()), network=Values(("x",))),
)
END = T0 + HOUR_MS


@pytest.fixture
def told() -> Told:
    return Told(CONFIG)


def test_an_interaction_counts_in_its_network_and_any_other_network_is_other(told: Told) -> None:
    told.tell("social_interacted", "c", T0)
    told.tell("social_interacted", "c", T0 + 1, network="y")

    values = [
        told.at("social_interactions", END, network=network).value
        for network in ("x", "other", "unknown")
    ]
    assert values == [1, 1, 0]
    assert told.at("social_interactions", END).value == 2
    assert told.at("social_customers", END).value == 1


@pytest.mark.parametrize("action", ["unlike", "unfollow", "delete"])
def test_what_is_taken_back_is_counted_apart_and_nothing_else(told: Told, action: str) -> None:
    told.tell("social_interacted", "c", T0, action=action, sentiment=1, impressions=3)

    assert told.at("social_withdrawn", END, network="x").value == 1
    assert told.at("social_interactions", END).value == 0
    assert told.at("social_customers", END).value == 0
    assert told.at("sentiment_mean", END).n == 0
    assert told.at("engagement_ratio", END).denominator == 0


def test_sentiments_are_rounded_to_millionths_and_zero_is_one(told: Told) -> None:
    for sentiment in (0, 0.1234567, -0.5, None):
        told.tell("social_interacted", "c", T0, sentiment=sentiment)
    found = told.at("sentiment_mean", END)

    assert (found.numerator, found.denominator, found.n) == (-0.376543, 3, 3)
    assert found.value == pytest.approx(-0.376543 / 3, abs=1e-15)
    assert (found.low, found.high) == (None, None)


def test_engagement_is_over_the_impressions_of_those_that_tell_them(told: Told) -> None:
    for impressions in (0, 10, None):
        told.tell("social_interacted", "c", T0, impressions=impressions)
    found = told.at("engagement_ratio", END)

    assert (found.numerator, found.denominator, found.value) == (2, 10, 0.2)
    assert (found.low, found.high) == (None, None)


def test_no_impression_at_all_is_no_ratio(told: Told) -> None:
    told.tell("social_interacted", "c", T0, impressions=0)

    assert told.at("engagement_ratio", END).value is None


def test_interactions_are_set_against_a_thousand_active_customers(told: Told) -> None:
    told.tell("page_viewed", "active", T0)
    told.tell("page_viewed", "active too", T0)
    told.tell("social_interacted", "c", T0)
    found = told.at("social_per_1000_active", END)

    assert (found.numerator, found.denominator, found.value) == (1, 2, 500)


def test_a_customer_is_social_by_the_last_interaction_just_inside_the_window(told: Told) -> None:
    told.tell("social_interacted", "c", T0 - 1)
    assert told.at("social_customers", END).value == 0
    told.tell("social_interacted", "c", T0)
    told.tell("social_interacted", "c", T0 + 1)
    assert told.at("social_customers", END).value == 1
    assert told.at("social_customers", END, window=1).value == 1


def test_the_mark_goes_with_the_customer_and_the_count_stays(told: Told) -> None:
    told.tell("social_interacted", "c", T0, persona="a")
    told.tell("page_viewed", "c", T0 + 15 * MINUTE_MS, persona="b")

    assert told.at("social_customers", END, persona="a").value == 1 - 1
    assert told.at("social_customers", END, persona="b").value == 1
    assert told.at("social_interactions", END, persona="b").value == 0


def test_a_late_interaction_counts_in_its_own_pane_and_is_the_last_only_if_newer(
    told: Told,
) -> None:
    told.pass_time(T0)
    told.send("social_interacted", "c", T0 + 30 * MINUTE_MS)
    told.pass_time(T0 + 45 * MINUTE_MS)
    told.send("social_interacted", "c", T0 + 5 * MINUTE_MS)  # older than the last
    told.send("social_interacted", "late", T0 + 6 * MINUTE_MS, sentiment=1, impressions=2)
    told.send("social_interacted", "c", T0 + 40 * MINUTE_MS)  # newer, in the open pane
    told.pass_time(T0 + 3 * HOUR_MS)

    assert told.live("social_interactions", END, network="x").value == 4
    assert told.live("sentiment_mean", END).n == told.live("engagement_ratio", END).numerator == 1
    assert told.live("social_customers", END).value == 2
    assert told.live("social_interactions", T0 + 70 * MINUTE_MS).value == 2
    assert told.live("social_customers", T0 + 70 * MINUTE_MS).value == 1
    assert told.live("social_customers", T0 + 110 * MINUTE_MS).value == 0
