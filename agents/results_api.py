"""The HTTP face of `heartline serve`: metrics, results, status, health, and the live page.

Every answer is made from one published snapshot of the board, without awaiting in between, so that no
answer mixes two moments. All of it is read-only; nothing here can change what is shown.

    /metrics            business gauges and this process's own counters, Prometheus text
    /api/v1/results     ?metric= &window= &segment= &dimension= &history=   latest results, JSON
    /api/v1/status      what is configured, read and shown
    /api/v1/stream      server-sent events: one ``snapshot`` event whenever something new is shown
    /healthz, /readyz   the process answers; the results topic was read to its end
    /                   the live page: one file, no other host
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

from agents.board import Series, WindowResults
from agents.collector import CONTENT_TYPE, ServeCollector, render
from agents.http_door import ANSWER_S, STRANGER, STREAM
from agents.serving import Serving

SERVING: web.AppKey[Serving] = web.AppKey("serving", Serving)
_MAX_STREAMS: web.AppKey[int] = web.AppKey("max_streams", int)
_STREAM_INTERVAL_S = 0.25
_HEARTBEAT_S = 10.0
_PARAMETERS = frozenset({"metric", "window", "segment", "dimension", "history"})


def create_web(serving: Serving, *, max_streams: int = 200) -> web.Application:
    """The web application over ``serving``, with at most ``max_streams`` streams at a time.

    Who may ask is decided in front of it, by `agents.http_door.protect`.
    """
    app = web.Application(middlewares=[_errors_as_json])
    app[SERVING] = serving
    app[_MAX_STREAMS] = max_streams
    page, policy = _live_page()

    async def live_page(_request: web.Request) -> web.Response:
        return web.Response(
            text=page,
            content_type="text/html",
            headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"},
        )

    app.router.add_get("/", live_page)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/api/v1/results", _results)
    app.router.add_get("/api/v1/status", _status)
    app.router.add_get("/api/v1/stream", _stream)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    return app


def _live_page() -> tuple[str, str]:
    """The page and the policy that lets exactly its own script and style run."""
    text = files("agents").joinpath("static/live.html").read_text(encoding="utf-8")
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
            for body in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return text, policy


@web.middleware
async def _errors_as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    """Errors of a query become JSON."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPBadRequest as error:
        response = _json({"error": error.text}, status=400)
    except web.HTTPNotFound:
        response = _json({"error": f"nothing at {request.path}"}, status=404)
    return response


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    trouble = request.app[SERVING].not_ready()
    told = "not ready" if trouble and STRANGER in request else trouble
    return web.Response(text=f"{told or 'ready'}\n", status=503 if trouble else 200)


async def _metrics(request: web.Request) -> web.Response:
    serving = request.app[SERVING]
    own = ServeCollector(
        serving.board,
        caught_up=serving.is_caught_up,
        records=serving.records_read,
        undecodable=serving.undecodable,
    )
    body = serving.exposition.business(serving.board.snapshot) + render(own)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def _status(request: web.Request) -> web.Response:
    return _json(request.app[SERVING].status())


async def _results(request: web.Request) -> web.Response:
    query = request.query
    unknown = sorted(set(query) - _PARAMETERS)
    if unknown:
        _refuse(f"unknown parameter {unknown[0]!r}: allowed are {', '.join(sorted(_PARAMETERS))}")
    serving = request.app[SERVING]
    return _json(
        results_document(
            serving,
            windows=query.getall("window", []),
            metrics=query.getall("metric", []),
            segment=query.get("segment"),
            dimension=query.get("dimension"),
            history=_history_limit(query.get("history", "0"), serving.history_limit),
        )
    )


def results_document(
    serving: Serving,
    *,
    windows: Sequence[str] = (),
    metrics: Collection[str] = (),
    segment: str | None = None,
    dimension: str | None = None,
    history: int = 0,
) -> dict[str, Any]:
    """What `/api/v1/results` answers, from one snapshot. Raises HTTPBadRequest for unknown names."""
    for name in metrics:
        if name not in serving.metric_names:
            _refuse(f"unknown metric {name!r}; /api/v1/status lists them")
    snapshot = serving.board.snapshot
    chosen = _chosen_windows(serving, windows)
    found = [
        {
            **msgspec.structs.asdict(result),
            **({"history": _history(window, series, history)} if history else {}),
        }
        for window in chosen
        for series, result in window.results.items()
        if (not metrics or series.metric in metrics)
        and _matches(series.segment, segment, "everyone")
        and _matches(series.dimensions, dimension, "total")
    ]
    return {
        "version": snapshot.version,
        "now_ms": serving.now_ms(),
        "windows": [serving.describe(window) for window in chosen],
        "results": found,
    }


def _chosen_windows(serving: Serving, names: Sequence[str]) -> list[WindowResults]:
    """The shown windows among ``names`` (``5m`` or ``5m/10s``); all when none is named."""
    configured = serving.board.names
    for name in names:
        if not any(name in (one, one.partition("/")[0]) for one in configured):
            _refuse(f"unknown window {name!r}: configured are {', '.join(configured)}")
    shown = serving.board.snapshot.windows.values()
    return [one for one in shown if not names or one.name in names or one.window in names]


def _history_limit(text: str, limit: int) -> int:
    if not text.isdecimal() or int(text) > limit:
        _refuse(f"history takes the number of points, 0 to {limit}; got {text!r}")
    return int(text)


def _matches(labels: tuple[tuple[str, str], ...], wanted: str | None, whole: str) -> bool:
    """``wanted``: None = any, ``whole`` = no label, ``name`` = any value of it, ``name=value``."""
    if wanted is None:
        return True
    if wanted == whole:
        return not labels
    name, equals, value = wanted.partition("=")
    return any(name == one and (not equals or value == other) for one, other in labels)


def _history(window: WindowResults, series: Series, limit: int) -> list[list[float | None]]:
    """Rows of end_ms, value, low, high; what is undefined is null."""
    return [
        [point.end_ms, *(None if number != number else number for number in point[1:])]  # noqa: PLR0124 - only NaN differs from itself
        for point in window.points(series, limit)
    ]


def _refuse(text: str) -> None:
    raise web.HTTPBadRequest(text=text)


async def _stream(request: web.Request) -> web.StreamResponse:
    serving = request.app[SERVING]
    most = request.app[_MAX_STREAMS]
    if serving.streams >= most:
        return _json({"error": f"{most} streams are open already; poll instead"}, status=503)
    request[STREAM] = True
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    serving.streams += 1
    try:
        await _send_changes(serving, response)
    except (ConnectionError, TimeoutError, asyncio.CancelledError):
        pass
    finally:
        serving.streams -= 1
    return response


async def _send_changes(serving: Serving, response: web.StreamResponse) -> None:
    """One event whenever the version changes, at most four a second, and a heartbeat between."""
    told, quiet_s = -1, 0.0
    while not serving.is_ending:
        version = serving.board.snapshot.version
        if version != told:
            told, quiet_s = version, 0.0
            await _write(response, f'event: snapshot\ndata: {{"version":{version}}}\n\n'.encode())
        elif quiet_s >= _HEARTBEAT_S:
            quiet_s = 0.0
            await _write(response, b": still here\n\n")
        await asyncio.sleep(_STREAM_INTERVAL_S)
        quiet_s += _STREAM_INTERVAL_S


async def _write(response: web.StreamResponse, event: bytes) -> None:
    """Send one event. Raises TimeoutError where nobody takes it."""
    async with asyncio.timeout(ANSWER_S):
        await response.write(event)
