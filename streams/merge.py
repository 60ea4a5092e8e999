"""Event time of one partition: the watermark over its four inputs, and the events that wait for it.

- The *mark* of an input is the highest ``min(event time, record timestamp)`` seen less the allowed
  disorder: one fast clock must not drag it.
- The *watermark* is the minimum of the marks of all inputs that are not idle, and never goes back.
  It says: everything older has arrived. Events older than it are folded; one that arrives older
  than it is late. What is exactly as old waits, so that ties between inputs keep their order.
- An input is *idle* only when we stand at its high water for ``idle_after``, never because we held
  it.
- The watermark moves record by record, so how records are cut into batches changes nothing.
- When every input is idle and the newest record was a live one, the clock that we are handed moves
  the watermark.
"""

from __future__ import annotations

from typing import Any

from schemas.topics import Source
from streams.config import REPLAY_LAG_MS, CoreConfig
from streams.last_seen import NEVER


class Watermark:
    """Marks, idleness and the watermark of one partition."""

    def __init__(self, config: CoreConfig) -> None:
        """Nothing has been seen: no mark, no watermark."""
        self._disorder = config.max_out_of_orderness_ms
        self._idle_after = config.idle_after_ms
        self.marks = [NEVER] * len(Source)
        self.value = NEVER
        self.lag_ms: int | None = None
        """Record timestamp less event time of the newest record; None before the first."""
        self._caught_up_since: list[int | None] = [None] * len(Source)
        self._is_idle = [False] * len(Source)

    @property
    def is_replay(self) -> bool:
        """Whether the newest record is history."""
        return self.lag_ms is not None and self.lag_ms > REPLAY_LAG_MS

    @property
    def is_idle(self) -> bool:
        """Whether every input is idle."""
        return all(self._is_idle)

    @property
    def stands_still(self) -> bool:
        """Whether every input is idle and the clock does not move the watermark."""
        return self.is_idle and (self.lag_ms is None or self.is_replay)

    def limit_of_others(self, source: Source) -> int:
        """How far ``source`` alone may move the watermark: the lowest mark of the other inputs that
        are not idle.
        """
        others = [
            mark
            for other, mark in enumerate(self.marks)
            if other != source and not self._is_idle[other]
        ]
        return min(others, default=-NEVER)

    def observe(self, source: Source, *, at_high_water: bool, now_ms: int) -> None:
        """Say whether everything of ``source`` has been read; ``now_ms`` is the wall clock."""
        if not at_high_water:
            self._caught_up_since[source] = None
            self._is_idle[source] = False
            return
        since = self._caught_up_since[source]
        if since is None:
            self._caught_up_since[source] = since = now_ms
        self._is_idle[source] = now_ms - since >= self._idle_after

    def wake(self, source: Source) -> None:
        """A record of ``source`` arrived."""
        self._caught_up_since[source] = None
        self._is_idle[source] = False

    def dump(self) -> dict[str, Any]:
        """What `load` needs; idleness is observed anew."""
        return {"value": self.value, "marks": list(self.marks), "lag_ms": self.lag_ms}

    def load(self, dumped: dict[str, Any]) -> None:
        """Go on from `dump`."""
        self.value = dumped["value"]
        self.marks = list(dumped["marks"])
        self.lag_ms = dumped["lag_ms"]

    def settle(self, now_ms: int) -> None:
        """Take idleness and, where nothing but silence is left of live inputs, the clock into
        account.
        """
        if self.is_idle:
            if not self.stands_still:
                self.value = max(self.value, now_ms - self._disorder)
            # Idle inputs hold nobody back, not even each other.
            self.value = max(self.value, *self.marks)
        else:
            awake = [m for m, idle in zip(self.marks, self._is_idle, strict=True) if not idle]
            self.value = max(self.value, min(awake))

    def ahead(self) -> set[Source]:
        """The inputs that run ahead of another one that is not idle."""
        awake = [m for m, idle in zip(self.marks, self._is_idle, strict=True) if not idle]
        if not awake:
            return set()
        slowest = min(awake)
        return {source for source in Source if self.marks[source] > slowest}
