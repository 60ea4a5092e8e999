"""The journey: how far a customer came, when silence ends a stage, what leads back."""

from __future__ import annotations

from typing import Any

import pytest

from streams.config import CoreConfig
from streams.segments import Segments, dimensions
from streams.stages import LAPSE_MS
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.told import T0, Told

CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("100d/10m")]),
    segments=Segments(customer=dimensions(persona=("a", "b"), region=())),
)
END = T0 + HOUR_MS
STAGES = ("aware", "engaged", "customer", "loyal", "lapsed")


@pytest.fixture
def told() -> Told:
    return Told(CONFIG)


def stages(told: Told, at_ms: int) -> dict[str, object]:
    """How many customers are in each stage that has any."""
    counts = {stage: told.at("journey_customers", at_ms, stage=stage).value for stage in STAGES}
    return {stage: count for stage, count in counts.items() if count}


def moves(told: Told, at_ms: int, window: int = 0) -> dict[str, object]:
    """The moves in the window that ends then, by kind; their sum is the total."""
    found: dict[str, object] = {}
    for old in STAGES:
        for new in STAGES:
            if (STAGES.index(old) < STAGES.index(new)) or (old == "lapsed" and new != old):
                labels: dict[str, Any] = {"from": old, "to": new}
                count = told.at("journey_moves", at_ms, window, **labels).value
                if count:
                    found[f"{old} {new}"] = count
    assert told.at("journey_moves", at_ms, window).value == sum(found.values())  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("kind", ["page_viewed", "ticket_replied", "subscription_renewed"])
def test_anybody_is_aware_with_the_first_event_of_any_kind(told: Told, kind: str) -> None:
    told.tell(kind, "c", T0)

    assert stages(told, END) == {"aware": 1}
    assert moves(told, END) == {}
    assert told.at("journey_customers", END).value == 1


def test_a_second_session_engages(told: Told) -> None:
    told.tell("page_viewed", "c", T0)
    told.tell("page_viewed", "c", T0 + 30 * MINUTE_MS)  # still the first
    told.tell("page_viewed", "d", T0)
    told.tell("page_viewed", "d", T0 + 30 * MINUTE_MS + 1)

    assert stages(told, END) == {"aware": 1, "engaged": 1}
    assert moves(told, END) == {"aware engaged": 1}
    found = told.at("journey_stage_seconds_p50", END, stage="aware")
    assert found.n == 1
    assert found.value == pytest.approx(1_800, rel=0.01)


@pytest.mark.parametrize("views, expected", [(4, {"aware": 1}), (5, {"engaged": 1})])
def test_the_fifth_view_of_the_first_session_engages(
    told: Told, views: int, expected: dict[str, int]
) -> None:
    for number in range(views):
        told.tell("page_viewed", "c", T0 + number)

    assert stages(told, END) == expected


def test_an_order_makes_a_customer_and_a_second_order_day_a_loyal_one(told: Told) -> None:
    told.tell("order_placed", "c", T0 - 2)
    told.tell("order_placed", "c", T0 - 1)  # the same UTC day
    assert stages(told, T0) == {"customer": 1}
    told.tell("order_placed", "c", T0)
    assert stages(told, END) == {"loyal": 1}
    assert moves(told, END, 1) == {"aware customer": 1, "customer loyal": 1}


@pytest.mark.parametrize("score, expected", [(8, {"aware": 1}), (9, {"loyal": 1})])
def test_a_promoter_is_loyal_at_once(told: Told, score: int, expected: dict[str, int]) -> None:
    told.tell("nps_answered", "c", T0, score=score)

    assert stages(told, END) == expected


def test_a_later_worse_answer_takes_nothing_back(told: Told) -> None:
    told.tell("nps_answered", "c", T0, score=10)
    told.tell("nps_answered", "c", T0 + 1, score=0)

    assert stages(told, END) == {"loyal": 1}


def test_who_has_come_further_is_not_engaged_any_more(told: Told) -> None:
    told.tell("order_placed", "c", T0)
    for number in range(5):
        told.tell("page_viewed", "c", T0 + number)

    assert moves(told, END) == {"aware customer": 1}


def test_silence_of_30_days_ends_a_stage_and_is_seen_after_that_moment(told: Told) -> None:
    told.tell("page_viewed", "c", T0)

    assert stages(told, T0 + LAPSE_MS) == {"aware": 1}
    assert stages(told, T0 + LAPSE_MS + 10 * MINUTE_MS) == {"lapsed": 1}
    assert moves(told, T0 + LAPSE_MS + 10 * MINUTE_MS) == {"aware lapsed": 1}
    assert moves(told, T0 + LAPSE_MS + 70 * MINUTE_MS) == {}


@pytest.mark.parametrize("over, lapsed", [(0, 0), (1, 1)])
def test_an_activity_exactly_then_comes_in_time(told: Told, over: int, lapsed: int) -> None:
    at = T0 + 5 * MINUTE_MS  # inside a pane, so that no timer is first
    told.tell("page_viewed", "c", at)
    told.tell("page_viewed", "c", at + LAPSE_MS + over)

    found = moves(told, T0 + LAPSE_MS + HOUR_MS)
    assert found == ({"aware lapsed": 1, "lapsed engaged": 1} if lapsed else {"aware engaged": 1})


def test_what_is_no_activity_leads_nobody_back_and_shows_at_the_return(told: Told) -> None:
    told.tell("page_viewed", "c", T0)
    back = T0 + LAPSE_MS + DAY_MS
    told.tell("nps_answered", "c", back, score=9)
    assert stages(told, back + 10 * MINUTE_MS) == {"lapsed": 1}
    told.tell("page_viewed", "c", back + HOUR_MS)
    assert stages(told, back + 2 * HOUR_MS) == {"loyal": 1}
    assert moves(told, back + 2 * HOUR_MS, 1) == {"aware lapsed": 1, "lapsed loyal": 1}
    lapsed = told.at("journey_stage_seconds_p50", back + 2 * HOUR_MS, 1, stage="lapsed")
    assert lapsed.value == pytest.approx(25 * 3_600, rel=0.01)


def test_what_comes_after_the_silence_is_no_move_of_the_stage_before(told: Told) -> None:
    """The lapse was due in the open pane; the answer after it finds a lapsed customer."""
    at = T0 + 5 * MINUTE_MS
    told.tell("page_viewed", "c", at)
    told.tell("nps_answered", "c", at + LAPSE_MS + 1, score=9)

    assert moves(told, T0 + LAPSE_MS + HOUR_MS) == {"aware lapsed": 1}


def test_an_entry_into_a_stage_begins_its_30_days_anew(told: Told) -> None:
    told.tell("page_viewed", "c", T0)
    told.tell("nps_answered", "c", T0 + DAY_MS, score=9)

    assert stages(told, T0 + LAPSE_MS + HOUR_MS) == {"loyal": 1}
    assert stages(told, T0 + LAPSE_MS + DAY_MS + HOUR_MS) == {"lapsed": 1}


def test_a_return_within_the_pane_of_the_lapse_lapses_again_30_days_on(told: Told) -> None:
    at = T0 + 5 * MINUTE_MS
    told.tell("order_placed", "c", at)
    told.tell("order_placed", "c", at + LAPSE_MS + 1)
    told.tell("page_viewed", "d", at + 2 * LAPSE_MS)

    assert stages(told, at + 2 * LAPSE_MS + 5 * MINUTE_MS) == {"aware": 1, "lapsed": 1}
    assert moves(told, at + 2 * LAPSE_MS + 5 * MINUTE_MS, 1) == {
        "aware customer": 1,
        "customer lapsed": 1,
        "lapsed loyal": 1,
        "loyal lapsed": 1,
    }


def test_a_long_life_lapses_30_days_after_its_last_activity(told: Told) -> None:
    """The timer that was armed first is armed again, as often as need be."""
    for days in range(0, 80, 20):
        told.tell("page_viewed", "c", T0 + days * DAY_MS)

    assert stages(told, T0 + 90 * DAY_MS) == {"engaged": 1}
    assert stages(told, T0 + 90 * DAY_MS + 10 * MINUTE_MS) == {"lapsed": 1}


def test_the_stage_goes_with_the_customer_and_the_moves_stay(told: Told) -> None:
    told.tell("page_viewed", "c", T0, persona="a")
    told.tell("order_placed", "c", T0 + 1)
    told.tell("page_viewed", "c", T0 + 15 * MINUTE_MS, persona="b")

    assert told.at("journey_customers", T0 + 10 * MINUTE_MS, persona="a").value == 1
    assert [told.at("journey_customers", END, persona=one).value for one in "ab"] == [0, 1]
    assert [told.at("journey_moves", END, persona=one).value for one in "ab"] == [1, 0]


def test_the_lapse_is_counted_in_the_cell_held_until_then(told: Told) -> None:
    at = T0 + 5 * MINUTE_MS
    told.tell("page_viewed", "c", at, persona="a")
    told.tell("page_viewed", "c", at + LAPSE_MS + 1, persona="b")

    end = T0 + LAPSE_MS + HOUR_MS
    assert [told.at("journey_moves", end, persona=one).value for one in "ab"] == [1, 1]


def test_orders_and_views_lead_back_only_if_they_are_activities() -> None:
    told = Told(
        CoreConfig(
            windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("100d/10m")]),
            activity=frozenset({"social_interacted"}),
        )
    )
    back = T0 + LAPSE_MS + HOUR_MS
    told.tell("page_viewed", "c", T0)
    told.tell("page_viewed", "c", back)
    told.tell("order_placed", "c", back + 1)
    assert stages(told, back + HOUR_MS) == {"lapsed": 1}
    told.tell("social_interacted", "c", back + HOUR_MS)
    assert stages(told, back + 2 * HOUR_MS) == {"customer": 1}


def test_what_comes_late_happens_at_the_watermark(told: Told) -> None:
    told.pass_time(T0)
    told.send("page_viewed", "c", T0)
    told.pass_time(T0 + 35 * MINUTE_MS)
    told.send("order_placed", "c", T0 + 5 * MINUTE_MS)
    told.send("nps_answered", "new", T0 + 5 * MINUTE_MS, score=3)
    told.pass_time(T0 + 3 * HOUR_MS)

    customers = [
        told.live("journey_customers", T0 + minutes * MINUTE_MS).value for minutes in (30, 40)
    ]
    assert customers == [1, 2]
    assert told.live("journey_moves", T0 + 30 * MINUTE_MS).value == 0
    assert told.live("journey_moves", T0 + 40 * MINUTE_MS).value == 1
    stay = told.live("journey_stage_seconds_p50", END, stage="aware").value
    assert stay == pytest.approx(35 * 60, rel=0.01)


def test_late_orders_of_two_days_make_a_loyal_customer(told: Told) -> None:
    told.pass_time(T0)
    told.send("order_placed", "c", T0)
    told.pass_time(T0 + 35 * MINUTE_MS)
    told.send("order_placed", "c", T0 - 1)
    told.pass_time(T0 + 3 * HOUR_MS)

    assert told.live("journey_customers", END, stage="loyal").value == 1


def test_a_late_activity_leads_back_who_had_just_lapsed(told: Told) -> None:
    told.pass_time(T0)
    told.send("page_viewed", "c", T0 + 5 * MINUTE_MS)
    told.pass_time(T0 + LAPSE_MS + 6 * MINUTE_MS)  # due a minute ago, in the open pane
    told.send("page_viewed", "c", T0 + LAPSE_MS)
    told.pass_time(T0 + LAPSE_MS + HOUR_MS)

    at = T0 + LAPSE_MS + 10 * MINUTE_MS
    assert told.live("journey_moves", at).value == 2
    assert told.live("journey_customers", at, stage="aware").value == 1


def test_with_windows_longer_than_30_days_a_lapsed_customer_is_back_all_the_same() -> None:
    told = Told(CoreConfig(windows=WindowSet.of([Window.parse("40d/1d")])))
    told.tell("page_viewed", "c", T0)
    told.tell("page_viewed", "c", T0 + 31 * DAY_MS)

    assert stages(told, T0 + 32 * DAY_MS) == {"engaged": 1}
    assert moves(told, T0 + 32 * DAY_MS) == {"aware lapsed": 1, "lapsed engaged": 1}
    assert told.at("reactivated_customers", T0 + 80 * DAY_MS).value == 0


@pytest.mark.parametrize("kind, is_kept", [("ticket_opened", True), ("social_interacted", False)])
def test_nobody_with_a_known_ticket_leaves_memory(told: Told, kind: str, is_kept: bool) -> None:
    told.pass_time(T0)
    told.send(kind, "c", T0)
    for days in (300, 310):
        told.pass_time(T0 + days * DAY_MS)
        told.hand.partition.state.put_away(looked_at=10, moved=10)

    assert ("c" in told.hand.partition.state.evicted) is not is_kept
    assert told.live("journey_customers", T0 + 310 * DAY_MS, stage="lapsed").value == 1
    assert told.live("ticket_backlog", T0 + 310 * DAY_MS).value == int(is_kept)


@pytest.mark.parametrize("is_tracked", [False, True])
def test_who_leaves_memory_and_comes_back_is_noted_while_checkpoints_are_written(
    told: Told, is_tracked: bool
) -> None:
    state = told.hand.partition.state
    state.is_tracked = is_tracked
    told.pass_time(T0)
    told.send("social_interacted", "c", T0)
    state.touched.clear()
    for days in (300, 310):
        told.pass_time(T0 + days * DAY_MS)
        state.put_away(looked_at=10, moved=10)
    assert "c" in state.evicted
    assert bool(state.touched) is is_tracked

    state.touched.clear()
    told.send("page_viewed", "c", T0 + 310 * DAY_MS)
    told.pass_time(T0 + 311 * DAY_MS)
    assert "c" in state.customers
    assert bool(state.touched) is is_tracked
