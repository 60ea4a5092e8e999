"""Results of the engine beside what the oracle expects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from operator import attrgetter

from schemas.records import Result
from tests.oracle.metrics import Expected, Key
from tests.oracle.rules import milliseconds

QUANTILES = ("_p50", "_p90", "_p99")
UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


def text_of(duration_ms: int) -> str:
    """A duration as the configuration spells it."""
    return next(f"{duration_ms // ms}{unit}" for unit, ms in UNITS if duration_ms % ms == 0)


_all_of = attrgetter(*Expected._fields)


@cache
def milliseconds_of(text: str) -> int:
    return int(text[:-1]) * dict(UNITS)[text[-1]]


_instant_of = cache(milliseconds)


def key_of(result: Result) -> Key:
    labels = result.segment or result.dimensions
    dimension, label = "+".join(labels), "+".join(labels.values())
    at = _instant_of(result.at)
    return (result.metric, at, milliseconds_of(result.window), dimension, label)


def differences(
    results: Iterable[Result], expected: Mapping[Key, Expected], *, metrics: Iterable[str]
) -> list[str]:
    """What the engine says otherwise, or not at all, of these metrics; empty when all agree."""
    names = set(metrics)
    found: dict[tuple[Key, str], Result] = {}
    wrong = []
    for result in results:
        if result.metric in names:
            key = key_of(result)
            if (key, result.hop) in found:
                wrong.append(f"{key}: given twice")
            found[key, result.hop] = result
    given = {key for key, _ in found}
    wrong += [f"{key}: not given" for key in expected if key[0] in names and key not in given]
    for (key, _), result in found.items():
        if key not in expected:
            wrong.append(f"{key}: not expected")
            continue
        said, right = result, expected[key]
        if _all_of(said) == right:
            continue
        for part in Expected._fields:
            mine, theirs = getattr(said, part), getattr(right, part)
            if not _same(mine, theirs, quantile=part == "value" and key[0].endswith(QUANTILES)):
                wrong.append(f"{key}: {part} is {mine!r}, not {theirs!r}")
    return wrong


def _same(mine: object, theirs: object, *, quantile: bool) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    assert isinstance(mine, int | float)
    assert isinstance(theirs, int | float)
    if quantile:
        # 1 % is the promise; the rest is the rounding of a float.
        return math.isclose(mine, theirs, rel_tol=0.0100001)
    if isinstance(theirs, int):
        return mine == theirs
    return math.isclose(mine, theirs, rel_tol=1e-12, abs_tol=1e-12)
