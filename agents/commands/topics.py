"""``heartline topics``: create or check the topics."""

from __future__ import annotations

import click

from agents.failures import FAILED
from agents.parameters import bootstrap_option, config_option, load_settings

EPILOG = """\
Examples:

\b
  heartline topics create
  heartline topics create --bootstrap kafka:9092
  heartline topics check --config heartline.toml

How many partitions the inputs have is [kafka] partitions (default 8), how many replicas [kafka]
replication (default 1).
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Create or check the topics that Heartline reads and writes."""


@command.command(epilog=EPILOG)
@bootstrap_option
@config_option
def create(bootstrap: str | None, config_file: str | None) -> None:
    """Create every topic that does not exist yet. What exists is left as it is."""
    from agents.kafka_admin import plain_failures
    from agents.topic_plan import create_topics

    settings = load_settings(config_file, bootstrap)
    with plain_failures(settings):
        for finding in create_topics(settings):
            click.echo(f"{finding.level:5} {finding.topic}: {finding.message}")


@command.command(epilog=EPILOG)
@click.pass_context
@bootstrap_option
@config_option
def check(ctx: click.Context, bootstrap: str | None, config_file: str | None) -> None:
    """Name every difference from what Heartline needs; exit status 1 if there is one."""
    from agents.kafka_admin import plain_failures
    from agents.topic_plan import check_topics

    settings = load_settings(config_file, bootstrap)
    with plain_failures(settings):
        findings = check_topics(settings)
    for finding in findings:
        click.echo(f"{finding.level:5} {finding.topic}: {finding.message}")
    wrong = sum(finding.level == "wrong" for finding in findings)
    if wrong:
        click.echo(f"{wrong} {'difference' if wrong == 1 else 'differences'}", err=True)
        ctx.exit(FAILED)
