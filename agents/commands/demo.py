"""``heartline demo``: everything on this machine, moving numbers at once."""

from __future__ import annotations

import click

from agents.parameters import DURATION
from agents.simulation.scenario import SCENARIOS, STEADY

EPILOG = """\
Examples:

\b
  heartline demo
  heartline demo --for 60s --scenario churn-spike
  heartline demo --replay events.jsonl.zst
  heartline demo --bootstrap localhost:9092        with your own Kafka

The embedded broker runs on Linux and macOS. On your own Kafka a run creates topics of its own
(heartline-demo-...) and deletes them at its end.
"""


@click.command(epilog=EPILOG)
@click.option("--for", "for_ms", type=DURATION, help="End after this time, such as 60s.")
@click.option(
    "--replay", metavar="FILE", help="Replay real events in fast event time, not simulated ones."
)
@click.option(
    "--format",
    "replay_format",
    type=click.Choice(["jsonl", "cdnow"]),
    default="jsonl",
    show_default=True,
    help="What --replay reads.",
)
@click.option("--rate", type=click.FloatRange(0.1, 50_000), help="Events a second. Default: 120.")
@click.option("--scenario", type=click.Choice(SCENARIOS), default=STEADY, show_default=True)
@click.option("--bootstrap", metavar="HOST:PORT", help="Your own Kafka, not the embedded broker.")
@click.option("--broker-port", type=click.IntRange(1, 65_535), help="Port of the embedded broker.")
@click.option(
    "--port",
    "serve_port",
    type=click.IntRange(0, 65_535),
    default=8077,
    show_default=True,
    help="Port of the live page, /metrics and API; 0 takes a free one.",
)
@click.option("--live/--no-live", default=True, help="A picture, or plain lines.")
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one for each option
    ctx: click.Context,
    for_ms: int | None,
    replay: str | None,
    replay_format: str,
    rate: float | None,
    scenario: str,
    bootstrap: str | None,
    broker_port: int | None,
    serve_port: int,
    live: bool,
) -> None:
    """Everything on this machine: a Kafka broker, a worker, a simulated customer base, live numbers.

    No Docker, no JVM. Ctrl-C or --for ends everything and prints what became of every record.
    """
    from agents.demo import run_demo
    from agents.demo_plan import DemoOptions

    ctx.exit(
        run_demo(
            DemoOptions(
                for_ms=for_ms,
                replay=replay,
                replay_format=replay_format,
                rate=rate,
                scenario=scenario,
                bootstrap=bootstrap,
                broker_port=broker_port,
                serve_port=serve_port,
                live=live,
            )
        )
    )
