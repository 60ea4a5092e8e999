"""The live page in a real Chromium: it runs under its own policy and shows the board's figures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse
from aiohttp.test_utils import TestServer

from agents.collector import Exported
from agents.http_door import protect
from agents.results_api import create_web
from agents.serving import Serving
from agents.settings import Settings
from schemas.records import PublishedResult
from tests.rig.needs import needs_chromium
from tests.rig.processes import PATIENCE_SECONDS

pytestmark = [needs_chromium, pytest.mark.timeout(300)]

WINDOWS = (("5m/10s", 10_000), ("1h/1m", 60_000))
SEGMENTS = {"persona": ("loyal", "regular", "other"), "region": ("north", "south")}
COUNTS = (
    "page_views",
    "visitors",
    "sessions_started",
    "sessions_closed",
    "sessions_converted",
    "orders",
    "buyers",
    "new_buyers",
    "repeat_orders",
    "active_customers",
    "new_customers",
    "returning_customers",
    "active_days",
    "base_customers",
    "retained_customers",
    "churned_customers",
    "reactivated_customers",
)
MONEY = ("revenue", "refunded", "net_revenue")
PROPORTIONS = (
    "session_conversion_ratio",
    "visitor_conversion_ratio",
    "bounce_ratio",
    "repeat_buyer_ratio",
    "retention_ratio",
    "churn_ratio",
)
MEANS = ("average_order_value", "return_frequency", "sessions_per_visitor")
SECONDS = (
    "session_duration_seconds",
    "session_duration_seconds_p50",
    "session_duration_seconds_p90",
    "visit_interval_seconds",
)


def exported() -> list[Exported]:
    """The declarations that the page needs."""
    groups = (
        ("Counts", COUNTS, "customers"),
        ("Money", MONEY, "currency"),
        ("Ratios", PROPORTIONS, "ratio"),
        ("Means", MEANS, ""),
        ("Times", SECONDS, "seconds"),
    )
    return [
        Exported(
            name,
            help=name.replace("_", " "),
            unit=unit,
            group=group,
            has_parts=group in {"Ratios", "Means"},
            has_interval=group == "Ratios",
        )
        for group, names, unit in groups
        for name in names
    ]


def figure(metric: str, step: int, share: float) -> tuple[float | None, float | None, float | None]:
    """Value, numerator, denominator: a slow wave, so that plots have a shape."""
    wave = (1 + 0.25 * ((step % 17) / 17) - 0.1 * ((step % 5) / 5)) * share
    if metric in PROPORTIONS:
        n = round(900 * wave)
        part = round(
            n * {"retention_ratio": 0.71, "churn_ratio": 0.29}.get(metric, 0.083) / share * wave
        )
        return part / n, part, n
    if metric in SECONDS:
        return 187.4 * wave / share, None, None
    if metric in MEANS:
        return 1.43 * wave / share, 143, 100
    if metric in MONEY:
        return round(18_250.5 * wave, 2), None, None
    return round(640 * wave), None, None


def tick(end_ms: int, window: str, step: int, *, warm: bool = True) -> list[PublishedResult]:
    """Everything that one window says at one end."""
    size, _, hop = window.partition("/")
    columns: list[tuple[dict[str, str], float]] = [({}, 1.0)]
    columns += [
        ({name: value}, 0.2 + 0.15 * place)
        for name, values in SEGMENTS.items()
        for place, value in enumerate(values)
    ]
    names = [metric.name for metric in exported()]
    results = []
    for metric in names:
        for segment, share in columns:
            cold = not warm and metric in {"retention_ratio", "churn_ratio", "base_customers"}
            value, numerator, denominator = (
                (None, None, None) if cold else figure(metric, step, share)
            )
            proportion = metric in PROPORTIONS and value is not None
            results.append(
                PublishedResult(
                    metric=metric,
                    window=size,
                    hop=hop,
                    at="",
                    segment=segment,
                    dimensions={},
                    value=value,
                    numerator=numerator,
                    denominator=denominator,
                    n=None if denominator is None else int(denominator),
                    low=value - 0.02 if proportion and value is not None else None,
                    high=value + 0.02 if proportion and value is not None else None,
                    complete=not cold,
                    result_id=f"{metric}{segment}{end_ms}",
                    end_ms=end_ms,
                    revision=0,
                    watermark_ms=end_ms,
                    missing_partitions=0,
                    results_in_tick=len(names) * len(columns),
                )
            )
    return results


class QuietTail:
    """A tail that has read everything."""

    is_caught_up = True
    trouble: str | None = None
    records_read = 0

    async def batches(self) -> AsyncIterator[tuple[()]]:
        """Nothing more comes."""
        yield ()


def filled(ends: int = 70) -> Serving:
    """A serving state that ends now."""
    serving = Serving(
        windows=WINDOWS,
        segments=SEGMENTS,
        channels=("email",),
        metrics=exported(),
        tail=QuietTail(),
        currency="EUR",
    )
    for window, hop_ms in WINDOWS:
        now = int(time.time() * 1000) // hop_ms * hop_ms
        for step in range(ends):
            end_ms = now - (ends - 1 - step) * hop_ms
            warm = window == "5m/10s"
            serving.take(msgspec.json.encode(one) for one in tick(end_ms, window, step, warm=warm))
    return serving


class Page:
    """One page in a headless Chromium, driven over its debugging protocol."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._password = ""
        self.asked_for_password = 0
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method and give its result; what the page logged meanwhile is kept."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=60)
            if answer.get("id") == self._number:
                return answer["result"]
            if answer.get("method") in {"Log.entryAdded", "Runtime.exceptionThrown"}:
                self.complaints.append(str(answer["params"]))
            if str(answer.get("method")).startswith("Fetch."):
                await self._let_pass(answer["method"], answer["params"]["requestId"])

    async def type_password(self, password: str) -> None:
        """From here on answer as a person would whom the browser asks for a name and a password."""
        self._password = password
        await self.call("Fetch.enable", handleAuthRequests=True)

    async def _let_pass(self, event: str, request: str) -> None:
        command: dict[str, Any] = {"method": "Fetch.continueRequest"}
        parameters: dict[str, Any] = {"requestId": request}
        if event == "Fetch.authRequired":
            self.asked_for_password += 1
            command["method"] = "Fetch.continueWithAuth"
            parameters["authChallengeResponse"] = {
                "response": "ProvideCredentials",
                "username": "anybody",
                "password": self._password,
            }
        await self._socket.send_json({"id": 0, "params": parameters, **command})

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, script: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while not await self.evaluate(script):
            assert time.monotonic() < deadline, f"not within {seconds} s: {script}"
            await asyncio.sleep(0.1)

    async def picture(self, file: Path) -> None:
        """A screenshot of the visible part."""
        answer = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(answer["data"]))  # noqa: ASYNC240 - nothing else runs here


@contextlib.asynccontextmanager
async def opened(url: str, folder: Path, size: str = "1280,1500") -> AsyncIterator[Page]:
    """Chromium with ``url`` open."""
    profile = folder / "profile"
    process = await asyncio.create_subprocess_exec(
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        f"--window-size={size}",
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not port_file.exists() or not port_file.read_text():
            assert time.monotonic() < deadline, "chromium did not start"
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                target = next(one for one in await answer.json() if one["type"] == "page")
            socket_url = target["webSocketDebuggerUrl"]
            async with session.ws_connect(socket_url, max_msg_size=2**26) as socket:
                page = Page(socket)
                for domain in ("Log", "Runtime", "Page"):
                    await page.call(f"{domain}.enable")
                await page.call("Page.navigate", url=url)
                yield page
                with contextlib.suppress(ConnectionError, KeyError, TypeError, ValueError):
                    await page.call("Browser.close")
    finally:
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def served(serving: Serving, token: str | None = None) -> AsyncIterator[str]:
    """The web application of ``serving``, behind its door; its address."""
    app = create_web(serving)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEARTLINE_SERVE_TOKEN", token or "")
        protect(app, "serve", Settings())
    async with TestServer(app, host="127.0.0.1") as server:
        try:
            yield f"http://127.0.0.1:{server.port}/"
        finally:
            serving.is_ending = True


READY = 'document.body !== null && document.body.dataset.ready === "yes"'


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_page_shows_the_figures_of_the_board(tmp_path: Path, theme: str) -> None:
    serving = filled()
    picture = Path(os.environ.get("HEARTLINE_PICTURES", tmp_path)) / f"live-{theme}.png"
    async with served(serving) as url, opened(f"{url}?theme={theme}", tmp_path) as page:
        await page.until(READY)
        text = await page.evaluate("document.body.innerText")
        state = await page.evaluate('document.getElementById("state").dataset.state')
        plots = await page.evaluate("document.querySelectorAll('svg[role=img]').length")
        await page.picture(picture)
        complaints = page.complaints
    assert complaints == []
    shown = {
        series.metric: result.value
        for series, result in serving.board.snapshot.windows["5m/10s"].results.items()
        if not series.segment
    }
    assert f"{shown['orders']:,}" in text
    assert f"{shown['revenue']:,.2f}" in text
    ratio = shown["session_conversion_ratio"]
    assert ratio is not None
    assert f"{ratio * 100:.2f} %" in text or f"{ratio * 100:.1f} %" in text
    assert (state, plots) == ("live", 8)
    assert "by persona" in text
    assert picture.stat().st_size > 20_000


async def test_the_token_opens_the_page_and_its_stream_as_a_password(tmp_path: Path) -> None:
    serving, token = filled(ends=3), "the-token-of-this-test"
    async with served(serving, token) as url, opened("about:blank", tmp_path) as page:
        await page.type_password(token)
        # The answer to this call comes with the page, and the page after the password.
        await page.call("Page.navigate", url=url)
        await page.until(READY)
        await page.until("stream.readyState === 1")
        assert page.asked_for_password == 1
        assert page.complaints == []


async def test_new_figures_appear_without_reloading(tmp_path: Path) -> None:
    serving = filled(ends=3)
    async with served(serving) as url, opened(url, tmp_path) as page:
        await page.until(READY)
        # From here on the page does not ask by itself: the stream alone can tell it.
        await page.until("stream.readyState === 1")
        await page.evaluate("for (let timer = 1; timer < 1000; timer += 1) clearInterval(timer)")
        end_ms = serving.board.snapshot.windows["5m/10s"].end_ms + 10_000
        serving.take(
            msgspec.json.encode(msgspec.structs.replace(one, value=87_654))
            for one in tick(end_ms, "5m/10s", 9)
        )
        await page.until('document.body.innerText.includes("87,654")')


async def test_the_window_can_be_chosen_and_says_warming_up_instead_of_a_zero(
    tmp_path: Path,
) -> None:
    async with served(filled(ends=3)) as url, opened(url, tmp_path) as page:
        await page.until(READY)
        await page.evaluate("document.querySelectorAll('input[name=window]')[1].click()")
        await page.until("document.querySelector('[data-key=churn]').innerText.includes('warming')")
        churn = await page.evaluate("document.querySelector('[data-key=churn]').innerText")
    assert "warming up" in churn
    assert "0.0" not in churn


async def test_the_page_says_so_while_nothing_is_shown(tmp_path: Path) -> None:
    async with served(filled(ends=0)) as url, opened(url, tmp_path) as page:
        await page.until('document.body !== null && document.body.dataset.ready === "no"')
        text = await page.evaluate("document.body.innerText")
    assert "waiting for the first whole result" in text


async def test_a_lost_connection_is_told_and_the_last_figures_stay(tmp_path: Path) -> None:
    serving = filled(ends=3)
    async with contextlib.AsyncExitStack() as stack:
        server = contextlib.AsyncExitStack()
        url = await server.enter_async_context(served(serving))
        page = await stack.enter_async_context(opened(url, tmp_path))
        await page.until(READY)
        await server.aclose()
        await page.until('document.getElementById("state").dataset.state === "lost"')
        text = await page.evaluate("document.body.innerText")
    assert "connection lost" in text
    assert "the last that were received" in text
