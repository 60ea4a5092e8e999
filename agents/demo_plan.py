"""What a demo runs with: windows and times at which numbers move while one looks.

A simulated customer base returns within seconds, so that retention and churn have a value within a
minute; a replayed file gets windows that fit the time it spans.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from itertools import islice

import msgspec

from agents.event_files import read_lines
from agents.failures import Unusable

SIMULATED_WINDOWS = ("20s/2s", "1m/2s", "5m/10s", "1h/1m")
CUSTOMERS_PER_RATE = 10
"""Customers for one record a second: each then returns about every half a minute."""
REPLAY_SECONDS = 30.0
"""How long a replay takes unless a rate is given."""
_LOOKED_AT_LINES = 1_000_000
_HOUR_S, _DAY_S = 3_600, 86_400


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `heartline demo` was asked for."""

    for_ms: int | None = None
    replay: str | None = None
    replay_format: str = "jsonl"
    rate: float | None = None
    scenario: str = "steady"
    bootstrap: str | None = None
    broker_port: int | None = None
    serve_port: int = 8077
    live: bool = True


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Windows and pace of one run."""

    windows: tuple[str, ...]
    session_gap: str
    out_of_orderness: str
    idle_after: str
    speed: float | None = None
    has_segments: bool = True
    """False where the events are known to carry neither segments nor channels."""


def plan_for(options: DemoOptions) -> DemoPlan:
    """The plan of a run. Raises `Unusable` for a file that can't be replayed."""
    if options.replay is None:
        return DemoPlan(SIMULATED_WINDOWS, "10s", "2s", "1s")
    span_s = _span_seconds(options.replay) if options.replay_format == "jsonl" else 546 * _DAY_S
    return DemoPlan(
        windows_for(span_s),
        "30m",
        "5s",
        "3s",
        speed=None if options.rate else max(span_s / REPLAY_SECONDS, 1.0),
        has_segments=options.replay_format != "cdnow",
    )


def windows_for(span_s: float) -> tuple[str, ...]:
    """Windows of which a stretch of ``span_s`` seconds holds several."""
    if span_s >= 120 * _DAY_S:
        return ("7d/1d", "28d/1d", "90d/1d")
    if span_s >= 10 * _DAY_S:
        return ("24h/1h", "7d/1h")
    if span_s >= 6 * _HOUR_S:
        return ("1h/10m", "6h/10m", "24h/1h")
    return ("1m/10s", "5m/10s", "1h/1m")


class _Dated(msgspec.Struct):
    """All that is looked at here; the engine judges the rest."""

    occurred_at: str | int


def _span_seconds(path: str) -> float:
    """From the earliest to the latest event among the first million lines."""
    decode = msgspec.json.Decoder(_Dated).decode
    least, most = float("inf"), float("-inf")
    for line in islice(read_lines((path,)), _LOOKED_AT_LINES):
        try:
            at = decode(line).occurred_at
            moment_s = (
                at / 1000
                if isinstance(at, int)
                else datetime.datetime.fromisoformat(at).timestamp()
            )
        except (msgspec.MsgspecError, ValueError):
            continue
        least, most = min(least, moment_s), max(most, moment_s)
    if least > most:
        raise Unusable(f"{path}: no line is a JSON event with occurred_at: nothing to replay")
    return most - least


def configuration(
    plan: DemoPlan,
    *,
    bootstrap: str,
    embedded: bool,
    prefix: str,
    worker_port: int,
    serve_port: int,
) -> str:
    """The `heartline.toml` of a run."""
    segments = "" if plan.has_segments else "\n[segments]\n\n[channels]\nvalues = []\n"
    return f"""\
# Written by heartline demo.
[kafka]
bootstrap = {json.dumps(bootstrap)}
topic_prefix = {json.dumps(prefix)}
group = {json.dumps(prefix)}
partitions = 2
flavour = "{"embedded" if embedded else "auto"}"

[windows]
hopping = {json.dumps(plan.windows)}

[time]
max_out_of_orderness = "{plan.out_of_orderness}"
idle_after = "{plan.idle_after}"

[sessions]
gap = "{plan.session_gap}"

[worker]
port = {worker_port}

[serve]
port = {serve_port}
{segments}"""
