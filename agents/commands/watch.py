"""``heartline watch``: a live view of the main numbers in the terminal."""

from __future__ import annotations

import click

from agents.failures import Unusable
from agents.parameters import DURATION, bootstrap_option, config_option, load_settings

EPILOG = """\
Examples:

\b
  heartline watch                                from a heartline serve on this machine
  heartline watch --url http://metrics:8077 --window 24h
  heartline watch --bootstrap kafka:9092         from the results topic itself
  heartline watch --once                         one picture, for a script or a message
"""


@click.command(epilog=EPILOG)
@click.option("--url", help="A running serve. Default: [serve] host and port.")
@click.option("--window", help="The window to show, such as 5m or 5m/10s. Default: the first.")
@click.option("--once", is_flag=True, help="Print once and end.")
@click.option("--for", "for_ms", type=DURATION, help="End after this time, such as 60s.")
@bootstrap_option
@config_option
def command(
    url: str | None,
    window: str | None,
    once: bool,
    for_ms: int | None,
    bootstrap: str | None,
    config_file: str | None,
) -> None:
    """A live view of the main numbers in the terminal, until Ctrl-C."""
    from agents.http_access import read_token
    from agents.tls import trusting
    from agents.watch import watch
    from agents.watching import ServeSource, Source, TopicSource

    if url is not None and bootstrap is not None:
        raise Unusable("--url and --bootstrap name two sources: give one of them")
    settings = load_settings(config_file, bootstrap)
    source: Source
    if bootstrap is not None:
        source = TopicSource(settings)
    else:
        serve = settings.serve
        scheme = "https" if serve.certificate_file else "http"
        context = None
        if (url or scheme).startswith("https"):
            context = trusting(serve.ca_file, f"{settings.source}: [serve] ca_file")
        source = ServeSource(
            url or f"{scheme}://{serve.host}:{serve.port}",
            token=read_token("serve", settings),
            context=context,
        )
    watch(source, window, once=once, for_ms=for_ms)
