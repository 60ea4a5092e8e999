"""The embedded broker and the children of the demo: found, started, always ended."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from agents.broker import (
    BrokerError,
    EmbeddedBroker,
    answers_kafka,
    parse_bootstrap,
    port_is_free,
    require_kafka,
)
from agents.children import Child, Stopped, stop_signals_raise


def test_it_answers_within_the_block_and_is_gone_after_it(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        assert answers_kafka("127.0.0.1", broker.port)
        require_kafka(broker.bootstrap)
    assert not broker.is_running
    assert port_is_free(broker.port)


def test_an_error_in_the_block_ends_it_too(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    with pytest.raises(ZeroDivisionError), broker:
        _ = 1 // 0
    assert not broker.is_running


def test_sigterm_in_the_block_ends_it_too(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    with pytest.raises(Stopped), stop_signals_raise(), broker:
        signal.raise_signal(signal.SIGTERM)
    assert not broker.is_running


def test_a_missing_binary_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "nothing"))
    with pytest.raises(BrokerError, match="--bootstrap HOST:PORT"):
        EmbeddedBroker(tmp_path).start()


def test_a_binary_that_ends_at_once_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho no memory left >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(script))
    with pytest.raises(BrokerError, match="no memory left"):
        EmbeddedBroker(tmp_path).start()


def test_a_program_that_is_no_broker_does_not_answer() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert not answers_kafka("127.0.0.1", other.getsockname()[1], 0.2)


@pytest.mark.parametrize(
    "text", ["", "localhost", "localhost:", ":9092", "a:0", "a:65536", "a:1,b"]
)
def test_a_bootstrap_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BrokerError, match="HOST:PORT"):
        parse_bootstrap(text)


def test_a_bootstrap_may_name_several_servers() -> None:
    assert parse_bootstrap("a:1, [::1]:65535") == [("a", 1), ("::1", 65_535)]


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal,time;signal.signal(15,signal.SIG_IGN);print('up',flush=True);time.sleep(60)"
    )
    child = Child("deaf", [sys.executable, "-c", script], log=tmp_path / "log", grace_s=0.3)
    with child:
        deadline = time.monotonic() + 10
        while "up" not in child.last_lines() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert child.exit_code == -signal.SIGKILL
    assert child.end() == -signal.SIGKILL
