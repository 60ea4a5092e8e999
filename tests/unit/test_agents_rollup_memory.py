"""The notes of the roll-up where there is no topic for them; `tests/simulation` shows all else."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiokafka
import pytest

from agents.publisher import Publisher
from agents.rollup_memory import RollUpMemory
from schemas.records import PublishedBoundary
from streams.config import CoreConfig
from streams.rollup import RollUp


class Reader:
    """A consumer of a broker that has another topic."""

    def __init__(self, **_: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def topics(self) -> set[str]:
        return {"another"}


def test_without_its_topic_nothing_is_noted_and_the_worker_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", Reader)
    core = RollUp(CoreConfig(), 1)
    note = PublishedBoundary(
        window="1h",
        hop="10m",
        end_ms=600_000,
        revision=1,
        missing_partitions=0,
        totals_digest=1,
        fingerprint="f",
    )
    monkeypatch.setattr(core, "take_notes", lambda: ([], [note]))
    # Not connected: publishing anything would fail.
    memory = RollUpMemory("heartline.rollup", Publisher({}, deadline_s=1.0, idempotent=True))

    async def run() -> None:
        assert await memory.recall({}, core, 0, lambda: True)
        await memory.write(core)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert "there is no topic heartline.rollup" in caplog.text
    assert "heartline topics create" in caplog.text
    assert memory.needed(core) == 0
