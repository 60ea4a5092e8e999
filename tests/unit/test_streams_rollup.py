"""Many partitions to one number: who speaks, when a boundary is whole, and what is published again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest

from schemas.records import Partial, PublishedBoundary, PublishedResult
from streams.config import CoreConfig
from streams.rollup import REMEMBERED_BOUNDARIES, RollUp, result_id
from streams.segments import Segments, Values, dimensions
from streams.sparse import pairs_of
from streams.sums import ROWS, Additive, Mark, row_of
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet

CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("6h/1h")]),
    segments=Segments(customer=dimensions(persona=("a",)), channel=Values(("email",))),
    history_hop_ms=30 * MINUTE_MS,
)
COLUMNS = CONFIG.segments.width
HOP_MS = 10 * MINUTE_MS
T0 = 20_000 * DAY_MS
FOREVER = 1 << 60
HOLD_MS = CONFIG.idle_after_ms
TIMEOUT_MS = MINUTE_MS

revisions = itertools.count(1)


def partial(
    partition: int,
    end: int,
    orders: int = 0,
    *,
    through: int | None = None,
    window: str = "1h",
    epoch: int = 1,
    revision: int | None = None,
    observed_from_ms: int | None = T0 - DAY_MS,
    is_replay: bool = False,
    is_untouched: bool = False,
    fingerprint: str = CONFIG.fingerprint,
    durations: Iterable[int] = (),
) -> Partial:
    """What a partition says of the boundaries from number ``end`` through ``through`` after T0."""
    hop_ms = HOP_MS if window == "1h" else HOUR_MS
    sums = np.zeros((ROWS, COLUMNS), np.int64)
    sums[row_of(Additive.ORDERS), 0] = orders
    sums[row_of(Mark.BOUGHT), 0] = min(orders, 1)
    end_ms = T0 + end * hop_ms
    return Partial(
        partition=partition,
        window=window,
        hop="10m" if window == "1h" else "1h",
        end_ms=end_ms,
        valid_through_ms=end_ms if through is None else T0 + through * hop_ms,
        epoch=epoch,
        revision=next(revisions) if revision is None else revision,
        watermark_ms=end_ms + partition,
        observed_from_ms=observed_from_ms,
        is_replay=is_replay,
        is_untouched=is_untouched,
        fingerprint=fingerprint,
        sums=pairs_of(sums),
        durations=list(durations),
        is_correction=False,
    )


def nothing_before(partition: int, end: int) -> Partial:
    """Zero at every boundary up to number ``end``: how a partition begins."""
    found = partial(partition, end, observed_from_ms=None)
    return Partial(
        **{
            **{name: getattr(found, name) for name in Partial.__struct_fields__},
            "end_ms": 0,
            "valid_through_ms": T0 + end * HOP_MS,
        }
    )


def untouched(partition: int) -> Partial:
    """A partition of which nothing was ever read."""
    found = partial(partition, 0, observed_from_ms=None, is_untouched=True)
    return Partial(
        **{
            **{name: getattr(found, name) for name in Partial.__struct_fields__},
            "end_ms": 0,
            "valid_through_ms": FOREVER,
        }
    )


def orders_of(results: Iterable[PublishedResult]) -> list[tuple[int, int | float | None, int, int]]:
    """(number of the boundary, orders, revision, missing partitions) of everyone in 1h windows."""
    return [
        ((one.end_ms - T0) // HOP_MS, one.value, one.revision, one.missing_partitions)
        for one in results
        if one.metric == "orders" and not one.segment and one.window == "1h"
    ]


def add(roll_up: RollUp, *partials: Partial) -> None:
    for one in partials:
        roll_up.add(one)


# -- sums


def test_a_boundary_is_the_sum_of_all_partitions() -> None:
    roll_up = RollUp(CONFIG, 3)
    add(roll_up, partial(0, 1, 5), partial(1, 1, 7), partial(2, 1, 0))
    results = roll_up.due(0)
    assert orders_of(results) == [(1, 12, 1, 0)]
    buyers = next(one for one in results if one.metric == "buyers" and not one.segment)
    assert buyers.value == 2
    assert {one.watermark_ms for one in results} == {T0 + HOP_MS}
    assert {one.results_in_tick for one in results} == {len(results)}
    assert roll_up.due(0) == []


def test_a_first_event_older_than_what_is_out_still_has_its_boundary_published() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, nothing_before(0, 3), partial(0, 4, 5), nothing_before(1, 4))
    assert orders_of(roll_up.due(0)) == [(4, 5, 1, 0)]
    # A late event is the first of partition 1: it begins two boundaries before what is out.
    add(roll_up, nothing_before(1, 1), partial(1, 2, 7, through=3), partial(1, 4, 7))
    assert orders_of(roll_up.due(0)) == [(2, 7, 1, 0), (4, 12, 2, 0)]


def test_durations_of_all_partitions_are_one_histogram() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(
        roll_up,
        partial(0, 1, durations=[0, 0, 3, 0, 300, 1]),
        partial(1, 1, durations=[0, 300, 4]),
    )
    (median,) = (
        one
        for one in roll_up.due(0)
        if one.metric == "session_duration_seconds_p50" and not one.segment and not one.dimensions
    )
    assert median.n == 8
    assert median.value is not None
    assert median.value > 0


def test_the_earliest_event_of_any_partition_decides_what_is_complete() -> None:
    for observed, is_complete in ((T0 + HOP_MS - HOUR_MS, True), (T0 + HOP_MS, False)):
        roll_up = RollUp(CONFIG, 3)
        add(
            roll_up,
            partial(0, 1, observed_from_ms=observed),
            partial(1, 1, observed_from_ms=T0 + HOP_MS),
            partial(2, 1, observed_from_ms=None),
        )
        (found,) = (o for o in roll_up.due(0) if o.metric == "orders" and not o.segment)
        assert found.complete is is_complete


def test_every_number_has_its_own_name() -> None:
    roll_up = RollUp(CONFIG, 1)
    roll_up.add(partial(0, 1))
    results = roll_up.due(0)
    names = {one.result_id for one in results}
    assert len(names) == len(results)
    end_ms = T0 + HOP_MS
    assert f"orders|1h|10m|{end_ms}" in names
    assert f"orders|1h|10m|{end_ms}|persona=a" in names
    assert f"bounce_ratio|1h|10m|{end_ms}|channel=email" in names
    assert all(one.result_id == result_id(one, one.end_ms) for one in results)


# -- who speaks


def test_a_report_holds_until_where_it_says_and_no_further() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, partial(0, 1, 5, through=3), *(partial(1, end, 1) for end in (1, 2, 3, 4)))
    assert orders_of(roll_up.due(0)) == [(1, 6, 1, 0), (2, 6, 1, 0), (3, 6, 1, 0)]
    assert roll_up.pending == 1


def test_what_lies_between_two_reports_is_not_guessed() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, partial(0, 1, 5), partial(0, 3, 7), partial(1, 1, 1, through=1))
    add(roll_up, partial(1, 2, 1, through=3))
    assert orders_of(roll_up.due(0)) == [(1, 6, 1, 0), (3, 8, 1, 0)]
    assert roll_up.pending == 0


def test_of_one_partition_the_highest_epoch_and_revision_speaks() -> None:
    roll_up = RollUp(CONFIG, 1)
    add(
        roll_up,
        partial(0, 1, 5, epoch=2, revision=1),
        partial(0, 1, 6, epoch=1, revision=9),  # a worker that was fenced
        partial(0, 1, 7, epoch=2, revision=1),  # sent again
    )
    assert orders_of(roll_up.due(0)) == [(1, 5, 1, 0)]
    roll_up.add(partial(0, 1, 8, epoch=3, revision=0))
    assert orders_of(roll_up.due(0)) == [(1, 8, 2, 0)]


def test_a_newer_report_replaces_what_was_said_of_its_boundary_and_the_later_ones() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(
        roll_up,
        partial(0, 1, 1, through=2),
        partial(0, 3, 3),
        partial(0, 4, 4),
        partial(0, 2, 20, through=3),
        *(partial(1, end) for end in (1, 2, 3, 4)),
    )
    assert orders_of(roll_up.due(0)) == [(1, 1, 1, 0), (2, 20, 1, 0), (3, 20, 1, 0)]


@pytest.mark.parametrize(
    "foreign",
    [
        partial(0, 1, fingerprint="another configuration"),
        partial(2, 1),
        partial(-1, 1),
        Partial(
            **{
                **{n: getattr(partial(0, 1), n) for n in Partial.__struct_fields__},
                "window": "2h",
            }
        ),
    ],
    ids=["fingerprint", "partition too high", "partition below 0", "window"],
)
def test_what_is_of_another_configuration_is_ignored_and_counted(foreign: Partial) -> None:
    roll_up = RollUp(CONFIG, 2)
    roll_up.add(foreign)
    assert (roll_up.ignored, roll_up.pending, roll_up.due(0)) == (1, 0, [])


# -- whole, in order


def test_boundaries_are_published_in_order_and_only_whole() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, nothing_before(0, 1), partial(0, 2, 2), nothing_before(1, 0))
    assert orders_of(roll_up.due(0)) == []
    add(roll_up, partial(1, 1, 1, through=2))
    assert orders_of(roll_up.due(0)) == [(1, 1, 1, 0), (2, 3, 1, 0)]


def test_windows_wait_for_nobody_else() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, partial(0, 1, 1), partial(0, 1, 1, window="6h"), partial(1, 1, 1, window="6h"))
    assert {one.window for one in roll_up.due(0)} == {"6h"}


def test_a_boundary_of_which_some_partition_forgot_its_past_is_left_out() -> None:
    """After a takeover a partition speaks from somewhere on."""
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, partial(0, 1, 1), partial(0, 2, 2), partial(1, 2, 5))
    assert orders_of(roll_up.due(0)) == [(2, 7, 1, 0)]
    assert roll_up.pending == 0


def test_a_few_boundaries_at_a_time_give_the_same_in_several_calls() -> None:
    whole, parts = RollUp(CONFIG, 1), RollUp(CONFIG, 1)
    for end in range(1, 8):
        for window in ("1h", "6h"):
            one = partial(0, end, end, window=window)
            add(whole, one)
            add(parts, one)
    found: list[PublishedResult] = []
    calls = 0
    while results := parts.due(0, most=3):
        calls += 1
        assert len({(one.window, one.end_ms) for one in results}) <= 3
        found += results
    assert found == whole.due(0)
    assert calls == 5


# -- history


@pytest.mark.parametrize(
    "through, expected", [(3, [(0, 2, 1, 0), (3, 2, 1, 0)]), (2, [(0, 2, 1, 0)])]
)
def test_history_speaks_only_at_multiples_of_its_step(
    through: int, expected: list[tuple[int, int, int, int]]
) -> None:
    """Boundary 3 is half past; boundaries 1 and 2 were never reported, also where the history ends there."""
    roll_up = RollUp(CONFIG, 2)
    add(
        roll_up,
        partial(0, 0, 1, through=through, is_replay=True),
        *(partial(1, end, 1) for end in range(through + 1)),
    )
    assert orders_of(roll_up.due(0)) == expected
    assert roll_up.pending == 0


def test_history_never_times_out() -> None:
    roll_up = RollUp(CONFIG, 2)
    roll_up.add(partial(0, 0, 1, is_replay=True))
    roll_up.due(0)
    assert roll_up.due(DAY_MS) == []


# -- partitions that are missing


def test_a_partition_that_is_missing_is_waited_for_and_then_counted_as_missing_once() -> None:
    roll_up = RollUp(CONFIG, 2, timeout_ms=TIMEOUT_MS)
    roll_up.add(partial(0, 1, 5))
    assert roll_up.due(1_000) == []
    assert roll_up.due(1_000 + TIMEOUT_MS - 1) == []
    assert orders_of(roll_up.due(1_000 + TIMEOUT_MS)) == [(1, 5, 1, 1)]
    assert roll_up.due(1_000 + 2 * TIMEOUT_MS) == []
    roll_up.add(partial(1, 1, 2))
    assert orders_of(roll_up.due(1_000 + 3 * TIMEOUT_MS)) == [(1, 7, 2, 0)]


def test_a_whole_boundary_is_published_again_even_when_the_missing_part_was_zero() -> None:
    roll_up = RollUp(CONFIG, 2, timeout_ms=TIMEOUT_MS)
    roll_up.add(partial(0, 1, 5))
    roll_up.due(0)
    roll_up.due(TIMEOUT_MS)
    roll_up.add(partial(1, 1, 0))
    assert orders_of(roll_up.due(TIMEOUT_MS)) == [(1, 5, 2, 0)]


# -- partitions that are untouched


def test_an_untouched_partition_counts_as_zero_on_a_word_given_late_enough() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, untouched(1), partial(0, 1, 5))
    assert roll_up.due(1_000) == []
    roll_up.add(untouched(1))
    assert roll_up.due(1_000 + HOLD_MS - 1) == []
    assert roll_up.due(1_000 + 2 * HOLD_MS) == []  # no fresh word since
    roll_up.add(untouched(1))
    assert orders_of(roll_up.due(1_000 + 2 * HOLD_MS)) == [(1, 5, 1, 0)]


def test_how_long_the_word_is_waited_for_can_be_set() -> None:
    roll_up = RollUp(CONFIG, 2, hold_ms=0)
    add(roll_up, untouched(1), partial(0, 1, 5))
    assert orders_of(roll_up.due(0)) == [(1, 5, 1, 0)]


def test_a_partition_that_is_touched_after_all_is_no_longer_zero() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, untouched(1), partial(0, 1, 5))
    roll_up.due(0)
    add(roll_up, nothing_before(1, 0), partial(1, 1, 3))
    assert orders_of(roll_up.due(0)) == [(1, 8, 1, 0)]


# -- corrections


def test_a_correction_has_the_same_name_and_a_higher_revision() -> None:
    roll_up = RollUp(CONFIG, 1)
    add(roll_up, partial(0, 1, 1), partial(0, 2, 2), partial(0, 3, 3))
    before = roll_up.due(0)
    add(roll_up, partial(0, 2, 5, through=3))
    after = roll_up.due(0)
    assert orders_of(after) == [(2, 5, 2, 0), (3, 5, 2, 0)]
    assert {one.result_id for one in after} < {one.result_id for one in before}


def test_what_has_not_changed_is_not_published_again() -> None:
    roll_up = RollUp(CONFIG, 1)
    add(roll_up, partial(0, 1, 1), partial(0, 2, 2))
    roll_up.due(0)
    add(roll_up, partial(0, 1, 1, epoch=2), partial(0, 2, 2, epoch=2))
    assert roll_up.due(0) == []
    add(roll_up, partial(0, 2, 3, epoch=3))
    assert orders_of(roll_up.due(0)) == [(2, 3, 2, 0)]


def test_as_many_boundaries_as_are_remembered_can_be_corrected() -> None:
    roll_up = RollUp(CONFIG, 1)
    remembered = roll_up._windows["1h", "10m"].remembered
    assert remembered == DAY_MS // HOP_MS + 1  # so far back late events correct
    assert roll_up._windows["6h", "1h"].remembered == REMEMBERED_BOUNDARIES
    count = remembered + 1
    for end in range(1, count + 1):
        roll_up.add(partial(0, end, end))
    assert len(orders_of(roll_up.due(0))) == count
    roll_up.add(partial(0, 1, 1_000, through=count))
    corrected = [end for end, *_ in orders_of(roll_up.due(0))]
    # The first is pending because it is reported anew, the others because they are remembered.
    assert corrected == list(range(1, count + 1))
    assert len(roll_up._windows["1h", "10m"].recent) == remembered


# -- what a successor is told


def correction(partition: int, end: int, orders: int) -> Partial:
    """What late events have made of one boundary."""
    return msgspec.structs.replace(partial(partition, end, orders), is_correction=True)


def told(former: RollUp) -> tuple[RollUp, list[PublishedBoundary]]:
    """A successor that has recalled the notes of ``former``, and the boundaries among them."""
    successor = RollUp(CONFIG, 2)
    words, boundaries = former.take_notes()
    for word in words:
        assert successor.recall_word(word)
    for boundary in boundaries:
        successor.recall_boundary(boundary)
    return successor, boundaries


def published_by(roll_up: RollUp) -> list[PublishedResult]:
    results = roll_up.due(0)
    roll_up.acknowledged(results)
    return results


def test_a_successor_corrects_what_was_published_before_it() -> None:
    former = RollUp(CONFIG, 2)
    add(former, partial(0, 1, 5), partial(1, 1, 7), partial(0, 2, 6), partial(1, 2, 8))
    assert len(orders_of(published_by(former))) == 2
    add(former, correction(0, 1, 15))
    assert orders_of(published_by(former)) == [(1, 22, 2, 0)]
    successor, boundaries = told(former)
    assert [one.revision for one in boundaries] == [2, 1]
    assert successor.due(0) == []
    add(successor, correction(1, 1, 107))
    assert orders_of(successor.due(0)) == [(1, 122, 3, 0)]
    assert (successor.uncorrected, former.take_notes()) == (0, ([], []))


def test_a_correction_that_is_faster_than_another_partition_counts() -> None:
    roll_up = RollUp(CONFIG, 2)
    add(roll_up, nothing_before(0, 3), correction(0, 2, 5), partial(0, 4, 0))
    assert orders_of(roll_up.due(0)) == []
    add(roll_up, nothing_before(1, 1), partial(1, 2, 7), partial(1, 4, 0))
    assert orders_of(roll_up.due(0)) == [(2, 12, 1, 0), (4, 0, 1, 0)]
    # All were silent at the third: it is out nowhere, and is not published for a late event.
    add(roll_up, correction(0, 3, 9))
    assert (roll_up.due(0), roll_up.uncorrected) == ([], 1)


def test_what_a_successor_reads_again_is_not_published_again() -> None:
    former, words = RollUp(CONFIG, 2), [partial(0, 1, 5), partial(1, 1, 7), correction(0, 1, 6)]
    add(former, *words)
    assert orders_of(published_by(former)) == [(1, 13, 1, 0)]
    successor, _ = told(former)
    add(successor, *words)
    assert successor.due(0) == []
    # It is noted again: the former seat may have ended before its notes of this were written.
    (again,) = successor.take_notes()[1]
    assert again.end_ms == T0 + HOP_MS
    assert again.key == f"1h|10m|{T0 + HOP_MS}".encode()


def test_results_that_were_not_acknowledged_are_not_noted() -> None:
    former = RollUp(CONFIG, 2)
    add(former, partial(0, 1, 5), partial(1, 1, 7))
    assert former.due(0)
    successor, boundaries = told(former)
    assert boundaries == []
    add(successor, partial(0, 1, 5), partial(1, 1, 7))
    assert orders_of(successor.due(0)) == [(1, 12, 1, 0)]


def test_only_what_late_events_can_correct_is_noted() -> None:
    config = CoreConfig(windows=WindowSet.of([Window.parse("1h/1m")]), segments=CONFIG.segments)
    fine = RollUp(config, 1)
    word = msgspec.structs.replace(partial(0, 1, 5), hop="1m", fingerprint=config.fingerprint)
    fine.add(word)
    assert published_by(fine)
    assert fine.take_notes() == ([], [])
    assert fine.oldest_ms("1h", "1m") < 0
    assert fine.oldest_ms("1h", "10m") > T0  # no such window: nothing of it is needed


def test_of_a_backlog_only_the_boundaries_that_are_remembered_are_noted() -> None:
    former = RollUp(CONFIG, 2)
    remembered = former._windows["1h", "10m"].remembered
    for end in range(1, 2 * remembered + 1):
        add(former, partial(0, end, 1), partial(1, end, 1))
        published_by(former)
    words, boundaries = former.take_notes()
    oldest = T0 + (remembered + 1) * HOP_MS
    assert former.oldest_ms("1h", "10m") == oldest
    assert {one.end_ms for one in boundaries} == {one.end_ms for one in words}
    assert (min(one.end_ms for one in words), len(words)) == (oldest, 2 * remembered)


def test_an_untouched_partition_is_noted_once_and_its_old_word_confirms_nothing() -> None:
    former = RollUp(CONFIG, 2)
    add(former, partial(0, 1, 5), untouched(1), untouched(1))
    words, _ = former.take_notes()
    assert [one.is_untouched for one in words] == [False, True]
    add(former, untouched(1))
    assert former.take_notes() == ([], [])
    successor = RollUp(CONFIG, 2)
    for word in words:
        successor.recall_word(word)
    successor.add(partial(0, 2, 6))
    assert successor.due(FOREVER // 2) == []


def test_notes_of_another_configuration_mean_nothing() -> None:
    former = RollUp(CONFIG, 2)
    add(former, partial(0, 1, 5), partial(1, 1, 7))
    published_by(former)
    words, boundaries = former.take_notes()
    other = CoreConfig(windows=WindowSet.of([Window.parse("6h/1h")]), segments=CONFIG.segments)
    successor = RollUp(other, 2)
    assert not any(successor.recall_word(word) for word in words)
    for boundary in boundaries:
        successor.recall_boundary(boundary)
    assert successor.recall_word(partial(2, 1, fingerprint=other.fingerprint)) is False
    assert (successor.pending, successor.due(0)) == (0, [])


# -- memory


def test_memory_is_bounded_by_the_boundaries_that_may_be_corrected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.rollup.KNOWN_BOUNDARIES", 100)
    roll_up = RollUp(CONFIG, 2)
    for end in range(1, 500):
        add(roll_up, partial(0, end, 1), partial(1, end, 1))
        assert len(orders_of(roll_up.due(0))) == 1
        state = roll_up._windows["1h", "10m"]
        assert len(state.recent) <= state.remembered
        assert len(state.known) <= 200
        assert all(len(track.segments) <= state.remembered + 2 for track in state.tracks)
    assert roll_up.pending == 0


# -- takeover


def published(orders: int, revision: int, end: int = 1) -> list[PublishedResult]:
    """What an earlier roll-up wrote."""
    roll_up = RollUp(CONFIG, 1)
    results: list[PublishedResult] = []
    for number in range(1, revision + 1):
        roll_up.add(partial(0, end, orders if number == revision else 100 + number))
        results = roll_up.due(0)
    assert orders_of(results) == [(end, orders, revision, 0)]
    return results


def test_after_a_takeover_what_already_stands_there_is_not_published_again() -> None:
    roll_up = RollUp(CONFIG, 1)
    for result in reversed(published(5, revision=3)):
        roll_up.note_published(result)
    roll_up.add(partial(0, 1, 5, epoch=2))
    assert roll_up.due(0) == []
    roll_up.add(partial(0, 1, 6, epoch=3))
    assert orders_of(roll_up.due(0)) == [(1, 6, 4, 0)]


def test_after_a_takeover_a_change_has_a_revision_above_any_that_stands_there() -> None:
    roll_up = RollUp(CONFIG, 1)
    for revision in (1, 3, 2):
        for result in published(5, revision=revision):
            roll_up.note_published(result)
    roll_up.add(partial(0, 1, 7))
    assert orders_of(roll_up.due(0)) == [(1, 7, 4, 0)]


def test_after_a_takeover_half_a_boundary_is_published_again_whole() -> None:
    results = published(5, revision=1)
    roll_up = RollUp(CONFIG, 1)
    for result in results[: len(results) // 2]:
        roll_up.note_published(result)
    roll_up.add(partial(0, 1, 5))
    assert orders_of(roll_up.due(0)) == [(1, 5, 2, 0)]


def test_results_of_windows_that_are_no_longer_configured_mean_nothing() -> None:
    other = CoreConfig(windows=WindowSet.of([Window.parse("6h/1h")]), segments=CONFIG.segments)
    roll_up = RollUp(other, 1)
    for result in published(5, revision=1):
        roll_up.note_published(result)
    assert roll_up.pending == 0
    assert roll_up.due(0) == []
