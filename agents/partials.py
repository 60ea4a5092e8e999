"""What a partition's windows report, as records of the partials topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from schemas.records import Partial
from streams.config import CoreConfig
from streams.partition import TickSums
from streams.quantiles import BINS


class Reporter:
    """Turns the reports of one partition into partials. Holds its revision, which only rises."""

    def __init__(self, config: CoreConfig, partition: int) -> None:
        self._windows = config.windows.windows
        self._fingerprint = config.fingerprint
        self._partition = partition
        self.revision = 0

    def partials(self, reports: Iterable[TickSums], *, epoch: int) -> Iterator[Partial]:
        """One partial a report, in the same order."""
        for report in reports:
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
                sums=report.sums.tolist(),
                durations=[
                    number
                    for place, count in report.durations.tolist()
                    for number in (*divmod(place, BINS), count)
                ],
            )
