"""``heartline tail``: follow results, signals or alerts."""

from __future__ import annotations

import click

from agents.failures import Unusable
from agents.parameters import DURATION, bootstrap_option, config_option, load_settings

EPILOG = """\
Examples:

\b
  heartline tail results --metric churn_ratio --window 24h --segment everyone
  heartline tail results --format json --from-beginning --no-follow > results.jsonl
  heartline tail alerts
"""


@click.command(epilog=EPILOG)
@click.argument("what", type=click.Choice(["results", "signals", "alerts"]))
@click.option("--metric", "metrics", multiple=True, help="Only this metric. May be repeated.")
@click.option("--window", "windows", multiple=True, help="Only this window, such as 5m or 5m/10s.")
@click.option("--segment", help="everyone, or one segment such as persona=loyal.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Lines of a table, or the records as JSON lines. Signals and alerts are always JSON.",
)
@click.option("--from-beginning", is_flag=True, help="Everything that the topic still has.")
@click.option("--no-follow", is_flag=True, help="End when the topic has been read to its end.")
@click.option("--limit", type=click.IntRange(1), help="End after this many lines.")
@click.option("--for", "for_ms", type=DURATION, help="End after this time, such as 60s.")
@bootstrap_option
@config_option
def command(  # noqa: PLR0913, PLR0917 - one for each option
    what: str,
    metrics: tuple[str, ...],
    windows: tuple[str, ...],
    segment: str | None,
    kind: str,
    from_beginning: bool,
    no_follow: bool,
    limit: int | None,
    for_ms: int | None,
    bootstrap: str | None,
    config_file: str | None,
) -> None:
    """Follow results, signals or alerts as they are published."""
    import asyncio
    import logging

    import orjson

    from agents import logs
    from agents.kafka_client import client_arguments
    from agents.kafka_probe import probe
    from agents.results_reader import TopicTail
    from agents.tail import Document, Filters, Follower, result_line
    from streams.metrics import BY_NAME

    settings = load_settings(config_file, bootstrap)
    logs.set_up("plain", "error")
    # Said once, in our own words.
    for name in ("aiokafka", "agents.results_reader"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if what != "results" and (metrics or windows or segment):
        raise Unusable("--metric, --window and --segment choose among results only")
    for name in metrics:
        if name not in BY_NAME:
            raise Unusable(f"unknown metric {name!r}: 'heartline schema' lists them")
    units = {name: metric.unit.value for name, metric in BY_NAME.items()}

    def show(record: Document) -> str:
        if what == "results" and kind == "table":
            return result_line(record, units)
        return orjson.dumps(record).decode()

    topic: str = getattr(settings.topics(), what)
    arguments = client_arguments(settings)
    follower = Follower(
        TopicTail(
            topic,
            arguments,
            lookback_ms=None if from_beginning else 0,
            probe=lambda: probe(settings, arguments),
        ),
        Filters(frozenset(metrics), frozenset(windows), segment),
        show,
        limit=limit,
        stop_at_end=no_follow,
    )
    try:
        asyncio.run(follower.follow(None if for_ms is None else for_ms / 1000))
    finally:
        if follower.unreadable:
            click.echo(f"{follower.unreadable} records were no JSON objects", err=True)
