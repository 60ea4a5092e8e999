"""``heartline simulate``: a customer base with known truth, to Kafka or a file."""

from __future__ import annotations

import gc
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from agents.failures import Unusable
from agents.parameters import (
    DURATION,
    INSTANT,
    bootstrap_option,
    config_option,
    load_settings,
)
from agents.simulation.configuration import Configuration, customers_for, tempo_for
from agents.simulation.scenario import SCENARIOS, STEADY, Scenario

if TYPE_CHECKING:
    from agents.settings import Settings
    from agents.simulation.output import Tally

LIVE_RATE = 50.0
HISTORY_MS = 30 * 86_400_000
"""How far back a sped-up run without an end begins."""
MINUTE_MS = 60_000
MAX_FUTURE_MS = 5 * MINUTE_MS

EPILOG = """\
Examples:

\b
  heartline simulate --rate 200                        live, until Ctrl-C
  heartline simulate --rate 500 --for 10m --scenario churn-spike
  heartline simulate --for 30d --speed 3600            30 days of events in 12 minutes
  heartline simulate --for 90d --to-file events.jsonl.zst --truth truth.jsonl

Without --rate, a live run makes 50 events a second; otherwise customers live at their natural
pace (10,000 of them make about 0.2 events a second). The same --seed and --start give the same bytes.
"""


@click.command(epilog=EPILOG)
@click.option(
    "--rate", type=click.FloatRange(0.001, 1_000_000), help="Records a second of event time."
)
@click.option("--scenario", type=click.Choice(SCENARIOS), default=STEADY, show_default=True)
@click.option(
    "--scenario-after",
    type=DURATION,
    help="Its begin after the start. Default: a third of the run.",
)
@click.option(
    "--scenario-for", type=DURATION, help="How long it lasts. Default: a third of the run."
)
@click.option(
    "--customers", type=click.IntRange(1, 5_000_000), help="Customers alive at the start."
)
@click.option("--seed", type=click.IntRange(0, 2**53), default=1, show_default=True)
@click.option(
    "--for", "for_ms", type=DURATION, help="Length in event time, such as 60s, 2h or 90d."
)
@click.option("--events", type=click.IntRange(1), help="End after this many records.")
@click.option(
    "--to-file", metavar="FILE", help="JSONL instead of Kafka; .gz and .zst compress, - prints."
)
@click.option("--truth", metavar="FILE", help="What really happened, as JSONL.")
@click.option(
    "--start",
    "start_ms",
    type=INSTANT,
    help="Event time of the start. Default: now, or so that the run ends now.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Event time against the clock; 0 = as fast as Kafka takes it.",
)
@click.option(
    "--shape/--flat",
    default=None,
    help="Busy evenings and weekends, quiet nights. Default: --flat in a live run, else --shape.",
)
@click.option(
    "--late",
    type=click.FloatRange(0, 0.5),
    default=0.005,
    show_default=True,
    help="Share of late records.",
)
@click.option(
    "--duplicates",
    type=click.FloatRange(0, 0.5),
    default=0.005,
    show_default=True,
    help="Share of records sent twice.",
)
@click.option(
    "--malformed",
    type=click.FloatRange(0, 0.5),
    default=0.002,
    show_default=True,
    help="Share of malformed records.",
)
@click.option(
    "--time-passed/--no-time-passed",
    default=True,
    help="Say at the end of a bounded run that time passed.",
)
@bootstrap_option
@config_option
def command(**options: Any) -> None:
    """A customer base that knows the truth, to Kafka or to a file.

    Customers with personas, regions and rhythms visit, buy, complain and leave for good. A share of
    the records comes late, twice or malformed; --truth says which, and what really happened.
    """  # fmt: skip
    configuration = _configuration(options, int(time.time() * 1000))
    if options["to_file"]:
        _write(configuration, options)
    else:
        _send(configuration, options, load_settings(options["config_file"], options["bootstrap"]))


def _configuration(options: dict[str, Any], now_ms: int) -> Configuration:
    """What the options amount to. Raises `Unusable`."""
    to_file, speed = bool(options["to_file"]), options["speed"]
    for_ms, events, start_ms = options["for_ms"], options["events"], options["start_ms"]
    live = not to_file and speed == 1
    if to_file and for_ms is None and events is None:
        raise Unusable("a file needs an end: give --for (such as 30d) or --events")
    if not options["to_file"] and options["truth"] and for_ms is None and events is None:
        raise Unusable("--truth needs an end: give --for or --events")
    if start_ms is None:
        start_ms = now_ms if live else now_ms - (for_ms or HISTORY_MS)
    elif (
        not to_file
        and start_ms + (for_ms or 0) > now_ms + (for_ms if live and for_ms else 0) + MAX_FUTURE_MS
    ):
        raise Unusable(
            "the run would reach into the future, which the engine refuses: choose an earlier --start"
        )
    rate = options["rate"] or (LIVE_RATE if live else None)
    customers = options["customers"] or customers_for(rate)
    disturbed = options["duplicates"] + options["malformed"]
    if options["late"] + disturbed > 1:
        raise Unusable("--late, --duplicates and --malformed together can't exceed 1")
    return Configuration(
        seed=options["seed"],
        start_ms=start_ms,
        end_ms=None if for_ms is None else start_ms + for_ms,
        max_records=events,
        customers=customers,
        tempo=1.0 if rate is None else tempo_for(rate, customers, disturbed_share=disturbed),
        flat=live if options["shape"] is None else not options["shape"],
        scenario=_scenario(options, start_ms),
        late_share=options["late"],
        duplicate_share=options["duplicates"],
        malformed_share=options["malformed"],
    )


def _scenario(options: dict[str, Any], start_ms: int) -> Scenario:
    for_ms = options["for_ms"]
    third_ms = for_ms // 3 if for_ms else 5 * MINUTE_MS
    begin_ms = start_ms + (options["scenario_after"] or (third_ms if for_ms else 2 * MINUTE_MS))
    return Scenario(options["scenario"], begin_ms, begin_ms + (options["scenario_for"] or third_ms))


def _write(configuration: Configuration, options: dict[str, Any]) -> None:
    from agents.simulation.output import to_file
    from agents.simulation.world import World

    began = time.monotonic()
    _spare_the_collector()
    world = World(configuration)
    with _Progress(configuration) as progress:
        tally = to_file(world, options["to_file"], options["truth"], progress.show)
    _summary(tally, time.monotonic() - began, options["to_file"])


def _send(configuration: Configuration, options: dict[str, Any], settings: Settings) -> None:
    from agents.event_sender import EventSender
    from agents.kafka_admin import plain_failures
    from agents.replay import QuietTopics
    from agents.simulation.output import Pace, to_kafka
    from agents.simulation.world import World

    began = time.monotonic()
    bounded = configuration.end_ms is not None or configuration.max_records is not None
    speed = options["speed"]
    _spare_the_collector()
    with (
        plain_failures(settings),
        EventSender(settings) as sender,
        _Progress(configuration) as progress,
    ):
        tally = to_kafka(
            World(configuration),
            sender,
            Pace(configuration.start_ms, speed),
            options["truth"],
            progress.show,
            quiet=None if speed == 1 else QuietTopics(sender.partitions),
            time_passed=bounded and options["time_passed"],
        )
    _summary(tally, time.monotonic() - began, settings.kafka.bootstrap)


def _spare_the_collector() -> None:
    """Events form no cycles; the collector would only walk all customers again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1_000)


def _summary(tally: Tally, seconds: float, where: str) -> None:
    first, second = tally.lines()
    rate = tally.records / max(seconds, 1e-9)
    click.echo(f"{first} to {where} in {seconds:.1f} s, {rate:,.0f} a second", err=True)
    click.echo(second, err=True)


class _Progress:
    """One line on standard error, rewritten twice a second, only on a terminal."""

    def __init__(self, configuration: Configuration) -> None:
        self._start_ms = configuration.start_ms
        self._shown = 0.0
        self._on = sys.stderr.isatty()

    def __enter__(self) -> _Progress:  # noqa: PYI034 - private and final
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r\033[K", nl=False, err=True)

    def show(self, records: int, at_ms: int) -> None:
        """Say how far it is."""
        if not self._on or time.monotonic() - self._shown < 0.5:
            return
        from agents.simulation.behaviour import rfc3339

        self._shown = time.monotonic()
        click.echo(
            f"\r\033[K{records:,} records, {rfc3339(at_ms // 1000 * 1000)}", nl=False, err=True
        )
