"""What every Kafka client of Heartline shares: by which arguments it connects, and how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.kafka_security import Security
from agents.secret import Secret
from agents.settings import Settings

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

LET_GO_S = 5.0
PROTOCOLS = {"plaintext": "PLAINTEXT", "ssl": "SSL", "sasl_ssl": "SASL_SSL"}


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of an aiokafka client. Secrets among them print as stars.

    Raises SecretUnusable for a certificate or password that can't be had.
    """
    kafka = settings.kafka
    security = kafka.security
    arguments: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "client_id": "heartline",
        "security_protocol": PROTOCOLS[security.protocol],
    }
    if security.protocol != "plaintext":
        arguments["ssl_context"] = security.context(settings.source)
    if security.uses_tokens:
        from agents.access_tokens import AccessTokens, AsyncTokens

        # Asked for now, so that a missing one is told before anything is started.
        security.secret("client_secret", settings.source).demand()
        tokens = AccessTokens(security, settings.source)
        arguments |= {
            "sasl_mechanism": security.mechanism,
            "sasl_oauth_token_provider": AsyncTokens(tokens),
        }
    elif security.protocol == "sasl_ssl":
        arguments |= {
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": security.secret("password", settings.source).demand(),
        }
    return arguments


def blocking_arguments(settings: Settings) -> dict[str, Any]:
    """The same for a kafka-python client."""
    arguments = client_arguments(settings)
    security = settings.kafka.security
    if security.uses_tokens:
        from agents.access_tokens import blocking_tokens

        provider = arguments["sasl_oauth_token_provider"]
        arguments["sasl_oauth_token_provider"] = blocking_tokens(provider.tokens)
    elif security.protocol == "sasl_ssl" and security.mechanism != "PLAIN":
        arguments["sasl_plain_username"] = _scram_name(security)
    return arguments


def _scram_name(security: Security) -> str:
    """kafka-python sends the name as it is; RFC 5802 wants these two written so."""
    return security.username.replace("=", "=3D").replace(",", "=2C")


def faust_credentials(arguments: dict[str, Any]) -> Any:
    """What Faust calls credentials, of the arguments of an aiokafka client; None for plaintext.

    With an explicit context Faust speaks TLS; without one it would fall back to SASL_PLAINTEXT
    without a word, so the outcome is checked.
    """
    import faust
    from faust.auth import OAuthCredentials

    protocol = arguments["security_protocol"]
    if protocol == "PLAINTEXT":
        return None
    context = arguments["ssl_context"]
    credentials: Any
    if protocol == "SSL":
        credentials = faust.SSLCredentials(context)
    elif "sasl_oauth_token_provider" in arguments:
        credentials = OAuthCredentials(
            oauth_cb=arguments["sasl_oauth_token_provider"], ssl_context=context
        )
    else:
        password: Secret = arguments["sasl_plain_password"]
        credentials = faust.SASLCredentials(
            username=arguments["sasl_plain_username"],
            password=password,
            ssl_context=context,
            mechanism=arguments["sasl_mechanism"],
        )
    if credentials.protocol.value != protocol:
        msg = f"Faust would speak {credentials.protocol.value} and not {protocol}"
        raise RuntimeError(msg)
    return credentials


def reader(arguments: Mapping[str, Any], *, poll_ms: int) -> AIOKafkaConsumer:
    """A consumer for much at once that joins no group and commits nothing, not started yet."""
    from aiokafka import AIOKafkaConsumer

    return AIOKafkaConsumer(
        **arguments,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=poll_ms,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )


async def let_go(client: Any) -> None:
    """Stop an aiokafka client of which nothing more is wanted: what it still has to say is not told,
    and it gets LET_GO_S for it.
    """
    from aiokafka.errors import KafkaError

    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(stop(client), LET_GO_S)


async def stop(client: Any) -> None:
    """Stop an aiokafka client.

    aiokafka lets out the cancellation of a task of its own that had not begun yet. That isn't ours.
    """
    try:
        await client.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
