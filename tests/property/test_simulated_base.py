"""A simulated customer base in a file: everything that `heartline evaluate` says, against the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.simulation.configuration import Configuration
from agents.simulation.personas import CHANNELS, NETWORKS, PERSONAS, REGIONS, SUPPORT_CHANNELS
from agents.simulation.world import World
from schemas.decode import Decoder
from schemas.reasons import Rejected
from schemas.records import Result
from streams.metrics import BY_NAME
from streams.moments import from_text, to_text
from tests.oracle.customers import OracleConfig
from tests.oracle.metrics import METRICS, compute
from tests.oracle.rules import DAY_MS, on_time
from tests.property.comparison import differences, milliseconds_of

pytestmark = pytest.mark.property

START = "2026-01-01T00:00:00Z"
WINDOWS = ("6h/6h", "1d/6h", "7d/1d", "14d/1d", "28d/1d", "30d/1d")
ATS = tuple(
    to_text(from_text(START) + day * DAY_MS) for day in (1, 8, 29, 30, 31, 36, 44, 57, 60, 61)
)
ORACLE = OracleConfig(
    base_ms=1_800_000,
    segments={
        "persona": tuple(persona.name for persona in PERSONAS[:-1]),
        "region": tuple(name for name, _, _ in REGIONS[:-1]),
    },
    channels=CHANNELS[:-1],
    networks=NETWORKS[:-1],
    support_channels=SUPPORT_CHANNELS[:-1],
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty days of 140 customers who move often, and a configuration that does not name every value."""
    where = tmp_path_factory.mktemp("simulated")
    start_ms = from_text(START)
    world = World(
        Configuration(
            seed=11, start_ms=start_ms, end_ms=start_ms + 60 * DAY_MS, customers=140,
            duplicate_share=0.05, malformed_share=0.02, move_share=0.1,
        )
    )  # fmt: skip
    lines = (record.value + b"\n" for chunk in world.records() for record in chunk)
    (where / "events.jsonl").write_bytes(b"".join(lines))
    sections = {
        "segments": ORACLE.segments,
        "channels": {"values": ORACLE.channels},
        "networks": {"values": ORACLE.networks},
        "support": {"channels": ORACLE.support_channels},
    }
    (where / "heartline.toml").write_text(
        "\n".join(
            f"[{section}]\n"
            + "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
            for section, keys in sections.items()
        )
    )
    return where


def run(*arguments: str, status: int = 0) -> bytes:
    done = CliRunner().invoke(main, arguments, prog_name="heartline")
    assert done.exit_code == status, done.stderr
    return done.stdout_bytes


def good_events(file: Path) -> list[dict[str, Any]]:
    """Each once, in the order of the file."""
    decode = Decoder().decode
    found: dict[str, dict[str, Any]] = {}
    for line in file.read_bytes().splitlines():
        try:
            decode(line)
        except Rejected:
            continue
        event = orjson.loads(line)
        found.setdefault(event["event_id"], event)
    return list(found.values())


def test_evaluate_says_what_the_oracle_says_of_a_simulated_base(directory: Path) -> None:
    ats = [part for at in ATS for part in ("--at", at)]
    windows = [part for window in WINDOWS for part in ("--window", window)]
    printed = run(
        *("evaluate", str(directory / "events.jsonl"), *ats, *windows),
        *("--config", str(directory / "heartline.toml"), "--by", "persona", "--by", "region"),
        status=3,
    )
    results = msgspec.json.decode(printed, type=list[Result])
    judged = on_time(good_events(directory / "events.jsonl"))
    ticks = [
        (from_text(at), milliseconds_of(window.partition("/")[0]))
        for at in ATS
        for window in WINDOWS
    ]
    expected = compute(judged, ORACLE, ticks)
    assert len(set(ticks)) >= 50
    assert set(METRICS) == set(BY_NAME)
    assert differences(results, expected, metrics=METRICS) == []
    told = {one.metric for one in results if one.value and not one.segment and not one.dimensions}
    assert told == set(BY_NAME)
