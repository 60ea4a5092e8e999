"""The process of `heartline serve`: read the results topic, answer HTTP, until a signal.

Stateless: whatever it shows it has read from the results topic since its start. It is ready
(`/readyz`) when it has read that topic to its end. Exit status 0 after SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal

from agents.collector import EVERYONE
from agents.exported import exported_metrics
from agents.failures import Unusable
from agents.http_door import HttpServer, protect
from agents.kafka_client import client_arguments
from agents.kafka_probe import probe
from agents.results_api import create_web
from agents.results_reader import TopicTail
from agents.serving import Serving
from agents.settings import Settings
from streams.segments import Own

log = logging.getLogger(__name__)

LOOKBACK_HOPS = 3
MIN_LOOKBACK_MS = 3_600_000


def create_serving(settings: Settings) -> Serving:
    """Wire the board to the results topic. Raises `Unusable` where labels would be ambiguous."""
    config = settings.core(keyless=True)
    windows = tuple((str(window), window.hop_ms) for window in config.windows.windows)
    columns = config.segments.columns()
    for column in (one for own in Own for one in config.segments.columns(own)):
        for name, value in (column.segment | column.dimensions).items():
            if value == EVERYONE:
                raise Unusable(
                    f"{name} can't have a value {EVERYONE!r}: on /metrics that means everyone"
                )
    segments: dict[str, tuple[str, ...]] = {}
    for name in config.segments.names:
        segments[name] = tuple(one.segment[name] for one in columns if name in one.segment)
    longest_hop_ms = max(hop_ms for _, hop_ms in windows)
    arguments = client_arguments(settings)
    return Serving(
        windows=windows,
        segments=segments,
        channels=config.segments.channel.all,
        metrics=exported_metrics(),
        currency=settings.currencies.reporting,
        tail=TopicTail(
            settings.topics().results,
            arguments,
            lookback_ms=max(LOOKBACK_HOPS * longest_hop_ms, MIN_LOOKBACK_MS),
            probe=lambda: probe(settings, arguments),
        ),
    )


async def serve(settings: Settings, serving: Serving) -> None:
    """Answer until SIGTERM or SIGINT. Raises `CommandFailed` if the port is taken."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    app = create_web(serving, max_streams=settings.serve.max_streams)
    protect(app, "serve", settings)
    server = HttpServer(app, "serve", settings, shutdown_s=2.0)
    await server.start()
    log.info("live page, /metrics and API: %s/", server.url)
    reading = asyncio.create_task(serving.follow(), name="results")
    reading.add_done_callback(lambda _task: ended.set())
    # The many small objects of the history live long: the collector need not walk them so often.
    gc.set_threshold(50_000, 20, 50)
    try:
        await ended.wait()
        if reading.done():
            reading.result()
    finally:
        serving.is_ending = True
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await server.stop()
