"""``heartline serve``: results as /metrics, API and live page."""

from __future__ import annotations

import click

from agents.parameters import bootstrap_option, config_option, load_settings

EPILOG = """\
Examples:

\b
  heartline serve
  heartline serve --bootstrap kafka:9092 --host 0.0.0.0
  curl -s http://127.0.0.1:8077/metrics | grep churn_ratio
"""


@click.command(epilog=EPILOG)
@click.option("--host", help="Address to listen on, instead of [serve] host (127.0.0.1).")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port to listen on, instead of [serve] port (8077); 0 takes a free one.",
)
@bootstrap_option
@config_option
def command(
    host: str | None, port: int | None, bootstrap: str | None, config_file: str | None
) -> None:
    """Results as /metrics, API and live page.

    Stateless: it tails the results topic. It shows only whole results, of all partitions. On another
    address than 127.0.0.1 give it a token and a certificate: docs/security.md.
    """
    import asyncio

    import msgspec

    from agents import logs
    from agents.serve import create_serving, serve

    settings = load_settings(config_file, bootstrap)
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = msgspec.structs.replace(
        settings, serve=msgspec.structs.replace(settings.serve, **changes)
    )
    logs.set_up(settings.worker.log_format, settings.worker.log_level)
    asyncio.run(serve(settings, create_serving(settings)))
