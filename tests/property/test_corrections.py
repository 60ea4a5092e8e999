"""What is out in the end is what a recount of everything gives; what is not revised never changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.partials import Reporter
from schemas.decode import Decoder
from schemas.records import Partial, PublishedBoundary, PublishedResult
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.metrics import BY_NAME, METRICS
from streams.moments import to_text
from streams.rollup import RollUp
from streams.segments import Segments, Values, dimensions
from streams.windows import HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.hand import Hand
from tests.rig.told import FIELDS, T0

pytestmark = pytest.mark.property

CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("6h/1h")]),
    segments=Segments(
        customer=dimensions(persona=("a",)),
        network=Values(("x",)),
        support=Values(("chat",)),
    ),
    allowed_lateness_ms=20 * HOUR_MS,
)
RECOUNTED = tuple(
    metric
    for metric in METRICS
    # What becomes of a ticket depends on when its events come.
    if metric.is_revisable
    and metric.name
    not in {"tickets_resolved", "tickets_reopened", "first_reply_seconds", "resolution_seconds"}
)
KINDS = (
    "page_viewed",
    "order_placed",
    "order_refunded",
    "social_interacted",
    "csat_answered",
    "nps_answered",
    "ticket_opened",
)
VARIED: dict[str, list[dict[str, Any]]] = {
    "order_placed": [{"amount": "0.000001"}, {"amount": 0}],
    "social_interacted": [{"action": "delete"}, {"sentiment": -0.3, "impressions": 9}],
    "csat_answered": [{"score": 1}, {"channel": "letter"}],
}
stories = st.lists(
    st.tuples(
        st.sampled_from((0, 7, 7, 30, 61, 200)),  # minutes until it comes
        st.sampled_from((0, 0, 1, 9, 55, 190, 900, 1_190)),  # minutes by which it is late
        st.sampled_from(KINDS),
        st.integers(0, 2),  # which of its variants
        st.sampled_from(("c", "d")),
        st.booleans(),  # whether the partition crashes before it
        st.booleans(),  # whether the roll-up's seat changes hands before it
    ),
    min_size=3,
    max_size=16,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=stories)
def test_revised_results_are_a_recount_and_all_others_are_as_first_published(
    story: list[tuple[int, int, str, int, str, bool, bool]],
) -> None:
    hand, reporter, roll_up = Hand(CONFIG), Reporter(CONFIG, 0), RollUp(CONFIG, 1)
    events: list[dict[str, Any]] = []
    first: dict[str, PublishedResult] = {}
    newest: dict[str, PublishedResult] = {}
    words: list[Partial] = []
    boundaries: list[PublishedBoundary] = []

    def publish() -> None:
        for partial in reporter.partials(hand.ticks, epoch=1):
            roll_up.add(partial)
        hand.ticks.clear()
        found = roll_up.due(0)
        for result in found:
            before = first.setdefault(result.result_id, result)
            assert result is before or result.revision > newest[result.result_id].revision
            newest[result.result_id] = result
        roll_up.acknowledged(found)
        new_words, new_boundaries = roll_up.take_notes()
        words.extend(new_words)
        boundaries.extend(new_boundaries)

    def successor() -> RollUp:
        found = RollUp(CONFIG, 1)
        for word in words:
            assert found.recall_word(word)
        for boundary in boundaries:
            found.recall_boundary(boundary)
        return found

    now = T0 + 24 * HOUR_MS
    for number, (minutes, late, kind, variant, customer, crashes, moves) in enumerate(story):
        now += minutes * MINUTE_MS
        hand.pass_time(now)
        if crashes:
            hand.crash()
        if moves:
            roll_up = successor()
        fields = [{}, *VARIED.get(kind, [])][: variant + 1][-1]
        event = {
            "type": kind,
            "event_id": f"e{number}",
            "customer_id": customer,
            "occurred_at": now - late * MINUTE_MS,
            **FIELDS[kind],
            **fields,
        }
        if customer == "d":
            event["persona"] = "a"
        events.append(event)
        hand.send(event)
        publish()
    hand.pass_time(now + 2 * MINUTE_MS)
    publish()

    decode = Decoder().decode
    decoded = [decode(json.dumps(event).encode()) for event in events]
    for hop, hop_ms in (("10m", 10 * MINUTE_MS), ("1h", HOUR_MS)):
        ends = sorted({one.end_ms for one in newest.values() if one.hop == hop})
        windows = [window for window in CONFIG.windows.windows if window.hop_ms == hop_ms]
        config = CoreConfig(windows=WindowSet.of(windows), segments=CONFIG.segments)
        times = {to_text(end): end for end in ends}
        for right in evaluate(config, decoded, ends, metrics=RECOUNTED):
            labels = "".join(f"|{k}={v}" for k, v in (right.segment or right.dimensions).items())
            name = f"{right.metric}|{right.window}|{right.hop}|{times[right.at]}{labels}"
            assert _figures(newest[name]) == _figures(right), name
    for name, result in newest.items():
        if not BY_NAME[result.metric].is_revisable:
            assert _figures(result) == _figures(first[name]), name
            assert result.complete == first[name].complete


def _figures(result: Any) -> tuple[object, ...]:
    return (result.value, result.numerator, result.denominator, result.n, result.low, result.high)
