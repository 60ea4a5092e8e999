"""One window against fifty: what an event costs must not depend on how many windows there are.

Both run in one process, in turn, on the same events, at 10,000 events a pane and more, with
everything published: partials encoded, rolled up, results encoded. The figure per event is the fold
of the event alone. What the fifty windows do cost is the closing of a pane and the reports of its
boundary; these stand apart, and so does everything together.

Target: the medians of 9 interleaved pairs differ by at most 15 %.

    python -m bench.windows --short
    python -m bench.windows --pairs 9 --density 2000 --json windows.json
"""

import sys

import msgspec

from agents.partials import Reporter
from bench.core import (
    CLOSE,
    FOLD,
    MERGE,
    REPORT,
    Batches,
    Core,
    Measured,
    batches,
    configuration,
)
from bench.population import Traffic
from bench.report import Row, finish, median, options, profiled, table, verdict
from streams.config import CoreConfig
from streams.partition import TickSums
from streams.rollup import RollUp

DIFFERENCE = 0.15
HOPS = {"10s": 10, "1m": 60, "10m": 600, "1h": 3_600, "6h": 21_600}
MULTIPLES = (3, 6, 12, 18, 24, 30, 36, 48, 60, 72)
ONE = ("5m/10s",)
FIFTY = tuple(f"{hop * times}s/{hop}s" for hop in HOPS.values() for times in MULTIPLES)
WARM_UP = 0.25


class Publishing:
    """What the worker does with its reports, up to the bytes that it hands to Kafka."""

    def __init__(self, config: CoreConfig) -> None:
        self._reporter = Reporter(config, 0)
        self._rollup = RollUp(config, 1)
        self._encode = msgspec.json.Encoder().encode
        self._now_ms = 0
        self.count_anew()

    def count_anew(self) -> None:
        """What was published so far is not counted."""
        self.results = self.bytes = 0

    def __call__(self, reports: list[TickSums]) -> None:
        """Partials out, partials in, results out."""
        self._now_ms += 1_000
        for partial in self._reporter.partials(reports, epoch=1):
            self.bytes += len(self._encode(partial))
            self._rollup.add(partial)
        for result in self._rollup.due(self._now_ms):
            self.results += 1
            self.bytes += len(self._encode(result))


def measure(config: CoreConfig, prepared: Batches) -> tuple[Measured, Publishing]:
    """A new partition with these windows: warm it, then measure."""
    publishing = Publishing(config)
    core = Core(config, publishing)
    return core.run_warm(prepared, WARM_UP, when_warm=publishing.count_anew), publishing


def row(name: str, runs: list[tuple[Measured, Publishing]]) -> Row:
    """The medians of one side."""
    return {
        "windows": name,
        "fold us/event": median([run.microseconds(FOLD) for run, _ in runs]),
        "merge us/event": median([run.microseconds(MERGE) for run, _ in runs]),
        "close ms/pane": median([run.seconds[CLOSE] / run.panes * 1e3 for run, _ in runs]),
        "report ms/pane": median([run.seconds[REPORT] / run.panes * 1e3 for run, _ in runs]),
        "results/pane": median([out.results / run.panes for run, out in runs]),
        "KB/pane": median([out.bytes / run.panes / 1e3 for run, out in runs]),
        "all us/event": median([run.microseconds() for run, _ in runs]),
    }


def main() -> int:
    """Run it; 1 if the target is missed."""
    parser = options(__doc__ or "")
    parser.add_argument("--pairs", type=int, help="9; short: 3")
    parser.add_argument("--events", type=int, help="200,000; short: 120,000")
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument(
        "--density", type=float, default=1_000, help="events a second of event time"
    )
    arguments = parser.parse_args()
    pairs = arguments.pairs or (3 if arguments.short else 9)
    events = arguments.events or (120_000 if arguments.short else 200_000)
    few, many = configuration(*ONE), configuration(*FIFTY)
    traffic = Traffic(events, arguments.customers, per_second=arguments.density)
    prepared = batches(traffic)
    ones: list[tuple[Measured, Publishing]] = []
    fifties: list[tuple[Measured, Publishing]] = []
    with profiled(arguments.profile):
        for number in range(pairs):
            # Who goes first changes from pair to pair.
            for side in (
                ((ones, few), (fifties, many)) if number % 2 else ((fifties, many), (ones, few))
            ):
                side[0].append(measure(side[1], prepared))
    rows = [row("1", ones), row("50", fifties)]
    per_pane = arguments.density * few.windows.base_ms / 1_000
    table(f"Windows, {events:,} events, {per_pane:,.0f} a pane, median of {pairs} pairs", rows)
    ratio = median(
        [
            fifty.microseconds(FOLD) / one.microseconds(FOLD)
            for (one, _), (fifty, _) in zip(ones, fifties, strict=True)
        ]
    )
    targets = [verdict("50 windows / 1 window, per event", ratio, at_most=1 + DIFFERENCE)]
    table("Targets", targets)
    finish(arguments.json, "windows", {"windows": rows, "targets": targets})
    return 0 if all(one["holds"] for one in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
