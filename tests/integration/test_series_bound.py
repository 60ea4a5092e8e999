"""Whatever is sent, the number of exported series is the configuration's, and nothing remembers single values.

A million different values go through every free-text field that an event has: decoder, door, core, roll-up, board
and the collector of `serve`, as records would. Then as many series are exported as after ten different values, and
the interpreter holds as many objects as after a tenth of the way.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, get_args, get_type_hints

import msgspec
import pytest

from agents.board import Board
from agents.collector import Exposition
from agents.exported import exported_metrics
from agents.partials import Reporter
from agents.settings import Settings
from schemas.decode import Decoder
from schemas.events import SOURCE_OF
from schemas.reasons import Reason
from schemas.topics import Source
from streams.admission import Admission
from streams.partition import Partition, TickSums
from streams.rollup import RollUp

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MILLION = 1_000_000
T0 = 1_772_323_200_000  # 2026-03-01T00:00:00Z
HOUR_MS = 3_600_000
PANE_MS = 60_000
CUSTOMERS = 500
FEW = 10
SETTINGS = Settings.from_mapping(
    # Panes of a minute, and few boundaries.
    {"windows": {"hopping": ["1h/1h"]}, "sessions": {"gap": "1m"}},
    source="test",
    environment={},
)
GIVEN = {
    "amount": "1", "currency": '"USD"', "action": '"like"', "score": "5", "scale_max": "5",
    "sentiment": "0.5", "impressions": "9", "schema_version": "1",
}  # fmt: skip
"""Of fields that are no free text."""
KINDS = {str(kind.__struct_config__.tag): kind for kind in SOURCE_OF}  # type: ignore[attr-defined]


class Record(NamedTuple):
    key: bytes | None
    value: bytes
    offset: int
    timestamp: int


def free_text(kind: type) -> list[str]:
    """The fields of an event whose values are anybody's choice."""
    hints = get_type_hints(kind)
    return [
        field.name
        for field in msgspec.structs.fields(kind)
        if (hints[field.name] is str or str in get_args(hints[field.name]))
        and field.name not in {"customer_id", "event_id", "currency"}
    ]


FIELDS = {name: free_text(kind) for name, kind in KINDS.items()}


def counts() -> dict[str, int]:
    """How many events of each type, so that over all that carry it every field has a million."""
    found = dict.fromkeys(KINDS, 10_000)
    for field in sorted({field for fields in FIELDS.values() for field in fields}):
        carriers = [name for name in KINDS if field in FIELDS[name]]
        if sum(found[name] for name in carriers) < MILLION:
            # Those that nothing else needs most of: a type with a field of its own has many anyway.
            alone = min(len(carriers), 3)
            for name in sorted(carriers, key=lambda name: -len(FIELDS[name]))[:alone]:
                found[name] = max(found[name], -(-MILLION // alone))
    return found


COUNTS = counts()


def template(name: str, kind: type) -> bytes:
    """An event with a place for customer, number, time, and the number again for each free text."""
    text = f'{{"type":"{name}","customer_id":"c%d","event_id":"e%d","occurred_at":%d'
    for field in msgspec.structs.fields(kind):
        if field.name in GIVEN:
            text += f',"{field.name}":{GIVEN[field.name]}'
        elif field.name in FIELDS[name]:
            text += f',"{field.name}":"{field.name} %d"'
    return (text + "}").encode()


class Pipeline:
    """Records of one partition, up to the text of `/metrics`."""

    def __init__(self) -> None:
        self.config = SETTINGS.core()
        self.partition = Partition(self.config)
        self.reasons: Counter[Reason] = Counter()
        self.offsets = dict.fromkeys(Source, 0)
        self.ticks: list[TickSums] = []
        self._admission = Admission(
            self.config, Decoder(), partition=0, partitions=1, partition_of=lambda _key, _count: 0
        )
        for source in Source:
            for now_ms in (0, self.config.idle_after_ms):
                self.partition.observe(source, at_high_water=True, now_ms=now_ms)

    def feed(self, source: Source, records: list[Record]) -> None:
        state = self.partition.state
        admitted = self._admission.admit(source, records, known=state.customers)
        self.reasons.update(reason for _, reason, _ in admitted.dead)
        self.partition.receive(source, admitted)
        self.ticks += self.partition.drain()
        self.offsets[source] += len(records)
        # Else this input would be waited for once the next one comes.
        for now_ms in (0, self.config.idle_after_ms):
            self.partition.observe(source, at_high_water=True, now_ms=now_ms)

    def exposition(self) -> list[str]:
        """The series of `/metrics` after everything that was fed."""
        self.pass_time()
        return series_of([self])

    def pass_time(self) -> None:
        """Two hours have passed on every input."""
        until = T0 + 2 * HOUR_MS
        passed = b'{"type":"time_passed","until":%d}' % until
        for source in Source:
            self.feed(source, [Record(None, passed, self.offsets[source], until)])


def series_of(pipelines: Sequence[Pipeline]) -> list[str]:
    """What `serve` exports when each of these is a partition."""
    config = pipelines[0].config
    rollup = RollUp(config, len(pipelines))
    board = Board([str(window) for window in config.windows.windows])
    for number, pipeline in enumerate(pipelines):
        for partial in Reporter(config, number).partials(pipeline.ticks, epoch=1):
            rollup.add(partial)
    for result in rollup.due(T0 + 2 * HOUR_MS):
        board.take(result)
    page = Exposition(exported_metrics(), tuple(SETTINGS.segments), board.names)
    text = page.business(board.publish()).decode()
    return sorted(line.rpartition(" ")[0] for line in text.splitlines() if line[0] != "#")


def batches(
    pipeline: Pipeline, source: Source, value: Callable[[int, int], bytes], count: int
) -> Iterator[list[Record]]:
    """``count`` records in the order of time, over one hour, one batch a pane; ``value(number, at_ms)``."""
    first = pipeline.offsets[source]
    panes = HOUR_MS // PANE_MS
    for pane in range(panes):
        at_ms = T0 + pane * PANE_MS
        yield [
            Record(b"c%d" % (n % CUSTOMERS), value(n, at_ms), first + n, at_ms)
            for n in range(count * pane // panes, count * (pane + 1) // panes)
        ]


def event(n: int, at_ms: int, *, text: bytes, fields: int, distinct: int | None) -> bytes:
    shown = n if distinct is None else n % distinct
    return text % (n % CUSTOMERS, n, at_ms, *(shown,) * fields)


def run(name: str, count: int, distinct: int | None) -> tuple[list[str], int]:
    """The series after ``count`` events of a type, with so many different values (None: each its own),
    and by how many objects the interpreter has grown since a tenth of them.
    """
    pipeline, kind = Pipeline(), KINDS[name]
    value = functools.partial(
        event, text=template(name, kind), fields=len(FIELDS[name]), distinct=distinct
    )
    objects = 0
    for batch in batches(pipeline, SOURCE_OF[kind], value, count):
        pipeline.feed(SOURCE_OF[kind], batch)
        if not objects and batch[-1].offset >= count // 10:
            objects = blocks()
    grown = blocks() - objects
    assert not pipeline.reasons
    return pipeline.exposition(), grown


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize("name", KINDS)
def test_a_million_values_of_a_free_text_leave_series_and_memory_as_they_are(name: str) -> None:
    wild, grown = run(name, COUNTS[name], None)
    few, _ = run(name, 10_000, FEW)
    assert wild == few
    assert 0 < len(wild) <= SETTINGS.series()
    assert grown < 1_000


def test_a_million_currencies_types_and_keys_are_counted_under_a_few_reasons() -> None:
    pipeline = Pipeline()
    odd = {
        Reason.UNKNOWN_CURRENCY: b'{"type":"order_placed","customer_id":"c%d","event_id":"e%d","occurred_at":%d,'
        b'"order_id":"o","amount":1,"currency":"C%d"}',
        Reason.UNKNOWN_TYPE: b'{"type":"t%d %d %d","customer_id":"c%d"}',
        Reason.WRONG_KEY: b'{"type":"order_placed","customer_id":"c%d %d","event_id":"e","occurred_at":%d,'
        b'"order_id":"o%d","amount":1,"currency":"USD"}',
    }
    grown = []
    for text in odd.values():
        value = functools.partial(event, text=text, fields=1, distinct=None)
        for batch in batches(pipeline, Source.PURCHASES, value, MILLION // 3):
            pipeline.feed(Source.PURCHASES, batch)
        grown.append(blocks())
    assert pipeline.reasons == dict.fromkeys(odd, MILLION // 3)
    assert grown[-1] - grown[0] < 1_000
    assert not pipeline.partition.state.customers


def test_any_number_of_customers_leaves_the_series_as_they_are() -> None:
    """The state knows each of them, so here it is a hundred thousand in two partitions."""
    text = b'{"type":"page_viewed","customer_id":"c%d","event_id":"e","occurred_at":%d,"page":"/"}'
    pipelines = []
    for number in range(2):
        pipeline = Pipeline()
        for pane in range(10):
            at_ms = T0 + pane * PANE_MS
            names = range((number * 10 + pane) * 5_000, (number * 10 + pane + 1) * 5_000)
            pipeline.feed(
                Source.SESSIONS,
                [Record(b"c%d" % n, text % (n, at_ms), n, at_ms) for n in names],
            )
        pipeline.pass_time()
        assert len(pipeline.partition.state.customers) == 50_000
        pipeline.partition = Partition(pipeline.config)
        pipelines.append(pipeline)
    alone = Pipeline()
    alone.feed(Source.SESSIONS, [Record(b"c1", text % (1, T0), 0, T0)])
    assert series_of(pipelines) == alone.exposition()
