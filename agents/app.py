"""The one place where a worker is wired together: `create_app`. Nothing is connected or started
here.

The Faust app is the shell around the engine: it joins the group, fetches, and calls the agents. The
agents' bodies hand each batch to the engine; all rules of ownership are in `agents.engine`.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import faust

from agents import transport
from agents.engine import Engine, EngineFailed
from agents.kafka_client import client_arguments, faust_credentials
from agents.ownership import Ownership, Terms
from agents.partitioners import Partitions
from agents.preflight import Flavour
from agents.publisher import BATCH_BYTES, LINGER_MS, Publisher
from agents.rollup import RollUpAgent
from agents.settings import Settings
from agents.state_topic import StateTopic

log = logging.getLogger(__name__)

EMBEDDED_SESSION_MS = 6_000
"""The longest group session that the embedded broker keeps."""


class HeartlineApp(faust.App):
    """A Faust app whose transport asks ``intake`` what to read."""

    logger = logging.getLogger("faust.heartline")
    intake: transport.Intake


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """A wired worker: what the process has to start, stop and ask."""

    app: HeartlineApp
    engine: Engine
    rollup: RollUpAgent
    publisher: Publisher


def create_app(
    settings: Settings,
    flavour: Flavour = "apache",
    topic_ids: Mapping[str, str] | None = None,
) -> WorkerParts:
    """Wire a worker for ``settings``. ``flavour`` is what `agents.preflight` found out;
    ``topic_ids`` are those of the inputs, as far as the broker tells them.
    """
    transport.register()
    client = client_arguments(settings)
    deadline_s = settings.engine.deadline_ms / 1_000
    publisher = Publisher(client, deadline_s=deadline_s, idempotent=flavour == "apache")
    rollup = RollUpAgent(settings, publisher, client)
    partition_of = Partitions(settings.kafka.partitioner, settings.kafka.partitions)
    engine = Engine(
        settings,
        publisher=publisher,
        ownership=Ownership(
            topic=settings.topics().state,
            writer=uuid.uuid4().hex[:12],
            publisher=publisher,
            source=StateTopic(client, settings.topics().state),
            terms=Terms(
                partitions=settings.kafka.partitions,
                partitioner=settings.kafka.partitioner,
                topic_ids=dict(topic_ids or {}),
            ),
            deadline_s=deadline_s,
            standby=settings.engine.standby,
        ),
        rollup=rollup,
        partition_of=lambda key, _partitions: partition_of(key),
    )
    app = HeartlineApp(settings.kafka.group, **_faust_settings(settings, flavour, client))
    app.intake = engine
    _connect_agents(app, engine, rollup, settings)
    _connect_signals(app, engine)
    return WorkerParts(app, engine, rollup, publisher)


def _faust_settings(settings: Settings, flavour: Flavour, client: dict[str, Any]) -> dict[str, Any]:
    session_ms = settings.engine.session_timeout_ms
    if flavour == "embedded":
        session_ms = min(session_ms, EMBEDDED_SESSION_MS)
    brokers = settings.kafka.bootstrap.split(",")
    return {
        "broker": [f"{transport.SCHEME}://{address.strip()}" for address in brokers],
        "broker_credentials": faust_credentials(client),
        "broker_session_timeout": session_ms / 1_000,
        "broker_heartbeat_interval": 1.0,
        "broker_max_poll_records": settings.engine.max_batch * 2,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": settings.engine.fetch_bytes,
        "stream_buffer_maxsize": settings.engine.buffered_batches,
        "stream_wait_empty": False,
        "stream_recovery_delay": 0.0,
        "producer_linger": LINGER_MS / 1_000,
        "producer_max_batch_size": BATCH_BYTES,
        "topic_partitions": settings.kafka.partitions,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        # Above zero it keeps Faust's co-partitioning assignor, although there is no table.
        "table_standby_replicas": 1,
        "store": "memory://",
        "web_enabled": False,
        "autodiscover": False,
        "worker_redirect_stdouts": False,
        "datadir": f"{tempfile.gettempdir()}/heartline-unused",
    }


def _connect_agents(
    app: HeartlineApp, engine: Engine, rollup: RollUpAgent, settings: Settings
) -> None:
    """One agent a topic. The names are data on disk: they are part of Faust's assignment."""
    topics = settings.topics()

    async def fold(stream: AsyncIterator[Any]) -> None:
        async for event in stream.events():  # type: ignore[attr-defined]
            await engine.receive(event.value)

    async def roll_up(stream: AsyncIterator[Any]) -> None:
        async for event in stream.events():  # type: ignore[attr-defined]
            if engine.is_current(event.value):
                await _guarded(engine, rollup.receive(event.value))

    inputs = {
        "sessions": topics.sessions,
        "purchases": topics.purchases,
        "social": topics.social,
        "support": topics.support,
    }
    for name, topic in inputs.items():
        app.agent(_raw(app, topic, settings.kafka.partitions), name=name)(fold)
    app.agent(_raw(app, topics.partials, 1), name="rollup")(roll_up)


def _raw(app: HeartlineApp, topic: str, partitions: int) -> Any:
    return app.topic(
        topic, acks=False, value_type=bytes, value_serializer="raw", partitions=partitions
    )


def _connect_signals(app: HeartlineApp, engine: Engine) -> None:
    async def restored(app: HeartlineApp, **_: Any) -> None:
        await _guarded(engine, engine.take_over(app.consumer, app.consumer_generation_id))

    async def revoked(app: HeartlineApp, revoked: Any, **_: Any) -> None:
        # Before the first assignment nothing is revoked, and the generation's number means nothing.
        await _guarded(engine, engine.revoke(app.consumer_generation_id if revoked else None))

    async def stopping(app: HeartlineApp, **_: Any) -> None:
        await _guarded(engine, engine.revoke(app.consumer_generation_id))

    # weak=False: nobody else holds these closures.
    app.on_rebalance_complete.connect(restored, weak=False)
    app.on_partitions_revoked.connect(revoked, weak=False)
    app.on_before_shutdown.connect(stopping, weak=False)


async def _guarded(engine: Engine, work: Any) -> None:
    """Faust only logs what a signal handler raises; here every error ends the worker."""
    try:
        await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Not ours: aiokafka's clients let one of their own tasks' cancellations out.
        engine.fail(EngineFailed("a Kafka client gave up in the middle of its work"))
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be committed after it
        engine.fail(error)
