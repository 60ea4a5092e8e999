import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agents import access_tokens
from agents.access_tokens import AccessTokens, AsyncTokens, TokenUnavailable, blocking_tokens
from agents.kafka_security import Security
from agents.secret import redacted
from tests.rig.certificates import Authority

pytestmark = pytest.mark.usefixtures("no_secrets_of_others")

SECRET = "the-client-secret-of-a-test"


class Endpoint:
    """What answers, over https on 127.0.0.1."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.status = 200
        self.body: Any = {"access_token": "token-0001", "token_type": "Bearer", "expires_in": 100}
        self.headers: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append((request.headers["Authorization"], form))
        body = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return web.Response(
            text=body, status=self.status, headers=self.headers, content_type="application/json"
        )


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "client-secret"
    file.write_text(SECRET)
    return file


@contextlib.asynccontextmanager
async def answering(authority: Authority) -> AsyncIterator[tuple[Endpoint, str]]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/token", endpoint.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    issued = authority.issue("id-server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield endpoint, f"https://localhost:{runner.addresses[0][1]}/token"
    finally:
        await runner.cleanup()


def tokens(url: str, authority: Authority, secret_file: Path, **changes: str) -> AccessTokens:
    fields = {
        "token_endpoint": url,
        "token_ca_file": str(authority.certificate),
        "client_id": "c",
        "client_secret_file": str(secret_file),
        **changes,
    }
    return AccessTokens(
        Security(protocol="sasl_ssl", mechanism="OAUTHBEARER", **fields), "heartline.toml"
    )


async def test_a_token_is_asked_for_once_and_kept(authority: Authority, secret_file: Path) -> None:
    async with answering(authority) as (endpoint, url):
        ours = tokens(url, authority, secret_file, scope="kafka")
        assert [await ours.token() for _ in range(3)] == ["token-0001"] * 3
        ((_, form),) = endpoint.asked
        assert form == {"grant_type": "client_credentials", "scope": "kafka"}


async def test_it_is_fetched_anew_after_four_fifths_of_its_lifetime_with_the_secret_of_then(
    authority: Authority, secret_file: Path
) -> None:
    async with answering(authority) as (endpoint, url):
        endpoint.body = {"access_token": "token-0001", "expires_in": 0.25}
        ours = tokens(url, authority, secret_file)
        assert await ours.token() == "token-0001"
        endpoint.body = {"access_token": "token-0002", "expires_in": 100}
        assert await ours.token() == "token-0001"
        await asyncio.sleep(0.21)
        secret_file.write_text("another-client-secret")  # noqa: ASYNC240 - a few bytes
        assert await ours.token() == "token-0002"
        assert len({authorization for authorization, _ in endpoint.asked}) == 2


async def test_a_token_and_the_client_secret_are_taken_out_of_every_print(
    authority: Authority, secret_file: Path
) -> None:
    async with answering(authority) as (endpoint, url):
        endpoint.body = {"access_token": "token-to-hide", "expires_in": 0}
        ours = tokens(url, authority, secret_file)
        token = await ours.token()
        assert redacted(f"x {token} {SECRET}") == "x *** ***"
        assert "token-to-hide" not in repr([token])
        endpoint.body = {"access_token": "the-next-token", "expires_in": 100}
        await ours.token()
        # One that is over is no secret any more, so they don't pile up.
        assert redacted("token-to-hide the-next-token") == "token-to-hide ***"


async def test_both_kinds_of_clients_share_it(authority: Authority, secret_file: Path) -> None:
    async with answering(authority) as (endpoint, url):
        ours = tokens(url, authority, secret_file)
        provider: Any = blocking_tokens(ours)
        # kafka-python asks from a thread; it may also ask where an event loop runs.
        assert await asyncio.to_thread(provider.token) == "token-0001"
        assert await AsyncTokens(ours).token() == "token-0001"
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(asyncio.run(ours.token())))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert found == ["token-0001"]
        assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    "status, body, told",
    [
        (401, {"error": "invalid_client"}, "status 401 invalid_client: check"),
        (400, {"error": "invalid_scope"}, "status 400 invalid_scope: check"),
        (404, "not here", "status 404: check"),
        (403, {"error": "a <b>page</b> of text"}, "status 403: ask whoever runs it"),
        (503, "", "status 503: it is tried again"),
        (200, "<html>", "answered without a bearer token"),
        (200, {"access_token": "x", "token_type": "mac"}, "answered without a bearer token"),
        (200, {"token": "x"}, "answered without a bearer token"),
        (302, "", "status 302"),
    ],
)
async def test_what_the_endpoint_refuses_is_told_in_one_line(
    authority: Authority, secret_file: Path, status: int, body: Any, told: str
) -> None:
    async with answering(authority) as (endpoint, url):
        endpoint.status, endpoint.body = status, body
        if status == 302:
            endpoint.headers["Location"] = url
        with pytest.raises(TokenUnavailable) as caught:
            await tokens(url, authority, secret_file).token()
        assert told in str(caught.value)
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)
        # A redirect isn't followed: it would carry the secret elsewhere.
        assert len(endpoint.asked) == 1


async def test_after_a_failure_nobody_asks_for_a_while(
    authority: Authority, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tokens, "RETRY_AFTER_S", 0.3)
    async with answering(authority) as (endpoint, url):
        endpoint.status = 503
        ours = tokens(url, authority, secret_file)
        for _ in range(5):
            with pytest.raises(TokenUnavailable, match="status 503"):
                await ours.token()
        assert len(endpoint.asked) == 1
        endpoint.status = 200
        await asyncio.sleep(0.31)
        assert await ours.token() == "token-0001"


async def test_an_endpoint_that_is_away_or_not_trusted_is_told(
    authority: Authority, secret_file: Path
) -> None:
    with pytest.raises(TokenUnavailable, match=r"does not answer .*: check"):
        await tokens("https://localhost:1/token", authority, secret_file).token()
    async with answering(authority) as (endpoint, url):
        with pytest.raises(TokenUnavailable, match=r"not trusted .* token_ca_file"):
            await tokens(url, authority, secret_file, token_ca_file="").token()
        assert endpoint.asked == []


async def test_a_client_secret_that_is_gone_is_told(
    authority: Authority, secret_file: Path
) -> None:
    async with answering(authority) as (_, url):
        ours = tokens(url, authority, secret_file)
        secret_file.unlink()  # noqa: ASYNC240 - no wait
        with pytest.raises(TokenUnavailable, match="client_secret_file"):
            await ours.token()
