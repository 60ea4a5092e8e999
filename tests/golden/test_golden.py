"""Small stories with their results, to be read as a specification: NAME.events.jsonl and NAME.toml.

The events are what `heartline evaluate` reads. The TOML file names the windows and then, for each instant, what
everyone's figures are: a number, ``"null"``, ``[numerator, denominator]`` of a ratio, or ``[numerator,
denominator, factor]`` of one that is told per 100 or 1000. ``metric{persona=a}`` is a segment or a dimension of
the metric's own, ``metric.complete`` (or ``.low``, ``.high``, ``.n``) another field of the result. Quantiles are
promised within 1 %, everything else to the last digit.

Each story goes through the file evaluation and through a partition of the engine: without a crash, with one in
the middle, and with one after every event (every fifth of a long story). All must give the same results, to the
last field. It goes through the oracle of `tests.oracle` too: what is written here by hand checks that checker.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.decode import Decoder
from schemas.records import Result
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.metrics import BY_NAME
from streams.moments import from_text, to_text
from streams.segments import Segments, Values, dimensions
from streams.windows import Window, WindowSet, duration_ms
from tests.oracle.customers import OracleConfig
from tests.oracle.metrics import compute
from tests.oracle.rules import on_time
from tests.rig.hand import Hand

DIRECTORY = Path(__file__).parent
QUANTILES = ("_p50", "_p90", "_p99")
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.toml"))
stories = pytest.mark.parametrize("name", NAMES)


class Story:
    """One pair of files."""

    def __init__(self, name: str) -> None:
        told = tomllib.loads((DIRECTORY / f"{name}.toml").read_text())
        lines = (DIRECTORY / f"{name}.events.jsonl").read_text().splitlines()
        self.events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.config = CoreConfig(
            windows=WindowSet.of(
                [Window.parse(text) for text in told.pop("windows")],
                session_gap_ms=duration_ms(told.pop("session_gap", "30m")),
            ),
            activity=frozenset(told.pop("activity", ("page_viewed", "order_placed"))),
            segments=Segments(
                customer=dimensions(
                    persona=tuple(told.pop("personas", ())), region=tuple(told.pop("regions", ()))
                ),
                channel=Values(tuple(told.pop("channels", ()))),
                network=Values(tuple(told.pop("networks", ()))),
                support=Values(tuple(told.pop("support_channels", ()))),
            ),
        )
        self.expected: dict[str, list[dict[str, Any]]] = told
        self.ats_ms = [from_text(at) for at in told]

    def evaluated(self) -> list[Result]:
        decode = Decoder().decode
        decoded = [decode(json.dumps(event).encode()) for event in self.events]
        return evaluate(self.config, decoded, self.ats_ms)

    def computed(self) -> list[Result]:
        """By the oracle."""
        segments = self.config.segments
        oracle = OracleConfig(
            session_gap_ms=self.config.windows.session_gap_ms,
            base_ms=self.config.windows.base_ms,
            segments={one.name: one.values.named for one in segments.customer},
            channels=segments.channel.named,
            networks=segments.network.named,
            support_channels=segments.support.named,
            activity=self.config.activity,
        )
        windows = {window.size_ms: window for window in self.config.windows.windows}
        ticks = [(at, size) for at in self.ats_ms for size in windows]
        return [
            Result(
                metric=metric,
                window=windows[w].size,
                hop=windows[w].hop,
                at=to_text(t),
                segment={dimension: label} if dimension in {"persona", "region"} else {},
                dimensions=own_dimensions(dimension, label),
                value=found.value,
                numerator=found.numerator,
                denominator=found.denominator,
                n=found.n,
                low=found.low,
                high=found.high,
                complete=found.complete,
            )
            for (metric, t, w, dimension, label), found in compute(
                on_time(self.events), oracle, ticks
            ).items()
        ]

    def streamed(self, *, crash_after: Iterable[int]) -> list[Result]:
        """Through a partition, in the order of time, with crashes after these events."""
        crashes = set(crash_after)
        hand = Hand(self.config)
        for number, event in enumerate(sorted(self.events, key=at_ms), 1):
            hand.send(event, timestamp_ms=at_ms(event))
            if number in crashes:
                hand.crash()
            # Everything older has come; what is exactly as old may still follow.
            hand.pass_time(at_ms(event))
            if number in crashes:
                hand.crash()
        hand.silence(max(self.ats_ms))
        return [result for at in self.ats_ms for result in hand.results_at(at)]


def at_ms(event: dict[str, Any]) -> int:
    return from_text(event["occurred_at"])


def own_dimensions(dimension: str, label: str) -> dict[str, str]:
    if dimension in {"", "persona", "region"}:
        return {}
    return dict(zip(dimension.split("+"), label.split("+"), strict=True))


def difference(result: Result, field: str, expected: Any) -> bool:
    """Whether a result says anything else than the story."""
    if expected == "null":
        return getattr(result, field) is not None
    if isinstance(expected, list):
        numerator, denominator, factor = (*expected, 1)[:3]
        value: Any = pytest.approx(factor * numerator / denominator, rel=1e-15)
        parts = [result.numerator, result.denominator]
        return parts != [numerator, denominator] or result.value != value
    if field in {"low", "high"}:
        expected = pytest.approx(expected, rel=1e-12)
    elif field == "value" and result.metric.endswith(QUANTILES):
        expected = pytest.approx(expected, rel=0.0100001)
    return bool(getattr(result, field) != expected)


def differences(story: Story, results: list[Result]) -> list[str]:
    """What the results say otherwise than the story, in its words."""
    known = {(one.at, one.window, label_of(one)): one for one in results}
    found = []
    for at, parts in story.expected.items():
        for part in parts:
            figures = dict(part)
            window = figures.pop("window", story.config.windows.windows[0].size)
            for name, expected in figures.items():
                label, _, field = name.partition(".")
                result = known[at, window, label]
                if difference(result, field or "value", expected):
                    found.append(f"{at} {window} {name} = {expected}, not {result}")
    return found


def label_of(result: Result) -> str:
    where = ",".join(f"{k}={v}" for k, v in (result.segment | result.dimensions).items())
    return f"{result.metric}{{{where}}}" if where else result.metric


@stories
def test_a_file_of_events_gives_what_the_story_says(name: str) -> None:
    story = Story(name)
    assert differences(story, story.evaluated()) == []


@stories
@pytest.mark.parametrize("crashes", ["none", "in the middle", "again and again"])
def test_the_engine_gives_the_same_also_when_it_crashes(name: str, crashes: str) -> None:
    story = Story(name)
    count = len(story.events)
    again_and_again = range(1, count + 1, 1 + count // 30)
    after = {"none": (), "in the middle": (count // 2,), "again and again": again_and_again}
    results = story.streamed(crash_after=after[crashes])
    assert differences(story, results) == []
    assert msgspec.json.encode(results) == msgspec.json.encode(story.evaluated())


@stories
def test_the_oracle_says_the_same(name: str) -> None:
    story = Story(name)
    assert differences(story, story.computed()) == []


def test_every_metric_has_a_story() -> None:
    told = {
        label.partition(".")[0].partition("{")[0]
        for name in NAMES
        for parts in Story(name).expected.values()
        for part in parts
        for label in part
    }
    assert set(BY_NAME) <= told


def test_every_story_has_both_files() -> None:
    events = {path.name.removesuffix(".events.jsonl") for path in DIRECTORY.glob("*.events.jsonl")}
    assert events == set(NAMES)
    assert len(NAMES) >= 10
