import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from agents import http_door
from agents.failures import CommandFailed
from agents.http_access import is_open, read_token
from agents.http_door import STRANGER, STREAM, HttpServer, protect
from agents.secret import SecretUnusable
from agents.settings import Settings
from agents.watching import ServeSource, Unreachable
from tests.rig.certificates import Authority

pytestmark = pytest.mark.usefixtures("no_secrets_of_others")

TOKEN = "a-token-of-the-tests-1234"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BIG = b"x" * 30_000_000

Serving = Callable[..., contextlib.AbstractAsyncContextManager[HttpServer]]


async def _hello(request: web.Request) -> web.Response:
    return web.json_response({"stranger": STRANGER in request, "status": "hello"})


async def _big(_request: web.Request) -> web.Response:
    return web.Response(body=BIG)


async def _stream(request: web.Request) -> web.StreamResponse:
    request[STREAM] = True
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(20):
        await response.write(b"on\n")
        await asyncio.sleep(0.05)
    return response


@contextlib.asynccontextmanager
async def serving(token: str | None = None, **http: Any) -> AsyncIterator[HttpServer]:
    settings = Settings.from_mapping(
        {"worker": {"port": 0, **http}}, source="heartline.toml", environment={}
    )
    app = web.Application()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEARTLINE_WORKER_TOKEN", token or "")
        protect(app, "worker", settings)
    for path in ("/", "/healthz", "/readyz"):
        app.router.add_get(path, _hello)
    app.router.add_get("/big", _big)
    app.router.add_get("/stream", _stream)
    server = HttpServer(app, "worker", settings, shutdown_s=0.1)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(
    server: HttpServer, path: str = "/", method: str = "GET", **options: Any
) -> tuple[int, dict[str, str], Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, server.url + path, **options) as answer,
    ):
        text = await answer.text()
        return answer.status, dict(answer.headers), json.loads(text) if text else None


def port_of(server: HttpServer) -> int:
    return int(server.url.rpartition(":")[2])


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


# -- who may ask -------------------------------------------------------------------------------


async def test_without_a_token_nobody_is_asked_for_one() -> None:
    async with serving() as server:
        assert (await ask(server))[0] == 200


@pytest.mark.parametrize("headers", [BEARER, basic(TOKEN), {"Authorization": f"bearer {TOKEN}"}])
async def test_the_token_opens_as_bearer_and_as_password(headers: dict[str, str]) -> None:
    async with serving(TOKEN) as server:
        assert (await ask(server, headers=headers))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": f"Digest {TOKEN}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()},
        basic(""),
        basic(TOKEN + "x"),
    ],
)
async def test_anything_else_is_401_and_tells_a_browser_to_ask(headers: dict[str, str]) -> None:
    async with (
        serving(TOKEN) as server,
        aiohttp.ClientSession() as session,
        session.get(server.url, headers=headers) as answer,
    ):
        assert answer.status == 401
        assert [one.partition(" ")[0] for one in answer.headers.getall("WWW-Authenticate")] == [
            "Bearer",
            "Basic",
        ]
        assert TOKEN not in await answer.text()


async def test_a_path_that_is_not_there_needs_the_token_too() -> None:
    async with serving(TOKEN) as server:
        assert (await ask(server, "/nothing"))[0] == 401
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.url + "/../../etc/passwd", headers=BEARER) as answer,
        ):
            assert answer.status == 404


async def test_health_is_open_and_readiness_gives_a_stranger_no_reasons() -> None:
    async with serving(TOKEN) as server:
        assert (await ask(server, "/healthz"))[0] == 200
        assert (await ask(server, "/readyz"))[2]["stranger"] is True
        assert (await ask(server, "/readyz", headers=BEARER))[2]["stranger"] is False


@pytest.mark.parametrize(
    "token", ["short", "x" * 15, "with a space in it 1234", "ünïcödé-ünïcödé-ü"]
)
def test_a_token_that_is_easily_guessed_or_sent_wrongly_is_refused(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTLINE_SERVE_TOKEN", token)
    settings = Settings.from_mapping({}, source="t", environment={})
    with pytest.raises(SecretUnusable, match="openssl rand -hex 24") as caught:
        read_token("serve", settings)
    assert token not in str(caught.value)
    assert read_token("worker", settings) is None


def test_a_token_in_the_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[worker\] token: a secret may not stand in this file"):
        Settings.from_mapping({"worker": {"token": TOKEN}}, source="t", environment={})


@pytest.mark.parametrize(
    "name, status",
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8077", 200),
        ("localhost:1", 200),
        ("LOCALHOST", 200),
        ("[::1]:8077", 200),
        ("metrics.example.org", 200),
        ("metrics.example.org:443", 200),
        ("rebound.attacker.example", 421),
        ("rebound.attacker.example:8077", 421),
        ("10.0.0.7", 421),
        ("localhost.attacker.example", 421),
    ],
)
async def test_without_a_token_a_strange_name_that_leads_here_opens_nothing(
    name: str, status: int
) -> None:
    async with serving(host_names=["metrics.example.org"]) as server:
        assert (await ask(server, headers={"Host": name}))[0] == status
    async with serving(TOKEN) as server:
        # With a token the name doesn't matter: no page has it.
        assert (await ask(server, headers={"Host": name, **BEARER}))[0] == 200


async def test_a_server_for_others_is_called_by_any_name() -> None:
    async with serving(host="0.0.0.0") as server:  # noqa: S104 - that is what is tested
        url = f"http://127.0.0.1:{port_of(server)}/"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers={"Host": "metrics.example.org"}) as answer,
        ):
            assert answer.status == 200


# -- how much ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_get_and_head(method: str) -> None:
    async with serving() as server:
        status, headers, _ = await ask(server, method=method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        assert (await ask(server, method="HEAD"))[0] == 200


async def test_a_body_is_refused_unread() -> None:
    async with serving() as server:
        assert (await ask(server, data=b"{}"))[0] == 413


@pytest.mark.parametrize(
    "head, status",
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"y" * 8_000), b"200"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"y" * 9_000), b"400"),
        (b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"y" * 9_000), b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (b"A: b\r\n" * 200), b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
    ],
)
async def test_heads_are_bounded(head: bytes, status: bytes) -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(head)
        line = await asyncio.wait_for(reader.readline(), 5)
        assert line.split()[1] == status
        writer.close()


async def test_a_connection_too_many_is_turned_away_and_the_others_go_on() -> None:
    async with serving(max_connections=2) as server:
        held = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in await reader.readline()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 503 ")
        assert server.turned_away == 1
        writer.close()
        held[0][1].close()
        await asyncio.sleep(0.1)
        assert (await ask(server))[0] == 200
        held[1][1].close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of a connection, shortened."""
    monkeypatch.setattr(http_door, "_SWEEP_S", 0.05)
    monkeypatch.setattr(http_door, "HEAD_S", 0.3)
    monkeypatch.setattr(http_door, "ANSWER_S", 0.3)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nSlow: "])
async def test_who_does_not_finish_asking_is_cut_off(said: bytes, impatient: None) -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(said)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_who_does_not_take_the_answer_is_cut_off(impatient: None) -> None:
    async with serving() as server:
        # A small buffer: what isn't read stays with the server.
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), limit=1_024)
        writer.write(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(1.5)
        taken = b""
        with contextlib.suppress(ConnectionError):
            while more := await asyncio.wait_for(reader.read(1 << 20), 5):
                taken += more
        assert len(taken) < len(BIG)
        writer.close()


async def test_a_stream_may_last(impatient: None) -> None:
    async with (
        serving() as server,
        aiohttp.ClientSession() as session,
        session.get(server.url + "/stream") as answer,
    ):
        assert await answer.text() == "on\n" * 20


# -- what every answer says --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz", "/stream"])
async def test_every_answer_carries_the_headers_that_bind_a_browser(path: str) -> None:
    async with (
        serving() as server,
        aiohttp.ClientSession() as session,
        session.get(server.url + path) as answer,
    ):
        headers = answer.headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    # Neither Python's nor aiohttp's version.
    assert headers["Server"] == "heartline"


# -- TLS ---------------------------------------------------------------------------------------


async def test_with_a_certificate_it_speaks_tls_and_nothing_else(authority: Authority) -> None:
    issued = authority.issue("serve")
    async with serving(
        certificate_file=str(issued.certificate), key_file=str(issued.key)
    ) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(authority.certificate))
        assert (await ask(server, ssl=context))[0] == 200
        old = ssl.create_default_context(cafile=str(authority.certificate))
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(aiohttp.ClientError):
            await ask(server, ssl=old)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 15)
        writer.close()


async def test_a_certificate_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(SecretUnusable, match=r"\[worker\] certificate_file: .*no\.pem"):
        async with serving(certificate_file=str(tmp_path / "no.pem")):
            pass


async def test_a_port_that_is_taken_is_told() -> None:
    async with serving() as server:
        with pytest.raises(CommandFailed, match=r"HEARTLINE_WORKER_PORT"):
            async with serving(port=port_of(server)):
                pass


@pytest.mark.parametrize(
    "host, opened",
    [
        ("127.0.0.1", False),
        ("127.3.2.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),  # noqa: S104 - only looked at
        ("::", True),
        ("10.0.0.5", True),
        ("metrics", True),
    ],
)
def test_which_addresses_others_can_reach(host: str, opened: bool) -> None:
    assert is_open(host) is opened


# -- heartline watch ---------------------------------------------------------------------------


async def test_watch_shows_the_token_by_https_and_not_otherwise(authority: Authority) -> None:
    with pytest.raises(CommandFailed, match="unencrypted"):
        ServeSource("http://metrics.example:8077", token=TOKEN)
    issued = authority.issue("serve-2")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    async with serving(
        TOKEN, certificate_file=str(issued.certificate), key_file=str(issued.key)
    ) as server:
        source = ServeSource(server.url, token=TOKEN, context=context)
        found = await asyncio.to_thread(source._get, "/")
        assert found["status"] == "hello"
        stranger = ServeSource(server.url, context=context)
        with pytest.raises(CommandFailed, match="HEARTLINE_SERVE_TOKEN"):
            await asyncio.to_thread(stranger._get, "/")
        with pytest.raises(Unreachable, match="status 404"):
            await asyncio.to_thread(source._get, "/nothing")
