"""What a number is made of: its parts, the panes behind it, and some of the events that entered it.

Pure: it is handed decoded events and works everything out by the core itself (`streams.evaluate`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

import msgspec

from agents.explain_panes import Pane, boundary, panes_of
from agents.explain_question import MAX_PANES, Course, Labels, Question
from agents.metric_docs import formula_of
from schemas.events import CustomerEvent, attribute_of
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import Evaluated
from streams.moments import to_text
from streams.provenance import PROVENANCE, SUM_NAMES, reads_of, rows_of
from streams.pseudonyms import Pseudonyms
from streams.segments import OTHER, UNKNOWN, Values

SAMPLES = 5


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One sum that enters the number."""

    name: str
    meaning: str


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one type in the window (where a base is compared, in both windows), and the fields
    that the metric looks at.
    """

    type: str
    fields: list[str]
    in_window: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one number. ``result`` is the number; with Kafka the one that was
    published, and ``recomputed`` the one that follows from the events that were read back.
    """

    metric: str
    help: str
    pitfall: str
    unit: str
    formula: str
    window: str
    hop: str
    start: str
    at: str
    segment: Labels
    dimensions: Labels
    result: Result | None
    recomputed: Result | None
    parts: list[Part]
    reads: list[Read]
    course: str
    step_seconds: int
    """The width of a pane, or the time between two boundaries."""
    panes: list[Pane]
    rejected: dict[str, int]
    late: dict[str, int]
    samples: list[dict[str, object]]
    notes: list[str]


def explain(
    config: CoreConfig,
    question: Question,
    events: Sequence[Evaluated],
    *,
    published: Sequence[Result] | None = None,
    rejected: Mapping[str, int] | None = None,
    late: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    hash_key: bytes | None = None,
) -> Explanation:
    """Take a number apart.

    ``events`` are all there are up to the end of the window, in any order. ``published`` are the
    results of this metric and these labels by boundary, where Kafka was asked: then the number is the
    published one, and `Explanation.recomputed` what the events give. With a ``hash_key`` customers go
    by their pseudonyms, as everywhere behind the door.
    """
    metric, window = question.metric, question.window
    computed, panes = panes_of(config, question, events)
    result: Result | None = computed
    if published is not None:
        at = to_text(question.at_ms)
        result = next((one for one in published if one.at == at), None)
        if question.course is Course.HISTORY:
            panes = [boundary(one) for one in published][-MAX_PANES:]
    inside = [one for one in events if question.looked_at_from_ms <= one[0] < question.at_ms]
    reads = reads_of(metric)
    counts: Counter[type] = Counter(event.kind for _, event, _ in inside)
    labels = computed.segment, computed.dimensions
    return Explanation(
        metric=metric.name,
        help=metric.help,
        pitfall=metric.pitfall,
        unit=metric.unit.value,
        formula=formula_of(metric).replace("`", ""),
        window=window.size,
        hop=window.hop,
        start=to_text(question.start_ms),
        at=to_text(question.at_ms),
        segment=labels[0],
        dimensions=labels[1],
        result=result,
        recomputed=None if published is None else computed,
        parts=[_part(row) for row in rows_of(metric)],
        reads=[
            Read(type=_type_name(kind), fields=list(fields), in_window=counts[kind])
            for kind, fields in reads.items()
        ],
        course=question.course.value,
        step_seconds=question.step_ms // 1000,
        panes=panes,
        rejected=dict(sorted((rejected or {}).items())),
        late=dict(sorted((late or {}).items())),
        samples=_samples(config, question, events, inside, tuple(reads), hash_key),
        notes=list(notes),
    )


def _part(row: int) -> Part:
    provenance = PROVENANCE[row]
    moment = f", each in the window that holds its {provenance.moment}" if provenance.moment else ""
    what = provenance.what.replace("`", "").rstrip(",")
    return Part(name=SUM_NAMES[row], meaning=f"{what}{moment}")


def _samples(
    config: CoreConfig,
    question: Question,
    events: Iterable[Evaluated],
    inside: Iterable[Evaluated],
    kinds: tuple[type[CustomerEvent], ...],
    hash_key: bytes | None,
) -> list[dict[str, object]]:
    """A few events of the window that the metric reads, spread over it, oldest first."""
    fitting = [(at, event) for at, event, _ in inside if isinstance(event, kinds)]
    for name, value in question.where.items():
        if (named := config.segments.values_of(name)) is not None:
            owners = _owners(events, name, value, named, question.at_ms)
            fitting = [one for one in fitting if one[1].customer_id in owners]
        else:
            fitting = [one for one in fitting if getattr(one[1], name, value) == value]
    fitting.sort(key=lambda one: one[0])
    last = len(fitting) - 1
    places = {round(last * place / (SAMPLES - 1)) for place in range(SAMPLES)} if fitting else set()
    return [_plain(*fitting[place], hash_key) for place in sorted(places)]


def _owners(
    events: Iterable[Evaluated], name: str, value: str, values: Values, at_ms: int
) -> set[str]:
    """The customers whose newest word on the attribute is ``value``."""
    newest: dict[str, tuple[int, str | None]] = {}
    value_of = attrgetter(attribute_of(name))
    for moment, event, _ in events:
        if moment >= at_ms or not isinstance(event, CustomerEvent):
            continue
        said, known = value_of(event), newest.get(event.customer_id)
        if known is None or (said is not None and (known[1] is None or moment >= known[0])):
            newest[event.customer_id] = (moment, said)

    def listed(said: str | None) -> str:
        return UNKNOWN if said is None else said if said in values.named else OTHER

    return {customer for customer, (_, said) in newest.items() if listed(said) == value}


def _plain(at_ms: int, event: CustomerEvent, hash_key: bytes | None) -> dict[str, object]:
    """An event as it is written, without the fields that it does not have."""
    fields: dict[str, object] = msgspec.to_builtins(event)
    if hash_key is not None:
        fields["customer_id"] = Pseudonyms(hash_key).of(event.customer_id)
    return {name: value for name, value in fields.items() if value is not None} | {
        "occurred_at": to_text(at_ms)
    }


def _type_name(kind: type[CustomerEvent]) -> str:
    return str(kind.__struct_config__.tag)
