"""Where a terminal view gets its figures: from a running `heartline serve`, or from the results topic.

Both give the same two documents, status and results, as the HTTP API does.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import Any, Protocol

from agents.failures import CommandFailed
from agents.http_access import is_open
from agents.terminal import METRICS_SHOWN

Document = dict[str, Any]
HISTORY = 61
_TIMEOUT_S = 2.0


class Unreachable(CommandFailed):
    """Nobody answers there just now."""


class Source(Protocol):
    """Gives the newest documents."""

    def look(self) -> tuple[Document, Document]:
        """Status and results (totals for everyone, with history). Raises `Unreachable`."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it would carry the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class ServeSource:
    """A running `heartline serve`, over HTTP."""

    def __init__(
        self, url: str, *, token: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        """``url``: its address, such as http://127.0.0.1:8077. ``context`` by what https is trusted.

        A ``token`` is sent by https or on this machine only. Raises `CommandFailed`.
        """
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise CommandFailed(f"--url takes http://HOST:PORT of a running serve; got {url!r}")
        host = urllib.parse.urlsplit(self.url).hostname or ""
        if token and self.url.startswith("http://") and is_open(host):
            raise CommandFailed(
                f"{self.url} would be sent the token unencrypted: use https, or take HEARTLINE_SERVE_TOKEN "
                "and [serve] token_file out"
            )
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._opener = urllib.request.build_opener(
            _NoRedirect, urllib.request.HTTPSHandler(context=context)
        )
        self._results: Document | None = None

    def look(self) -> tuple[Document, Document]:
        """Results are fetched only when there is something new."""
        status = self._get("/api/v1/status")
        if self._results is None or self._results["version"] != status["version"]:
            names = {one["name"] for one in status["metrics"]}
            query = urllib.parse.urlencode(
                [
                    ("segment", "everyone"),
                    ("dimension", "total"),
                    ("history", min(HISTORY, status["history_points"])),
                    *(("metric", name) for name in METRICS_SHOWN if name in names),
                ]
            )
            self._results = self._get(f"/api/v1/results?{query}")
        fresh = {one["name"]: one for one in status["windows"] if one["end_ms"] is not None}
        # Between two snapshots only ages change.
        windows = [fresh.get(one["name"], one) for one in self._results["windows"]]
        return status, {**self._results, "now_ms": status["now_ms"], "windows": windows}

    def _get(self, path: str) -> Document:
        request = urllib.request.Request(self.url + path, headers=self._headers)  # noqa: S310 - http(s) only, see __init__
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                document: Document = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.UNAUTHORIZED:
                raise Unreachable(f"{self.url} answers with status {error.code}") from None
            raise CommandFailed(
                f"{self.url} asks for its token: set HEARTLINE_SERVE_TOKEN or [serve] token_file"
            ) from None
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(
                f"no heartline serve answers at {self.url} ({reason}): start one with "
                "'heartline serve', or give --bootstrap to read the results topic itself"
            ) from None
        return document


class TopicSource:
    """The results topic itself, read by a thread of our own."""

    def __init__(self, settings: Any) -> None:
        """``settings``: `agents.settings.Settings`, with the bootstrap to use."""
        from agents.serve import create_serving

        self._loop = asyncio.new_event_loop()
        self._serving = create_serving(settings)
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.create_task(self._serving.follow())
        self._loop.run_forever()

    def look(self) -> tuple[Document, Document]:
        """Made in the thread of the reader, so that it never sees a half-taken batch."""
        return asyncio.run_coroutine_threadsafe(self._documents(), self._loop).result(_TIMEOUT_S)

    async def _documents(self) -> tuple[Document, Document]:
        from agents.results_api import results_document

        return self._serving.status(), results_document(
            self._serving,
            metrics=[name for name in METRICS_SHOWN if name in self._serving.metric_names],
            segment="everyone",
            dimension="total",
            history=HISTORY,
        )
