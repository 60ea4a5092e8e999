"""Two months of a simulated customer base, through two partitions and the roll-up: what holds on every result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby

import pytest

from agents.partitioners import Partitions
from agents.simulation.configuration import Configuration
from agents.simulation.disturbance import Record
from agents.simulation.personas import CHANNELS, NETWORKS, PERSONAS, REGIONS, SUPPORT_CHANNELS
from agents.simulation.world import World
from schemas.decode import Decoder
from schemas.records import PublishedResult
from schemas.topics import Source
from streams.admission import Admission
from streams.config import CoreConfig
from streams.metrics import BY_NAME, METRICS, Kind, Metric, Needs
from streams.provenance import rows_of
from streams.rollup import RollUp
from streams.segments import Segments, Values, dimensions
from streams.sums import Stock, row_of
from streams.windows import DAY_MS, Window, WindowSet
from tests.property.engine_runs import Run, partials_of
from tests.rig import hand

# One process of `pytest -n` takes them all: the run is long, and simulated once.
pytestmark = [pytest.mark.property, pytest.mark.xdist_group("long run")]

PARTITIONS = 2
START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z"""
END_MS = START_MS + 60 * DAY_MS
BATCH_MS = 6 * 3_600_000
CONFIG = CoreConfig(
    windows=WindowSet.of(
        [Window.parse(text) for text in ("6h/6h", "1d/6h", "7d/1d", "14d/1d", "28d/1d")]
    ),
    segments=Segments(
        customer=dimensions(
            persona=tuple(persona.name for persona in PERSONAS),
            region=tuple(name for name, _, _ in REGIONS[1:]),
        ),
        channel=Values(CHANNELS[1:]),
        network=Values(NETWORKS[1:]),
        support=Values(SUPPORT_CHANNELS[1:]),
    ),
    idle_after_ms=DAY_MS,
)

Label = tuple[tuple[str, str], ...]
Figures = dict[str, dict[Label, PublishedResult]]


def simulated() -> tuple[list[Run], list[PublishedResult]]:
    """The partitions at the end, and everything that the roll-up published, in order."""
    world = World(
        Configuration(
            seed=11, start_ms=START_MS, end_ms=END_MS, customers=140, late_share=0.03,
            duplicate_share=0.02, malformed_share=0.02, move_share=0.1,
        )
    )  # fmt: skip
    placed = Partitions("murmur2", PARTITIONS)
    runs = [Run(CONFIG) for _ in range(PARTITIONS)]
    doors = [
        Admission(
            CONFIG,
            Decoder(),
            partition=number,
            partitions=PARTITIONS,
            partition_of=lambda key, _count: placed(key),
        )
        for number in range(PARTITIONS)
    ]
    roll_up = RollUp(CONFIG, PARTITIONS)
    published: list[PublishedResult] = []
    offsets = [[0] * len(Source) for _ in range(PARTITIONS)]
    told = [0] * PARTITIONS
    records = (record for chunk in world.records() for record in chunk)
    for _, batch in groupby(records, key=lambda record: record.arrival_ms // BATCH_MS):
        now_ms = 0
        for number, source, part in _dealt(list(batch), placed):
            run, now_ms = runs[number], max(now_ms, part[-1].arrival_ms)
            first = offsets[number][source]
            offsets[number][source] += len(part)
            admitted = doors[number].admit(
                Source(source),
                [
                    hand.Record(one.key, one.value, first + place, one.arrival_ms)
                    for place, one in enumerate(part)
                ],
            )
            run.partition.receive(Source(source), admitted)
            run.ticks += run.partition.drain()
            assert run.partition.account(Source(source)).balances
        for number, run in enumerate(runs):
            for partial in partials_of(run, number, told=told[number]):
                roll_up.add(partial)
            told[number] = len(run.ticks)
        published += roll_up.due(now_ms)
    return runs, published


def _dealt(batch: Sequence[Record], placed: Partitions) -> Iterator[tuple[int, int, list[Record]]]:
    for number in range(PARTITIONS):
        for source in range(len(Source)):
            part = [one for one in batch if one.source == source and placed(one.key) == number]
            if part:
                yield number, source, part


@cache
def run_once() -> tuple[list[Run], list[Figures], int]:
    """The partitions, the figures of every tick in all their revisions, and how many are corrections."""
    runs, published = simulated()
    figures: dict[tuple[str, str, int, int], Figures] = {}
    known: dict[str, PublishedResult] = {}
    corrections = 0
    for one in published:
        before = known.get(one.result_id)
        assert before is None or one.revision > before.revision
        corrections += before is not None
        known[one.result_id] = one
        tick = figures.setdefault((one.window, one.hop, one.end_ms, one.revision), {})
        label = tuple((one.segment | one.dimensions).items())
        tick.setdefault(one.metric, {})[label] = one
    return runs, list(figures.values()), corrections


def total(figures: Figures, metric: str) -> int | float | None:
    return figures[metric][()].value


def whole_ticks() -> Iterator[Figures]:
    """Those that tell every metric of all partitions."""
    _, ticks, _ = run_once()
    for figures in ticks:
        if len(figures) == len(METRICS) and not figures["orders"][()].missing_partitions:
            yield figures


def test_the_run_is_long_and_tells_everything() -> None:
    ticks = list(whole_ticks())
    assert len(ticks) > 400
    for name in BY_NAME:
        assert any(total(figures, name) for figures in ticks), name


def test_the_accounts_balance_and_know_every_fate() -> None:
    runs, _, _ = run_once()
    accounts = [run.partition.account(source) for run in runs for source in Source]
    assert all(account.balances for account in accounts)
    for fate in ("folded", "late_counted", "too_late", "duplicate", "dead"):
        assert sum(getattr(account, fate) for account in accounts)


def test_active_is_retained_new_and_reactivated() -> None:
    compared = 0
    for figures in whole_ticks():
        base = total(figures, "base_customers")
        if base is None:
            continue
        compared += 1
        parts = ("retained_customers", "new_customers", "reactivated_customers")
        together = sum(total(figures, name) or 0 for name in parts)
        assert total(figures, "active_customers") == together
        retained, churned = (
            total(figures, f"{name}_customers") for name in ("retained", "churned")
        )
        assert base == (retained or 0) + (churned or 0)
        if base:
            retention = total(figures, "retention_ratio")
            assert retention is not None
            assert total(figures, "churn_ratio") == pytest.approx(1 - retention, abs=1e-15)
    assert compared > 300


def test_no_part_is_greater_than_its_whole() -> None:
    for figures in whole_ticks():
        for part, whole in (
            ("sessions_converted", "sessions_closed"),
            ("visitors", "page_views"),
            ("buyers", "orders"),
            ("new_buyers", "buyers"),
            ("new_customers", "active_customers"),
            ("active_customers", "active_days"),
            ("social_customers", "social_interactions"),
            ("csat_satisfied", "csat_responses"),
        ):
            assert (total(figures, part) or 0) <= (total(figures, whole) or 0)
        if figures["orders"][()].revision == 1:  # who was new is not told again
            first, again = total(figures, "new_buyers"), total(figures, "repeat_orders")
            assert total(figures, "orders") == (first or 0) + (again or 0)


def test_promoters_passives_and_detractors_are_the_answers() -> None:
    for figures in whole_ticks():
        for label, score in figures["nps"].items():
            promoters, passives, detractors = (
                figures[f"nps_{name}"][label].value or 0
                for name in ("promoters", "passives", "detractors")
            )
            assert promoters + passives + detractors == score.n == score.denominator
            assert promoters - detractors == score.numerator


def test_the_stages_are_everybody_and_never_fewer() -> None:
    counted: list[tuple[int, int | float]] = []
    for figures in whole_ticks():
        everybody = figures["journey_customers"][()]
        assert everybody.value is not None
        assert everybody.value >= (total(figures, "active_customers") or 0)
        counted.append((everybody.end_ms, everybody.value))
    in_time = [count for _, count in sorted(counted)]
    assert in_time == sorted(in_time)


def cells(metric: Metric) -> Iterator[tuple[Figures, str, list[PublishedResult]]]:
    """In each tick and dimension the figures that must add up to the total."""
    for figures in whole_ticks():
        dimensions: dict[str, list[PublishedResult]] = {}
        for label, one in figures[metric.name].items():
            dimensions.setdefault("+".join(name for name, _ in label), []).append(one)
        for dimension, parts in dimensions.items():
            if dimension:
                yield figures, dimension, parts


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_cells_add_up_to_the_total(metric: Metric) -> None:
    """Of counts the values, of ratios both parts, of quantiles the numbers of values."""
    for figures, dimension, parts in cells(metric):
        whole = figures[metric.name][()]
        for field in ("value",) if metric.kind is Kind.COUNT else ("numerator", "denominator", "n"):
            told = getattr(whole, field)
            if told is None:
                continue
            # Money and seconds are integers in the engine, and floats in a result.
            scale = metric.numerator_scale if field in {"value", "numerator"} else 1
            together = sum(round(getattr(one, field) * scale) for one in parts)
            assert together == round(told * scale), (dimension, field)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_intervals_hold_their_values_and_nothing_is_complete_too_soon(metric: Metric) -> None:
    for figures in whole_ticks():
        for one in figures[metric.name].values():
            if one.low is not None and one.high is not None:
                assert one.value is not None
                assert one.low <= one.value <= one.high
            size_ms = Window(one.window, one.hop).size_ms
            windows = 2 if metric.needs is Needs.TWO_WINDOWS else 1
            if one.end_ms - windows * size_ms < START_MS - BATCH_MS:
                assert not one.complete
            if one.end_ms - windows * size_ms > START_MS + DAY_MS:
                assert one.complete


def test_a_correction_has_a_higher_revision_and_touches_what_is_revisable() -> None:
    _, ticks, corrections = run_once()
    assert corrections > 100
    for figures in ticks:
        names = {
            name
            for name, found in figures.items()
            if any(one.revision > 1 for one in found.values())
        }
        if len(figures) < len(METRICS):
            assert all(BY_NAME[name].is_revisable for name in names)


def test_levels_are_the_same_in_every_window() -> None:
    levels = [
        metric.name
        for metric in METRICS
        if all(row >= row_of(Stock.OPEN_TICKETS) for row in rows_of(metric))
    ]
    assert sorted(levels) == ["clv_historic_mean", "journey_customers", "ticket_backlog"]
    known: dict[tuple[str, int], int | float | None] = {}
    for figures in whole_ticks():
        for name in levels:
            one = figures[name][()]
            assert known.setdefault((name, one.end_ms), one.value) == one.value
