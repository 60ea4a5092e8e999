"""Dead letters, and records that came too late, back to their topics: each once.

Of every letter that is sent a note is kept under its origin, in a compacted topic:

    note `intended`, acknowledged -> send, acknowledged -> note `sent`, acknowledged

and a letter that is noted as sent is never sent again. After a crash between the first note and the
last nobody knows whether the record was sent. It carries its letter's origin in a header, so the
next run looks for it in the target partition, from the place on at which that ended when the note
was made: it is there, and is noted as sent, or it isn't, and the letter is as it was before.

What is promised:
- No letter is sent twice, and none that was to be sent is passed over: whatever the moment at which
  a run ends, by Ctrl-C, kill -9 or an error, the next run with the same filters completes it.
- Where the target's records of that time are gone (retention was shorter than the pause), it can't
  be said whether a letter was sent: it is left alone and reported. Only such letters could be sent
  twice by hand, and then the engine still drops the repetition as long as the event id is among the
  customer's last 16.
- One run at a time: each says first that it has begun, and one that finds that another began after
  it ends before it sends its next batch. The later one waits until the newest intention is
  `GRACE_MS` old, so that what is on its way has arrived or is lost. Only a record that a broker
  delays for longer than that could be sent twice.
- A record that is refused again leaves a letter of its own; that one is left alone unless asked for.

Here is no I/O: the topics are a `RedriveLog`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from agents.failures import CommandFailed
from agents.letters import Choice, Letter, Tally, Verdict, customer_of
from schemas.reasons import Reason
from schemas.records import Redriven

HEADER = "heartline-origin"
"""The header by which a record that was sent back is found again."""
GRACE_MS = 5_000
"""A record is on its topic, or lost, so long after the note that it was intended."""
BEGUN = b"run"
"""The key of the note that a run has begun."""
BATCH = 1_000
BATCH_BYTES = 8 * 1_048_576

Place = tuple[str, int]
"""A topic and a partition of it."""


class Resent(NamedTuple):
    """A record as it goes back."""

    origin: bytes
    topic: str
    partition: int
    key: bytes | None
    value: bytes
    timestamp_ms: int


class RedriveLog(Protocol):
    """The topics. Every method returns when it is done and acknowledged, or raises."""

    def notes(self) -> list[tuple[bytes, Redriven | None]]:
        """The notes that were written since the last call, in order; at first all there are."""

    def note(self, notes: Sequence[tuple[bytes, Redriven | None]]) -> None:
        """Write notes; None takes one back."""

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Offsets before which nothing will be written any more."""

    def send(self, records: Sequence[Resent]) -> list[int]:
        """Send records, and say at which offsets they stand."""

    def find(self, wanted: Mapping[bytes, Redriven]) -> dict[bytes, int | None]:
        """At which offset of its note's place, from ``after`` on, the record with each origin stands.

        None: it isn't there. Absent: it can't be said, since not all records from there on are left.
        """


class Redrive:
    """One run."""

    def __init__(
        self,
        log: RedriveLog,
        *,
        run: str,
        inputs: Mapping[str, int],
        partition_of: Callable[[bytes], int],
        now_ms: Callable[[], int],
        pause: Callable[[float], None],
    ) -> None:
        """``inputs`` are the input topics and their partitions, ``run`` a name that no other run
        has.
        """
        self._log = log
        self._run = run
        self._inputs = inputs
        self._partition_of = partition_of
        self._now_ms = now_ms
        self._pause = pause
        self._intended: dict[bytes, Redriven] = {}
        self._sent: set[bytes] = set()
        self._results: set[tuple[str, int, int]] = set()
        """Where records stand that were sent back."""
        self._perhaps: set[bytes] = set()
        self.tally = Tally()

    def begin(self, *, dry_run: bool) -> None:
        """Learn what was sent before, and find out what became of what was only intended.

        Raises CommandFailed if another run begins meanwhile.
        """
        if not dry_run:
            self._log.note([(BEGUN, self._note("begun"))])
        self._catch_up(dry_run=dry_run)
        newest = max((note.at_ms for note in self._intended.values()), default=None)
        if newest is not None:
            left_ms = min(newest + GRACE_MS - self._now_ms(), GRACE_MS)
            if left_ms > 0:
                self._pause(left_ms / 1_000)
            self._catch_up(dry_run=dry_run)
        found = self._log.find(self._intended) if self._intended else {}
        news: list[tuple[bytes, Redriven | None]] = []
        for origin, note in self._intended.items():
            if origin not in found:
                self._perhaps.add(origin)
                continue
            offset = found[origin]
            news.append((origin, None if offset is None else self._as_sent(note, offset)))
        if news and not dry_run:
            self._log.note(news)
        self._learn(news)

    def run(
        self,
        letters: Iterable[Letter],
        choice: Choice,
        *,
        dry_run: bool = False,
        fix_key: bool = False,
        again: bool = False,
        limit: int | None = None,
    ) -> Tally:
        """Send the letters that are chosen and can be, at most ``limit`` of them.

        ``fix_key`` gives a record with a wrong key that of its customer; ``again`` sends also what
        was refused after it had been sent back before.
        """
        batch: list[tuple[Letter, Resent]] = []
        size = chosen = 0
        seen: set[bytes] = set()
        for letter in letters:
            if limit is not None and chosen >= limit:
                break
            if letter.origin in seen or not choice.takes(letter):
                continue  # A worker that read its input again has left the same letter again.
            seen.add(letter.origin)
            found = self.judge(letter, fix_key=fix_key, again=again)
            if isinstance(found, Verdict):
                self.tally.count(letter, found)
                continue
            chosen += 1
            if dry_run:
                self.tally.count(letter, Verdict.WOULD_BE_SENT)
                continue
            batch.append((letter, found))
            size += len(found.value)
            if len(batch) >= BATCH or size >= BATCH_BYTES:
                self._send(batch)
                batch, size = [], 0
        if batch:
            self._send(batch)
        return self.tally

    def judge(self, letter: Letter, *, fix_key: bool, again: bool) -> Resent | Verdict:
        """The record to send, or why none is."""
        if letter.origin in self._sent:
            return Verdict.SENT_BEFORE
        if letter.origin in self._perhaps:
            return Verdict.PERHAPS_SENT
        if not again and (letter.topic, letter.partition, letter.offset) in self._results:
            return Verdict.REFUSED_AGAIN
        if letter.partition >= self._inputs.get(letter.topic, 0):
            return Verdict.FOREIGN
        if not letter.payload:
            return Verdict.WITHOUT_BYTES if letter.payload_bytes else Verdict.EMPTY
        if len(letter.payload) < letter.payload_bytes:
            return Verdict.CUT
        key = letter.key
        if letter.reason == Reason.WRONG_KEY:
            if not fix_key:
                return Verdict.NEEDS_KEY
            key = customer_of(letter.payload)
            if key is None:
                return Verdict.NAMELESS
        return Resent(
            letter.origin,
            letter.topic,
            letter.partition if key is None else self._partition_of(key),
            key,
            letter.payload,
            letter.timestamp_ms,
        )

    def _send(self, batch: Sequence[tuple[Letter, Resent]]) -> None:
        """One batch, as the head of this file says."""
        ends = self._log.ends({(record.topic, record.partition) for _, record in batch})
        intended = [
            self._note("intended", record.topic, record.partition, ends) for _, record in batch
        ]
        origins = [record.origin for _, record in batch]
        self._log.note(list(zip(origins, intended, strict=True)))
        self._refuse_company(self._log.notes())
        offsets = self._log.send([record for _, record in batch])
        sent = [self._as_sent(note, offset) for note, offset in zip(intended, offsets, strict=True)]
        self._log.note(list(zip(origins, sent, strict=True)))
        self._learn(zip(origins, sent, strict=True))
        for letter, _ in batch:
            self.tally.count(letter, Verdict.SENT)

    def _note(
        self,
        state: Literal["begun", "intended"],
        topic: str = "",
        partition: int = 0,
        ends: Mapping[Place, int] | None = None,
    ) -> Redriven:
        return Redriven(
            state=state,
            run=self._run,
            topic=topic,
            partition=partition,
            after=0 if ends is None else ends[topic, partition],
            offset=None,
            at_ms=self._now_ms(),
        )

    def _as_sent(self, note: Redriven, offset: int) -> Redriven:
        return msgspec.structs.replace(
            note, state="sent", run=self._run, offset=offset, at_ms=self._now_ms()
        )

    def _catch_up(self, *, dry_run: bool) -> None:
        notes = self._log.notes()
        self._learn(notes)
        if not dry_run:
            self._refuse_company(notes)

    def _learn(self, notes: Iterable[tuple[bytes, Redriven | None]]) -> None:
        for origin, note in notes:
            self._intended.pop(origin, None)
            if note is None or origin == BEGUN:
                continue
            if note.offset is None:
                self._intended[origin] = note
            else:
                self._sent.add(origin)
                self._results.add((note.topic, note.partition, note.offset))

    def _refuse_company(self, notes: Iterable[tuple[bytes, Redriven | None]]) -> None:
        """Raises CommandFailed if another run has begun after ours."""
        begun = [note for origin, note in notes if origin == BEGUN and note is not None]
        if begun and begun[-1].run != self._run:
            sent = self.tally.verdicts()[Verdict.SENT]
            raise CommandFailed(
                f"another redrive has begun: this one ends after {sent:,} letters; let the other end, and "
                "run this one again for what is left"
            )
