"""What ``heartline doctor`` says about security. No finding shows a secret."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from agents.http_access import Section, http_token, is_open
from agents.kafka_probe import Probed
from agents.secret import is_open_to_all
from agents.settings import Serve, Settings, Worker
from agents.topic_plan import Finding

CERTIFICATE_DAYS = 14
"""A broker's certificate that ends sooner is a warning."""


def check_security(settings: Settings) -> Iterator[Finding]:
    """How Kafka is reached, and what is wrong with the secrets' files. Shows no secret."""
    security = settings.kafka.security
    places = [
        *(security.secret(name, settings.source) for name in security.SECRETS),
        settings.privacy.hash_key(settings.source),
        http_token("worker", settings),
        http_token("serve", settings),
    ]
    keys = (security.key_file, settings.worker.key_file, settings.serve.key_file)
    for file in dict.fromkeys((*(place.path for place in places), *keys)):
        if is_open_to_all(file):
            yield Finding("warn", "security", f"{file} may be read by every user: chmod 600 {file}")
    if security.protocol == "plaintext":
        yield Finding(
            "ok", "security", "Kafka is reached in plaintext, without credentials: a network of "
            "your own, or set [kafka.security] protocol"
        )  # fmt: skip
    else:
        by = "a client certificate" if security.certificate_file else "nothing"
        if security.protocol == "sasl_ssl":
            who = security.client_id if security.uses_tokens else security.username
            by = f"{security.mechanism} as {who}"
        trust = security.ca_file or "the system's authorities"
        yield Finding("ok", "security", f"TLS trusting {trust}; we prove ourselves by {by}")
    servers: tuple[tuple[Section, Worker | Serve], ...] = (
        ("worker", settings.worker),
        ("serve", settings.serve),
    )
    for section, http in servers:
        if is_open(http.host) and not http_token(section, settings).is_given():
            yield Finding(
                "warn",
                "security",
                f"[{section}] host is {http.host}: whoever reaches it reads everything. Give it a token "
                "(token_file), or make sure that only a proxy of yours reaches it",
            )
        elif is_open(http.host) and not http.certificate_file:
            yield Finding(
                "warn",
                "security",
                f"[{section}] asks for a token over plain HTTP on {http.host}: give it a certificate "
                "(certificate_file, key_file), or a proxy with TLS on the same machine",
            )


def check_certificates(probed: Iterable[Probed]) -> Iterator[Finding]:
    """How long the brokers' certificates hold."""
    for one in probed:
        if one.certificate_ends is None:
            continue
        days = (one.certificate_ends - datetime.now(UTC)).days
        told = f"the certificate of {one.address} ends in {days} days ({one.tls})"
        if days < CERTIFICATE_DAYS:
            yield Finding("warn", "security", f"{told}: have it renewed")
        else:
            yield Finding("ok", "security", told)
