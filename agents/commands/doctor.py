"""``heartline doctor``: is everything as it should be?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from agents.failures import FAILED, CommandFailed
from agents.parameters import bootstrap_option, config_option, load_settings
from agents.settings import Settings
from agents.topic_plan import Finding

EPILOG = """\
Examples:

\b
  heartline doctor
  heartline doctor --config heartline.toml --bootstrap kafka:9092

It only reads. Exit status 1 if a line says fail.
"""
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(epilog=EPILOG)
@bootstrap_option
@config_option
@click.pass_context
def command(ctx: click.Context, bootstrap: str | None, config_file: str | None) -> None:
    """Check configuration, broker, topics, keys, lag and clock; say what to do."""
    from agents import diagnosis
    from agents.kafka_admin import plain_failures
    from agents.secret import SecretUnusable
    from agents.security_diagnosis import check_certificates, check_security

    failed = sum(_say(finding) for finding in diagnosis.check_installation())
    settings = load_settings(config_file, bootstrap)
    failed += sum(_say(finding) for finding in diagnosis.check_configuration(settings))
    failed += sum(_say(finding) for finding in check_security(settings))
    steps: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("broker", diagnosis.check_broker),
        ("topics", diagnosis.check_plan),
        ("records", diagnosis.check_records),
        ("lag", diagnosis.check_lag),
    )
    begun = "broker"
    try:
        with plain_failures(settings) as probed:
            failed += sum(_say(finding) for finding in check_certificates(probed))
            for begun, step in steps:  # noqa: B007 - named if it fails
                failed += sum(_say(finding) for finding in step(settings))
    except (CommandFailed, SecretUnusable) as error:
        failed += _say(Finding("fail", begun, str(error)))
    if failed:
        ctx.exit(FAILED)


def _say(finding: Finding) -> int:
    """Print one line; 1 if it says fail."""
    level = click.style(f"{finding.level:4}", fg=COLOURS[finding.level])
    click.echo(f"{level}  {finding.topic}: {finding.message}")
    return int(finding.level == "fail")
