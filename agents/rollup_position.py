"""From where the roll-up has to read again after a takeover.

Needed are: of the partials, the last word of every partition on every window, and those about boundaries
that are not published whole yet; of the results, those at boundaries that these partials speak of, because
their revisions must be known before anything is published again. Both positions only rise.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

from schemas.records import Partial, PublishedResult
from streams.windows import duration_ms

Window = tuple[str, str]


class _Word(NamedTuple):
    offset: int
    end_ms: int


class RollUpPosition:
    """Tracks what is still needed. `next_results` is the end of the results topic by partition."""

    def __init__(self, next_results: dict[int, int]) -> None:
        self.next_results = next_results
        self._words: dict[tuple[int, Window], deque[_Word]] = defaultdict(deque)
        self._ticks: dict[Window, dict[int, dict[int, int]]] = defaultdict(dict)
        """By window and boundary: from which offset on its results lie in each partition."""
        self._whole_to: dict[Window, int] = {}

    def read(self, offset: int, partial: Partial) -> None:
        """A partial was read. A correction is no word on where the partition stands."""
        if partial.is_correction:
            return
        window = (partial.window, partial.hop)
        self._words[partial.partition, window].append(_Word(offset, partial.end_ms))

    def found(self, result: PublishedResult, partition: int, offset: int) -> None:
        """A result stands here in the results topic: it was published before our takeover."""
        self._publish((result.window, result.hop), result.end_ms, result.missing_partitions)
        starts = self._ticks[result.window, result.hop].setdefault(result.end_ms, {})
        starts[partition] = min(starts.get(partition, offset), offset)
        self.next_results[partition] = max(self.next_results.get(partition, 0), offset + 1)

    def published(self, results: list[PublishedResult], last: Mapping[int, int]) -> None:
        """Results were acknowledged; ``last`` is the last offset in each partition written to."""
        before = dict(self.next_results)
        for window, hop, end_ms, missing in {
            (r.window, r.hop, r.end_ms, r.missing_partitions) for r in results
        }:
            self._publish((window, hop), end_ms, missing)
            self._ticks[window, hop].setdefault(end_ms, before)
        for partition, offset in last.items():
            self.next_results[partition] = max(self.next_results.get(partition, 0), offset + 1)

    def _publish(self, window: Window, end_ms: int, missing: int) -> None:
        if not missing:
            self._whole_to[window] = max(self._whole_to.get(window, 0), end_ms)

    def needed(self, next_partial: int) -> tuple[int, dict[int, int]]:
        """The offsets from which partials and results have to be read again."""
        partials = next_partial
        oldest: dict[Window, int] = {}
        for (_, window), words in self._words.items():
            reach_ms = self._whole_to.get(window, 0) + duration_ms(window[1])
            # The first word holds until the second one's boundary; that stretch is out, whole.
            while len(words) > 1 and words[1].end_ms <= reach_ms:
                words.popleft()
            partials = min(partials, words[0].offset)
            if words[0].end_ms > 0:
                oldest[window] = min(oldest.get(window, words[0].end_ms), words[0].end_ms)
        results = dict(self.next_results)
        for window, ticks in self._ticks.items():
            for end_ms in [end_ms for end_ms in ticks if end_ms < oldest.get(window, 0)]:
                del ticks[end_ms]
            for starts in ticks.values():
                for partition, offset in starts.items():
                    results[partition] = min(results.get(partition, offset), offset)
        return partials, results
