"""The ``heartline`` command.

A command is the attribute ``command`` of ``agents/commands/NAME.py``. It is imported when it is run
or when its own help is asked for, so that ``heartline --help`` loads neither Faust nor numpy and
answers at once. The one-line summaries therefore stand here; a test holds them against the modules.

Every way out passes `CommandLine.main`: mistakes of the user become one line and exit status 2,
failures one line and their status (`agents.failures`), Ctrl-C 130.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from agents.failures import FAILED, INTERRUPTED, UNUSABLE, CommandFailed

SUMMARIES = {
    "demo": "Everything on this machine, moving numbers at once.",
    "worker": "One Faust worker against the configured Kafka.",
    "serve": "Results as /metrics, API and live page.",
    "topics": "Create or check the topics.",
    "simulate": "A customer base with known truth, to Kafka or a file.",
    "replay": "Events from files to Kafka.",
    "evaluate": "The metrics of events in files, without Kafka.",
    "explain": "What one number is made of: its parts, panes and events.",
    "watch": "A live view of the main numbers in the terminal.",
    "tail": "Follow results, signals or alerts.",
    "redrive": "Dead letters back to their topics, once.",
    "forget": "Delete what is known of a customer.",
    "schema": "The JSON Schemas of events and results, and the AsyncAPI document.",
    "doctor": "Check configuration, broker, topics, keys, lag and clock.",
    "state": "Look into or rebuild the state.",
}
"""Name and summary of each command, in the order in which the help lists them."""

EXAMPLES = """\
Examples:

\b
  heartline demo --for 60s
  heartline evaluate events.jsonl --at 2026-03-01T00:00:00Z --window 7d/1h
  heartline COMMAND --help
"""


class CommandLine(click.Group):
    """A group that imports a command when it is needed, and the one place where errors end."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands whose module is installed."""
        folder = Path(__file__).parent / "commands"
        return [name for name in SUMMARIES if (folder / f"{name}.py").exists()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``agents.commands.cmd_name``; None for a name that is no command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"agents.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing one."""
        with formatter.section("Commands"):
            rows = [(name, SUMMARIES[name]) for name in self.list_commands(ctx)]
            formatter.write_dl(rows or [("(none)", "no command is installed")])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end with the exit statuses of `agents.failures`."""
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except Exception as error:
            if not standalone_mode:
                raise
            status = _end(error)
            if status is None:
                raise
            sys.exit(status)
        except KeyboardInterrupt:
            if not standalone_mode:
                raise
            click.echo("Interrupted.", err=True)
            sys.exit(INTERRUPTED)
        if standalone_mode:
            # Outside standalone mode click hands back the status of ctx.exit() as the result.
            sys.exit(result if isinstance(result, int) else 0)
        return result


def _end(error: Exception) -> int | None:
    """Say in one line what went wrong and return the exit status; None for a fault of ours."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # The reader (`| head`) has what it wanted. The interpreter would complain once more on
        # flushing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return UNUSABLE
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "heartline"
        _say(path, f"{error.format_message().rstrip('.')}. See '{path} --help'.")
        return UNUSABLE
    if isinstance(error, click.ClickException):
        _say("heartline", error.format_message())
        return UNUSABLE
    if isinstance(error, CommandFailed):
        _say("heartline", str(error))
        return error.exit_status
    if _is_configuration_error(error):
        for line in str(error).splitlines():
            _say("heartline", line)
        return UNUSABLE
    return None


def _say(who: str, message: str) -> None:
    line = " ".join(message.split())
    if secret := sys.modules.get("agents.secret"):
        line = secret.redacted(line)
    click.echo(f"{who}: {line}", err=True)


def _is_configuration_error(error: Exception) -> bool:
    """An error of configuration, without importing its module to ask."""
    kinds = (
        ("streams.windows", "ConfigurationError"),
        ("agents.settings", "SettingsError"),
        ("agents.secret", "SecretUnusable"),
    )
    return any(
        module in sys.modules and isinstance(error, getattr(sys.modules[module], name))
        for module, name in kinds
    )


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("heartline")
    except PackageNotFoundError:
        installed = "(not installed)"
    click.echo(f"heartline {installed}")
    ctx.exit()


@click.group(
    cls=CommandLine,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """The vital signs of a customer base, live: rolling windows over Kafka, computed by Faust
    agents.
    """


if __name__ == "__main__":
    main(prog_name="heartline")
