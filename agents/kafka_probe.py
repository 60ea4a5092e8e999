"""Is there a Kafka that lets us in? Asked once before anything is started, because the clients try
again without end and only log why.

`probe` connects as every client of ours will (TLS, SASL) to the bootstrap addresses and then to the
brokers by the names under which they advertise themselves, for at most ADDRESS_S each. The first
failure ends it in one plain line: which address, what is wrong, what to do. No line holds a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from agents.access_tokens import TokenUnavailable
from agents.failures import CommandFailed
from agents.kafka_security import SECTION, Security
from agents.settings import Settings

ADDRESS_S = 5.0
MOST_BROKERS = 8
"""So many of the advertised brokers are looked at: a wrong listener shows in the first."""

_NOT_YET, _EXPIRED = 9, 10
_WRONG_NAME, _WRONG_IP = 62, 64


class Probed(NamedTuple):
    """What was found at one address."""

    address: str
    tls: str
    """The version, such as TLSv1.3; empty without TLS."""
    certificate_ends: datetime | None


class Refused(CommandFailed):
    """Somebody is there and does not let us in, or is not who was expected."""


class NobodyThere(CommandFailed):
    """Nobody answers at any bootstrap address."""


async def probe(settings: Settings, arguments: dict[str, Any]) -> list[Probed]:
    """Connect everywhere. ``arguments`` are those of `client_arguments`.

    One bootstrap address that lets us in is enough. Of the advertised brokers some may be away, as
    in a cluster that is just losing one, but each that is there must let us in. Raises Refused,
    NobodyThere.
    """
    where = settings.kafka.bootstrap
    refusals: list[str] = []
    with _quiet_library():
        for address in (part.strip() for part in where.split(",")):
            try:
                found, brokers = await _connect(address, arguments)
            except _Away:
                continue
            except Exception as error:  # noqa: BLE001 - told in one line
                refusals.append(_why(address, error, settings))
                continue
            others = [broker for broker in brokers[:MOST_BROKERS] if broker != address]
            probed = await _advertised(others, arguments, settings)
            if brokers and not probed and len(others) == len(brokers):
                raise Refused(
                    f"Kafka at {address} says that its broker is at {brokers[0]}, where nobody "
                    "answers: correct the broker's advertised.listeners, or make that name known here"
                )
            return [found, *probed]
    if refusals:
        raise Refused(refusals[0])
    raise NobodyThere(
        f"no Kafka answers at {where}: start it, or set [kafka] bootstrap "
        "(HEARTLINE_KAFKA_BOOTSTRAP, --bootstrap)"
    )


async def _advertised(
    brokers: list[str], arguments: dict[str, Any], settings: Settings
) -> list[Probed]:
    """Those of the brokers that are there."""
    probed = []
    for broker in brokers:
        try:
            found, _ = await _connect(broker, arguments)
        except _Away:
            continue
        except Exception as error:  # noqa: BLE001 - told in one line
            raise Refused(_why(broker, error, settings)) from None
        probed.append(found)
    return probed


class _Away(Exception):
    """Nobody listens at the address, or it is none."""


class _TokenRefused(Exception):
    """The broker did not accept our token."""


async def _connect(address: str, arguments: dict[str, Any]) -> tuple[Probed, list[str]]:
    """One connection, and where the brokers say they are."""
    from aiokafka.cluster import ClusterMetadata
    from aiokafka.conn import create_conn
    from aiokafka.protocol.metadata import MetadataRequest

    host, _, port_text = address.rpartition(":")
    host = host.strip("[]")
    if not port_text.isdecimal():
        raise _Away
    port = int(port_text)
    options = {name: value for name, value in arguments.items() if name != "bootstrap_servers"}
    try:
        async with asyncio.timeout(ADDRESS_S):
            connection = await create_conn(
                host, port, request_timeout_ms=int(ADDRESS_S * 1_000), **options
            )
            try:
                # aiokafka keeps the writer to itself; it is what knows the certificate.
                channel = connection._writer  # noqa: SLF001
                tls = channel.get_extra_info("ssl_object")
                certificate = tls.getpeercert() if tls is not None else None
                metadata = await connection.send(MetadataRequest([]))
            finally:
                connection.close()
    except (ssl.SSLError, TokenUnavailable, ConnectionResetError, BrokenPipeError):
        raise
    except (OSError, OverflowError):
        # Only now, because a broker notes a connection that says nothing as a failed one.
        await _listens(host, port)
        raise
    cluster = ClusterMetadata()
    cluster.update_metadata(metadata)
    brokers = [f"{broker.host}:{broker.port}" for broker in cluster.brokers()]
    if not brokers and "sasl_oauth_token_provider" in arguments:
        # A refused token comes back as a challenge, which aiokafka takes for a welcome. The broker
        # then answers the next request with an error and no brokers.
        raise _TokenRefused
    found = Probed(
        address,
        "" if tls is None else str(tls.version()),
        _end_of(certificate) if certificate else None,
    )
    return found, brokers


async def _listens(host: str, port: int) -> None:
    """Raises _Away where nobody does."""
    try:
        async with asyncio.timeout(ADDRESS_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, OverflowError):  # an unknown name and a silence are OSErrors too
        raise _Away from None
    writer.close()


def _end_of(certificate: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


@contextlib.contextmanager
def _quiet_library() -> Iterator[None]:
    """What aiokafka would log on the way is said once, by us."""
    library = logging.getLogger("aiokafka")
    level = library.level
    library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        library.setLevel(level)


def _why(address: str, error: BaseException, settings: Settings) -> str:
    """The failure in one line, with what to do."""
    who = f"Kafka at {address}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _why_certificate(address, error, settings)
    if isinstance(error, ssl.SSLError):
        return _why_tls(who, error.reason or "", settings.kafka.security.certificate_file)
    if isinstance(error, TokenUnavailable):
        return f"no token for {who}: {error}"
    if isinstance(error, _TokenRefused):
        return (
            f"{who} refused the token: check the issuer and audience that the broker expects, and "
            f"[{SECTION}] client_id and scope"
        )
    if isinstance(error, TimeoutError):
        return (
            f"{who} took the connection and said nothing for {ADDRESS_S:g} s: {_mixed_up(settings)}"
        )
    name = type(error).__name__
    if said := _why_sasl(who, name, settings.kafka.security):
        return said
    if isinstance(error, OSError) or name == "KafkaConnectionError":
        return f"{who} closed the connection at once: {_mixed_up(settings)}"
    return f"{who} can't be used: {name}: {error}"


def _why_sasl(who: str, name: str, security: Security) -> str:
    """For the errors of aiokafka that are about SASL, by ``name``; else nothing."""
    if name == "UnsupportedSaslMechanismError":
        return (
            f"{who} does not offer {security.mechanism}: set [{SECTION}] mechanism to one of the "
            "listener's sasl.enabled.mechanisms"
        )
    if name == "IllegalSaslStateError":
        return f'{who} expects no SASL: set [{SECTION}] protocol = "ssl", or use its SASL listener'
    if name not in {"SaslAuthenticationFailed", "AuthenticationFailedError"}:
        return ""
    return (
        f"{who} refused the credentials of {security.username!r} ({security.mechanism}): check "
        f"[{SECTION}] username, mechanism and the password "
        "(HEARTLINE_KAFKA_SECURITY_PASSWORD or password_file)"
    )


def _why_tls(who: str, reason: str, ours: str) -> str:
    said = reason.lower().replace("_", " ")
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return _wants_certificate(who, ours)
    if "ALERT" in reason:
        return (
            f"{who} refused our certificate ({said}): is [{SECTION}] certificate_file signed by an "
            "authority that the broker trusts, and not expired?"
        )
    return (
        f"{who} does not speak TLS ({said}): use the address of its TLS listener, or "
        'protocol = "plaintext" without credentials'
    )


def _wants_certificate(who: str, ours: str) -> str:
    if ours:
        return (
            f"{who} refused our certificate {ours}: is it signed by an authority that the broker "
            "trusts, and not expired?"
        )
    return (
        f"{who} demands a client certificate: set [{SECTION}] certificate_file and key_file to ours"
    )


def _mixed_up(settings: Settings) -> str:
    """What a connection that is closed without a word mostly means."""
    security = settings.kafka.security
    if security.protocol == "plaintext":
        return f'is this listener for TLS? Then set [{SECTION}] protocol = "sasl_ssl" or "ssl"'
    if security.protocol == "ssl" and not security.certificate_file:
        return (
            f'does the listener demand SASL ([{SECTION}] protocol = "sasl_ssl"), a client '
            "certificate (certificate_file, key_file), or no TLS at all?"
        )
    return "is this the listener for it? Its security protocol must be " + (
        security.protocol.upper()
    )


def _why_certificate(address: str, error: ssl.SSLCertVerificationError, settings: Settings) -> str:
    security = settings.kafka.security
    who = f"the certificate of Kafka at {address}"
    host = address.rpartition(":")[0]
    if error.verify_code in {_WRONG_NAME, _WRONG_IP}:
        return (
            f"{who} is not for the name {host}: use a name that stands in it in [kafka] bootstrap and "
            "the broker's advertised.listeners, or have it issued for that name"
        )
    if error.verify_code == _EXPIRED:
        return f"{who} has expired: have it renewed (or correct the clock of this machine)"
    if error.verify_code == _NOT_YET:
        return f"{who} is not valid yet: correct the clock of this machine or of its issuer"
    by = security.ca_file or "the system's authorities"
    return (
        f"{who} is not trusted by {by} ({error.verify_message}): set [{SECTION}] ca_file to the "
        "authority that issued it"
    )
