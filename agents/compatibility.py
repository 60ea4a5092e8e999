"""What producers of a version may rely on: an event that was accepted stays accepted, and means the same.

``schemas/frozen/events-v1.json`` holds the events of version 1 as they were promised. Within the
version a field may be added if it is optional, and a rule relaxed; a type, a topic or a field is
never taken away or renamed, nothing accepted becomes refused. A change that needs more is version
2. ``python -m agents.compatibility`` writes what was added into the file, and refuses to write what
breaks it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

import schemas
from agents.json_schemas import event_schemas
from schemas.events import SOURCE_OF, TYPE_NAMES
from streams.metrics import METRICS
from streams.provenance import CELL, COMMON, reads_of

VERSION = 1
FROZEN = Path(schemas.__file__).parent / "frozen" / f"events-v{VERSION}.json"

Schema = dict[str, Any]
Events = dict[str, Schema]
"""Of each type its ``topic``, its ``required`` fields and the schemas of its ``properties``."""

_WORDS_ALONE = frozenset({"title", "description", "default", "$comment"})
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_KNOWN = frozenset({"type", "enum", "pattern", "format", *_AT_LEAST, *_AT_MOST})


class Breakage(msgspec.Struct, frozen=True):
    """One broken promise. ``field`` is None where the whole type is concerned; ``metrics`` are the
    metrics whose values or input it changes.
    """

    event: str
    field: str | None
    what: str
    metrics: tuple[str, ...]

    def __str__(self) -> str:
        place = self.event if self.field is None else f"{self.event}.{self.field}"
        return f"{place} {self.what}; touches {', '.join(self.metrics) or 'no metric'}"


def current_events() -> Events:
    """The events as the structs have them today."""
    found: Events = {}
    for name, schema in event_schemas().items():
        source = SOURCE_OF.get(TYPE_NAMES[name])
        found[name] = {
            "topic": "any" if source is None else source.name.lower(),
            "required": sorted(schema["required"]),
            "properties": {
                field: _without_words(one) for field, one in schema["properties"].items()
            },
        }
    return found


def frozen_events() -> Events:
    """The events as they were promised."""
    found: Events = json.loads(FROZEN.read_text(encoding="utf-8"))
    return found


def breakages(frozen: Events, current: Events) -> Iterator[Breakage]:
    """Every promise of ``frozen`` that ``current`` does not keep."""
    for event, promised in frozen.items():
        if event not in current:
            yield Breakage(event, None, "is gone or has another name", _fed_by(event))
            continue
        now = current[event]
        if now["topic"] != promised["topic"]:
            what = f"moved from topic {promised['topic']} to {now['topic']}"
            yield Breakage(event, None, what, _fed_by(event))
        for field, schema in promised["properties"].items():
            if field not in now["properties"]:
                # The event is still accepted, and the field ignored.
                yield Breakage(event, field, "is gone or has another name", _read(event, field))
            elif not _accepts_all_of(now["properties"][field], schema):
                what = f"is narrower: {_short(schema)} became {_short(now['properties'][field])}"
                yield Breakage(event, field, what, _fed_by(event))
        for field in now["required"]:
            if field not in promised["required"]:
                yield Breakage(event, field, "became required", _fed_by(event))


def _fed_by(event: str) -> tuple[str, ...]:
    """The metrics that count events of a type."""
    kind = TYPE_NAMES.get(event)
    if kind is not None and kind not in SOURCE_OF:  # Time itself: every window moves by it.
        return tuple(metric.name for metric in METRICS)
    return tuple(
        metric.name
        for metric in METRICS
        if event in {str(one.__struct_config__.tag) for one in reads_of(metric)}
    )


def _read(event: str, field: str) -> tuple[str, ...]:
    """The metrics whose values depend on a field of a type."""
    if field in CELL:  # Any event may move its customer to another cell.
        return tuple(metric.name for metric in METRICS)
    if field in COMMON or TYPE_NAMES.get(event) not in SOURCE_OF:
        return _fed_by(event)
    return tuple(
        metric.name
        for metric in METRICS
        if any(
            str(kind.__struct_config__.tag) == event and field in fields
            for kind, fields in reads_of(metric).items()
        )
    )


def _accepts_all_of(now: Schema, before: Schema) -> bool:
    """Whether every value that ``before`` accepts is accepted by ``now``.

    Decided alternative by alternative, so a type that was split in two counts as narrower: that
    errs towards refusing.
    """
    alternatives = list(_alternatives(now))
    return all(any(_covers(one, old) for one in alternatives) for old in _alternatives(before))


def _alternatives(schema: Schema) -> Iterator[Schema]:
    """A schema without ``anyOf``, and with one value for each that an ``enum`` lists."""
    if "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from _alternatives(one)
    elif "enum" in schema:
        for value in schema["enum"]:
            yield {"enum": [value]}
    else:
        yield schema


def _covers(now: Schema, before: Schema) -> bool:
    if now == before:
        return True
    if "enum" in now or not _KNOWN.issuperset(now):
        return False
    if "enum" in before:
        before = _as_range(before["enum"][0])
    return (
        now.get("type") in {None, before.get("type")}
        or (now.get("type"), before.get("type")) == ("number", "integer")
    ) and (
        all(w not in now or before.get(w, float("-inf")) >= now[w] for w in _AT_LEAST)
        and all(w not in now or before.get(w, float("inf")) <= now[w] for w in _AT_MOST)
        and all(w not in now or before.get(w) == now[w] for w in ("pattern", "format"))
    )


def _as_range(value: Any) -> Schema:
    if isinstance(value, int):
        return {"type": "integer", "minimum": value, "maximum": value}
    if isinstance(value, str):
        return {"type": "string", "minLength": len(value), "maxLength": len(value)}
    return {"type": "null"}


def _without_words(node: Any) -> Any:
    """A field's schema without what only people read."""
    if isinstance(node, dict):
        return {key: _without_words(v) for key, v in node.items() if key not in _WORDS_ALONE}
    return [_without_words(v) for v in node] if isinstance(node, list) else node


def _short(schema: Schema) -> str:
    return json.dumps(schema, separators=(",", ":"))


@click.command()
def main() -> None:
    """Write the additions to the events into the frozen file; refuse what breaks it."""
    current = current_events()
    broken = list(breakages(frozen_events(), current)) if FROZEN.exists() else []
    if broken:
        raise click.ClickException("; ".join(str(one) for one in broken))
    FROZEN.parent.mkdir(exist_ok=True)
    FROZEN.write_text(json.dumps(current, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
