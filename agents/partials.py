"""What a partition's windows report, as records of the partials topic."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from schemas.records import Partial
from streams.config import CoreConfig
from streams.partition import TickSums
from streams.quantiles import BINS
from streams.segments import Integers
from streams.sparse import pairs_of

_WORD_EVERY_S = 1.0


class Reporter:
    """Turns the reports of one partition into partials. Holds its revision, which only rises."""

    def __init__(self, config: CoreConfig, partition: int) -> None:
        self._windows = config.windows.windows
        self._fingerprint = config.fingerprint
        self._partition = partition
        self._said_at: dict[int, float] = {}
        self.revision = 0

    def again(self, partial: Partial, epoch: int) -> Partial:
        """A partial of a former owner, as the next word of ours."""
        self.revision += 1
        return msgspec.structs.replace(partial, epoch=epoch, revision=self.revision)

    def partials(self, reports: Iterable[TickSums], *, epoch: int) -> Iterator[Partial]:
        """One partial a report, in the same order.

        An untouched partition's word is passed on once a second: it must be fresh, not fresher.
        """
        for report in reports:
            if report.is_untouched:
                now = time.monotonic()
                if now - self._said_at.get(report.window, -_WORD_EVERY_S) < _WORD_EVERY_S:
                    continue
                self._said_at[report.window] = now
            self.revision += 1
            window = self._windows[report.window]
            yield Partial(
                partition=self._partition,
                window=window.size,
                hop=window.hop,
                end_ms=report.end_ms,
                valid_through_ms=report.valid_through_ms,
                epoch=epoch,
                revision=self.revision,
                watermark_ms=report.watermark_ms,
                observed_from_ms=report.observed_from_ms,
                is_replay=report.is_replay,
                is_untouched=report.is_untouched,
                fingerprint=self._fingerprint,
                sums=pairs_of(report.sums),
                durations=_triples(report.durations),
                is_correction=report.is_correction,
            )


def _triples(histogram: Integers) -> list[int]:
    """Lane, bin and count, one behind the other, from rows of place and count."""
    lanes, bins = np.divmod(histogram[:, 0], BINS)
    triples: list[int] = np.stack([lanes, bins, histogram[:, 1]], axis=1).reshape(-1).tolist()
    return triples
