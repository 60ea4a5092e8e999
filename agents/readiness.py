"""Is this worker making progress? A process that lives but doesn't move is not ready.

Standby is ready: a worker of a group that has more workers than partitions owns nothing and waits.
"""

from __future__ import annotations

import time

from faust.types import TP

from agents.engine import Engine

STUCK_AFTER_S = 10.0
"""Longest silence of a part of the worker that has something to do."""


def reasons_not_ready(engine: Engine) -> list[str]:
    """Why this worker makes no progress, in plain words; empty when it does."""
    now = time.monotonic()
    reasons = []
    if engine.failure is not None:
        reasons.append(f"failed: {type(engine.failure).__name__}")
    if engine.tenure is None:
        if (progress := engine.ownership.progress) is not None:
            reasons.append(f"reading the state: {progress}")
        reasons.append(
            "joining the group" if engine.joined_at is None else "the group is rebalancing"
        )
    if engine.tenure is not None and engine.checkpoint_started_at is not None:
        taken_s = now - engine.checkpoint_started_at
        if taken_s > STUCK_AFTER_S:
            reasons.append(f"a checkpoint has been under way for {taken_s:.0f} s")
    if now - engine.clocked_at > STUCK_AFTER_S:
        reasons.append(f"the event loop stood still for {now - engine.clocked_at:.0f} s")
    if engine.tenure is not None and now - engine.gate.polled_at > STUCK_AFTER_S:
        reasons.append(f"nothing asked of Kafka for {now - engine.gate.polled_at:.0f} s")
    for number, owned in sorted(engine.owned.items()):
        for topic, source in engine.sources.items():
            tp = TP(topic, number)
            silent_s = now - owned.moved_at[source]
            if silent_s > STUCK_AFTER_S and tp not in engine.gate.held:
                lag = engine.lag(tp, owned, source)
                if lag:
                    reasons.append(
                        f"{topic}-{number}: {lag} records wait, none for {silent_s:.0f} s"
                    )
    return reasons
