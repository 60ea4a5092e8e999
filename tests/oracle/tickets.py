"""The tickets of one customer, told slowly: every ticket ever opened stays in a list, and is asked again each time.

A ticket is known while it is open, and until exactly 90 days after its newest event. Of more than 64 known ones
the resolved one whose newest event is the oldest makes room; where all are open the new one is not remembered.
An event older than the ticket's newest one is only counted; a first reply is one all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.oracle.rules import DAY_MS

MEMORY_MS = 90 * DAY_MS
MOST = 64


@dataclass(slots=True)
class Ticket:
    """One opening and what became of it."""

    name: str
    opened: int
    newest: int
    channel: str
    is_open: bool = True
    is_replied: bool = False
    is_forgotten: bool = False

    def is_known(self, now: int) -> bool:
        """Tell whether it is still remembered at `now`."""
        return not self.is_forgotten and (self.is_open or now - self.newest <= MEMORY_MS)


@dataclass(frozen=True, slots=True)
class Effect:
    """What one event does: under which channel it counts, and what it adds."""

    channel: str | None = None
    backlog: int = 0
    first_reply_ms: int | None = None
    resolution_ms: int | None = None


class Tickets:
    """All tickets of one customer, in the order in which they were first remembered."""

    def __init__(self, unknown: str) -> None:
        """`unknown` is the channel of what belongs to no known ticket."""
        self._unknown = unknown
        self._all: list[Ticket] = []

    def fold(self, kind: str, name: str, channel: str, *, time: int, now: int) -> Effect:
        """Take one event; `now` is its time, or the watermark behind which it was."""
        known = [one for one in self._all if one.is_known(now)]
        found = next((one for one in known if one.name == name), None)
        if kind == "ticket_opened":
            return self._open(known, found, name, channel, time=time)
        if found is None:
            return Effect(None if kind == "ticket_replied" else self._unknown)
        is_old = time < found.newest
        found.newest = max(found.newest, time)
        if kind == "ticket_replied":
            if found.is_replied or time < found.opened:
                return Effect()
            found.is_replied = True
            return Effect(first_reply_ms=time - found.opened)
        opens = kind == "ticket_reopened"
        if is_old or found.is_open == opens:
            return Effect(found.channel)
        found.is_open = opens
        if opens:
            return Effect(found.channel, backlog=1)
        return Effect(found.channel, backlog=-1, resolution_ms=time - found.opened)

    def _open(
        self, known: list[Ticket], found: Ticket | None, name: str, channel: str, *, time: int
    ) -> Effect:
        if found is not None:
            found.newest = max(found.newest, time)
            return Effect(channel)
        if len(known) >= MOST:
            resolved = [one for one in known if not one.is_open]
            if not resolved:
                return Effect(channel)
            min(resolved, key=lambda one: one.newest).is_forgotten = True
        self._all.append(Ticket(name, opened=time, newest=time, channel=channel))
        return Effect(channel, backlog=1)
