"""What is said of a Kafka that does not let us in, as far as no Kafka is needed for it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agents import kafka_probe
from agents.kafka_client import client_arguments
from agents.kafka_probe import NobodyThere, Refused, probe
from agents.settings import Settings
from tests.rig.certificates import Authority
from tests.rig.processes import free_ports

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    await reader.read()
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@contextlib.asynccontextmanager
async def listening(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    answering: set[asyncio.Task[Any]] = set()

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError):
            await answer(reader, writer)
            await writer.wait_closed()

    server = await asyncio.start_server(tracked, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*answering)


async def told(bootstrap: str, **security: str) -> str:
    settings = Settings.from_mapping(
        {"kafka": {"bootstrap": bootstrap, "security": security}},
        source="heartline.toml",
        environment={},
    )
    arguments: dict[str, Any] = client_arguments(settings)
    with pytest.raises((Refused, NobodyThere)) as caught:
        await probe(settings, arguments)
    assert "\n" not in str(caught.value)
    return f"{type(caught.value).__name__} {caught.value}"


async def test_nobody_there_says_how_another_address_is_given() -> None:
    (port,) = free_ports(1)
    for address in (f"127.0.0.1:{port}", f"no-such-host.invalid:{port}", "127.0.0.1:many"):
        said = await told(f"{address}, 127.0.0.1:{port}")
        assert said.startswith(f"NobodyThere no Kafka answers at {address}, 127.0.0.1:{port}: ")
        assert "HEARTLINE_KAFKA_BOOTSTRAP" in said


async def test_who_hangs_up_is_taken_for_a_listener_of_another_protocol() -> None:
    async with listening(hang_up) as port:
        said = await told(f"127.0.0.1:{port}")
        assert "closed the connection at once: is this listener for TLS?" in said
        said = await told(f"127.0.0.1:{port}", protocol="ssl")
        assert "does the listener demand SASL" in said


async def test_who_speaks_no_tls_is_told() -> None:
    async with listening(speak_http) as port:
        assert "does not speak TLS" in await told(f"127.0.0.1:{port}", protocol="ssl")


async def test_who_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_probe, "ADDRESS_S", 0.3)
    async with listening(say_nothing) as port:
        said = await told(f"127.0.0.1:{port}")
    assert "took the connection and said nothing for 0.3 s" in said


@pytest.mark.parametrize(
    "names, days, trusted, expected",
    [
        (["kafka.example"], 7.0, True, "is not for the name 127.0.0.1"),
        (["127.0.0.1"], -1.0, True, "has expired"),
        (["127.0.0.1"], 30.0, True, "is not valid yet"),
        (["127.0.0.1"], 7.0, False, "is not trusted by the system's authorities"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_told_with_the_way_out(
    authority: Authority, names: list[str], days: float, trusted: bool, expected: str
) -> None:
    issued = authority.issue("broker", names=names, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    security = {"ca_file": str(authority.certificate)} if trusted else {}
    async with listening(hang_up, context) as port:
        said = await told(f"127.0.0.1:{port}", protocol="ssl", **security)
    assert said.startswith(f"Refused the certificate of Kafka at 127.0.0.1:{port} {expected}")
    assert ": " in said.partition(expected)[2] or "(" in said.partition(expected)[2]


async def test_the_first_refusal_is_told_if_no_address_lets_us_in() -> None:
    (away,) = free_ports(1)
    async with listening(hang_up) as port:
        said = await told(f"127.0.0.1:{away},127.0.0.1:{port}")
    assert said.startswith(f"Refused Kafka at 127.0.0.1:{port} ")
