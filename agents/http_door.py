"""Who may ask our HTTP servers, and how much: the same for a worker's endpoint and for ``serve``.

Rules:
- With a token, every request needs it: ``Authorization: Bearer TOKEN``, or Basic with the token as
  the password and any name, because that is what a browser can send for the live page and its
  stream. It is compared in constant time. ``/healthz`` stays open; to a stranger ``/readyz`` says
  no more than its status.
- Without a token a server of this machine's own answers only who calls it by a name of this machine
  or one of ``host_names``: else any web page could have a browser here read it, under a name of its
  own that it makes lead to 127.0.0.1.
- With a certificate the server speaks TLS 1.2 or newer, and nothing else.
- Only GET and HEAD, no body; a request line or header of at most 8 KiB, 64 headers.
- A connection gets HEAD_S for its first request, KEEP_S between two, ANSWER_S to take an answer
  (streams excepted, which are ended when a write isn't taken within ANSWER_S). Past
  ``max_connections`` a new one is turned away with 503.
- Every answer carries headers by which a browser treats it as what it is and nothing more.

Nothing is served from a directory.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from agents.failures import CommandFailed
from agents.http_access import Section, is_open, read_token
from agents.secret import Secret
from agents.settings import Serve, Settings, Worker
from agents.tls import show_certificate

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LONGEST_HEADER = 8_190
MOST_HEADERS = 64
HEAD_S = 10.0
KEEP_S = 15.0
ANSWER_S = 30.0
_SWEEP_S = 1.0
OPEN_PATHS = frozenset({"/healthz"})
STRANGER: web.RequestKey[bool] = web.RequestKey("stranger", bool)
"""Set on a request to ``/readyz`` that came without the token."""
STREAM: web.RequestKey[bool] = web.RequestKey("stream", bool)
"""Set by a handler whose answer has no end."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "heartline",
}


def server_context(section: Section, settings: Settings) -> ssl.SSLContext | None:
    """TLS of a server, or None for plain HTTP. Raises SecretUnusable."""
    http: Worker | Serve = getattr(settings, section)
    if not http.certificate_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    show_certificate(
        context, http.certificate_file, http.key_file, f"{settings.source}: [{section}]"
    )
    return context


def protect(app: web.Application, section: Section, settings: Settings) -> None:
    """Put the door in front of ``app``. Called once, before it runs.

    Raises SecretUnusable for a token that can't be used.
    """
    http: Worker | Serve = getattr(settings, section)
    token = read_token(section, settings)
    names = None if token is not None or is_open(http.host) else frozenset(http.host_names)
    app.middlewares.insert(0, _guard(token, names, section))
    app.on_response_prepare.append(_add_headers)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        if name not in response.headers or name == "Server":
            response.headers[name] = value


def _guard(token: Secret | None, names: frozenset[str] | None, section: Section) -> Any:
    expected = None if token is None else _digest(str(token))

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in {"GET", "HEAD"}:
            return _refusal(405, "only GET and HEAD", {"Allow": "GET, HEAD"})
        if names is not None and not _is_ours(request.host, names):
            return _refusal(421, f"not known here by this name: see [{section}] host_names", {})
        if request.can_read_body:
            return _refusal(413, "no request here has a body", {"Connection": "close"})
        if expected is not None and request.path not in OPEN_PATHS:
            shown = _shown_token(request.headers.get("Authorization", ""))
            if not hmac.compare_digest(_digest(shown), expected):
                if request.path != "/readyz":
                    # Two headers: programs look for Bearer, a browser asks its user for Basic.
                    answer = _refusal(401, "this needs the token", {})
                    answer.headers.add("WWW-Authenticate", 'Bearer realm="heartline"')
                    answer.headers.add("WWW-Authenticate", 'Basic realm="heartline"')
                    return answer
                request[STRANGER] = True
        return await handler(request)

    return guard


def _is_ours(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header, with or without a port, names this machine or is one of ``names``."""
    name = host.rpartition("]")[0].removeprefix("[") if "]" in host else host.partition(":")[0]
    return name.lower() in names or not is_open(name.lower())


def _digest(text: str) -> bytes:
    """Of one length for every text, so that a comparison doesn't tell how long the token is."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _shown_token(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    return ""


def _refusal(status: int, text: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"error": text}, status=status, headers=headers)


class HttpServer:
    """One listening address with its limits, in the running event loop."""

    def __init__(
        self,
        app: web.Application,
        section: Section,
        settings: Settings,
        *,
        shutdown_s: float = 1.0,
    ) -> None:
        """``app`` as `protect` left it. Raises SecretUnusable for a certificate that can't be used."""
        http: Worker | Serve = getattr(settings, section)
        self._section = section
        self._host, self._port = http.host, http.port
        self._context = server_context(section, settings)
        self._limit = http.max_connections
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=shutdown_s,
            keepalive_timeout=KEEP_S,
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            max_headers=MOST_HEADERS,
            lingering_time=1.0,
        )
        self._sweeping: asyncio.Task[None] | None = None
        self.turned_away = 0

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        scheme = "http" if self._context is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._runner.addresses[0][1]}"

    async def start(self) -> None:
        """Listen. Raises CommandFailed if the port is taken."""
        await self._runner.setup()
        site = _Site(self._runner, self._host, self._port, self._context, self._accept)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise CommandFailed(
                f"can't listen on {self._host}:{self._port} ({error.strerror or error}): set "
                f"[{self._section}] port, HEARTLINE_{self._section.upper()}_PORT or --port to a free one"
            ) from None
        self._sweeping = asyncio.create_task(self._sweep(), name="http-sweep")

    async def stop(self) -> None:
        """Close the port and what is connected."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        await self._runner.cleanup()

    def _accept(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None or len(server.connections) >= self._limit:
            self.turned_away += 1
            return _Turned()
        return server()

    async def _sweep(self) -> None:
        """End connections that take longer than they may. aiohttp has no such limits of its own."""
        seen: dict[Any, tuple[object, float]] = {}
        while True:
            await asyncio.sleep(_SWEEP_S)
            server = self._runner.server
            before, seen = seen, {}
            for connection in server.connections if server is not None else ():
                seen[connection] = self._judge(connection, before.get(connection))

    @staticmethod
    def _judge(connection: Any, before: tuple[object, float] | None) -> tuple[object, float]:
        """End ``connection`` if it has been in its state for too long; its state, and since when."""
        now = time.monotonic()
        # aiohttp alone knows how many requests have come and whether one is being answered.
        asked, is_answering = connection._request_count, connection._request_in_progress  # noqa: SLF001
        state = (asked, is_answering)
        if before is None or before[0] != state:
            return state, now
        request = connection._current_request  # noqa: SLF001
        silent_s = now - before[1]
        if not asked and silent_s > HEAD_S:
            connection.force_close()
        elif is_answering and silent_s > ANSWER_S and not (request and STREAM in request):
            transport = connection.transport
            connection.force_close()
            if transport is not None:
                transport.abort()
        return before


class _Site(web.BaseSite):
    """A listener whose connections pass `accept` first."""

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        accept: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        super().__init__(runner, ssl_context=context)
        self._host, self._port, self._accept = host, port, accept

    @property
    def name(self) -> str:
        """For aiohttp's own messages."""
        return f"{self._host}:{self._port}"

    async def start(self) -> None:
        """Bind and listen."""
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            self._host,
            self._port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=None if self._ssl_context is None else HEAD_S,
        )


class _Turned(asyncio.Protocol):
    """What a connection gets that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer at once; what was asked doesn't matter."""
        if isinstance(transport, asyncio.Transport):
            transport.write(
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\n"
                b"Connection: close\r\n\r\n"
            )
        transport.close()
