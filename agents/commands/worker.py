"""`heartline worker`: one Faust worker against the configured Kafka."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\
Examples:

\b
  heartline worker
  heartline worker --bootstrap kafka:9092 --port 6066
  heartline worker --config heartline.toml --port 0
"""


@click.command(epilog=EPILOG)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file; by default HEARTLINE_CONFIG, else heartline.toml.",
)
@click.option("--bootstrap", help="Kafka's address, instead of [kafka] bootstrap.")
@click.option(
    "--port", type=int, help="Port of /metrics, /healthz and /readyz; 0 takes a free one."
)
@click.option(
    "--summary",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write the account of every input to this file, as JSON, at the end.",
)
@click.pass_context
def command(
    context: click.Context,
    config: Path | None,
    bootstrap: str | None,
    port: int | None,
    summary: Path | None,
) -> None:
    """One Faust worker against the configured Kafka.

    Run as many as you like: they share the partitions. SIGTERM and Ctrl-C end it in order.
    """
    import os

    from agents.settings import Settings
    from agents.worker import run_worker

    environment = dict(os.environ)
    if bootstrap is not None:
        environment["HEARTLINE_KAFKA_BOOTSTRAP"] = bootstrap
    if port is not None:
        environment["HEARTLINE_WORKER_PORT"] = str(port)
    context.exit(run_worker(Settings.load(config, environment), summary=summary))
