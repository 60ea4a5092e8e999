"""What is shown: whole sets only, never two ends mixed, never backwards."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.board import UNFINISHED_ENDS, Board, Outcome, Series, series_of
from schemas.records import PublishedResult

METRICS = ("orders", "revenue", "buyers")
PERSONAS = ("", "loyal")


def result(
    metric: str = "orders",
    *,
    end_ms: int = 10_000,
    value: float | None = 1,
    window: str = "5m/10s",
    persona: str = "",
    revision: int = 0,
    missing: int = 0,
    size: int = 1,
) -> PublishedResult:
    """A result as the roll-up publishes it."""
    width, _, hop = window.partition("/")
    return PublishedResult(
        metric=metric,
        window=width,
        hop=hop,
        at="1970-01-01T00:00:10Z",
        segment={"persona": persona} if persona else {},
        dimensions={},
        value=value,
        numerator=None,
        denominator=None,
        n=None,
        low=None,
        high=None,
        complete=True,
        result_id=f"{metric}|{window}|{end_ms}|{persona}",
        end_ms=end_ms,
        revision=revision,
        watermark_ms=end_ms + 5,
        missing_partitions=missing,
        results_in_tick=size,
    )


def tick(
    end_ms: int, value: float, *, revision: int = 0, missing: int = 0
) -> list[PublishedResult]:
    """A whole set: every metric for everyone and one persona."""
    return [
        result(
            metric,
            end_ms=end_ms,
            value=value,
            persona=persona,
            revision=revision,
            missing=missing,
            size=len(METRICS) * len(PERSONAS),
        )
        for metric in METRICS
        for persona in PERSONAS
    ]


def values(board: Board) -> set[float | int | None]:
    """The distinct values shown in the one window."""
    return {one.value for one in board.snapshot.windows["5m/10s"].results.values()}


def take(board: Board, results: list[PublishedResult]) -> None:
    """Take all and publish."""
    for one in results:
        board.take(one)
    board.publish()


def test_a_set_is_shown_when_its_last_result_arrives_and_not_before() -> None:
    board = Board(["5m/10s"])
    whole = tick(10_000, 1)
    take(board, whole[:-1])
    assert not board.snapshot.windows
    assert board.unfinished("5m/10s") == (10_000, 5, 6)
    take(board, whole[-1:])
    assert board.snapshot.windows["5m/10s"].end_ms == 10_000
    assert board.unfinished("5m/10s") is None


def test_the_last_whole_set_stays_while_the_next_one_arrives() -> None:
    board = Board(["5m/10s"])
    take(board, tick(10_000, 1))
    take(board, tick(20_000, 2)[:-1])
    assert values(board) == {1}
    take(board, tick(20_000, 2)[-1:])
    assert values(board) == {2}


def test_a_set_with_a_missing_partition_is_never_shown() -> None:
    board = Board(["5m/10s"])
    take(board, tick(10_000, 1))
    take(board, tick(20_000, 2, missing=1))
    assert values(board) == {1}
    take(board, tick(20_000, 3, revision=1))
    assert values(board) == {3}


def test_a_partial_correction_of_a_set_with_missing_partitions_shows_nothing() -> None:
    board = Board(["5m/10s"])
    take(board, tick(10_000, 1, missing=1))
    take(board, [result("orders", end_ms=10_000, value=2, revision=1, size=1)])
    assert not board.snapshot.windows


def test_what_is_shown_never_goes_back() -> None:
    board = Board(["5m/10s"])
    take(board, tick(20_000, 2))
    take(board, tick(10_000, 1))
    assert values(board) == {2}
    points = board.snapshot.windows["5m/10s"].points(Series("orders"), 10)
    assert [(point.end_ms, point.value) for point in points] == [(10_000, 1), (20_000, 2)]


def test_a_correction_replaces_and_a_stale_one_does_not() -> None:
    board = Board(["5m/10s"])
    take(board, tick(10_000, 1))
    before = board.snapshot
    assert board.take(result(value=5, revision=2)) is Outcome.CORRECTION
    assert board.take(result(value=4, revision=1)) is Outcome.SUPERSEDED
    board.publish()
    shown = board.snapshot.windows["5m/10s"]
    assert shown.results[Series("orders")].value == 5
    assert shown.points(Series("orders"), 1)[0].value == 5
    assert before.windows["5m/10s"].results[Series("orders")].value == 1
    assert before.windows["5m/10s"].points(Series("orders"), 1)[0].value == 1


def test_a_correction_of_an_earlier_end_changes_its_history_only() -> None:
    board = Board(["5m/10s"])
    take(board, tick(10_000, 1))
    take(board, tick(20_000, 2))
    take(board, [result(end_ms=10_000, value=7, revision=1)])
    assert values(board) == {2}
    points = board.snapshot.windows["5m/10s"].points(Series("orders"), 10)
    assert [point.value for point in points] == [7, 2]


def test_compaction_may_have_taken_superseded_results() -> None:
    board = Board(["5m/10s"])
    first, second = tick(10_000, 1), tick(10_000, 2, revision=1)
    take(board, [*first[:4], *second[4:]])
    assert values(board) == {1, 2}


def test_a_window_that_is_not_configured_is_counted_and_not_shown() -> None:
    board = Board(["5m/10s"])
    assert board.take(result(window="7d/1h")) is Outcome.NOT_CONFIGURED
    assert board.outcomes[Outcome.NOT_CONFIGURED] == 1


def test_publishing_without_a_change_gives_the_same_snapshot() -> None:
    board = Board(["5m/10s"])
    take(board, tick(10_000, 1))
    assert board.publish() is board.snapshot
    assert board.publish().version == 1


@pytest.mark.parametrize("extra", [0, 1])
def test_unfinished_sets_are_bounded(extra: int) -> None:
    board = Board(["5m/10s"])
    for number in range(UNFINISHED_ENDS + extra):
        board.take(tick((number + 1) * 10_000, 1)[0])
    assert board.given_up_sets == extra


def test_the_history_is_bounded() -> None:
    board = Board(["5m/10s"], history=3)
    for number in range(1, 8):
        take(board, tick(number * 10_000, number))
    points = board.snapshot.windows["5m/10s"].points(Series("orders"), 100)
    assert [point.value for point in points] == [5, 6, 7]


@given(
    ends=st.integers(1, 5),
    whole_from=st.lists(st.booleans(), min_size=5, max_size=5),
    seed=st.randoms(use_true_random=False),
    batch=st.integers(1, 9),
)
def test_no_snapshot_ever_mixes_two_ends_or_goes_back(
    ends: int, whole_from: list[bool], seed: random.Random, batch: int
) -> None:
    """Any order of arrival, any batches, some ends first published with a missing partition."""
    published: list[PublishedResult] = []
    for number in range(1, ends + 1):
        if not whole_from[number - 1]:
            published += tick(number * 10_000, -1, missing=1)
        published += tick(number * 10_000, number, revision=1)
    seed.shuffle(published)
    board = Board(["5m/10s"])
    last_end = -1
    for start in range(0, len(published), batch):
        take(board, published[start : start + batch])
        shown = board.snapshot.windows.get("5m/10s")
        if shown is None:
            continue
        assert {one.end_ms for one in shown.results.values()} == {shown.end_ms}
        assert {one.value for one in shown.results.values()} == {shown.end_ms // 10_000}
        assert len(shown.results) == len(METRICS) * len(PERSONAS)
        assert {series_of(one) for one in shown.results.values()} == set(shown.results)
        assert shown.end_ms >= last_end
        last_end = shown.end_ms
    assert last_end == ends * 10_000
