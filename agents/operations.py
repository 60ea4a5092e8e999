"""The operating endpoint of a worker: /metrics, /healthz, /readyz. Bound to 127.0.0.1 unless
configured.

`/healthz` answers as long as the process lives; `/readyz` answers 200 only while it makes progress,
else 503 with the reasons as JSON. No event, customer or payload can be seen here. Who may ask, and
how much, is in `agents.http_door`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from agents.http_door import STRANGER, HttpServer, protect
from agents.settings import Settings

log = logging.getLogger(__name__)


class OperatingServer:
    """An aiohttp server inside the worker's event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        registry: CollectorRegistry,
        reasons: Callable[[], list[str]],
    ) -> None:
        """Raises SecretUnusable for a token or certificate that can't be used."""
        self._registry = registry
        self._reasons = reasons
        app = web.Application()
        protect(app, "worker", settings)
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
            ]
        )
        self._server = HttpServer(app, "worker", settings)

    async def start(self) -> None:
        """Listen. Raises CommandFailed if the port is taken."""
        await self._server.start()
        log.info("operating endpoint: %s/metrics", self._server.url)

    async def stop(self) -> None:
        """Close the port."""
        await self._server.stop()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": kind})

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, request: web.Request) -> web.Response:
        reasons = self._reasons()
        told = {"ready": not reasons} | ({} if STRANGER in request else {"reasons": reasons})
        return web.json_response(told, status=503 if reasons else 200)
