"""``heartline explain``: what one number is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agents.failures import Unusable
from agents.parameters import INSTANT, bootstrap_option, config_option, load_settings

if TYPE_CHECKING:
    from agents.explain_question import Question
    from agents.explain_reading import Evidence
    from agents.settings import Settings

EPILOG = """\
Examples:

\b
  heartline explain churn_ratio --at 2026-03-01T00:00:00Z --window 7d/1h
  heartline explain revenue --at 2026-03-01T00:00:00Z --window 28d/1d events.jsonl.gz
  heartline explain csat_ratio --at 2026-03-01T00:00:00Z --window 7d/1h --by channel=email a.jsonl
  heartline explain orders --at 2026-03-01T00:00:00Z --window 24h/10m --by region=north --format json

With files the number and its parts follow from their events. Without files Kafka is asked: the
results topic for the number, the inputs for its panes and some of its events, read back from the
moment on which the number depends, at most --limit records of each.
"""


@click.command(epilog=EPILOG)
@click.argument("metric", metavar="METRIC")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--at",
    "at_ms",
    type=INSTANT,
    required=True,
    help="End of the window; on a boundary of its hop.",
)
@click.option("--window", required=True, metavar="SIZE/HOP", help="Such as 28d/1d or 5m/10s.")
@click.option(
    "--by",
    "by",
    multiple=True,
    metavar="DIMENSION=VALUE",
    help="Of one segment (any dimension of [segments]) or of one value of the metric's own dimension. "
    "Moves between stages have two: --by from=aware --by to=engaged.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1_000_000,
    show_default=True,
    help="Records of the inputs, and of the results, that are read back from Kafka.",
)
@bootstrap_option
@config_option
def command(  # noqa: PLR0913 - one for each option
    metric: str,
    files: tuple[str, ...],
    *,
    at_ms: int,
    window: str,
    by: tuple[str, ...],
    kind: str,
    limit: int,
    bootstrap: str | None,
    config_file: str | None,
) -> None:
    """Show what METRIC is made of at one instant: the number, its formula, numerator and denominator,
    the panes behind it, what was late or rejected in that time, and some of the events.
    """
    from agents.evaluation import metric_named, no_collection
    from agents.explain import explain
    from agents.explain_question import Question, config_for, dimensions_of, where_of
    from streams.evaluate import check_instants
    from streams.windows import Window

    settings = load_settings(config_file, bootstrap)
    question = Question(metric_named(metric), Window.parse(window), at_ms, where_of(by))
    check_instants([at_ms], [question.window])
    if files and bootstrap is not None:
        raise Unusable("--bootstrap asks Kafka, and FILE does not: leave one of them out")
    # Without a configuration the segments of files are those that are in them; else what can't be
    # asked is said before anything is read.
    values_found = bool(files) and config_file is None
    dimensions = dimensions_of(settings, question, in_files=values_found)
    config = None if values_found else config_for(settings, question)
    with no_collection():
        evidence = _evidence(settings, question, dimensions, files, limit)
        if config is None:
            config = config_for(settings, question, evidence.events)
        explanation = explain(
            config,
            question,
            evidence.events,
            published=evidence.published,
            rejected=evidence.rejected,
            late=evidence.late,
            notes=evidence.notes,
            hash_key=settings.hash_key(),
        )
    if kind == "json":
        import msgspec

        encoded = msgspec.json.format(msgspec.json.encode(explanation), indent=2)
        click.echo(encoded.decode())
        return
    from agents.explain_view import WIDE, draw
    from agents.results_table import standard_output

    console = standard_output(WIDE)
    console.print(draw(explanation, width=console.width))


def _evidence(
    settings: Settings,
    question: Question,
    dimensions: tuple[str, ...],
    files: tuple[str, ...],
    limit: int,
) -> Evidence:
    from agents.explain_reading import of_files, of_kafka

    if not files:
        from agents.progress import progress_bar

        with progress_bar("reading", None) as advance:
            return of_kafka(settings, question, limit=limit, advance=advance)
    from agents.event_files import shown_lines

    with shown_lines(files) as lines:
        return of_files(lines, settings.decoder(*dimensions), question)
