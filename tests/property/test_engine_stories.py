"""Short stories on sharp edges, engine against oracle: here a failure shrinks to the few events that it needs.

The watermark stands exactly where the story puts it: it moves only by control records, since support stays silent.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.config import CoreConfig
from streams.metrics import BY_NAME
from streams.segments import Segments, Values
from streams.windows import Window, WindowSet
from tests.oracle.customers import OracleConfig
from tests.oracle.generate import source_of
from tests.oracle.lives import EPOCH_MS, HOUR_MS, MINUTE_MS
from tests.oracle.metrics import compute
from tests.oracle.rules import DAY_MS, SOURCES, Arrival, Rules
from tests.property.comparison import differences
from tests.property.engine_runs import Run, results_at

pytestmark = pytest.mark.property

GAP = 30 * MINUTE_MS
SIZES = ((HOUR_MS, GAP), (2 * HOUR_MS, GAP), (6 * HOUR_MS, HOUR_MS), (DAY_MS, 6 * HOUR_MS))
CONFIG = CoreConfig(
    windows=WindowSet.of(
        [Window.parse(text) for text in ("1h/30m", "2h/30m", "6h/1h", "1d/6h")], session_gap_ms=GAP
    ),
    segments=Segments(persona=Values(("a", "b"))),
    max_out_of_orderness_ms=0,
)
ORACLE = OracleConfig(session_gap_ms=GAP, base_ms=GAP, personas=("a", "b"))

KINDS = ("page_viewed", "order_placed", "page_viewed", "order_placed", "session_ended", "nps")
strides = st.sampled_from((0, 1, GAP - 1, GAP, GAP + 1, HOUR_MS, 2 * HOUR_MS, 6 * HOUR_MS, DAY_MS))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), strides),
        st.tuples(
            st.sampled_from(KINDS),
            strides,
            st.booleans(),  # behind the watermark
            st.sampled_from("xy"),
            st.sampled_from((None, None, "a", "b")),
            st.sampled_from((None, None, "1", "2")),
        ),
    ),
    min_size=2,
    max_size=24,
)


def told(story: list[tuple[Any, ...]]) -> tuple[list[Arrival], int]:
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
        kind, stride, behind, customer, persona, session_id = step
        time = now - max(1, stride) if behind else now + stride
        latest = max(latest, time)
        event = {"type": kind, "event_id": str(len(found)), "customer_id": customer}
        event["occurred_at"] = time
        if persona:
            event["persona"] = persona
        if kind == "order_placed":
            event |= {"order_id": "o", "amount": 1, "currency": "USD"}
        elif kind == "nps":
            # Support must stay silent; a like is as little an activity as an answer.
            event |= {"type": "social_interacted", "network": "fedi", "action": "like"}
        else:
            event |= {"page": "/"} if kind == "page_viewed" else {}
            event |= {"session_id": session_id} if session_id else {}
        add(source_of(event), time, event)
    return found, now


def view(stride: int = 0, *, behind: bool = False, persona: str | None = None) -> tuple[Any, ...]:
    return ("page_viewed", stride, behind, "x", persona, None)


def order(stride: int = 0, *, behind: bool = False, persona: str | None = None) -> tuple[Any, ...]:
    return ("order_placed", stride, behind, "x", persona, None)


# The watermark stands exactly at, and just behind, the moment at which a session falls silent or reaches 24 h.
AT_THE_GAP = [view(), ("pass", GAP)]
AT_A_DAY = [view(), ("pass", GAP)] * 48


@settings(max_examples=20)
@given(story=steps)
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
    story: list[tuple[Any, ...]],
) -> None:
    assert disagreements(story) == []


def disagreements(story: list[tuple[Any, ...]]) -> list[str]:
    stream, end = told(story)
    return disagreements_between(stream, stream, end)


def disagreements_between(stream: list[Arrival], retold: list[Arrival], end: int) -> list[str]:
    """What the engine says of `stream` at the boundaries around its events until `end`, against what
    the oracle says of `retold`, which means the same.
    """
    engine = Run(CONFIG)
    for one in stream:
        engine.feed([one])
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
        wanted += [(t, w, hop) for t in inside[:: 1 + len(inside) // 14]]
    expected = compute(judged, ORACLE, [(t, w) for t, w, _ in wanted])
    return differences(results_at(CONFIG, [engine], wanted), expected, metrics=BY_NAME)
