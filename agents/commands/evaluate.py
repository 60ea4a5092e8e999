"""``heartline evaluate``: the metrics of events in files, by the same core, without Kafka."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from agents.failures import SOME_REJECTED
from agents.parameters import INSTANT, config_option

if TYPE_CHECKING:
    from streams.evaluate import Evaluated

EPILOG = """\
Examples:

\b
  heartline evaluate events.jsonl --at 2026-03-01T00:00:00Z --window 28d/1d
  heartline evaluate a.jsonl.gz b.jsonl.zst --at 2026-03-01T00:00:00Z --window 7d/1h --format table
  heartline evaluate - --at 2026-03-01T00:00:00Z --window 7d/1h --metric churn_ratio --by region

The files together are taken as complete: events are sorted by event time, nothing is late, and time
moves on to the last --at. Exit status 3 says that some lines were rejected; the others still count.
"""


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--at",
    "ats",
    type=INSTANT,
    multiple=True,
    required=True,
    help="End of the windows; on a boundary of every hop. Repeatable.",
)
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="SIZE/HOP",
    help="Such as 28d/1d, with s, m, h or d. Repeatable. Default: the configured windows.",
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Repeatable. Default: all."
)
@click.option(
    "--by",
    "by",
    multiple=True,
    metavar="DIMENSION",
    help="Also by the values of this customer dimension: persona, region, or one of [segments] or of "
    "the events. Repeatable.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["json", "table"]),
    default="json",
    show_default=True,
)
@config_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    files: tuple[str, ...],
    ats: tuple[int, ...],
    windows: tuple[str, ...],
    metrics: tuple[str, ...],
    by: tuple[str, ...],
    kind: str,
    config_file: str | None,
) -> None:
    """Compute the metrics of the events in FILE at given instants.

    FILE holds one JSON event a line, of all kinds, in any order; .gz and .zst are read directly, -
    is standard input. Without --config the values of --by are those in the files.
    """
    from agents import evaluation
    from agents.event_files import shown_lines
    from agents.settings import Settings
    from streams.evaluate import check_instants, evaluate

    settings = Settings.load(config_file)
    chosen = evaluation.chosen_windows(settings, windows)
    wanted = evaluation.chosen_metrics(metrics)
    instants = tuple(dict.fromkeys(ats))
    check_instants(instants, chosen)
    evaluation.check_dimensions(by, None if config_file is None else settings.segments)
    with evaluation.no_collection():
        with shown_lines(files) as lines:
            reading = evaluation.read_events(lines, settings.decoder(*by))
        found = None
        if config_file is None:
            found = {name: _values(reading.events, name) for name in by}
        config = evaluation.core_config(settings, chosen, by, found)
        results = evaluate(config, reading.events, instants, metrics=wanted)
    if kind == "json":
        sys.stdout.flush()
        click.get_binary_stream("stdout").write(evaluation.to_json(results))
    else:
        from agents.results_table import print_table

        print_table(results)
    if reading.rejected:
        counts = sorted(reading.rejected.items())
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts)
        click.echo(f"rejected lines: {reading.rejected.total():,} ({reasons})", err=True)
        ctx.exit(SOME_REJECTED)


def _values(events: list[Evaluated], dimension: str) -> tuple[str, ...]:
    """The values of ``dimension`` in the files."""
    from agents.evaluation import values_in

    named, left_out = values_in(events, dimension)
    if left_out:
        click.echo(f"--by {dimension}: {left_out:,} more values count as 'other'", err=True)
    return named
