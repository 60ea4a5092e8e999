"""The connection arguments that every Kafka client of Heartline shares."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from agents.settings import Settings

_PROTOCOLS = {"plaintext": "PLAINTEXT", "ssl": "SSL", "sasl_ssl": "SASL_SSL"}


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of an aiokafka client. Holds the password if there is one: never print it.

    Raises SettingsError if the password file can't be read.
    """
    kafka = settings.kafka
    arguments: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "client_id": "heartline",
        "security_protocol": _PROTOCOLS[kafka.security],
    }
    if kafka.security != "plaintext":
        arguments["ssl_context"] = ssl_context(settings)
    if kafka.security == "sasl_ssl":
        arguments |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": settings.secret(),
        }
    return arguments


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


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """TLS with the host name checked, by the system's authorities or by `[kafka] ca_file`."""
    return ssl.create_default_context(cafile=settings.kafka.ca_file or None)
