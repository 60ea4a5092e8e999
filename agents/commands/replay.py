"""``heartline replay``: events from files to Kafka."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from agents.failures import SOME_REJECTED, Unusable
from agents.parameters import INSTANT, bootstrap_option, config_option, load_settings

if TYPE_CHECKING:
    from agents.event_sender import EventSender
    from agents.replay import Routed, Router
    from agents.settings import Settings

NAP_S = 0.25
LONGEST_WAIT_S = 5.0
SHOW_EVERY = 1_000

EPILOG = """\
Examples:

\b
  heartline replay events.jsonl.zst
  heartline replay january.jsonl february.jsonl.gz --until 2026-03-01T00:00:00Z
  heartline replay events.jsonl --rate 5000
  heartline replay events.jsonl --speed 3600           an hour of events a second
  zcat old/*.gz | heartline replay -

Lines that can't be routed (no JSON object, no known type, no customer_id) are counted, and the exit
status is 3; everything else is sent as it is, and the engine judges it. Up to a million lines are
sorted in memory, more in temporary files.
"""


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--until",
    "until_ms",
    type=INSTANT,
    help="How far time has passed after the last event. Default: the first UTC midnight at which "
    "the last session has closed.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    help="Event time against the clock; stretches without events take 5 s at most. Default: as "
    "fast as Kafka takes them.",
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="At most so many events a second."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "cdnow"]),
    default="jsonl",
    show_default=True,
    help="One JSON event a line, or the CDNOW data set.",
)
@bootstrap_option
@config_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    files: tuple[str, ...],
    until_ms: int | None,
    speed: float | None,
    rate: float | None,
    kind: str,
    bootstrap: str | None,
    config_file: str | None,
) -> None:
    """Send the events of files to Kafka, in order of event time.

    FILE holds one JSON event a line, of all kinds, in any order; .gz and .zst are read directly, -
    is standard input. Each goes to its topic by type and to its partition by customer_id. Where a
    topic has nothing to say, and at the end, control records say that time passed.
    """
    from agents.event_files import size_of
    from agents.event_sender import EventSender
    from agents.kafka_admin import plain_failures
    from agents.replay import Router

    settings = load_settings(config_file, bootstrap)
    size_of(files)  # A misspelt name is said before anything is sent.
    router = Router()
    with plain_failures(settings), EventSender(settings) as sender:
        began = time.monotonic()
        events = _read(files, kind, router)
        total, last_ms, controls = _send(sender, events, _Pace(speed, rate), router)
        if not total and until_ms is None:
            raise Unusable(f"no event can be sent: {_reasons(router.unroutable) or 'no lines'}")
        end_ms = _end(settings, last_ms, until_ms)
        controls += sender.time_passed(end_ms)
        sender.flush()
        seconds = time.monotonic() - began
    _report(total, controls, end_ms, seconds)
    if router.unroutable:
        click.echo(f"not sent: {_reasons(router.unroutable)}", err=True)
        ctx.exit(SOME_REJECTED)


def _read(files: tuple[str, ...], kind: str, router: Router) -> Iterator[Routed]:
    """All events in order; a bar shows how far the reading is."""
    from agents.event_files import read_lines, size_of
    from agents.progress import progress_bar
    from agents.replay import in_order

    def routed() -> Iterator[Routed]:
        with progress_bar("reading", size_of(files), unit_is_bytes=True) as advance:
            lines = read_lines(files, advance)
            if kind == "cdnow":
                from agents.cdnow import cdnow_events

                lines = cdnow_events(lines)
            for line in lines:
                found = router.route(line)
                if found is not None:
                    yield found

    return in_order(routed())


def _send(
    sender: EventSender, events: Iterator[Routed], pace: _Pace, router: Router
) -> tuple[int, int, int]:
    """How many events were sent, the time of the last, and the number of control records."""
    from agents.progress import progress_bar
    from agents.replay import QuietTopics

    quiet = QuietTopics(sender.partitions)
    total = controls = last_ms = 0
    first = next(events, None)
    if first is None:
        return 0, 0, 0
    with progress_bar("sending", router.routed) as advance:
        event: Routed | None = first
        while event is not None:
            last_ms = event.at_ms
            pace.wait(last_ms)
            if places := quiet.quiet_at(last_ms):
                controls += sender.time_passed(last_ms, places)
            sender.send(event.source, event.key, event.value)
            quiet.said(event.source, sender.partition_of(event.key), last_ms)
            total += 1
            if total % SHOW_EVERY == 0:
                advance(total)
            event = next(events, None)
    return total, last_ms, controls


def _end(settings: Settings, last_ms: int, until_ms: int | None) -> int:
    from agents.replay import first_midnight_after

    if until_ms is None:
        return first_midnight_after(last_ms + settings.sessions.gap_ms)
    if until_ms < last_ms:
        click.echo("--until lies before the last event: time passes to that event", err=True)
    return max(until_ms, last_ms)


def _report(total: int, controls: int, end_ms: int, seconds: float) -> None:
    from agents.simulation.behaviour import rfc3339

    rate = total / max(seconds, 1e-9)
    click.echo(
        f"{total:,} events and {controls:,} time_passed records in {seconds:.1f} s "
        f"({rate:,.0f} events a second); time passed until {rfc3339(end_ms)}",
        err=True,
    )


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))


class _Pace:
    """Holds events back to a speed of event time, or to a rate."""

    def __init__(self, speed: float | None, rate: float | None) -> None:
        self._speed = speed
        self._interval_s = 0.0 if rate is None else 1 / rate
        self._due = time.monotonic()
        self._before_ms: int | None = None

    def wait(self, at_ms: int) -> None:
        """Return when an event of ``at_ms`` is due."""
        if self._speed is None and not self._interval_s:
            return
        wait_s = self._interval_s
        if self._speed is not None and self._before_ms is not None:
            gap_s = (at_ms - self._before_ms) / 1000 / self._speed
            wait_s = max(wait_s, min(gap_s, LONGEST_WAIT_S))
        self._before_ms = at_ms
        # Against a fixed schedule: naps that last too long don't add up.
        self._due += wait_s
        while (left := self._due - time.monotonic()) > 0.001:
            time.sleep(min(left, NAP_S))
