"""Letters: dead letters and late records, which of them are meant, and what becomes of each.

What a letter holds is what its record was; the verdict says whether it can go back to its topic.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from schemas.decode import FRAME_BYTES
from schemas.events import LONGEST_ID
from schemas.records import DeadLetter, LateRecord

TOO_LATE = "too_late"
"""What stands for a reason with a late record."""


class Letter(NamedTuple):
    """A dead letter or a late record, as far as sending it back needs it."""

    origin: bytes
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    key: bytes | None
    payload: bytes | None
    payload_bytes: int

    @classmethod
    def of(cls, record: DeadLetter | LateRecord) -> Letter:
        """The letter that a record of either topic holds."""
        return cls(
            record.origin,
            record.topic,
            record.partition,
            record.offset,
            record.timestamp_ms,
            record.reason if isinstance(record, DeadLetter) else TOO_LATE,
            record.key,
            record.payload,
            record.payload_bytes,
        )


class Verdict(enum.StrEnum):
    """What becomes of a letter that the filters let through."""

    SENT = "sent"
    WOULD_BE_SENT = "would be sent"
    SENT_BEFORE = "sent before"
    REFUSED_AGAIN = "refused again"
    PERHAPS_SENT = "perhaps sent"
    CUT = "cut"
    WITHOUT_BYTES = "without bytes"
    EMPTY = "empty"
    NEEDS_KEY = "needs a key"
    NAMELESS = "nameless"
    FOREIGN = "foreign"


EXPLAINED = {
    Verdict.REFUSED_AGAIN: "was sent back once already and refused again; --again sends it once more",
    Verdict.PERHAPS_SENT: "a run ended while it was at it, and the records of that time are gone: whether "
    "it was sent can't be said, so it is left alone",
    Verdict.CUT: "the record was larger than 64 KiB and its letter holds only the beginning: send it "
    "again from where it came from, smaller",
    Verdict.WITHOUT_BYTES: "the letter was written without the record's bytes ([privacy] raw_bytes)",
    Verdict.EMPTY: "there is no payload that could be sent",
    Verdict.NEEDS_KEY: "the record's key is not its customer: --fix-key sends it under its customer_id",
    Verdict.NAMELESS: "no customer_id can be read from it that could become the key",
    Verdict.FOREIGN: "its origin is no input topic of this installation",
}
"""Why a letter isn't sent, where that takes a word."""
UNSENDABLE = frozenset(
    {
        Verdict.PERHAPS_SENT,
        Verdict.CUT,
        Verdict.WITHOUT_BYTES,
        Verdict.EMPTY,
        Verdict.NEEDS_KEY,
        Verdict.NAMELESS,
        Verdict.FOREIGN,
    }
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant. Empty sets mean all; the time is that of the original record."""

    reasons: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether the filters let it through; ``[since, until)``."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.topics or letter.topic in self.topics)
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or letter.timestamp_ms < self.until_ms)
        )


@dataclass(slots=True)
class Line:
    """Letters of one topic, reason and verdict."""

    letters: int = 0
    oldest_ms: int = 0
    newest_ms: int = 0


@dataclass(slots=True)
class Tally:
    """What became of the letters."""

    lines: dict[tuple[str, str, Verdict], Line] = field(default_factory=dict)

    def count(self, letter: Letter, verdict: Verdict) -> None:
        """Add one letter."""
        at = letter.timestamp_ms
        line = self.lines.setdefault(
            (letter.topic, letter.reason, verdict), Line(oldest_ms=at, newest_ms=at)
        )
        line.letters += 1
        line.oldest_ms = min(line.oldest_ms, at)
        line.newest_ms = max(line.newest_ms, at)

    def verdicts(self) -> Counter[Verdict]:
        """How many letters have each verdict."""
        found: Counter[Verdict] = Counter()
        for (_, _, verdict), line in self.lines.items():
            found[verdict] += line.letters
        return found


class _Named(msgspec.Struct):
    customer_id: str


_NAMED = msgspec.json.Decoder(_Named)


def customer_of(payload: bytes) -> bytes | None:
    """The key of the event that a payload holds, as far as one can be read."""
    if payload[0] == 0:
        payload = payload[FRAME_BYTES:]
    try:
        name = _NAMED.decode(payload).customer_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return name.encode() if 0 < len(name) <= LONGEST_ID else None
