"""What stands in the state topic, partition by partition, and whether a worker could go on from it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from agents.bounded_reader import read_once
from agents.settings import Settings
from schemas.topics import Source
from streams.claims import Claim
from streams.moments import to_text
from streams.state_log import StateLog, StateRefused


class Inspected(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of the state topic. None where there is no checkpoint."""

    partition: int
    epoch: int
    writer: str
    """The last owner; empty if there was none."""
    customers: int
    evicted: int
    state_bytes: int
    chunks: int
    records: int
    """Keys with a value in the topic, superseded ones included."""
    folded_to: str | None
    """The watermark of the newest checkpoint, RFC 3339."""
    read_to: dict[str, int]
    resume: dict[str, int]
    fingerprint: str | None
    marker: str | None
    refusal: str | None
    """Why a worker would refuse it; None if it would go on from it."""


async def inspect_state(settings: Settings, client: dict[str, Any]) -> list[Inspected]:
    """Read the whole state topic as a takeover would. Raises CommandFailed."""
    count = settings.kafka.partitions
    logs = [StateLog() for _ in range(count)]
    refused: dict[int, str] = {}

    def apply(_topic: str, n: int, records: list[Any]) -> None:
        if n not in refused:
            try:
                for record in records:
                    logs[n].apply(record.offset, record.key or b"", record.value)
            except StateRefused as error:
                refused[n] = str(error)

    whole = {settings.topics().state: count}
    await read_once(client, whole, apply, from_ms=None, limit=sys.maxsize)
    return [_inspected(settings, n, logs[n], refused.get(n)) for n in range(count)]


def _inspected(settings: Settings, partition: int, log: StateLog, refusal: str | None) -> Inspected:
    found = log.describe()
    if refusal is None:
        refusal = found.refusal
    if refusal is None:
        try:
            log.restore(settings.core(), Claim(log.owner.epoch + 1, "inspection"))
        except StateRefused as error:
            refusal = str(error)
    topics = settings.topics().sources
    at = found.watermark_ms
    return Inspected(
        partition=partition,
        epoch=found.owner.epoch,
        writer=found.owner.writer,
        customers=found.figures.customers,
        evicted=found.figures.evicted,
        state_bytes=found.figures.state_bytes,
        chunks=found.figures.chunks,
        records=found.records,
        folded_to=None if at is None or at <= 0 else to_text(at),
        read_to={topics[source]: at for source, at in zip(Source, found.read_to, strict=False)},
        resume={topics[source]: at for source, at in zip(Source, found.resume, strict=False)},
        fingerprint=found.fingerprint,
        marker=found.marker,
        refusal=refusal,
    )
