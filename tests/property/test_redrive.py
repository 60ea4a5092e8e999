"""A redrive that is cut off anywhere sends every letter once, in the end; and so do two at a time."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import redrive as module
from agents.failures import CommandFailed
from agents.letters import Choice, Letter, Tally, Verdict
from agents.redrive import GRACE_MS, Place, Redrive, Resent
from schemas.records import Redriven

pytestmark = pytest.mark.property

INPUTS = {"in": 2}
Noted = tuple[bytes, Redriven | None]


class Cut(Exception):
    """The process is gone."""


@dataclass
class Topics:
    """What a broker holds, whoever asks."""

    inputs: dict[Place, list[bytes]] = field(
        default_factory=lambda: {("in", 0): [b"before"], ("in", 1): []}
    )
    notes: list[Noted] = field(default_factory=list)
    first_offset: int = 0
    now_ms: int = 1_000_000

    def copies(self) -> Counter[bytes]:
        return Counter(origin for log in self.inputs.values() for origin in log)

    def compact(self) -> None:
        """As a compaction leaves the notes: of each key the last one, and no deletion."""
        last = {origin: place for place, (origin, _) in enumerate(self.notes)}
        self.notes = [
            (origin, note)
            for place, (origin, note) in enumerate(self.notes)
            if last[origin] == place and note is not None
        ]


class Log:
    """One process's view; it ends in the middle of its operation number `cut_at`, `part` of it done."""

    def __init__(self, topics: Topics, cut_at: int | None = None, part: int = 0) -> None:
        self.topics = topics
        self.cut_at = cut_at
        self.part = part
        self.operation = 0
        self.read = 0
        self.on_send: Callable[[Callable[[], None]], None] | None = None

    def _done(self, size: int) -> int:
        """How much of this operation happens."""
        self.operation += 1
        self.topics.now_ms += 10
        if self.operation == self.cut_at:
            return min(self.part, size)
        return -1

    def notes(self) -> list[Noted]:
        if self._done(0) >= 0:
            raise Cut
        found, self.read = self.topics.notes[self.read :], len(self.topics.notes)
        return found

    def note(self, notes: Sequence[Noted]) -> None:
        done = self._done(len(notes))
        self.topics.notes += notes if done < 0 else notes[:done]
        if done >= 0:
            raise Cut

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        if self._done(0) >= 0:
            raise Cut
        # As on a broker that is behind with its word: never beyond the end, sometimes before it.
        return {place: max(0, len(self.topics.inputs[place]) - 1) for place in places}

    def send(self, records: Sequence[Resent]) -> list[int]:
        done = self._done(len(records))
        if done >= 0:
            self._land(records[:done])
            raise Cut
        if self.on_send is None:
            return self._land(records)
        offsets: list[int] = []
        on_send, self.on_send = self.on_send, None
        on_send(lambda: offsets.extend(self._land(records)))
        return offsets

    def _land(self, records: Sequence[Resent]) -> list[int]:
        offsets = []
        for record in records:
            log = self.topics.inputs[record.topic, record.partition]
            offsets.append(len(log))
            log.append(record.origin)
        return offsets

    def find(self, wanted: Mapping[bytes, Redriven]) -> dict[bytes, int | None]:
        if self._done(0) >= 0:
            raise Cut
        found: dict[bytes, int | None] = {}
        for origin, note in wanted.items():
            if note.after < self.topics.first_offset:
                continue
            log = self.topics.inputs[note.topic, note.partition]
            places = [n for n, one in enumerate(log) if one == origin and n >= note.after]
            found[origin] = places[0] if places else None
        return found


def letter(number: int, *, reason: str = "unknown_currency") -> Letter:
    origin = f"in|0|{number}".encode()
    payload = b'{"customer_id":"c%d"}' % number
    return Letter(
        origin, "in", 0, number + 1_000, number, reason, b"c%d" % number, payload, len(payload)
    )


def a_run(log: Log, letters: Sequence[Letter], name: str, *, limit: int | None = None) -> Tally:
    def pause(seconds: float) -> None:
        log.topics.now_ms += round(seconds * 1_000)

    return run_of(log, name, pause).whole(letters, limit=limit)


class Whole(Redrive):
    """A run from beginning to end."""

    def whole(self, letters: Sequence[Letter], *, limit: int | None = None) -> Tally:
        self.begin(dry_run=False)
        return self.run(letters, Choice(), limit=limit)


def run_of(log: Log, name: str, pause: Callable[[float], None]) -> Whole:
    return Whole(
        log,
        run=name,
        inputs=INPUTS,
        partition_of=lambda key: key[-1] % 2,
        now_ms=lambda: log.topics.now_ms,
        pause=pause,
    )


@given(
    cuts=st.lists(
        st.tuples(
            st.integers(1, 24), st.integers(0, 4), st.booleans(), st.none() | st.integers(1, 9)
        ),
        max_size=5,
    ),
    size=st.integers(1, 11),
)
def test_wherever_runs_are_cut_off_each_letter_is_sent_once(
    cuts: list[tuple[int, int, bool, int | None]], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", 4)
        topics = Topics()
        letters = [letter(n) for n in range(size)]
        for number, (cut_at, part, compacted, limit) in enumerate(cuts):
            with contextlib.suppress(Cut):
                a_run(Log(topics, cut_at, part), letters, f"run {number}", limit=limit)
            if compacted:
                topics.compact()
        tally = a_run(Log(topics), letters, "last")
        assert {topics.copies()[one.origin] for one in letters} == {1}
        assert not tally.verdicts()[Verdict.PERHAPS_SENT]
        sent = topics.copies()
        topics.compact()
        again = a_run(Log(topics), [*letters, *letters], "once more")
        assert again.verdicts() == {Verdict.SENT_BEFORE: size}
        assert topics.copies() == sent


@given(size=st.integers(1, 12), begun_at=st.integers(0, 3), lands_late=st.booleans())
def test_of_two_runs_at_a_time_the_earlier_ends_and_nothing_is_sent_twice(
    size: int, begun_at: int, lands_late: bool
) -> None:
    """The other begins while a batch of the first is on its way, and waits until that has landed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", 3)
        topics = Topics()
        letters = [letter(n) for n in range(size)]
        first = Log(topics)
        sends = 0

        def meanwhile(land: Callable[[], None]) -> None:
            nonlocal sends
            sends += 1
            if sends <= begun_at:
                land()
                first.on_send = meanwhile
                return
            landed = False

            def pause(seconds: float) -> None:
                nonlocal landed
                assert seconds <= GRACE_MS / 1_000
                topics.now_ms += round(seconds * 1_000)
                if lands_late and not landed:
                    landed = True
                    land()

            if not lands_late:
                land()
            tally = run_of(Log(topics), "second", pause).whole(letters)
            assert tally.verdicts().total() == size

        first.on_send = meanwhile
        batches = -(-size // 3)
        if batches > begun_at + 1:
            with pytest.raises(CommandFailed, match="another redrive has begun"):
                a_run(first, letters, "first")
        else:
            a_run(first, letters, "first")
        assert {topics.copies()[one.origin] for one in letters} == {1}
        assert a_run(Log(topics), letters, "third").verdicts() == {Verdict.SENT_BEFORE: size}


def test_where_the_records_of_that_time_are_gone_a_letter_is_left_alone() -> None:
    topics = Topics()
    with pytest.raises(Cut):
        a_run(Log(topics, cut_at=6, part=0), [letter(1)], "first")
    assert topics.notes[-1][1] is not None
    topics.first_offset = 5
    assert a_run(Log(topics), [letter(1)], "second").verdicts() == {Verdict.PERHAPS_SENT: 1}
    topics.first_offset = 0
    assert a_run(Log(topics), [letter(1)], "third").verdicts() == {Verdict.SENT: 1}


def test_a_dry_run_changes_nothing_and_says_what_a_run_then_does() -> None:
    topics = Topics()
    with pytest.raises(Cut):
        a_run(Log(topics, cut_at=7, part=1), [letter(1), letter(2)], "first")
    before = (list(topics.notes), topics.copies())
    dry = run_of(Log(topics), "dry", lambda _seconds: None)
    dry.begin(dry_run=True)
    found = dry.run([letter(1), letter(2), letter(3)], Choice(), dry_run=True)
    assert (topics.notes, topics.copies()) == before
    tally = a_run(Log(topics), [letter(1), letter(2), letter(3)], "second")
    assert found.verdicts()[Verdict.WOULD_BE_SENT] == tally.verdicts()[Verdict.SENT]
    assert found.verdicts()[Verdict.SENT_BEFORE] == tally.verdicts()[Verdict.SENT_BEFORE]
