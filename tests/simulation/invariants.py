"""What must hold of every run, by name. Each says what was found, not only that something was.

Two independent truths are used: `history.recompute`, the core run in one go over the effective
history, and a plain recount of the input that knows no watermark and no pane.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from agents.partials import Reporter
from schemas.records import DeadLetter, LateRecord, Partial, PublishedResult
from schemas.topics import Source
from streams.claims import Claim, StateRefused
from streams.rollup import RollUp
from streams.state_log import StateLog
from streams.sums import Additive, Mark, row_of
from tests.simulation.history import Recomputed, differences, picture, plain, recompute
from tests.simulation.workload import END_MS, Item

if TYPE_CHECKING:
    from agents.owned import Owned
    from tests.simulation.run import Run

_SHOWN = 4


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, message: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant


@dataclass(slots=True)
class Outcome:
    """One partition at the end: what the engine holds, and what it should."""

    number: int
    owned: Owned
    expected: Recomputed
    items: list[list[Item]]
    """The input by Source, in offset order."""


def check(run: Run) -> Iterator[Violation]:
    """Every violation of a run that has settled."""
    outcomes = [_outcome(run, n) for n in range(run.cluster.partitions)]
    for outcome in outcomes:
        yield from _everything_read(outcome)
        yield from _accounts(outcome)
        yield from _counts(run, outcome)
        yield from _state(run, outcome)
        yield from _partials(run, outcome)
    yield from _dead_letters(run, outcomes)
    yield from _late_records(run, outcomes)
    if run.has_rollup:
        yield from _results(run, outcomes)


def _outcome(run: Run, number: int) -> Outcome:
    owned = run.owner_of(number).engine.owned[number]
    inputs = [run.cluster.log.partition(topic, number).records for topic in run.cluster.sources]
    expected = recompute(
        run.config,
        number,
        run.cluster.partitions,
        inputs,
        run.recorder.of(owned.state).whole(),
    )
    items: list[list[Item]] = [[] for _ in Source]
    for item in run.input.items:
        if item.partition == number:
            items[item.source].append(item)
    return Outcome(number, owned, expected, items)


def _everything_read(outcome: Outcome) -> Iterator[Violation]:
    if outcome.expected.gaps:
        yield Violation(
            "nothing_lost",
            f"partition {outcome.number}: nobody read {', '.join(outcome.expected.gaps)}",
        )
    for source in Source:
        due, end = outcome.owned.state.next_offset(source), len(outcome.items[source])
        if due != end:
            yield Violation(
                "nothing_lost",
                f"partition {outcome.number}: {source.name} stands at {due} of {end}",
            )


def _accounts(outcome: Outcome) -> Iterator[Violation]:
    for source in Source:
        account = outcome.owned.state.account(source)
        kinds = Counter(item.kind for item in outcome.items[source])
        found = {
            "consumed": (account.consumed, len(outcome.items[source])),
            "dead": (account.dead, kinds["dead"]),
            "control": (account.control, kinds["control"]),
            "waiting": (account.waiting, 0),
            "too_late": (
                account.too_late,
                sum(1 for where, _ in outcome.expected.too_late if where is source),
            ),
        }
        wrong = {name: pair for name, pair in found.items() if pair[0] != pair[1]}
        if wrong or not account.balances:
            yield Violation(
                "account_balances",
                f"partition {outcome.number}, {source.name}: {account}; (is, should be): {wrong}",
            )


def recount(outcome: Outcome) -> Counter[int]:
    """The sums over everything, from the input alone: each event once, without the too late."""
    sums: Counter[int] = Counter()
    seen: set[str] = set()
    customers: defaultdict[Mark, set[str]] = defaultdict(set)
    for source in Source:
        for offset, item in enumerate(outcome.items[source]):
            if item.kind in {"dead", "control"} or item.event_id in seen:
                continue
            if (source, offset) in outcome.expected.too_late:
                continue
            seen.add(item.event_id)
            match item.kind:
                case "page_viewed":
                    sums[row_of(Additive.PAGE_VIEWS)] += 1
                    customers[Mark.VISITED].add(item.customer)
                    customers[Mark.ACTIVE].add(item.customer)
                case "order_placed":
                    sums[row_of(Additive.ORDERS)] += 1
                    sums[row_of(Additive.REVENUE_MICROS)] += item.micros
                    customers[Mark.BOUGHT].add(item.customer)
                    customers[Mark.ACTIVE].add(item.customer)
                case "order_refunded":
                    sums[row_of(Additive.REFUNDED_MICROS)] += item.micros
    for mark, ids in customers.items():
        sums[row_of(mark)] = len(ids)
    return sums


_ADDITIVE: tuple[Additive | Mark, ...] = (
    Additive.PAGE_VIEWS,
    Additive.ORDERS,
    Additive.REVENUE_MICROS,
    Additive.REFUNDED_MICROS,
)
_DISTINCT = (Mark.VISITED, Mark.BOUGHT, Mark.ACTIVE)


def _counts(run: Run, outcome: Outcome) -> Iterator[Violation]:
    """The last figures of the window that holds everything, against the plain recount."""
    window = max(run.config.windows.windows, key=lambda one: one.size_ms)
    number = run.config.windows.windows.index(window)
    if run.input.end_ms == END_MS:
        sums = outcome.owned.state.state.timeline.report(number).sums
    else:  # the window is empty by now
        sums = [
            report.sums
            for report in outcome.expected.reports
            if report.window == number
            and report.end_ms <= END_MS <= report.valid_through_ms
            and not report.is_correction
        ][-1]
    expected = recount(outcome)
    for member in _ADDITIVE if run.input.has_forgotten else _ADDITIVE + _DISTINCT:
        got, due = int(sums[row_of(member), 0]), expected[row_of(member)]
        if got != due:
            yield Violation(
                "nothing_lost" if got < due else "nothing_twice",
                f"partition {outcome.number}: {member.name} is {got}, should be {due}",
            )


def _state(run: Run, outcome: Outcome) -> Iterator[Violation]:
    expected = picture(outcome.expected.partition)
    if wrong := differences(picture(outcome.owned.state), expected):
        yield Violation("state_equals_recomputation", f"partition {outcome.number}: {_some(wrong)}")
    log = StateLog()
    records = run.cluster.log.partition(run.cluster.topics.state, outcome.number).records
    try:
        for record in records:
            log.apply(record.offset, record.key or b"", record.value)
        restored = log.restore(run.config, Claim(log.owner.epoch + 1, "reader")).partition
    except StateRefused as refused:
        yield Violation("state_can_be_restored", f"partition {outcome.number}: {refused}")
        return
    if wrong := differences(picture(restored), expected):
        yield Violation(
            "durable_state_equals_recomputation", f"partition {outcome.number}: {_some(wrong)}"
        )


def _content(partial: Partial) -> Any:
    """What a partial says, whoever sent it.

    Behind the last event a jump over empty time may stop where a timer, armed again lazily, fires for
    nothing: the same sums are then said in two stretches.
    """
    said = plain(partial)
    del said["epoch"], said["revision"]
    said["valid_through_ms"] = min(said["valid_through_ms"], END_MS)
    return said


def expected_partials(run: Run, outcome: Outcome) -> list[Partial]:
    """What the partition should have said, in order."""
    reports = [report for report in outcome.expected.reports if not report.is_untouched]
    return list(Reporter(run.config, outcome.number).partials(reports, epoch=1))


def _partials(run: Run, outcome: Outcome) -> Iterator[Violation]:
    sent = {
        msgspec.json.encode(_content(partial))
        for partial in run.partials
        if partial.partition == outcome.number
        and not partial.is_untouched
        and partial.end_ms <= END_MS
    }
    due = {
        msgspec.json.encode(_content(partial))
        for partial in expected_partials(run, outcome)
        if partial.end_ms <= END_MS
    }
    if missing := [text.decode()[:200] for text in due - sent]:
        yield Violation("partials_complete", f"partition {outcome.number}: {_some(missing)}")
    if changed := [text.decode()[:200] for text in sent - due]:
        yield Violation(
            "partials_never_change_after_being_sent",
            f"partition {outcome.number}: sent, and not so any more: {_some(changed)}",
        )


def _dead_letters(run: Run, outcomes: Iterable[Outcome]) -> Iterator[Violation]:
    decoder = msgspec.json.Decoder(DeadLetter)
    log = run.cluster.log.partition(run.cluster.topics.dead_letters, 0)
    found = {
        (letter.topic, letter.partition, letter.offset): letter.payload
        for letter in (decoder.decode(record.value or b"") for record in log.records)
    }
    due = {
        (run.cluster.sources[source], outcome.number, offset): item.value
        for outcome in outcomes
        for source in Source
        for offset, item in enumerate(outcome.items[source])
        if item.kind == "dead"
    }
    if found != due:
        wrong = [str(origin) for origin in due.keys() ^ found.keys()]
        yield Violation("dead_letters_complete", _some(wrong or ["other bytes"]))


def _late_records(run: Run, outcomes: Iterable[Outcome]) -> Iterator[Violation]:
    decoder = msgspec.json.Decoder(LateRecord)
    log = run.cluster.log.partition(run.cluster.topics.late, 0)
    found = {
        (late.topic, late.partition, late.offset)
        for late in (decoder.decode(record.value or b"") for record in log.records)
    }
    due = {
        (run.cluster.sources[source], outcome.number, offset)
        for outcome in outcomes
        for source, offset in outcome.expected.too_late
    }
    if not due <= found:
        yield Violation("late_records_complete", _some(map(str, sorted(due - found))))


def _results(run: Run, outcomes: Iterable[Outcome]) -> Iterator[Violation]:
    """The newest revision of every result, against a roll-up of what should have been said."""
    rollup = RollUp(run.config, run.cluster.partitions)
    for outcome in outcomes:
        for partial in expected_partials(run, outcome):
            rollup.add(partial)
    due: dict[str, PublishedResult] = {}
    while results := rollup.due(END_MS):
        due.update((one.result_id, one) for one in results if one.end_ms <= END_MS)
    decoder = msgspec.json.Decoder(PublishedResult)
    found: dict[str, PublishedResult] = {}
    log = run.cluster.log.partition(run.cluster.topics.results, 0)
    for record in log.records:
        result = decoder.decode(record.value or b"")
        if result.end_ms > END_MS:
            continue
        known = found.get(result.result_id)
        if known is None or _rank(result) >= _rank(known):
            found[result.result_id] = result
    begins = _where_results_begin(run)
    left, right = (
        {
            name: _figures(result)
            for name, result in results.items()
            if result.end_ms >= begins.get(result.window, 0)
        }
        for results in (found, due)
    )
    wrong = differences(left, right)
    if wrong:
        yield Violation("results_equal", _some(wrong))


def _rank(result: PublishedResult) -> tuple[int, int]:
    """What a reader goes by: a seat that was paused may write a first revision, with partitions
    missing, beside its successor's.
    """
    return result.revision, -result.missing_partitions


def _where_results_begin(run: Run) -> dict[str, int]:
    """By window, the first boundary that was ever published, if the roll-up has changed hands.

    When an older one begins later, because a late event is a partition's first, only who has heard
    the other partitions' silence before it can publish it.
    """
    records = run.cluster.log.partition(run.cluster.topics.results, 0).records
    if len({record.sender for record in records}) < 2:
        return {}
    begins: dict[str, int] = {}
    for record in records:
        result = msgspec.json.decode(record.value or b"", type=PublishedResult)
        begins.setdefault(result.window, result.end_ms)
    return begins


def _figures(result: PublishedResult) -> dict[str, Any]:
    return {
        "value": result.value,
        "numerator": result.numerator,
        "denominator": result.denominator,
        "complete": result.complete,
        "missing": result.missing_partitions,
    }


def _some(lines: Iterable[str]) -> str:
    found = list(lines)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more
