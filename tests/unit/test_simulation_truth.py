"""The simulation: reproducible, and its truth adds up."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from agents.simulation.configuration import Configuration, customers_for, tempo_for
from agents.simulation.contacts import COUNTS
from agents.simulation.disturbance import LATE_MS, MAX_DELAY_MS, Record
from agents.simulation.scenario import CHECKOUT_BROKEN, CHURN_SPIKE, FLASH_SALE, Scenario
from agents.simulation.world import World
from schemas.decode import Decoder
from schemas.events import CustomerEvent, OrderPlaced, PageViewed
from schemas.reasons import Rejected
from schemas.topics import Source
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.moments import from_text
from streams.windows import Window, WindowSet
from tests.oracle.customers import OracleConfig
from tests.oracle.journey import STAGES
from tests.oracle.metrics import METRICS, Expected, compute
from tests.oracle.rules import on_time

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z"""
DECODER = Decoder()

Line = dict[str, Any]


def run(**options: Any) -> tuple[list[Record], list[Line], World]:
    defaults: dict[str, Any] = {
        "start_ms": START_MS,
        "end_ms": START_MS + 3 * DAY_MS,
        "customers": 500,
    }
    world = World(Configuration(**{**defaults, **options}))
    records = [record for chunk in world.records() for record in chunk]
    return records, world.truth.take(), world


def of_kind(lines: list[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]


def good_events(records: list[Record]) -> list[tuple[int, Any, int]]:
    """The events of all records that are neither duplicates nor malformed."""
    return [
        DECODER.decode(record.value, Source(record.source))
        for record in records
        if record.note is None or record.note["disposition"] == "late"
    ]


def test_the_same_seed_gives_the_same_records_and_the_same_truth() -> None:
    assert run(seed=5)[:2] == run(seed=5)[:2]


def test_another_seed_gives_other_records() -> None:
    assert run(seed=5)[0] != run(seed=6)[0]


def test_the_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        target = tmp_path / f"{hash_seed}.jsonl"
        subprocess.run(
            [
                sys.executable, "-m", "agents.cli", "simulate", "--events", "2000", "--seed", "9",
                "--start", "2026-01-01T00:00:00Z", "--to-file", str(target),
            ],
            check=True, capture_output=True, env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
        )  # fmt: skip
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_number_of_records_is_kept_exactly() -> None:
    for wanted in (1, 999, 1000):
        assert len(run(end_ms=None, max_records=wanted)[0]) == wanted


def test_records_come_in_order_of_arrival_and_none_after_the_end() -> None:
    records, _, world = run()
    arrivals = [record.arrival_ms for record in records]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] <= world.ended_ms == START_MS + 3 * DAY_MS
    times = [at_ms for at_ms, _, _ in good_events(records)]
    assert min(times) >= START_MS
    assert max(times) < world.ended_ms


def test_the_width_of_a_slice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run()[:2]
    monkeypatch.setattr(World, "_slice_width", lambda _: 977)
    assert run()[:2] == expected


def test_good_records_are_accepted_by_the_decoder_and_have_ids_of_their_own() -> None:
    records, _, _ = run()
    events = good_events(records)
    assert len({event.event_id for _, event, _ in events}) == len(events)
    assert {type(event).__name__ for _, event, _ in events} >= {
        "PageViewed", "SessionEnded", "OrderPlaced", "SocialInteracted", "TicketOpened",
    }  # fmt: skip
    assert all(record.key == orjson.loads(record.value)["customer_id"].encode() for record in records
               if record.note is None)  # fmt: skip


def test_another_start_gives_other_event_ids() -> None:
    first = {event.event_id for _, event, _ in good_events(run()[0])}
    later = run(start_ms=START_MS + DAY_MS, end_ms=START_MS + 4 * DAY_MS)[0]
    assert first.isdisjoint(event.event_id for _, event, _ in good_events(later))


def test_each_malformed_record_is_refused_for_the_reason_that_the_truth_names() -> None:
    records, _, _ = run(malformed_share=0.2)
    malformed = [r for r in records if r.note and r.note["disposition"] == "malformed"]
    reasons = set()
    for record in malformed:
        assert record.note is not None
        with pytest.raises(Rejected) as refused:
            DECODER.decode(record.value, Source(record.source))
        assert refused.value.reason == record.note["reason"]
        reasons.add(refused.value.reason)
    assert len(reasons) == 8


def test_a_duplicate_repeats_the_bytes_of_an_earlier_record() -> None:
    records, _, _ = run(duplicate_share=0.2)
    seen: set[bytes] = set()
    duplicates = 0
    for record in records:
        if record.note is not None and record.note["disposition"] == "duplicate":
            assert record.value in seen
            assert orjson.loads(record.value)["event_id"] == record.note["duplicate_of"]
            duplicates += 1
        seen.add(record.value)
    assert duplicates > 100


def test_a_late_record_is_as_late_as_the_truth_says_and_no_other_is_late() -> None:
    records, _, world = run(late_share=0.1)
    late = 0
    for record in records:
        if record.note is not None and record.note["disposition"] != "late":
            continue
        at_ms, _, _ = DECODER.decode(record.value)
        delay_ms = record.arrival_ms - at_ms
        if record.note is None:
            assert 0 <= delay_ms <= MAX_DELAY_MS
        else:
            assert delay_ms == record.note["late_ms"]
            assert delay_ms >= LATE_MS or record.arrival_ms == world.ended_ms
            late += 1
    assert 0.08 * len(records) < late < 0.12 * len(records)


def test_the_engine_computes_the_truth_from_the_disturbed_records() -> None:
    records, lines, world = run(duplicate_share=0.05, late_share=0.05, malformed_share=0.0)
    decoded = [DECODER.decode(record.value) for record in records]
    end_ms = world.ended_ms
    config = CoreConfig(windows=WindowSet.of([Window("3d", "1h"), Window("1h", "1h")]))
    ats = [START_MS + 30 * HOUR_MS, START_MS + 55 * HOUR_MS, end_ms]
    (total,) = of_kind(lines, "total")
    hours = {line["end"]: line for line in of_kind(lines, "hour")}
    compared = 0
    for result in evaluate(config, decoded, ats):
        truth = hours[result.at] if result.window == "1h" else total
        if result.segment or result.dimensions or (truth is total and result.at != total["end"]):
            continue
        if result.metric in truth and result.metric != "churned_customers":
            assert (result.metric, result.value) == (result.metric, truth[result.metric])
            compared += 1
        elif result.metric == "revenue":
            assert result.value == truth["revenue_micros"] / 1_000_000
            compared += 1
    assert compared >= 4 * 12


def test_the_oracle_counts_the_truth_of_posts_answers_tickets_and_stages() -> None:
    records, lines, _ = run(end_ms=START_MS + 45 * DAY_MS, customers=150, malformed_share=0)
    events = [orjson.loads(record.value) for record in records]
    judged = on_time({event["event_id"]: event for event in events}.values())
    config = OracleConfig(activity=frozenset({"page_viewed", "order_placed"}))
    hours = of_kind(lines, "hour")
    # The first hour of each, some others, and the last.
    firsts = [next(line for line in hours if line[name]) for name in COUNTS]
    chosen = [*firsts, *hours[::97], hours[-1]]
    found = compute(judged, config, [(from_text(line["end"]), HOUR_MS) for line in chosen])
    compared: Counter[str] = Counter()
    for line in chosen:
        at_ms = from_text(line["end"])

        def told(metric: str, label: str = "", at_ms: int = at_ms) -> Expected:
            return found[metric, at_ms, HOUR_MS, "stage" if label else "", label]

        right: dict[str, float | None] = {
            name: told(name).value for name in METRICS if name in line
        }
        for stage in STAGES:
            right[f"journey_{stage}"] = told("journey_customers", stage).value
        for metric, over, unit, under in (
            ("sentiment_mean", "sentiment_micros", 1_000_000, "sentiments"),
            ("engagement_ratio", "shown", 1, "impressions"),
            ("first_reply_seconds", "first_reply_ms", 1000, "first_replies"),
            ("resolution_seconds", "resolution_ms", 1000, "resolutions"),
            ("clv_historic_mean", "net_ever_micros", 1_000_000, "buyers_ever"),
        ):
            numerator = told(metric).numerator
            assert numerator is not None
            right[over], right[under] = round(numerator * unit), told(metric).n
        assert {name: line[name] for name in right} == right
        compared += Counter(name for name, value in right.items() if value)
    assert all(compared[name] for name in COUNTS if name in METRICS)
    assert compared["journey_lapsed"]
    assert compared["ticket_backlog"]


def test_the_hours_add_up_to_the_total() -> None:
    _, lines, _ = run()
    (total,) = of_kind(lines, "total")
    hours = of_kind(lines, "hour")
    assert [line["start"] for line in hours[1:]] == [line["end"] for line in hours[:-1]]
    for name in ("page_views", "orders", "revenue_micros", "sessions_started", "sessions_closed",
                 "new_customers", "new_buyers", "tickets_opened", "csat_responses"):  # fmt: skip
        assert sum(line[name] for line in hours) == total[name]
    assert total["sessions_started"] == total["sessions_closed"] + total["sessions_open"]


def test_the_customers_add_up_to_the_total() -> None:
    _, lines, _ = run()
    (total,) = of_kind(lines, "total")
    customers = of_kind(lines, "customer")
    assert total["customers"] == len(customers) >= 500
    assert total["churned_customers"] == sum(line["ended_at"] is not None for line in customers)
    assert total["revenue_micros"] == sum(line["revenue_micros"] for line in customers)
    assert total["active_customers"] == sum(
        line["first_active_at"] is not None for line in customers
    )


def test_nobody_is_active_after_their_life_but_to_end_the_last_visit() -> None:
    records, lines, _ = run(end_ms=START_MS + 20 * DAY_MS)
    ends = {line["customer_id"]: line["ended_at"] for line in of_kind(lines, "customer")}
    starts: Counter[str] = Counter()
    for at_ms, event, _ in good_events(records):
        ended = ends[event.customer_id] if isinstance(event, CustomerEvent) else None
        if ended is None or not isinstance(event, PageViewed | OrderPlaced):
            continue
        assert at_ms < from_text(ended) + 3 * HOUR_MS
        starts[event.customer_id] += 1
    assert starts


def test_a_rate_is_kept_from_the_start() -> None:
    rate = 100.0
    customers = customers_for(rate)
    tempo = tempo_for(rate, customers, disturbed_share=0.007)
    records, _, world = run(
        start_ms=START_MS, end_ms=START_MS + 300_000, customers=customers, tempo=tempo, flat=True
    )
    assert 0.85 < len(records) / 300 / rate < 1.15
    first_minute = sum(record.arrival_ms < START_MS + 60_000 for record in records)
    assert 0.75 < first_minute / 60 / rate < 1.25
    assert world.ended_ms == START_MS + 300_000


def _orders_by_third(name: str) -> tuple[list[int], list[int]]:
    """Orders and page views in the three thirds of nine days, the scenario in the second."""
    scenario = Scenario(name, START_MS + 3 * DAY_MS, START_MS + 6 * DAY_MS)
    records, _, _ = run(end_ms=START_MS + 9 * DAY_MS, customers=3_000, scenario=scenario, flat=True)
    orders, views = [0, 0, 0], [0, 0, 0]
    for at_ms, event, _ in good_events(records):
        third = (at_ms - START_MS) // (3 * DAY_MS)
        orders[third] += isinstance(event, OrderPlaced)
        views[third] += isinstance(event, PageViewed)
    return orders, views


def test_a_broken_checkout_stops_orders_and_not_visits() -> None:
    orders, views = _orders_by_third(CHECKOUT_BROKEN)
    assert orders[1] < 0.25 * orders[0]
    assert orders[2] > 0.7 * orders[0]
    assert views[1] > 0.8 * views[0]


def test_a_flash_sale_brings_visits_and_more_orders_yet() -> None:
    orders, views = _orders_by_third(FLASH_SALE)
    assert views[1] > 1.1 * views[0]
    assert orders[1] > 1.8 * orders[0]


def test_a_churn_spike_ends_a_third_of_the_lives_for_good() -> None:
    _, views = _orders_by_third(CHURN_SPIKE)
    assert views[2] < 0.8 * views[0]
    scenario = Scenario(CHURN_SPIKE, START_MS + DAY_MS, START_MS + 2 * DAY_MS)
    _, steady, _ = run()
    _, spike, _ = run(scenario=scenario)
    (before,), (after,) = of_kind(steady, "total"), of_kind(spike, "total")
    assert after["churned_customers"] > before["churned_customers"] + 0.25 * 500
