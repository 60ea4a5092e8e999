"""The JSON Schemas of everything on the wire, made from the structs that decode and encode it."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from schemas.decode import KNOWN_VERSIONS, MAX_BYTES
from schemas.events import SOURCE_OF, TYPE_NAMES, event_types
from schemas.records import (
    DeadLetter,
    LateRecord,
    Partial,
    PublishedResult,
    Redriven,
    Result,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"

OUTPUTS: dict[str, type[msgspec.Struct]] = {
    "result": PublishedResult,
    "evaluated_result": Result,
    "partial": Partial,
    "dead_letter": DeadLetter,
    "late_record": LateRecord,
    "redriven": Redriven,
}
"""What Heartline writes, by the name of its schema."""

_DECIMAL = {"type": "string", "format": "decimal"}
# Up to six decimals, no sign: what `schemas.money` accepts.
_AMOUNT = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 10**9},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,6})?$"},
    ],
    "description": "Not negative, at most 10^9 and six decimals; a number or a decimal string.",
}


def event_schemas(dimensions: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """One schema for each event ``type``, the control records included; events carry the customer
    ``dimensions`` of these names beside the common ones.
    """
    found = {}
    for (name, declared), kind in zip(TYPE_NAMES.items(), event_types(dimensions), strict=True):
        source = SOURCE_OF.get(declared)
        topic = "any input topic" if source is None else f"the {source.name.lower()} topic"
        found[name] = _schema(kind, f"heartline event: {name}")
        found[name]["$comment"] = f"Stands on {topic}; at most {MAX_BYTES} bytes."
    return found


def output_schemas() -> dict[str, dict[str, Any]]:
    """One schema for each record that Heartline writes."""
    return {name: _schema(kind, f"heartline output: {name}") for name, kind in OUTPUTS.items()}


def bundle(dimensions: tuple[str, ...] = ()) -> dict[str, Any]:
    """All schemas in one document, under ``$defs``; an input record is one of the events, which carry
    these customer ``dimensions``.
    """
    events, outputs = event_schemas(dimensions), output_schemas()
    definitions = {
        name: {key: value for key, value in schema.items() if key != "$schema"}
        for name, schema in {**events, **outputs}.items()
    }
    return {
        "$schema": DIALECT,
        "title": "heartline",
        "description": "Every record that Heartline reads (oneOf) or writes (the other $defs).",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in events],
        "$defs": definitions,
    }


def _schema(kind: type, title: str) -> dict[str, Any]:
    """The schema of one struct, without references: it stands alone in a file and in the bundle."""
    (root,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    name = root["$ref"].rpartition("/")[2]
    schema = _plain({**components[name]})
    schema["title"] = title
    schema["description"] = inspect.cleandoc(schema.get("description", title))
    if "schema_version" in schema["properties"]:
        schema["properties"]["schema_version"] = {"enum": [*sorted(KNOWN_VERSIONS), None]}
    return {"$schema": DIALECT, **schema}


def _plain(node: Any) -> Any:
    """With amounts as they are accepted, not as the decoder's type would have them."""
    if isinstance(node, dict):
        if node == _DECIMAL:
            return dict(_AMOUNT)
        return {key: _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list) else node
