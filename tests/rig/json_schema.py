"""A validator of JSON Schema draft 07, as much of it as the AsyncAPI schema and our own use.

A keyword that it does not know is an error, so that nothing passes unread.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

NOT_JUDGED = frozenset(
    [
        "$schema",
        "$comment",
        "title",
        "description",
        "definitions",
        "$defs",
        "default",
        "examples",
        "format",
        "discriminator",
        "contentEncoding",
        "then",
        "else",
    ]
)
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


class UnknownKeywordError(Exception):
    """The schema asks for something that is not judged here."""


def errors(schema: Any, value: Any) -> list[str]:
    """What is wrong with ``value``, each with its place; empty if it is valid."""
    return list(_errors(schema, value, schema, "$"))


def _errors(schema: Any, value: Any, root: Any, at: str) -> Iterator[str]:  # noqa: C901, PLR0912
    if isinstance(schema, bool):
        if not schema:
            yield f"{at}: nothing is allowed here"
        return
    if "$ref" in schema:  # In draft 07 its neighbours are ignored.
        yield from _errors(_resolved(schema["$ref"], root), value, root, at)
        return
    for word, rule in schema.items():
        match word:
            case "type":
                names = [rule] if isinstance(rule, str) else rule
                if not any(_is(value, name) for name in names):
                    yield f"{at}: is no {' or '.join(names)}"
            case "const" if not _same(value, rule):
                yield f"{at}: is not {rule!r}"
            case "enum" if not any(_same(value, one) for one in rule):
                yield f"{at}: is none of {rule!r}"
            case "allOf":
                for one in rule:
                    yield from _errors(one, value, root, at)
            case "anyOf" | "oneOf":
                found = [list(_errors(one, value, root, at)) for one in rule]
                valid = sum(not one for one in found)
                if valid == 0 or (word == "oneOf" and valid > 1):
                    yield f"{at}: fits {valid} of {word}: {min(found, key=len)}"
            case "not" if not list(_errors(rule, value, root, at)):
                yield f"{at}: is what it must not be"
            case "if":
                branch = "else" if list(_errors(rule, value, root, at)) else "then"
                yield from _errors(schema.get(branch, True), value, root, at)
            case _ if word not in _JUDGED | NOT_JUDGED and not word.startswith("x-"):
                raise UnknownKeywordError(word)
    if isinstance(value, dict):
        yield from _object_errors(schema, value, root, at)
    elif isinstance(value, list):
        yield from _array_errors(schema, value, root, at)
    elif isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{at}: has a length of {len(value)}"
        if not re.search(schema.get("pattern", ""), value):
            yield f"{at}: does not match {schema['pattern']}"
    elif _is(value, "number"):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high or value <= schema.get("exclusiveMinimum", value - 1):
            yield f"{at}: is out of range"


_JUDGED = frozenset(
    [
        "type",
        "const",
        "enum",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "properties",
        "patternProperties",
        "additionalProperties",
        "required",
        "propertyNames",
        "minProperties",
        "items",
        "additionalItems",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minLength",
        "maxLength",
        "pattern",
        "minimum",
        "maximum",
        "exclusiveMinimum",
    ]
)


def _object_errors(
    schema: dict[str, Any], value: dict[str, Any], root: Any, at: str
) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}: lacks {name}"
    if len(value) < schema.get("minProperties", 0):
        yield f"{at}: has too few properties"
    properties = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for name, member in value.items():
        place = f"{at}.{name}"
        yield from _errors(schema.get("propertyNames", True), name, root, place)
        rules = [properties[name]] if name in properties else []
        rules += [rule for pattern, rule in patterns.items() if re.search(pattern, name)]
        for rule in rules or [schema.get("additionalProperties", True)]:
            yield from _errors(rule, member, root, place)


def _array_errors(schema: dict[str, Any], value: list[Any], root: Any, at: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{at}: has {len(value)} items"
    if schema.get("uniqueItems") and len({json.dumps(v, sort_keys=True) for v in value}) < len(
        value
    ):
        yield f"{at}: repeats an item"
    items = schema.get("items", True)
    for place, member in enumerate(value):
        rule = items
        if isinstance(items, list):
            more = schema.get("additionalItems", True)
            rule = items[place] if place < len(items) else more
        yield from _errors(rule, member, root, f"{at}[{place}]")


def _resolved(reference: str, root: Any) -> Any:
    node = root
    for part in reference.removeprefix("#").split("/")[1:]:
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


def _same(value: Any, other: Any) -> bool:
    """1 and true differ, 1 and 1.0 do not."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
