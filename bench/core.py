"""The pure core under a stopwatch: no Kafka, one partition.

Records are decoded and admitted batch by batch, outside of the measured time but, as in a worker, just
before they are folded. The stopwatch is the worker's own: it stands around whole batches and panes, so
it costs nothing per event, and a stage within another is not in the outer one's figure. It runs on CPU
time: what else the machine does is measured only as far as it fills the caches.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.settings import Settings
from agents.stages import Stages
from bench.population import Traffic, generate
from schemas.decode import Decoder
from schemas.topics import Source
from streams.admission import Admission, Admitted
from streams.config import CoreConfig
from streams.partition import Partition, TickSums
from streams.windows import Window, WindowSet

BATCH = 2_000
MERGE, FOLD, CLOSE, REPORT = "merge", "fold", "close", "report"


class Record(NamedTuple):
    """What admission reads of a record."""

    key: bytes
    value: bytes
    offset: int
    timestamp: int


Batches = list[tuple[Source, list[Record]]]


def configuration(*windows: str) -> CoreConfig:
    """The default configuration (segments and channels included), with these windows if any are
    given.
    """
    config = Settings().core()
    if not windows:
        return config
    chosen = WindowSet.of(
        tuple(Window.parse(text) for text in windows), session_gap_ms=config.windows.session_gap_ms
    )
    return CoreConfig(
        windows=chosen,
        segments=config.segments,
        max_out_of_orderness_ms=config.max_out_of_orderness_ms,
        activity=config.activity,
    )


def batches(traffic: Traffic) -> Batches:
    """The traffic as records: runs of one source, `BATCH` events of all sources after each other.

    They are ready to be measured with: the collector looks at none of them.
    """
    offsets = dict.fromkeys(Source, 0)
    slices: dict[Source, list[Record]] = {source: [] for source in Source}
    found: Batches = []

    def take() -> None:
        for source, records in slices.items():
            if records:
                found.append((source, records))
                slices[source] = []

    for number, made in enumerate(generate(traffic)):
        source = made.source
        slices[source].append(Record(made.key, made.payload, offsets[source], made.at_ms))
        offsets[source] += 1
        if number % BATCH == BATCH - 1:
            take()
    take()
    prepare_collector()
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run over prepared batches took."""

    events: int
    seconds: dict[str, float]
    panes: int
    reports: int
    customers: int

    def microseconds(self, *stages: str) -> float:
        """Of these stages (of all, if none is named), per event."""
        chosen = stages or tuple(self.seconds)
        return sum(self.seconds[stage] for stage in chosen) / self.events * 1e6

    @property
    def pane_ms(self) -> float:
        """Milliseconds to close one pane and to report what its boundary completes."""
        return (self.seconds[CLOSE] + self.seconds[REPORT]) / max(1, self.panes) * 1e3


def prepare_collector() -> None:
    """What the worker does at its start: prepared data is nobody's garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class Core:
    """One partition that is fed and drained under the stopwatch."""

    def __init__(
        self,
        config: CoreConfig,
        publish: Callable[[list[TickSums]], None] = lambda _: None,
    ) -> None:
        """`publish` gets what was drained after each batch; its time counts as reporting."""
        self.partition = Partition(config)
        self._admission = Admission(
            config, Decoder(), partition=0, partitions=1, partition_of=lambda _key, _count: 0
        )
        self._base_ms = config.windows.base_ms
        self._stages = Stages(time.process_time)
        state: Any = self.partition.state
        state.fold = self._stages.timed(FOLD, state.fold)
        state.timeline.advance = self._stages.timed(CLOSE, state.timeline.advance)
        self._receive = self._stages.timed(MERGE, self.partition.receive)
        self._drain = self._stages.timed(REPORT, self._drained)
        self._publish = publish
        self._reports = 0

    def _drained(self) -> None:
        if reports := self.partition.drain():
            self._reports += len(reports)
            self._publish(reports)

    def run_warm(
        self, prepared: Batches, share: float, *, when_warm: Callable[[], None] = lambda: None
    ) -> Measured:
        """Feed the batches; what those after the first ``share`` of them took."""
        warm = int(len(prepared) * share)
        self.run(prepared[:warm])
        when_warm()
        return self.run(prepared[warm:])

    def run(self, prepared: Batches) -> Measured:
        """Feed the batches; what they alone took."""
        before = dict(self._stages.seconds)
        start_ms, reports, events = self.partition.watermark, self._reports, 0
        for source, records in prepared:
            admitted: Admitted[Record] = self._admission.admit(
                source, records, known=self.partition.state.customers
            )
            assert not admitted.dead, admitted.dead[0][1:]
            self._receive(source, admitted)
            self._drain()
            events += admitted.records
        spent = {stage: at - before.get(stage, 0.0) for stage, at in self._stages.seconds.items()}
        passed = self.partition.watermark - start_ms if start_ms > 0 else 0
        return Measured(
            events,
            spent,
            passed // self._base_ms,
            self._reports - reports,
            len(self.partition.state.customers),
        )
