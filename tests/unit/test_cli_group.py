"""The command line as a whole: what is listed, how it ends, what it says."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from agents import cli
from agents.failures import CommandFailed, Unusable
from agents.settings import SettingsError
from streams.windows import ConfigurationError

COMMANDS = cli.main.list_commands(click.Context(cli.main))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command that raises what is put into the list."""
    raised: list[BaseException] = []

    @click.command()
    def fail() -> None:
        raise raised[0]

    monkeypatch.setattr(cli.CommandLine, "get_command", lambda *_: fail)
    return raised


def test_the_help_loads_neither_faust_nor_numpy_nor_kafka() -> None:
    program = (
        "import sys\n"
        "from agents.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(sorted({'faust', 'numpy', 'kafka', 'rich', 'msgspec'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("[]\n")
    assert "evaluate" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    result = CliRunner().invoke(cli.main, [name, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"heartline {name}" in result.output


@pytest.mark.parametrize("name", ["evaluate", "simulate", "replay", "doctor", "worker", "serve"])
def test_every_command_that_reads_settings_takes_a_file(name: str) -> None:
    if name in COMMANDS:
        assert "--config FILE" in CliRunner().invoke(cli.main, [name, "--help"]).output


def test_an_unknown_command_is_one_line_and_status_2() -> None:
    result = CliRunner().invoke(cli.main, ["pulse"], prog_name="heartline")
    assert result.exit_code == 2
    assert result.stderr == "heartline: No such command 'pulse'. See 'heartline --help'.\n"


def test_a_missing_argument_names_the_command_and_its_help() -> None:
    result = CliRunner().invoke(cli.main, ["evaluate"], prog_name="heartline")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "See 'heartline evaluate --help'" in result.stderr


def test_without_a_command_the_help_is_shown_and_the_status_is_2() -> None:
    result = CliRunner().invoke(cli.main, [])
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_the_version_is_shown() -> None:
    result = CliRunner().invoke(cli.main, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("heartline ")


@pytest.mark.parametrize(
    "error, status",
    [
        (CommandFailed("Kafka is away"), 1),
        (CommandFailed("some lines", exit_status=3), 3),
        (Unusable("no such file"), 2),
        (SettingsError(["heartline.toml: [kafka] port: there is no such key"]), 2),
        (ConfigurationError("the hop can't exceed the size"), 2),
        (click.UsageError("no"), 2),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_a_command_raises_becomes_one_line_and_a_status(
    failing: list[BaseException], error: BaseException, status: int
) -> None:
    failing.append(error)
    result = CliRunner().invoke(cli.main, ["fail"])
    assert result.exit_code == status
    assert result.stdout == ""
    # On Ctrl-C click first ends the line on which the terminal echoed ^C.
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_every_error_of_a_configuration_has_its_own_line(failing: list[BaseException]) -> None:
    failing.append(SettingsError(["first", "second"]))
    result = CliRunner().invoke(cli.main, ["fail"])
    assert result.stderr == "heartline: first\nheartline: second\n"


def test_a_fault_of_ours_keeps_its_traceback(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError("ours"))
    result = CliRunner().invoke(cli.main, ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_closed_pipe_ends_quietly() -> None:
    program = "import sys\nfrom agents.cli import main\nmain(['schema'], prog_name='heartline')\n"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert said == b""
    assert process.returncode == 1


def test_a_configuration_file_that_does_not_exist_is_named() -> None:
    result = CliRunner().invoke(
        cli.main, ["evaluate", "-", "--at", "2026-01-01T00:00:00Z", "--config", "/nowhere.toml"]
    )
    assert result.exit_code == 2
    assert "/nowhere.toml" in result.stderr
    assert result.stderr.count("\n") == 1
