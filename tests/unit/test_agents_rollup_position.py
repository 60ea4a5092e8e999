from agents.rollup_position import RollUpPosition
from schemas.records import Partial, PublishedResult


def partial(partition: int, end_ms: int) -> Partial:
    return Partial(
        partition=partition,
        window="1m",
        hop="10s",
        end_ms=end_ms,
        valid_through_ms=end_ms,
        epoch=1,
        revision=1,
        watermark_ms=end_ms,
        observed_from_ms=0,
        is_replay=False,
        is_untouched=False,
        fingerprint="f",
        sums=[],
        durations=[],
        is_correction=False,
    )


def result(end_ms: int, missing: int = 0) -> PublishedResult:
    return PublishedResult(
        metric="orders",
        window="1m",
        hop="10s",
        at="",
        segment={},
        dimensions={},
        value=0,
        numerator=None,
        denominator=None,
        n=None,
        low=None,
        high=None,
        complete=True,
        result_id=f"orders|{end_ms}",
        end_ms=end_ms,
        revision=1,
        watermark_ms=end_ms,
        missing_partitions=missing,
        results_in_tick=1,
    )


def test_nothing_read_means_reading_goes_on_where_it_stands() -> None:
    assert RollUpPosition({0: 7}).needed(42) == (42, {0: 7})


def test_a_boundary_that_is_not_whole_keeps_its_partials() -> None:
    position = RollUpPosition({0: 0})
    position.read(0, partial(0, 10_000))
    position.read(1, partial(1, 10_000))
    position.read(2, partial(0, 20_000))
    position.read(3, partial(0, 30_000))
    position.published([result(10_000)], {0: 0})
    # Partition 1 hasn't reached 20 s: what partition 0 said of it is needed, and so is its own last word.
    assert position.needed(4)[0] == 1


def test_published_whole_boundaries_let_go_of_all_but_the_last_words() -> None:
    position = RollUpPosition({0: 0})
    for tick in range(1, 6):
        for number in (0, 1):
            position.read(2 * tick + number, partial(number, tick * 10_000))
        position.published([result(tick * 10_000)], {0: tick - 1})
    partials, results = position.needed(12)
    assert partials == 10
    assert results == {0: 4}


def test_a_result_with_missing_partitions_lets_go_of_nothing() -> None:
    position = RollUpPosition({0: 0})
    position.read(0, partial(0, 10_000))
    position.read(1, partial(0, 20_000))
    position.read(2, partial(0, 30_000))
    position.published([result(20_000, missing=1)], {0: 0})
    assert position.needed(3)[0] == 0


def test_what_was_found_at_a_takeover_is_needed_again_at_the_next() -> None:
    position = RollUpPosition({})
    position.found(result(10_000), 0, 3)
    position.found(result(20_000), 0, 4)
    position.found(result(20_000), 0, 5)
    # Nothing of it was published here, and the partials of 20 s will be read again.
    position.read(7, partial(0, 20_000))
    assert position.needed(8) == (7, {0: 4})


def test_what_was_found_lies_where_it_was_found_in_each_partition() -> None:
    position = RollUpPosition({})
    position.found(result(20_000), 1, 9)
    position.found(result(20_000), 0, 5)
    position.read(0, partial(0, 20_000))
    assert position.needed(1) == (0, {0: 5, 1: 9})


def test_before_any_partial_everything_that_was_found_stays_needed() -> None:
    position = RollUpPosition({})
    position.found(result(10_000), 0, 3)
    position.found(result(20_000), 0, 4)
    assert position.needed(0) == (0, {0: 3})


def test_a_correction_keeps_the_place_of_the_first_revision() -> None:
    position = RollUpPosition({0: 0})
    position.read(0, partial(0, 10_000))
    position.published([result(10_000)], {0: 0})
    position.published([result(10_000)], {0: 1})
    assert position.needed(1) == (0, {0: 0})
