"""Short stories on sharp edges, engine against oracle: here a failure shrinks to the few events that it needs.

The watermark stands exactly where the story puts it: it moves only by control records, since every other record
carries the timestamp at which it already stands.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.config import CoreConfig
from streams.metrics import BY_NAME
from streams.segments import Segments, dimensions
from streams.windows import Window, WindowSet
from tests.oracle.customers import OracleConfig
from tests.oracle.lives import EPOCH_MS, HOUR_MS, MINUTE_MS
from tests.oracle.metrics import compute
from tests.oracle.rules import DAY_MS, SOURCES, Arrival, Rules, source_of
from tests.property.comparison import differences
from tests.property.engine_runs import fed, results_at

pytestmark = pytest.mark.property

GAP = 30 * MINUTE_MS
SIZES = ((HOUR_MS, GAP), (2 * HOUR_MS, GAP), (6 * HOUR_MS, HOUR_MS), (DAY_MS, 6 * HOUR_MS))
CONFIG = CoreConfig(
    windows=WindowSet.of(
        [Window.parse(text) for text in ("1h/30m", "2h/30m", "6h/1h", "1d/6h")], session_gap_ms=GAP
    ),
    segments=Segments(customer=dimensions(persona=("a", "b"), region=())),
    max_out_of_orderness_ms=0,
    max_future_ms=1_000 * DAY_MS,
)
ORACLE = OracleConfig(
    session_gap_ms=GAP, base_ms=GAP, segments={"persona": ("a", "b"), "region": ()}
)

Step: TypeAlias = tuple[Any, ...]
"""("pass", how long), or kind, stride, behind, customer, persona, name of session or ticket."""

SHOP = ("page_viewed", "order_placed", "page_viewed", "order_placed", "session_ended", "like")
CARE = (
    "page_viewed",
    "order_placed",
    "order_refunded",
    "like",
    "unlike",
    "pleased",
    "angry",
    *("ticket_opened", "ticket_replied", "ticket_resolved", "ticket_reopened") * 2,
)
SHORT = (0, 1, GAP - 1, GAP, GAP + 1, HOUR_MS, 2 * HOUR_MS, 6 * HOUR_MS, DAY_MS)
LONG = (30 * DAY_MS - 1, 30 * DAY_MS, 30 * DAY_MS + 1, 90 * DAY_MS, 90 * DAY_MS + 1)


def stories_of(kinds: tuple[str, ...], strides: tuple[int, ...]) -> st.SearchStrategy[list[Step]]:
    stride = st.sampled_from(strides)
    step = st.tuples(
        st.sampled_from(kinds),
        stride,
        st.booleans(),  # behind the watermark
        st.sampled_from("xy"),
        st.sampled_from((None, None, "a", "b")),
        st.sampled_from((None, None, "1", "2")),
    )
    passing = st.tuples(st.just("pass"), stride)
    return st.lists(st.one_of(passing, step), min_size=2, max_size=24)


def fields_of(kind: str, name: str | None) -> dict[str, Any]:
    """What an event of the story says beside who and when; `name` is that of a session or a ticket."""
    named: dict[str, Any] = {} if name is None else {"session_id": name}
    found: dict[str, dict[str, Any]] = {
        "page_viewed": {"type": kind, "page": "/", **named},
        "session_ended": {"type": kind, **named},
        "order_placed": {"type": kind, "order_id": "o", "amount": 2, "currency": "USD"},
        "order_refunded": {"type": kind, "order_id": "o", "amount": 1, "currency": "USD"},
        "like": {
            "type": "social_interacted",
            "network": "fedi",
            "action": "like",
            "sentiment": 0.5,
        },
        "unlike": {"type": "social_interacted", "network": "fedi", "action": "unlike"},
        "pleased": {"type": "nps_answered", "score": 9},
        "angry": {"type": "nps_answered", "score": 6},
        "ticket_opened": {"type": kind, "ticket_id": name or "1", "channel": "chat"},
    }
    return found.get(kind) or {"type": kind, "ticket_id": name or "1"}


def told(story: list[Step]) -> tuple[list[Arrival], int]:
    now, latest = EPOCH_MS, EPOCH_MS
    found: list[Arrival] = []

    def add(source: int, record_ms: int, event: dict[str, Any]) -> None:
        found.append(Arrival(source, len(found), record_ms, event))

    for step in [*story, ("pass", 0), ("pass", 3 * DAY_MS)]:
        if step[0] == "pass":
            now = max(now, latest) if step[1] == 0 else now + step[1]
            for source in range(SOURCES):
                add(source, now, {"type": "time_passed", "until": now})
            continue
        kind, stride, behind, customer, persona, name = step
        time = now - max(1, stride) if behind else now + stride
        latest = max(latest, time)
        event = {"event_id": str(len(found)), "customer_id": customer, "occurred_at": time}
        event |= fields_of(kind, name) | ({"persona": persona} if persona else {})
        add(source_of(event), now, event)
    return found, now


def view(stride: int = 0, *, behind: bool = False, persona: str | None = None) -> Step:
    return ("page_viewed", stride, behind, "x", persona, None)


def order(stride: int = 0, *, behind: bool = False, persona: str | None = None) -> Step:
    return ("order_placed", stride, behind, "x", persona, None)


# The watermark stands exactly at, and just behind, the moment at which a session falls silent or reaches 24 h.
AT_THE_GAP = [view(), ("pass", GAP)]
AT_A_DAY = [view(), ("pass", GAP)] * 48


@settings(max_examples=14)
@given(story=stories_of(SHOP, SHORT))
@example(story=[*AT_THE_GAP, order(1, behind=True)])
@example(story=[*AT_THE_GAP, ("pass", 1), order(1, behind=True)])
@example(story=[*AT_THE_GAP, order(1, behind=True, persona="a")])
@example(story=[*AT_THE_GAP, ("pass", 1), order(1, behind=True, persona="a")])
@example(story=[*AT_THE_GAP, order(0, persona="a")])
@example(story=[*AT_THE_GAP, order(1, persona="a")])
@example(story=[*AT_THE_GAP, view(GAP - 1, behind=True, persona="a"), view()])
@example(story=[*AT_A_DAY, order(1, behind=True)])
@example(story=[*AT_A_DAY, order(1, behind=True, persona="a")])
@example(story=[*AT_A_DAY, order(GAP, behind=True)])
@example(story=[*AT_A_DAY, order(), view()])
@example(story=[*AT_A_DAY[:-1], order(GAP), ("pass", GAP), view(persona="a")])
def test_every_metric_of_a_short_story_is_what_the_oracle_says(
    story: list[Step],
) -> None:
    assert disagreements(story) == []


def like(stride: int = 0, *, behind: bool = False) -> Step:
    return ("like", stride, behind, "x", None, None)


def ticket(what: str, stride: int = 0, *, behind: bool = False) -> Step:
    return (f"ticket_{what}", stride, behind, "x", None, "1")


# The watermark comes to stand an hour after the ticket's newest event.
REPLIED = [("pass", HOUR_MS), ticket("replied"), ("pass", HOUR_MS)]
RESOLVED = [("pass", HOUR_MS), ticket("resolved"), ("pass", HOUR_MS)]


# A lapse at the very moment of a return, and one that a late activity comes in time for, or not.
LAPSING = 30 * DAY_MS


@settings(max_examples=16)
@given(story=stories_of(CARE, SHORT + LONG))
@example(story=[view(), order(LAPSING)])
@example(story=[view(), order(LAPSING + 1, persona="a")])
@example(story=[view(), ("pass", LAPSING), view(HOUR_MS, behind=True)])
@example(story=[view(), ("pass", LAPSING), ("pass", 1), view(HOUR_MS, behind=True)])
@example(story=[view(), ("pass", LAPSING), ("pass", 1), order(HOUR_MS, behind=True, persona="a")])
@example(
    story=[view(), ("pleased", LAPSING + 1, False, "x", None, None), ("pass", 2 * LAPSING), view()]
)
@example(
    story=[
        ("angry", HOUR_MS, False, "x", "a", None),
        ("pass", 2 * HOUR_MS),
        ("pleased", HOUR_MS, True, "x", "b", None),
        view(persona="b"),
    ]
)
@example(story=[like(HOUR_MS), ("pass", 2 * HOUR_MS), like(HOUR_MS + 1, behind=True)])
@example(story=[like(HOUR_MS), ("pass", 2 * HOUR_MS), like(HOUR_MS - 1, behind=True)])
@example(story=[ticket("opened"), *REPLIED, ticket("resolved", HOUR_MS + 1, behind=True)])
@example(story=[ticket("opened"), *REPLIED, ticket("resolved", HOUR_MS, behind=True)])
@example(story=[ticket("opened"), *RESOLVED, ticket("replied", HOUR_MS + 1, behind=True)])
@example(story=[ticket("opened", HOUR_MS), *RESOLVED, ticket("replied", DAY_MS, behind=True)])
@example(story=[*RESOLVED, ticket("opened", HOUR_MS + 1, behind=True), ticket("replied")])
@example(story=[ticket("opened"), *RESOLVED, ticket("reopened", 2 * HOUR_MS, behind=True)])
@example(
    story=[
        ticket("opened"),
        ticket("resolved"),
        ("pass", 90 * DAY_MS),
        ticket("reopened", HOUR_MS, behind=True),
    ]
)
@example(
    story=[
        ticket("opened"),
        ticket("resolved"),
        ("pass", 90 * DAY_MS),
        ("pass", 1),
        ticket("reopened", HOUR_MS, behind=True),
    ]
)
def test_every_metric_of_a_story_of_care_is_what_the_oracle_says(
    story: list[Step],
) -> None:
    assert disagreements(story) == []


def disagreements(story: list[Step]) -> list[str]:
    stream, end = told(story)
    return disagreements_between(stream, stream, end)


def disagreements_between(stream: list[Arrival], retold: list[Arrival], end: int) -> list[str]:
    """What the engine says of `stream` at the boundaries around its events until `end`, against what
    the oracle says of `retold`, which means the same.
    """
    engine = fed(CONFIG, ([one] for one in stream))
    judged = Rules(out_of_orderness_ms=0).run(retold)
    moments = {
        one.event.get("occurred_at", one.event.get("until", 0)) + shift * w
        for one in stream
        for shift in (0, 1, 2)
        for w, _ in SIZES[1:]
    }
    wanted = []
    for w, hop in SIZES:
        around = {t // hop * hop + up for t in moments for up in (0, hop)}
        inside = sorted(t for t in around if EPOCH_MS < t <= end)
        wanted += [(t, w, hop) for t in inside[:: 1 + len(inside) // 9]]
    expected = compute(judged, ORACLE, [(t, w) for t, w, _ in wanted])
    return differences(results_at(CONFIG, [engine], wanted), expected, metrics=BY_NAME)
