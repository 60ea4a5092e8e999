"""Tokens for SASL OAUTHBEARER: the client-credentials grant (RFC 6749, 4.4) at a token endpoint.

Rules:
- https only, the endpoint's certificate checked; a redirect is refused, because it would carry the
  client secret somewhere else.
- A token is used for four fifths of its lifetime and then fetched anew, when the next connection is
  made. One that doesn't say how long it lives is used for a minute. The client secret is read again
  for every fetch, so an exchanged one is found.
- After a refused or failed fetch nothing is asked for RETRY_AFTER_S: clients try to connect ten
  times a second, and an authorization server in trouble should not get that.
- Clients in several threads and event loops share one `AccessTokens`; nothing in it belongs to a
  loop. Two that need a token at the same moment may both fetch one.

No error shows a secret, a token, or what the endpoint said beyond its ``error`` code.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import quote_plus

import msgspec
from aiokafka.abc import AbstractTokenProvider

from agents.kafka_security import SECTION, Security
from agents.secret import Secret, SecretUnusable, hide, show
from agents.tls import trusting

FETCH_S = 5.0
RETRY_AFTER_S = 2.0
UNSTATED_LIFETIME_S = 60.0
LONGEST_ANSWER = 65_536
_USED_SHARE = 0.8
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class TokenUnavailable(OSError):
    """No token to be had. An OSError, because the Kafka clients treat those as "can't connect"."""


class _Answer(msgspec.Struct):
    """What is read of the endpoint's answer (RFC 6749, 5.1 and 5.2)."""

    access_token: str = ""
    token_type: str = ""
    expires_in: float | None = None
    error: str = ""


class _Held(NamedTuple):
    token: Secret
    until: float
    """By the monotonic clock."""


class AccessTokens:
    """The tokens of one client. ``source`` names the configuration file in errors."""

    def __init__(self, security: Security, source: str) -> None:
        self._security = security
        self._source = source
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._failure: tuple[float, str] | None = None
        self.fetched = 0

    async def token(self) -> Secret:
        """One that is valid. Raises TokenUnavailable."""
        found = self._at_hand()
        if found is not None:
            return found
        try:
            answer = await self._fetch()
        except TokenUnavailable as error:
            with self._lock:
                self._failure = (time.monotonic() + RETRY_AFTER_S, str(error))
            raise
        return self._keep(answer)

    def _at_hand(self) -> Secret | None:
        now = time.monotonic()
        with self._lock:
            if self._held is not None and now < self._held.until:
                return self._held.token
            if self._failure is not None and now < self._failure[0]:
                raise TokenUnavailable(self._failure[1])
        return None

    def _keep(self, answer: _Answer) -> Secret:
        lifetime_s = answer.expires_in if answer.expires_in is not None else UNSTATED_LIFETIME_S
        token = Secret(answer.access_token)
        hide(token)
        with self._lock:
            if self._held is not None:
                show(str(self._held.token))
            self._held = _Held(token, time.monotonic() + _USED_SHARE * lifetime_s)
            self._failure = None
            self.fetched += 1
        return token

    async def _fetch(self) -> _Answer:
        import aiohttp

        security = self._security
        here = f"the token endpoint {security.token_endpoint}"
        form = {"grant_type": "client_credentials"}
        if security.scope:
            form["scope"] = security.scope
        try:
            context = trusting(security.token_ca_file, f"{self._source}: [{SECTION}] token_ca_file")
            secret = security.secret("client_secret", self._source).demand()
        except SecretUnusable as error:
            raise TokenUnavailable(str(error)) from None
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=FETCH_S),
                    connector=aiohttp.TCPConnector(ssl=context),
                ) as session,
                session.post(
                    security.token_endpoint,
                    data=form,
                    headers={
                        "Accept": "application/json",
                        "Authorization": _basic(security.client_id, str(secret)),
                    },
                    allow_redirects=False,
                ) as response,
            ):
                status = response.status
                body = await response.content.read(LONGEST_ANSWER)
        except aiohttp.ClientConnectorCertificateError as error:
            raise TokenUnavailable(
                f"{here} has a certificate that is not trusted ({_told(error)}): set "
                f"[{SECTION}] token_ca_file to its authority"
            ) from None
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as error:
            raise TokenUnavailable(
                f"{here} does not answer ({_told(error) or f'nothing in {FETCH_S:g} s'}): check "
                f"[{SECTION}] token_endpoint"
            ) from None
        return self._judge(status, body, here)

    def _judge(self, status: int, body: bytes, here: str) -> _Answer:
        try:
            answer = msgspec.json.decode(body, type=_Answer, strict=False)
        except msgspec.MsgspecError:
            answer = _Answer()
        if status != 200:
            code = f" {answer.error}" if _CODE.fullmatch(answer.error) else ""
            way_out = {
                400: f"check [{SECTION}] client_id, scope and the client secret",
                401: f"check [{SECTION}] client_id and the client secret",
                404: f"check [{SECTION}] token_endpoint",
            }.get(status, "ask whoever runs it" if status < 500 else "it is tried again")
            raise TokenUnavailable(f"{here} refused with status {status}{code}: {way_out}")
        if not answer.access_token or answer.token_type.lower() not in {"", "bearer"}:
            raise TokenUnavailable(
                f"{here} answered without a bearer token: check [{SECTION}] token_endpoint"
            )
        return answer


def _basic(client_id: str, client_secret: str) -> str:
    """The client's header by RFC 6749, 2.3.1, which wants both parts form-encoded first."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _told(error: BaseException) -> str:
    """Why a connection failed: the operating system's or OpenSSL's word, which holds no secret."""
    reason = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    return str(
        getattr(reason, "verify_message", None) or getattr(reason, "strerror", None) or ""
    ) or type(error).__name__.removesuffix("Error")


class AsyncTokens(AbstractTokenProvider):
    """What aiokafka and Faust ask for tokens."""

    def __init__(self, tokens: AccessTokens) -> None:
        self.tokens = tokens

    async def token(self) -> str:
        """See `AccessTokens.token`."""
        return str(await self.tokens.token())


def blocking_tokens(tokens: AccessTokens) -> object:
    """What kafka-python asks for tokens: an object of its own base class, which blocks."""
    from kafka.net.sasl.oauth import AbstractTokenProvider as BlockingProvider

    class BlockingTokens(BlockingProvider):
        def token(self) -> str:
            # In a thread of its own: whoever calls may have an event loop in this one.
            with ThreadPoolExecutor(1) as thread:
                return str(thread.submit(asyncio.run, tokens.token()).result())

    return BlockingTokens()
