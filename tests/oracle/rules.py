"""The rules of arrival, spelled out slowly: what becomes of every record.

This is a model for tests. It keeps every record in a list and recomputes everything from scratch at each
step; nothing in it is shared with the engine.

Rules:
- A topic-partition's watermark is the highest min(event time, record timestamp) seen, minus the bound; a
  control record sets it to min(its `until`, record timestamp) if that is later. The partition's watermark W is the
  minimum over the topic-partitions that are not idle and never goes back; when all are idle, the maximum. W moves
  record by record, in arrival order.
- A dead record counts as dead and moves nothing.
- A record with time < W at its arrival is late: too late if W - time exceeds the allowed lateness, else it is
  folded there and then, after everything that waits with time < W.
- Other records wait, and are folded in the order (time, source, offset) as soon as time < W.
- When folded, a record whose id is among the customer's last 16 folded ids is a duplicate. These ids are
  forgotten when the place (its own time, or W for a late one) lies more than 24 h after the newest event time
  ever folded for the customer. A duplicate refreshes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DAY_MS = 86_400_000
REMEMBERED_IDS = 16
SOURCES = 4
SESSIONS, PURCHASES, SOCIAL, SUPPORT = range(SOURCES)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Fate(StrEnum):
    """What became of a record."""

    FOLDED = "folded"
    LATE_COUNTED = "late_counted"
    TOO_LATE = "too_late"
    DUPLICATE = "duplicate"
    DEAD = "dead"
    CONTROL = "control"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One record of one topic-partition; `dead` tells that the decoder must refuse it."""

    source: int
    offset: int
    record_ms: int
    event: Mapping[str, Any]
    dead: bool = False

    @property
    def is_control(self) -> bool:
        """Tell whether this is a `time_passed` record."""
        return self.event.get("type") == "time_passed"


@dataclass(frozen=True, slots=True)
class Quiet:
    """The caller's word that these topic-partitions are idle from here on, until their next record."""

    sources: frozenset[int]


@dataclass(slots=True)
class Judged:
    """A record and its fate. `watermark` is W at the fold of a late-counted record, else None."""

    arrival: Arrival
    fate: Fate
    watermark: int | None = None


@dataclass(slots=True)
class _Ring:
    ids: list[str] = field(default_factory=list)
    newest: int = -(2**62)


class Rules:
    """The fates of the records of one partition."""

    def __init__(self, *, out_of_orderness_ms: int = 5_000, lateness_ms: int = DAY_MS) -> None:
        self._bound = out_of_orderness_ms
        self._lateness = lateness_ms
        self._tops: dict[int, int] = {}
        self._idle: set[int] = set()
        self._rings: dict[str, _Ring] = {}
        self._waiting: list[Judged] = []
        self.watermark: int | None = None
        self.judged: list[Judged] = []

    def run(self, steps: Iterable[Arrival | Quiet]) -> list[Judged]:
        """Judge all steps; the list is in arrival order."""
        for step in steps:
            if isinstance(step, Quiet):
                self._idle |= step.sources
                self._advance()
            else:
                self._arrive(step)
        return self.judged

    def _arrive(self, arrival: Arrival) -> None:
        judged = Judged(arrival, Fate.WAITING)
        self.judged.append(judged)
        if arrival.dead:
            judged.fate = Fate.DEAD
            return
        source = arrival.source
        self._idle.discard(source)
        if arrival.is_control:
            judged.fate = Fate.CONTROL
            self._raise_top(source, min(milliseconds(arrival.event["until"]), arrival.record_ms))
            self._advance()
            return
        time = time_of(arrival)
        if self.watermark is not None and time < self.watermark:
            if self.watermark - time > self._lateness:
                judged.fate = Fate.TOO_LATE
            else:
                self._fold(judged, place=self.watermark)
                if judged.fate is Fate.FOLDED:
                    judged.fate = Fate.LATE_COUNTED
                    judged.watermark = self.watermark
        else:
            self._waiting.append(judged)
        self._raise_top(source, min(time, arrival.record_ms) - self._bound)
        self._advance()

    def _raise_top(self, source: int, top: int) -> None:
        self._tops[source] = max(top, self._tops.get(source, top))

    def _advance(self) -> None:
        live = [source for source in range(SOURCES) if source not in self._idle]
        if any(source not in self._tops for source in live) or not self._tops:
            return
        lowest = min((self._tops[source] for source in live), default=max(self._tops.values()))
        self.watermark = lowest if self.watermark is None else max(self.watermark, lowest)
        ready = [judged for judged in self._waiting if time_of(judged.arrival) < self.watermark]
        self._waiting = [
            judged for judged in self._waiting if time_of(judged.arrival) >= self.watermark
        ]
        for judged in sorted(ready, key=merge_order):
            self._fold(judged, place=time_of(judged.arrival))

    def _fold(self, judged: Judged, *, place: int) -> None:
        event = judged.arrival.event
        ring = self._rings.setdefault(event["customer_id"], _Ring())
        if place - ring.newest > DAY_MS:
            ring.ids.clear()
        if event["event_id"] in ring.ids[-REMEMBERED_IDS:]:
            judged.fate = Fate.DUPLICATE
            return
        judged.fate = Fate.FOLDED
        ring.ids.append(event["event_id"])
        ring.newest = max(ring.newest, time_of(judged.arrival))


def on_time(events: Iterable[Mapping[str, Any]]) -> list[Judged]:
    """A complete history, as if every event had come in time."""
    return [
        Judged(Arrival(source_of(event), number, 0, event), Fate.FOLDED)
        for number, event in enumerate(events)
    ]


def folded(judged: Iterable[Judged]) -> list[tuple[int, Judged]]:
    """What was folded, in the order of the fold, each with its place.

    The place of what is on time is its own time; that of what is late, the watermark at which it was folded. At
    equal places the late ones come first (the watermark stood there before any event of that time was folded), in
    order of arrival; then those on time, by source and offset.
    """
    found: list[tuple[tuple[int, int, int, int], Judged]] = []
    for arrived, one in enumerate(judged):
        if one.fate is Fate.FOLDED:
            time, source, offset = merge_order(one)
            found.append(((time, 1, source, offset), one))
        elif one.fate is Fate.LATE_COUNTED:
            assert one.watermark is not None
            found.append(((one.watermark, 0, arrived, 0), one))
    return [(order[0], one) for order, one in sorted(found, key=lambda fold: fold[0])]


def account(judged: Sequence[Judged], source: int) -> dict[str, int]:
    """Count the fates of one source; late-counted records count as folded too."""
    counts = Counter(one.fate for one in judged if one.arrival.source == source)
    return {
        "consumed": sum(counts.values()),
        "folded": counts[Fate.FOLDED] + counts[Fate.LATE_COUNTED],
        "late_counted": counts[Fate.LATE_COUNTED],
        "too_late": counts[Fate.TOO_LATE],
        "duplicate": counts[Fate.DUPLICATE],
        "dead": counts[Fate.DEAD],
        "control": counts[Fate.CONTROL],
        "waiting": counts[Fate.WAITING],
    }


def merge_order(judged: Judged) -> tuple[int, int, int]:
    """Give the order of the merge: event time, then sessions first, then offset."""
    return (time_of(judged.arrival), judged.arrival.source, judged.arrival.offset)


_SOURCE_OF = {
    "page_viewed": SESSIONS,
    "session_ended": SESSIONS,
    "order_placed": PURCHASES,
    "order_refunded": PURCHASES,
    "subscription_started": PURCHASES,
    "subscription_renewed": PURCHASES,
    "subscription_cancelled": PURCHASES,
    "social_interacted": SOCIAL,
}


def source_of(event: Mapping[str, Any]) -> int:
    """The topic on which an event stands."""
    if event["type"] == "time_passed":
        source: int = event["source"]
        return source
    return _SOURCE_OF.get(event["type"], SUPPORT)


def time_of(arrival: Arrival) -> int:
    """Give the event time in epoch milliseconds."""
    return milliseconds(arrival.event["occurred_at"])


def milliseconds(written: int | str) -> int:
    """Read epoch milliseconds or an RFC 3339 time with whole milliseconds."""
    if isinstance(written, int):
        return written
    passed = datetime.fromisoformat(written) - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1000 + passed.microseconds // 1000
