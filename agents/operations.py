"""The operating endpoint of a worker: /metrics, /healthz, /readyz. Bound to 127.0.0.1 unless
configured.

`/healthz` answers as long as the process lives; `/readyz` answers 200 only while it makes progress,
else 503 with the reasons as JSON. No event, customer or payload can be seen here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from agents.failures import CommandFailed

log = logging.getLogger(__name__)


class OperatingServer:
    """An aiohttp server inside the worker's event loop."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        reasons: Callable[[], list[str]],
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._reasons = reasons
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises CommandFailed if the port is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.stop()
            raise CommandFailed(
                f"can't listen on {self._host}:{self._port} ({error.strerror}): set [worker] port or "
                "HEARTLINE_WORKER_PORT to a free one"
            ) from None
        log.info("operating endpoint: http://%s:%s/metrics", self._host, self._port)

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": kind})

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        reasons = self._reasons()
        return web.json_response(
            {"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200
        )
