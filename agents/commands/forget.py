"""``heartline forget``: what the engine knows of a customer is deleted."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from agents.failures import CommandFailed, Unusable
from agents.parameters import DURATION, bootstrap_option, config_option, load_settings

if TYPE_CHECKING:
    from agents.forgetting import Told
    from agents.settings import Settings

EPILOG = """\
Examples:

\b
  heartline forget customer-4711
  heartline forget - < customers.txt           one id a line; none shows in the list of processes
  heartline forget - --wait 2m < customers.txt

What was counted stays counted; the customer, if they come back, is new. What Heartline can't delete is
said at the end: the inputs are yours.
"""


@click.command(epilog=EPILOG)
@click.argument("customers", nargs=-1, required=True, metavar="CUSTOMER...")
@click.option(
    "--wait", "wait_ms", type=DURATION, help="Return when the engine has done it, within this time."
)
@bootstrap_option
@config_option
def command(
    customers: tuple[str, ...], wait_ms: int | None, bootstrap: str | None, config_file: str | None
) -> None:
    """Delete what is known of a CUSTOMER: from the engine's state and from its own topics.

    A control record is sent to the customer's partition. It takes effect when time has passed it, so
    everything that was written before it goes too.
    """
    from agents.forgetting import forget
    from agents.kafka_admin import plain_failures

    settings = load_settings(config_file, bootstrap)
    names = _names(customers)
    with plain_failures(settings):
        told = forget(settings, names, at_ms=time.time_ns() // 1_000_000)
        said = f"{len(names):,} {'customer' if len(names) == 1 else 'customers'} to be forgotten"
        if told.tombstones:
            said += f"; {told.tombstones:,} records taken back in {settings.topics().signals}"
        click.echo(said)
        if wait_ms is not None:
            _wait(settings, told, wait_ms)
    _say_what_is_left(settings)


def _names(customers: tuple[str, ...]) -> list[str]:
    """The ids, each once. Raises `Unusable` for one that no event can carry."""
    from schemas.events import LONGEST_ID

    if "-" in customers:
        if len(customers) > 1:
            raise Unusable("- (standard input) stands alone: put all customers there")
        customers = tuple(line.rstrip("\r\n") for line in sys.stdin)
    names = list(dict.fromkeys(name for name in customers if name))
    for number, name in enumerate(names, 1):
        if len(name) > LONGEST_ID:
            raise Unusable(
                f"customer {number} has {len(name)} characters: at most {LONGEST_ID} are an id"
            )
    if not names:
        raise Unusable("no customer was named")
    return names


def _wait(settings: Settings, told: Told, wait_ms: int) -> None:
    from agents.forgetting import is_done

    end = time.monotonic() + wait_ms / 1_000
    while not is_done(settings, told):
        if time.monotonic() > end:
            raise CommandFailed(
                "the engine has not done it yet: is a worker running, and does time pass? It will be done "
                "when both are so; nothing needs to be sent again"
            )
        time.sleep(1)
    click.echo("done: the state that is on record knows none of them")


def _say_what_is_left(settings: Settings) -> None:
    topics = settings.topics()
    click.echo(
        f"not deleted: their records in {', '.join(topics.sources)}, which are yours; what they left in "
        f"{topics.dead_letters}, {topics.late} and {topics.signals} goes with those topics' retention",
        err=True,
    )
