"""Cells, columns, and what a snapshot or partial depends on."""

from __future__ import annotations

from itertools import product

import msgspec
import pytest

from streams.config import CoreConfig
from streams.segments import (
    MAX_CELLS,
    MAX_VALUES,
    Column,
    Dimension,
    Own,
    Segments,
    Values,
    dimensions,
)
from streams.stages import MOVES, STAGES
from streams.windows import HOUR_MS, MINUTE_MS, ConfigurationError, Window, WindowSet

BOTH = Segments(
    customer=dimensions(persona=("parent", "student"), region=("eu",)),
    channel=Values(("email",)),
)


@pytest.mark.parametrize("named", [("a", "a"), ("other",), ("a", "unknown")])
def test_values_that_could_not_be_told_apart_are_refused(named: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="must differ"):
        Values(named)


def test_64_values_may_be_named_and_one_more_may_not() -> None:
    names = tuple(f"v{i}" for i in range(MAX_VALUES + 1))
    assert len(Values(names[:MAX_VALUES]).all) == 66
    with pytest.raises(ConfigurationError, match="at most 64"):
        Values(names)


def test_other_and_unknown_follow_the_named_values() -> None:
    values = Values(("a", "b"))
    assert values.all == ("a", "b", "other", "unknown")
    assert (values.all[values.other], values.all[values.unknown]) == ("other", "unknown")
    assert values.index() == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    "name, why",
    [
        ("", "a letter first"),
        ("Tier", "a letter first"),
        ("2nd", "a letter first"),
        ("_tier", "a letter first"),
        ("price-group", "a letter first"),
        ("amount", "events have already"),
        ("customer_id", "events have already"),
        ("type", "events have already"),
        ("channel", "events have already"),
        ("window", "results have already"),
        ("stage", "results have already"),
        ("from", "results have already"),
    ],
)
def test_a_dimension_can_t_have_a_name_that_is_no_label_or_is_taken(name: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Dimension(name)


@pytest.mark.parametrize("name", ["persona", "tier", "price_group2", "class", "kind"])
def test_a_dimension_may_have_any_other_name(name: str) -> None:
    assert Segments(customer=(Dimension(name),)).names == (name,)


def test_a_dimension_is_named_once() -> None:
    with pytest.raises(ConfigurationError, match="named twice"):
        Segments(customer=(Dimension("tier"), Dimension("region"), Dimension("tier")))


def test_there_are_at_most_as_many_cells_as_two_bytes_can_name() -> None:
    named = tuple(f"v{i}" for i in range(62))
    most = dimensions(a=named, b=named, c=named[:14])
    assert Segments(customer=most).cells == MAX_CELLS == 65_536
    with pytest.raises(ConfigurationError, match="make 69,632 cells"):
        Segments(customer=dimensions(a=named, b=named, c=named[:15]))


def test_columns_are_everyone_then_customer_dimensions_then_channels() -> None:
    assert BOTH.columns(Own.CHANNEL) == (
        *BOTH.columns(),
        Column({}, {"channel": "email"}),
        Column({}, {"channel": "other"}),
        Column({}, {"channel": "unknown"}),
    )
    assert BOTH.columns() == (
        Column({}, {}),
        Column({"persona": "parent"}, {}),
        Column({"persona": "student"}, {}),
        Column({"persona": "other"}, {}),
        Column({"persona": "unknown"}, {}),
        Column({"region": "eu"}, {}),
        Column({"region": "other"}, {}),
        Column({"region": "unknown"}, {}),
    )
    assert BOTH.customer_columns == 8


def test_sums_with_a_dimension_of_their_own_share_the_columns_behind_the_customers() -> None:
    assert BOTH.own_columns == len(MOVES) == 14  # the longest of these lists
    assert BOTH.width == 8 + 14
    many = msgspec.structs.replace(BOTH, network=Values(tuple(f"n{i}" for i in range(20))))
    assert many.width == 8 + 22
    moves = BOTH.columns(Own.MOVE)[8:]
    assert moves[0].dimensions == {"from": "aware", "to": "engaged"}
    assert moves[-1].dimensions == {"from": "lapsed", "to": "loyal"}
    assert [column.dimensions["stage"] for column in BOTH.columns(Own.STAGE)[8:]] == list(STAGES)
    assert [column.dimensions["network"] for column in many.columns(Own.NETWORK)[-3:]] == [
        "n19",
        "other",
        "unknown",
    ]


def test_each_distribution_has_a_lane_for_each_of_its_columns() -> None:
    session, reply, resolution, stage, end = BOTH.lanes()

    assert session == 0
    assert reply - session == 8 + 3  # by acquisition channel too
    assert resolution - reply == stage - resolution == 8
    assert end - stage == 8 + len(STAGES)


TIER = Dimension("tier", Values(("gold", "silver", "basic")))
PERSONA, REGION = BOTH.customer


@pytest.mark.parametrize(
    "customer, cells",
    [
        ((PERSONA, REGION), 12),
        ((REGION, PERSONA), 12),
        ((REGION,), 3),
        ((), 1),
        ((PERSONA, REGION, TIER), 60),
        ((TIER, REGION, PERSONA), 60),
    ],
)
def test_a_customer_counts_for_everyone_and_once_in_each_dimension(
    customer: tuple[Dimension, ...], cells: int
) -> None:
    segments = msgspec.structs.replace(BOTH, customer=customer)
    columns = segments.columns()
    found = set()
    for places in product(*(range(len(one.values.all)) for one in customer)):
        cell = segments.cell(*places)
        counted = [columns[i].segment for i in segments.columns_of_cells()[cell]]
        told = zip(customer, places, strict=True)
        assert counted == [{}, *({one.name: one.values.all[place]} for one, place in told)]
        row = segments.cell_matrix()[cell]
        assert sorted(row.nonzero()[0]) == sorted(segments.columns_of_cells()[cell])
        found.add(cell)
    assert found == set(range(cells))
    assert segments.cells == cells
    assert all(
        column.segment.get("tier", "unknown") == "unknown"
        for column in (columns[i] for i in segments.columns_of_cells()[segments.nowhere])
    )


def test_the_values_of_a_dimension_are_found_by_its_name() -> None:
    assert BOTH.values_of("region") == Values(("eu",))
    assert BOTH.values_of("tier") is None


def test_the_fingerprint_changes_with_what_the_state_depends_on_and_with_nothing_else() -> None:
    plain = CoreConfig()
    other = [
        CoreConfig(windows=WindowSet.of([Window.parse("1h/1m")])),
        CoreConfig(windows=WindowSet.of(plain.windows.windows, session_gap_ms=HOUR_MS)),
        CoreConfig(segments=BOTH),
        CoreConfig(activity=frozenset({"page_viewed"})),
    ]
    assert len({config.fingerprint for config in (plain, *other)}) == 5
    segmented = [
        CoreConfig(segments=Segments(customer=customer))
        for customer in (
            dimensions(persona=("a",), region=("b",)),
            dimensions(region=("b",), persona=("a",)),
            dimensions(persona=("a",), area=("b",)),
            dimensions(persona=("a",), region=("b",), tier=()),
            dimensions(persona=("a",), region=("b", "c")),
            dimensions(persona=("a",)),
            (),
        )
    ]
    assert len({config.fingerprint for config in segmented}) == len(segmented)
    same = CoreConfig(allowed_lateness_ms=1, idle_after_ms=1, buffer_limit=1, history_hop_ms=1)
    assert same.fingerprint == plain.fingerprint
    assert CoreConfig(activity=frozenset({"order_placed", "page_viewed"})) == plain


@pytest.mark.parametrize(
    "hop_ms, step_ms",
    [
        (MINUTE_MS, 10 * MINUTE_MS),
        (4 * MINUTE_MS, 20 * MINUTE_MS),
        (10 * MINUTE_MS, 10 * MINUTE_MS),
    ],
)
def test_history_is_reported_at_common_multiples_of_hop_and_history_hop(
    hop_ms: int, step_ms: int
) -> None:
    config = CoreConfig(history_hop_ms=10 * MINUTE_MS)
    assert config.report_step_ms(hop_ms, is_replay=True) == step_ms
    assert config.report_step_ms(hop_ms, is_replay=False) == hop_ms
    assert CoreConfig().report_step_ms(hop_ms, is_replay=True) == hop_ms
