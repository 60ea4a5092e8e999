"""``heartline redrive``: dead letters back to their topics, once."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import click

from agents.failures import SOME_REJECTED
from agents.parameters import INSTANT, bootstrap_option, config_option, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.letters import Tally

SOURCES = ("sessions", "purchases", "social", "support")
EPILOG = """\
Examples:

\b
  heartline redrive --dry-run
  heartline redrive --reason unknown_currency --since 2026-03-01T00:00:00Z
  heartline redrive --reason wrong_key --topic purchases --fix-key --limit 10
  heartline redrive --reason too_late --late

Run it again as often as you like: no letter is sent twice, also after Ctrl-C or a crash. Every record
goes to the partition of its key and keeps its timestamp, so it is folded (or late) by the time at
which it was first written. What is not sent, and why, is said at the end; the exit status is then 3.
"""


@click.command(epilog=EPILOG)
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    help="Only letters with this reason; too_late for late records. May be repeated.",
)
@click.option(
    "--topic",
    "sources",
    multiple=True,
    type=click.Choice(SOURCES),
    help="Only letters from this input. May be repeated.",
)
@click.option("--since", "since_ms", type=INSTANT, help="Only records written at or after this.")
@click.option("--until", "until_ms", type=INSTANT, help="Only records written before this.")
@click.option("--late", is_flag=True, help="Also records that came later than allowed.")
@click.option(
    "--fix-key", is_flag=True, help="Send records with a wrong key under their customer_id."
)
@click.option(
    "--again", is_flag=True, help="Also what was sent back once already and refused again."
)
@click.option("--limit", type=click.IntRange(1), help="Send at most so many.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
)
@bootstrap_option
@config_option
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    ctx: click.Context,
    *,
    dry_run: bool,
    reasons: tuple[str, ...],
    sources: tuple[str, ...],
    since_ms: int | None,
    until_ms: int | None,
    late: bool,
    fix_key: bool,
    again: bool,
    limit: int | None,
    kind: str,
    bootstrap: str | None,
    config_file: str | None,
) -> None:
    """Send dead letters back to the topics from which they came, each once."""
    from agents.kafka_admin import plain_failures
    from agents.letters import TOO_LATE, UNSENDABLE, Choice, Verdict
    from agents.partitioners import Partitions
    from agents.progress import progress_bar
    from agents.redrive import Redrive
    from agents.redrive_log import KafkaRedriveLog
    from schemas.reasons import Reason

    allowed = [*(reason.value for reason in Reason), TOO_LATE]
    for reason in reasons:
        if reason not in allowed:
            raise click.BadParameter(
                f"'{reason}' is none of {', '.join(allowed)}", param_hint="--reason"
            )
    settings = load_settings(config_file, bootstrap)
    topics = settings.topics()
    choice = Choice(
        frozenset(reasons),
        frozenset(getattr(topics, source) for source in sources),
        since_ms,
        until_ms,
    )
    with plain_failures(settings), KafkaRedriveLog(settings) as log:
        redrive = Redrive(
            log,
            run=uuid.uuid4().hex[:12],
            inputs=log.inputs,
            partition_of=Partitions(settings.kafka.partitioner, log.inputs[topics.sessions]),
            now_ms=lambda: time.time_ns() // 1_000_000,
            pause=time.sleep,
        )
        try:
            redrive.begin(dry_run=dry_run)
            with progress_bar("looking through the letters", None) as advance:
                letters = log.letters(late=late, progress=lambda done, _total: advance(done))
                redrive.run(
                    letters, choice, dry_run=dry_run, fix_key=fix_key, again=again, limit=limit
                )
        except KeyboardInterrupt:
            sent = redrive.tally.verdicts()[Verdict.SENT]
            click.echo(f"{sent:,} letters were sent; run it again for the rest", err=True)
            raise
        unreadable, retention_ms = log.unreadable, log.retention_ms
    if kind == "json":
        _print_json(redrive.tally)
    else:
        _print_table(redrive.tally)
    _warn_of_retention(redrive.tally, retention_ms)
    if unreadable:
        click.echo(
            f"{unreadable:,} records among the letters are none and were passed over", err=True
        )
    if unreadable or UNSENDABLE & redrive.tally.verdicts().keys():
        ctx.exit(SOME_REJECTED)


def _warn_of_retention(tally: Tally, retention_ms: Mapping[str, int]) -> None:
    """Records keep their timestamps, and Kafka removes by them."""
    from agents.letters import Verdict

    now_ms = time.time_ns() // 1_000_000
    old = {
        topic
        for (topic, _, verdict), line in tally.lines.items()
        if verdict in {Verdict.SENT, Verdict.WOULD_BE_SENT}
        and topic in retention_ms
        and line.oldest_ms < now_ms - retention_ms[topic]
    }
    for topic in sorted(old):
        click.echo(
            f"{topic} keeps records for {retention_ms[topic] / 86_400_000:g} days by their timestamp, and some "
            "of these are older: Kafka may remove them before a worker reads them; raise its retention.ms for "
            "the time",
            err=True,
        )


def _print_json(tally: Tally) -> None:
    import msgspec

    from streams.moments import to_text

    lines = [
        {
            "topic": topic,
            "reason": reason,
            "letters": line.letters,
            "outcome": str(verdict),
            "oldest": to_text(line.oldest_ms),
            "newest": to_text(line.newest_ms),
        }
        for (topic, reason, verdict), line in sorted(tally.lines.items())
    ]
    click.echo(msgspec.json.format(msgspec.json.encode(lines)).decode())


def _print_table(tally: Tally) -> None:
    from rich.table import Table

    from agents.letters import EXPLAINED
    from agents.results_table import standard_output
    from streams.moments import to_text

    if not tally.lines:
        click.echo("no letter is chosen by these filters")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("topic", "reason", "letters", "", "oldest", "newest"):
        table.add_column(name, justify="right" if name == "letters" else "left", no_wrap=True)
    for (topic, reason, verdict), line in sorted(tally.lines.items()):
        table.add_row(
            topic,
            reason,
            f"{line.letters:,}",
            str(verdict),
            to_text(line.oldest_ms),
            to_text(line.newest_ms),
        )
    console = standard_output()
    console.print(table)
    for verdict in sorted(tally.verdicts()):
        if verdict in EXPLAINED:
            console.print(f"{verdict}: {EXPLAINED[verdict]}", highlight=False, soft_wrap=True)
