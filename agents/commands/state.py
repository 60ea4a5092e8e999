"""``heartline state``: look into the state, or rebuild it from the input."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agents.failures import FAILED, CommandFailed
from agents.parameters import bootstrap_option, config_option, load_settings

if TYPE_CHECKING:
    from agents.settings import Settings
    from agents.state_inspection import Inspected

T = TypeVar("T")

EPILOG = """\
Examples:

\b
  heartline state inspect
  heartline state inspect --json
  heartline state rebuild --yes
"""
_MEBI = 1_048_576


@click.group(epilog=EPILOG)
def command() -> None:
    """Look into the state of the partitions, or rebuild it from the input."""


@command.command(epilog=EPILOG)
@click.pass_context
@bootstrap_option
@config_option
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def inspect(
    ctx: click.Context, bootstrap: str | None, config_file: str | None, as_json: bool
) -> None:
    """Show what a takeover would find, partition by partition. Nothing is written.

    Exit status 1 if a worker would refuse one of them; the reason is shown.
    """
    import msgspec

    from agents.state_inspection import inspect_state

    settings = load_settings(config_file, bootstrap)
    found = _run(settings, inspect_state(settings, _client(settings)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        _show(found)
    if any(one.refusal for one in found):
        ctx.exit(FAILED)


@command.command(epilog=EPILOG)
@bootstrap_option
@config_option
@click.option("--yes", is_flag=True, help="Don't ask.")
def rebuild(bootstrap: str | None, config_file: str | None, yes: bool) -> None:
    """Give the state up: the next worker reads the input again, from the earliest record there is.

    What the input no longer holds is lost to the figures. No worker may run.
    """
    from agents.state_rebuild import find_state, give_up, members_of

    settings = load_settings(config_file, bootstrap)
    client = _client(settings)
    members = _run(settings, members_of(settings, client))
    if members:
        worker = "worker is" if members == 1 else "workers are"
        raise CommandFailed(
            f"{members} {worker} in the group {settings.kafka.group}: stop all of them first. One "
            "that was killed counts for [engine] session_timeout "
            f"({settings.engine.session_timeout_ms / 1_000:g} s) more"
        )
    given = _run(settings, find_state(settings, client))
    if not yes:
        click.confirm(
            f"Give up the state in {settings.topics().state} ({given.records} records, "
            f"{given.bytes / _MEBI:.1f} MiB) and replay the input?",
            abort=True,
        )
    _run(settings, give_up(settings, client, given))
    click.echo(
        f"{given.records} records given up. The next worker reads the input from the earliest record."
    )


def _client(settings: Settings) -> dict[str, Any]:
    """The arguments of a Kafka client, once it is known that it will find the state topic."""
    import logging

    from agents.kafka_admin import admin_client, partition_counts, plain_failures
    from agents.kafka_client import client_arguments

    state = settings.topics().state
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with plain_failures(settings), admin_client(settings) as admin:
        count = partition_counts(admin, (state,)).get(state)
    if count is None:
        raise CommandFailed(f"there is no topic {state}: create it with heartline topics create")
    if count != settings.kafka.partitions:
        raise CommandFailed(
            f"{state} has {count} partitions, not {settings.kafka.partitions}: set [kafka] partitions "
            "to the number of the input topics"
        )
    return client_arguments(settings)


def _run(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``; failures become one plain line."""
    from aiokafka.errors import KafkaError

    from agents.publisher import PublishFailed

    try:
        return asyncio.run(work)
    except (KafkaError, PublishFailed, TimeoutError) as error:
        raise CommandFailed(f"Kafka at {settings.kafka.bootstrap}: {error}") from None


def _show(found: list[Inspected]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("partition", "epoch", "customers", "evicted", "MiB", "chunks", "records"):
        table.add_column(name, justify="right")
    for name in ("folded to", "owner"):
        table.add_column(name)
    for one in found:
        table.add_row(
            *map(str, (one.partition, one.epoch, one.customers, one.evicted)),
            f"{one.state_bytes / _MEBI:.1f}",
            *map(str, (one.chunks, one.records)),
            one.folded_to or "-",
            one.writer or "nobody",
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for one in found:
        if one.refusal:
            console.print(
                f"partition {one.partition} can't be gone on from: {one.refusal}", markup=False
            )
