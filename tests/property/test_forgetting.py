"""A customer who is forgotten, against the plainest model of it: from then on the name is somebody else's.

The oracle knows nothing of forgetting. It is told the same story with other names: whatever is folded for a
customer after they were forgotten is of a customer of another name, and the open session of the old one ends
there. That the figures are the same is what is promised: what was counted stays counted, nothing is taken out
twice, and whoever comes back is new.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.topics import Source
from tests.oracle.lives import EPOCH_MS, HOUR_MS
from tests.oracle.metrics import compute
from tests.oracle.rules import DAY_MS, SOURCES, Arrival, Rules, source_of
from tests.property.comparison import differences
from tests.property.engine_runs import fed, results_at
from tests.property.test_engine_stories import (
    CONFIG,
    GAP,
    ORACLE,
    SIZES,
    disagreements_between,
)

pytestmark = pytest.mark.property

LEVELS = {"journey_customers", "ticket_backlog"}
JOURNEY = {"journey_moves", "journey_stage_seconds_p50"}
LAPSE_MS = 30 * DAY_MS
NAMES = st.sampled_from("xy")
STRIDES = st.sampled_from((0, 1, GAP - 1, GAP, GAP + 1, HOUR_MS, 6 * HOUR_MS, DAY_MS, 2 * DAY_MS))
FIELDS: dict[str, dict[str, Any]] = {
    "page_viewed": {"page": "/"},
    "order_placed": {"order_id": "o", "amount": 1, "currency": "USD"},
    "social_interacted": {"network": "fedi", "action": "like"},
    "session_ended": {},
}
SEGMENTS = st.sampled_from((None, None, "a", "b"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), STRIDES),
        st.tuples(st.sampled_from(tuple(FIELDS)), STRIDES, st.booleans(), NAMES, SEGMENTS),
        st.tuples(st.just("customer_forgotten"), STRIDES, st.booleans(), NAMES, st.none()),
        st.tuples(st.just("again"), st.integers(0, 5)),
    ),
    min_size=3,
    max_size=24,
)


def told(story: list[tuple[Any, ...]]) -> tuple[list[Arrival], int]:
    """The records of a story; the watermark moves by its control records alone, since support stays silent."""
    now, latest = EPOCH_MS, EPOCH_MS
    found: list[Arrival] = []
    events: list[dict[str, Any]] = []

    def add(source: int, event: dict[str, Any]) -> None:
        found.append(Arrival(source, len(found), event.get("occurred_at", now), event))

    for step in [*story, ("pass", 0), ("pass", 3 * DAY_MS)]:
        if step[0] == "pass":
            now = max(now, latest) if step[1] == 0 else now + step[1]
            for source in range(SOURCES):
                add(source, {"type": "time_passed", "until": now})
            continue
        if step[0] == "again":
            if events:
                before = events[-1 - step[1] % len(events)]
                add(source_of(before), before)
            continue
        kind, stride, behind, customer, persona = step
        time = now - max(1, stride) if behind else now + stride
        latest = max(latest, time)
        event: dict[str, Any] = {"type": kind, "customer_id": customer, "occurred_at": time}
        if kind == "customer_forgotten":
            add(0, event)
            continue
        event["event_id"] = str(len(found))
        event |= {"persona": persona} if persona else {}
        event |= FIELDS[kind]
        events.append(event)
        add(source_of(event), event)
    return found, now


def _place(one: Arrival) -> tuple[int, int, int]:
    return int(one.event["occurred_at"]), one.source, one.offset


def renamed(stream: list[Arrival]) -> tuple[list[Arrival], set[str]]:
    """The same story for somebody who can't forget, and the names of those who were forgotten: see the
    head of this file.
    """
    watermark = -(2**62)
    lives = {"x": 0, "y": 0}
    known: set[str] = set()
    names: dict[int, str] = {}
    ends: dict[int, tuple[str, int]] = {}
    waiting: list[Arrival] = []

    def fold(one: Arrival) -> None:
        customer = str(one.event["customer_id"])
        name = f"{customer}{lives[customer]}"
        if one.event["type"] != "customer_forgotten":
            names[one.offset] = name
            known.add(name)
        elif name in known:
            ends[one.offset] = (name, max(int(one.event["occurred_at"]), watermark_of[one.offset]))
            lives[customer] += 1

    watermark_of: dict[int, int] = {}
    for one in stream:
        watermark_of[one.offset] = watermark
        if one.event["type"] == "time_passed":
            if one.source == SOURCES - 1:
                watermark = max(watermark, int(one.event["until"]))
                ready = [w for w in waiting if w.event["occurred_at"] < watermark]
                waiting = [w for w in waiting if w.event["occurred_at"] >= watermark]
                for due in sorted(ready, key=_place):
                    fold(due)
            continue
        time = int(one.event["occurred_at"])
        is_event = one.event["type"] != "customer_forgotten"
        if time >= watermark:
            waiting.append(one)
        elif not (is_event and watermark - time > DAY_MS):
            fold(one)
    retold: list[Arrival] = []
    for one in stream:
        event = dict(one.event)
        at = one.record_ms
        if event["type"] == "customer_forgotten":
            if one.offset not in ends:
                continue
            name, at = ends[one.offset]
            event = {"type": "session_ended", "event_id": f"end {one.offset}"}
            event |= {"customer_id": name, "occurred_at": at}
        elif event["type"] != "time_passed":
            event["customer_id"] = names.get(one.offset, event["customer_id"])
        retold.append(Arrival(one.source, one.offset, at, event))
    return retold, {name for name, _ in ends.values()}


def step(
    kind: str, stride: int = 0, *, behind: bool = False, of: str = "x", persona: str | None = None
) -> tuple[Any, ...]:
    return (kind, stride, behind, of, persona)


def view(stride: int = 0, *, behind: bool = False, persona: str | None = None) -> tuple[Any, ...]:
    return step("page_viewed", stride, behind=behind, persona=persona)


def order(stride: int = 0, *, behind: bool = False) -> tuple[Any, ...]:
    return step("order_placed", stride, behind=behind)


def forget(stride: int = 0, *, behind: bool = False) -> tuple[Any, ...]:
    return step("customer_forgotten", stride, behind=behind)


def passed(stride: int) -> tuple[Any, ...]:
    return ("pass", stride)


@settings(max_examples=10)
@given(story=STEPS)
# Forgotten in the middle of a session, and back in the same pane.
@example(story=[view(), view(1), forget(2), view(3), order(4)])
# An order after it converts nobody's session.
@example(story=[view(), forget(1), order(2), passed(HOUR_MS)])
# Just before, at and just after the moment at which the session falls silent.
@example(story=[view(), forget(GAP - 1), passed(DAY_MS)])
@example(story=[view(), forget(GAP), passed(DAY_MS)])
@example(story=[view(), forget(GAP + 1), passed(DAY_MS)])
# Behind the watermark: at once, also where the last activity is younger than the time it names.
@example(story=[view(), passed(GAP), forget(HOUR_MS, behind=True), view(1)])
@example(story=[view(), passed(2 * DAY_MS), forget(2 * DAY_MS, behind=True), view(1)])
# What waits from before it goes with the customer, what waits from after it stays.
@example(story=[view(), view(HOUR_MS), forget(GAP), passed(DAY_MS)])
@example(story=[view(), view(GAP), forget(HOUR_MS), passed(DAY_MS)])
# Back while the windows still hold the old marks, late as well, and in another segment.
@example(story=[view(), order(1), forget(2), passed(6 * HOUR_MS), view(), order(1), passed(DAY_MS)])
@example(story=[view(), order(1), forget(2), passed(6 * HOUR_MS), view(GAP, behind=True)])
@example(story=[order(), forget(1), passed(HOUR_MS), order(GAP, behind=True), passed(6 * HOUR_MS)])
@example(story=[view(persona="a"), forget(1), view(2, persona="b"), passed(DAY_MS), view()])
# A return for the second time, with a return already counted as reactivated ahead.
@example(
    story=[
        view(), passed(DAY_MS), view(), forget(1), passed(DAY_MS), view(), passed(DAY_MS), view()
    ]
)  # fmt: skip
# Its event ids are forgotten too: what is sent again counts again.
@example(story=[view(), ("again", 0), forget(1), passed(HOUR_MS), ("again", 0), ("again", 0)])
# Twice, and somebody of whom nothing is known.
@example(story=[view(), forget(1), forget(2), view(3), forget(HOUR_MS), passed(DAY_MS)])
@example(story=[forget(), view(1), step("customer_forgotten", of="y"), passed(DAY_MS)])
def test_a_forgotten_customer_is_somebody_else_from_then_on(story: list[tuple[Any, ...]]) -> None:
    stream, end = told(story)
    # Of the old name it says where it is now, and lets it lapse: below.
    apart = LEVELS | (JOURNEY if end - EPOCH_MS >= LAPSE_MS else set())
    found = disagreements_between(stream, renamed(stream)[0], end)
    assert [one for one in found if one.split("'")[1] not in apart] == []


@settings(max_examples=30)
@given(story=STEPS)
@example(story=[view(), forget(1), view(2), passed(HOUR_MS)])
@example(story=[view(), order(1), forget(2), step("page_viewed", 3, of="y"), passed(HOUR_MS)])
def test_what_is_true_now_is_true_of_those_who_are_not_forgotten(
    story: list[tuple[Any, ...]],
) -> None:
    stream, end = told(story)
    engine = fed(CONFIG, ([one] for one in stream))
    retold, gone = renamed(stream)
    left = [one for one in retold if one.event.get("customer_id") not in gone]
    judged = Rules(out_of_orderness_ms=0).run(left)
    wanted = [(end // hop * hop, w, hop) for w, hop in SIZES]
    expected = compute(judged, ORACLE, [(t, w) for t, w, _ in wanted])
    found = differences(results_at(CONFIG, [engine], wanted), expected, metrics=LEVELS)
    # What was observed is so whoever is forgotten.
    assert [one for one in found if "complete" not in one] == []


@given(story=STEPS)
def test_nothing_of_a_forgotten_customer_stays_in_the_state(story: list[tuple[Any, ...]]) -> None:
    stream, now = told([*story, passed(0), forget(1), passed(DAY_MS)])
    engine = fed(CONFIG, ([one] for one in stream))
    state = engine.partition.state
    assert state.rows_of(["x"]) == [None]
    assert all("x" not in {timer, getattr(timer, "id", "")} for timer in state._wheel.take(now))
    for source in Source:
        account = engine.partition.account(source)
        assert account.balances
        assert not account.waiting
