"""One partition of the engine, fed by hand: record by record, with a clock that the test holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from schemas.decode import Decoder
from schemas.events import SOURCE_OF, TYPE_NAMES
from schemas.records import Result
from schemas.topics import Source
from streams.admission import Admission, Admitted
from streams.config import CoreConfig
from streams.metrics import WindowTotals, results_of
from streams.moments import to_text
from streams.partition import TickSums
from tests.rig.durable import MemoryLog, restored


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a consumer hands it over."""

    key: bytes | None
    value: bytes
    offset: int
    timestamp: int


def source_of(event: dict[str, Any]) -> Source:
    """The topic on which an event stands."""
    return SOURCE_OF[TYPE_NAMES[event["type"]]]


def view(customer: str, at_ms: int, event_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "page_viewed",
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": at_ms,
        "page": "/",
        **fields,
    }


def order(customer: str, at_ms: int, event_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "order_placed",
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": at_ms,
        "order_id": event_id,
        "amount": 1,
        "currency": "USD",
        **fields,
    }


class Hand:
    """The logs of four inputs, the partition that reads them, and all that it reported."""

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self.log = MemoryLog()
        self.keeper = self.log.take_over(config)
        self.partition = self.keeper.partition
        self.ticks: list[TickSums] = []
        self.too_late: list[tuple[Source, int]] = []
        self.logs: dict[Source, list[Record]] = {source: [] for source in Source}
        self._admission = Admission(
            config, Decoder(), partition=0, partitions=1, partition_of=lambda _key, _partitions: 0
        )

    def send(self, event: dict[str, Any], *, timestamp_ms: int | None = None) -> None:
        """Append an event to its topic and read it."""
        self.append(source_of(event), event, timestamp_ms=timestamp_ms)

    def append(
        self, source: Source, event: dict[str, Any], *, timestamp_ms: int | None = None
    ) -> None:
        """Append a record to a topic and read it."""
        self.write(source, event, timestamp_ms=timestamp_ms)
        self.receive(source, self.admit(source, self.logs[source][-1:]))

    def write(
        self, source: Source, event: dict[str, Any], *, timestamp_ms: int | None = None
    ) -> None:
        """Append a record to a topic that nobody reads yet."""
        at = event.get("occurred_at", event.get("until", 0))
        key = str(event["customer_id"]).encode() if "customer_id" in event else None
        log = self.logs[source]
        written = at if timestamp_ms is None else timestamp_ms
        log.append(Record(key, json.dumps(event).encode(), len(log), written))

    def admit(self, source: Source, records: list[Record]) -> Admitted[Record]:
        return self._admission.admit(source, records, known=self.partition.state.customers)

    def receive(self, source: Source, admitted: Admitted[Record]) -> None:
        self.too_late += [(source, one) for one in self.partition.receive(source, admitted)]
        self.ticks += self.partition.drain()

    def pass_time(self, until_ms: int, *, timestamp_ms: int | None = None) -> None:
        """A control record on every input."""
        event = {"type": "time_passed", "until": until_ms}
        for source in Source:
            self.append(source, event, timestamp_ms=timestamp_ms)

    def quiet(self, *sources: Source, now_ms: int = 0) -> None:
        """These inputs stand at their high water for long enough to be idle."""
        for source in sources:
            for moment in (now_ms, now_ms + self.config.idle_after_ms):
                self.partition.observe(source, at_high_water=True, now_ms=moment)

    def silence(self, until_ms: int) -> None:
        """Every input is idle, and the wall clock takes live ones to this moment."""
        self.quiet(*Source)
        self.partition.tick(until_ms + self.config.max_out_of_orderness_ms)
        self.ticks += self.partition.drain()

    def crash(self) -> None:
        """Start again from a checkpoint; every input comes back from where its waiting events begin."""
        resume = self.restore()
        for source in Source:
            self.receive(source, self.admit(source, self.logs[source][resume[source] :]))

    def restore(self) -> list[int]:
        """Go on from a checkpoint. Returns from which offset to read each input again."""
        position = self.keeper.partition.position()
        self.keeper = restored(self.keeper, self.log)
        self.partition = self.keeper.partition
        return position.resume

    def sums_at(self, window: int, end_ms: int) -> TickSums:
        """The newest report that speaks of a boundary."""
        for tick in reversed(self.ticks):
            if (
                tick.window == window
                and tick.end_ms <= end_ms <= tick.valid_through_ms
                and not tick.is_correction
            ):
                return tick
        raise AssertionError(f"window {window} reports nothing at {to_text(end_ms)}")

    def results_at(self, end_ms: int) -> list[Result]:
        """The results of every window at a boundary, as they were last reported."""
        found: list[Result] = []
        for number, window in enumerate(self.config.windows.windows):
            tick = self.sums_at(number, end_ms)
            totals = WindowTotals(
                window=window.size,
                hop=window.hop,
                size_ms=window.size_ms,
                end_ms=end_ms,
                at=to_text(end_ms),
                sums=tick.sums,
                durations=tick.durations,
                observed_from_ms=tick.observed_from_ms,
            )
            found += results_of(totals, self.config)
        return found

    def value_at(self, metric: str, end_ms: int, window: int = 0) -> int | float | None:
        """What everyone's figure is at a boundary."""
        size = self.config.windows.windows[window].size
        (result,) = (
            one
            for one in self.results_at(end_ms)
            if (one.metric, one.window) == (metric, size) and not one.segment and not one.dimensions
        )
        return result.value
