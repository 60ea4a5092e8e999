"""The process of a worker: start in order, end in order.

Exit status 0 after SIGTERM or SIGINT; 1 after a failure, with one plain line on standard error that
says why. A worker that can't stop within GIVE_UP_AFTER_S ends itself: what it had not committed is
read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import faust
import mode
import orjson
from aiokafka.errors import KafkaError

from agents import logs
from agents.app import WorkerParts, create_app
from agents.engine import ACCOUNT, Engine, EngineFailed
from agents.failures import FAILED, CommandFailed
from agents.kafka_admin import topic_ids
from agents.kafka_client import client_arguments
from agents.operations import OperatingServer
from agents.preflight import check_broker, check_faust
from agents.publisher import Publisher
from agents.readiness import reasons_not_ready
from agents.settings import Settings
from agents.telemetry import WorkerCollector

log = logging.getLogger(__name__)

GIVE_UP_AFTER_S = 10.0
_GC_THRESHOLD = (200_000, 50, 50)


class EngineService(mode.Service):
    """What runs beside Faust's own services: producer, operating endpoint, clock, checkpoints,
    outbox, standby.
    """

    logger = logging.getLogger("mode.heartline")

    def __init__(self, parts: WorkerParts, server: OperatingServer, **options: Any) -> None:
        super().__init__(**options)
        self._parts = parts
        self._server = server
        self._running: list[asyncio.Task[None]] = []

    async def on_start(self) -> None:
        """Start the clock. Producer and endpoint run already: their errors end the start plainly."""
        engine = self._parts.engine
        for name, work in (
            ("clock", engine.keep_time()),
            ("checkpoints", engine.keep_checkpoints()),
            ("outbox", engine.outbox.run()),
            ("standby", engine.ownership.follow()),
            ("rollup", self._parts.rollup.run(engine.fail)),
        ):
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(self._ended)
            self._running.append(task)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLD)

    async def on_stop(self) -> None:
        """Stop in the reverse order; what waits in the outbox is still sent."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._parts.engine.failure is None:
            try:
                await self._parts.engine.outbox.flush()
            except Exception as error:  # noqa: BLE001 - an unsent partial is a failure like any other
                self._parts.engine.fail(error)
        await self._parts.engine.ownership.stop()
        await self._parts.publisher.stop()
        await self._server.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._parts.engine.fail(error)


class _Process(faust.Worker):
    """Faust's worker without its banner, spinner, process title and logging."""

    give_up: Callable[[], None] | None = None
    """Ends the process when it doesn't stop by itself in time."""

    def _setproctitle(self, info: str, **_: Any) -> None:
        del info

    def _schedule_shutdown(self, *arguments: Any) -> None:
        # A thread, because a client that hangs may hold the loop. By then nothing more is taken in
        # or committed, so what a clean stop would still do is worth no more than the account.
        if self.give_up is not None:
            timer = threading.Timer(GIVE_UP_AFTER_S, self.give_up)
            timer.daemon = True
            timer.start()
        super()._schedule_shutdown(*arguments)

    def end(self) -> None:
        """Stop as on SIGTERM."""
        self._schedule_shutdown(signal.SIGTERM)


def run_worker(settings: Settings, *, summary: Path | None = None) -> int:
    """Run until a signal or a failure; the exit status. Raises CommandFailed, SettingsError at the
    start.

    ``summary`` names a file that receives the accounts of DESIGN.md 2.2 as JSON at the end.
    """
    logs.set_up(settings.worker.log_format, settings.worker.log_level)
    check_faust()
    with contextlib.suppress(ImportError):
        import uvloop

        # The consumer has a thread with a loop of its own: only the policy reaches that one too.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    flavour = loop.run_until_complete(check_broker(settings, client_arguments(settings)))
    parts = create_app(settings, flavour, topic_ids(settings))
    collector = WorkerCollector(parts.engine, parts.rollup, parts.publisher, heartline_version())
    server = OperatingServer(
        settings,
        registry=collector.registry(),
        reasons=lambda: reasons_not_ready(parts.engine),
    )
    parts.engine.on_dropped = collector.absorb
    loop.run_until_complete(_connect(server, parts.publisher, settings.kafka.bootstrap))
    process = _Process(
        parts.app,
        EngineService(parts, server),
        quiet=True,
        loop=loop,
        override_logging=False,
        redirect_stdouts=False,
        loglevel="ERROR",
    )
    process.spinner = None
    process.give_up = lambda: _give_up(loop, parts.engine, summary)
    threading.excepthook = lambda ended: _thread_ended(ended, loop, parts.engine)
    parts.engine.on_failure = process.end
    log.info(
        "heartline worker %s on %s (%s)", heartline_version(), settings.kafka.bootstrap, flavour
    )
    status: Any = 0
    try:
        process.execute_from_commandline()
    except SystemExit as ended:
        status = ended.code
    tell_account(parts.engine, summary)
    if parts.engine.failure is not None:
        return FAILED
    return FAILED if status else 0


async def _connect(server: OperatingServer, publisher: Publisher, bootstrap: str) -> None:
    await server.start()
    try:
        await publisher.start()
    except KafkaError as error:
        await server.stop()
        raise CommandFailed(f"no producer at {bootstrap}: {error}") from None


def _thread_ended(
    ended: threading.ExceptHookArgs, loop: asyncio.AbstractEventLoop, engine: Engine
) -> None:
    """A Kafka client's thread ended by an exception: what it did nobody does any more.

    A cancellation is how aiokafka's fetcher ends when it is closed while a broker is away.
    """
    error = ended.exc_value
    log.debug("a thread ended", exc_info=error)
    if isinstance(error, Exception):
        name = ended.thread.name if ended.thread is not None else "a thread"
        failed = EngineFailed(f"{name} of a Kafka client ended: {type(error).__name__}: {error}")
        with contextlib.suppress(RuntimeError):  # The loop is closed: we are at the end anyway.
            loop.call_soon_threadsafe(engine.fail, failed)


def _give_up(loop: asyncio.AbstractEventLoop, engine: Engine, summary: Path | None) -> None:
    """Say what still runs, leave the account, end."""
    try:
        log.warning(
            "did not stop within %g s; still running: %s",
            GIVE_UP_AFTER_S,
            "; ".join(sorted(_place_of(task) for task in asyncio.all_tasks(loop))),
        )
        tell_account(engine, summary)
        logging.shutdown()
    finally:
        os._exit(FAILED if engine.failure is not None else 0)


def _place_of(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=1)
    where = f"{frames[0].f_code.co_qualname}:{frames[0].f_lineno}" if frames else "nowhere"
    return f"{task.get_name()} at {where}"


def tell_account(engine: Engine, summary: Path | None = None) -> dict[str, Any]:
    """Log the account of each input, and write all of it to ``summary`` if that is given."""
    account = engine.account()
    accounts = {
        topic: {name: account[source][name] for name in ACCOUNT}
        for topic, source in engine.sources.items()
    }
    for topic, counts in accounts.items():
        log.info("account of %s: %s", topic, " ".join(f"{k}={v}" for k, v in counts.items()))
    found = {
        "accounts": accounts,
        "dead_letters": {f"{topic} {reason}": n for (topic, reason), n in engine.dead.items()},
        "published": dict(engine.outbox.published),
        "stage_seconds": {k: round(v, 3) for k, v in engine.stages.seconds.items()},
        "failure": None if engine.failure is None else str(engine.failure),
    }
    if summary is not None:
        summary.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return found


def heartline_version() -> str:
    """The installed version."""
    try:
        return version("heartline")
    except PackageNotFoundError:
        return "unknown"
