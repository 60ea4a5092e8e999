"""Apache Kafka as a company runs it: TLS, passwords, tokens, client certificates.

One broker with a listener for each way in, all on 127.0.0.1, with certificates and passwords made
on the spot. The plain listener is the test's own: by it tests write and read what the programs
under test reach through the others.

    sasl_ssl   PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER
    ssl        demands a client certificate
    stranger   as sasl_ssl, with a certificate for another name
    expired    as sasl_ssl, with a certificate that has ended

Tokens come from a token endpoint of the tests over https, signed; the broker checks signature, issuer,
audience and time, and ends a connection that outlives its token.
"""

import base64
import contextlib
import http.server
import json
import secrets
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.rig import kafka_server
from tests.rig.brokers import Broker
from tests.rig.certificates import Authority, Issued
from tests.rig.processes import free_ports, running

USER = "heartline"
CLIENT = "heartline-client"
AUDIENCE = "kafka"
_SASL = "org.apache.kafka.common.security"


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class TokenEndpoint:
    """An authorization server with one client. It counts what it is asked."""

    def __init__(self, directory: Path, certificate: Issued) -> None:
        """Listens when `serve` is entered. The keys by which its tokens are checked stand in `jwks`."""
        self.client_secret = secrets.token_urlsafe(24)
        self.lifetime_s = 3_600
        self.audience = AUDIENCE
        self.is_down = False
        self.granted = 0
        self.refused = 0
        self.jwks = directory / "jwks.json"
        self._certificate = certificate
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        numbers = self._key.public_key().public_numbers()
        n, e = (_text(x.to_bytes((x.bit_length() + 7) // 8, "big")) for x in (numbers.n, numbers.e))
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": n, "e": e}
        self.jwks.write_text(json.dumps({"keys": [key]}))
        (self.port,) = free_ports(1)

    @property
    def url(self) -> str:
        """Where tokens are asked for."""
        return f"https://localhost:{self.port}/token"

    def token(self) -> str:
        """A signed one for our client."""
        now = int(time.time())
        claims = {
            "iss": "test-issuer",
            "aud": self.audience,
            "sub": CLIENT,
            "scope": "kafka",
            "iat": now,
            "exp": now + self.lifetime_s,
        }
        head = {"alg": "RS256", "typ": "JWT", "kid": "one"}
        body = ".".join(_text(json.dumps(part).encode()) for part in (head, claims))
        signature = self._key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{body}.{_text(signature)}"

    def answer(
        self, authorization: str, form: Mapping[str, list[str]]
    ) -> tuple[int, dict[str, Any]]:
        """Status and body for one request."""
        if self.is_down:
            self.refused += 1
            return 503, {}
        pair = base64.b64encode(f"{CLIENT}:{self.client_secret}".encode()).decode()
        if authorization != f"Basic {pair}":
            self.refused += 1
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != ["client_credentials"]:
            self.refused += 1
            return 400, {"error": "unsupported_grant_type"}
        self.granted += 1
        return 200, {
            "access_token": self.token(),
            "token_type": "Bearer",
            "expires_in": self.lifetime_s,
        }

    @contextlib.contextmanager
    def serve(self) -> Iterator[None]:
        """Answer for the length of a `with` block."""
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                form = urllib.parse.parse_qs(self.rfile.read(length).decode())
                status, body = endpoint.answer(self.headers.get("Authorization", ""), form)
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate.certificate, self._certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """A running broker and everything that opens it."""

    directory: Path
    authority: Authority
    tokens: TokenEndpoint
    ports: Mapping[str, int]
    password: str = field(repr=False)

    @property
    def plain(self) -> Broker:
        """The test's own way in."""
        return Broker(f"127.0.0.1:{self.ports['plain']}", is_embedded=False)

    def address(self, listener: str) -> str:
        """Of one of the other listeners."""
        return f"127.0.0.1:{self.ports[listener]}"

    def section(self, mechanism: str, **changes: str) -> dict[str, str]:
        """`[kafka.security]` for a way in: a SASL mechanism, or "certificate"."""
        section = {"ca_file": str(self.authority.certificate)}
        if mechanism == "certificate":
            issued = self.authority.issue("a-client")
            section |= {
                "protocol": "ssl",
                "certificate_file": str(issued.certificate),
                "key_file": str(issued.key),
            }
        elif mechanism == "OAUTHBEARER":
            section |= {
                "protocol": "sasl_ssl",
                "mechanism": mechanism,
                "token_endpoint": self.tokens.url,
                "token_ca_file": str(self.authority.certificate),
                "client_id": CLIENT,
                "client_secret_file": self._file("client-secret", self.tokens.client_secret),
            }
        else:
            section |= {
                "protocol": "sasl_ssl",
                "mechanism": mechanism,
                "username": USER,
                "password_file": self._file("password", self.password),
            }
        return section | changes

    def allow(
        self, kind: ResourceType, name: str, *operations: AclOperation, user: str = USER
    ) -> None:
        """Give a user these rights on a resource, and thereby take everybody all others."""
        admin = AdminClient({"bootstrap.servers": self.plain.bootstrap})
        rights = [
            AclBinding(
                *(kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*"),
                *(operation, AclPermissionType.ALLOW),
            )
            for operation in operations
        ]
        for answer in admin.create_acls(rights).values():
            answer.result(timeout=30)

    def allow_everything(self) -> None:
        """Take all rights back, so that nothing is forbidden."""
        admin = AdminClient({"bootstrap.servers": self.plain.bootstrap})
        everything = AclBindingFilter(
            *(ResourceType.ANY, None, ResourcePatternType.ANY, None, None),
            *(AclOperation.ANY, AclPermissionType.ANY),
        )
        for answer in admin.delete_acls([everything]).values():
            answer.result(timeout=30)

    def _file(self, name: str, text: str) -> str:
        file = self.directory / name
        file.write_text(text + "\n")
        file.chmod(0o600)
        return str(file)


def _properties(
    ports: Mapping[str, int], authority: Authority, tokens: TokenEndpoint, password: str
) -> dict[str, str]:
    """The broker's configuration. Listener names stand in lower case in the keys of each."""
    protocols = {
        "plain": "PLAINTEXT",
        "controller": "PLAINTEXT",
        "ssl": "SSL",
        "sasl_ssl": "SASL_SSL",
        "stranger": "SASL_SSL",
        "expired": "SASL_SSL",
    }
    certificates = {
        "ssl": authority.issue("broker"),
        "sasl_ssl": authority.issue("broker-sasl"),
        "stranger": authority.issue("elsewhere", names=["kafka.elsewhere.example"]),
        "expired": authority.issue("old-broker", days=-1),
    }
    listeners = [f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items()]
    found = {
        "listeners": ",".join(listeners),
        "advertised.listeners": ",".join(x for x in listeners if not x.startswith("CONTROLLER")),
        "listener.security.protocol.map": ",".join(
            f"{name.upper()}:{protocol}" for name, protocol in protocols.items()
        ),
        "inter.broker.listener.name": "PLAIN",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        # Not below a listener's name: there the broker would not look for the audience.
        # Named, because the default one of 4.1 checks neither signature nor audience.
        "sasl.oauthbearer.jwt.validator.class": f"{_SASL}.oauthbearer.BrokerJwtValidator",
        "sasl.oauthbearer.jwks.endpoint.url": tokens.jwks.as_uri(),
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "sasl.oauthbearer.expected.issuer": "test-issuer",
        "listener.name.ssl.ssl.client.auth": "required",
        "listener.name.ssl.ssl.truststore.type": "PEM",
        "listener.name.ssl.ssl.truststore.certificates": authority.certificate.read_text(),
    }
    login = "required"
    for name, issued in certificates.items():
        here = f"listener.name.{name}"
        found[f"{here}.ssl.keystore.type"] = "PEM"
        found[f"{here}.ssl.keystore.key"] = issued.key.read_text()
        found[f"{here}.ssl.keystore.certificate.chain"] = issued.certificate.read_text()
        if name == "ssl":
            continue
        found |= {
            f"{here}.plain.sasl.jaas.config": f"{_SASL}.plain.PlainLoginModule {login} "
            f'user_{USER}="{password}";',
            f"{here}.scram-sha-256.sasl.jaas.config": f"{_SASL}.scram.ScramLoginModule {login};",
            f"{here}.scram-sha-512.sasl.jaas.config": f"{_SASL}.scram.ScramLoginModule {login};",
            f"{here}.oauthbearer.sasl.jaas.config": f"{_SASL}.oauthbearer.OAuthBearerLoginModule {login};",
            f"{here}.oauthbearer.sasl.server.callback.handler.class": f"{_SASL}.oauthbearer."
            "OAuthBearerValidatorCallbackHandler",
            f"{here}.oauthbearer.connections.max.reauth.ms": "3600000",
        }
    return found


@contextlib.contextmanager
def secure_kafka(directory: Path) -> Iterator[SecureKafka]:
    """The broker and its token endpoint. May raise JarsError."""
    names = ("plain", "controller", "ssl", "sasl_ssl", "stranger", "expired")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    authority = Authority.make(directory)
    tokens = TokenEndpoint(directory, authority.issue("id-server"))
    password = secrets.token_urlsafe(18)
    server = kafka_server.KafkaServer(
        directory,
        "secure-kafka",
        {
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{ports['controller']}",
            **kafka_server.copies(1),
            # Nothing is forbidden until somebody is given a right on it: then only that is allowed.
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "true",
            **_properties(ports, authority, tokens, password),
        },
        java=(
            *kafka_server.SHORT_LIVED,
            f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.jwks.as_uri()}",
        ),
    )
    scram = [
        part
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for part in ("--add-scram", f"{mechanism}=[name={USER},password={password}]")
    ]
    server.format(kafka_server.new_cluster_id(), *scram)
    with (
        tokens.serve(),
        running(server.command(), log=directory / "secure-kafka.log") as process,
    ):
        bootstrap = f"127.0.0.1:{ports['plain']}"
        kafka_server.wait_until_answers(process, bootstrap)
        yield SecureKafka(directory, authority, tokens, ports, password)
