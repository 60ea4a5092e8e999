"""Where the time goes, by stage. Each second belongs to one stage: a stage within another is not in
the outer one's figure. Measured around whole batches, so it costs nothing per event.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Stages:
    """Seconds by stage, for synchronous work on one thread."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """``clock`` in seconds; `time.process_time` leaves out what other processes took."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._clock = clock
        self._inner = 0.0

    def timed(self, stage: str, work: Callable[P, T]) -> Callable[P, T]:
        """``work``, with its time counted under ``stage``."""
        clock, seconds = self._clock, self.seconds

        def run(*arguments: P.args, **named: P.kwargs) -> T:
            before, self._inner = self._inner, 0.0
            started = clock()
            try:
                return work(*arguments, **named)
            finally:
                spent = clock() - started
                seconds[stage] += spent - self._inner
                self._inner = before + spent

        return run
