"""What one event costs in the core alone, by number of customers.

Every metric, duplicates, segments and quantiles are on, the windows are the default ones, a pane
holds 20,000 events. Three quarters of the events come first and are not counted: by then most
customers exist and have left the first stages of their journey, which a customer does once. What
those first events cost stands apart. After the rounds a bare fold of the same customers is measured
as often: where memory is slow it is too.

Target: at most 2.5 us an event at 100,000 customers for the fold alone; what closing its panes costs is
reported apart, and both together.

    python -m bench.fold --short
    python -m bench.fold --customers 10000 100000 1000000 --profile fold.prof
"""

import sys
import time

import numpy as np

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

MICROSECONDS = 2.5
AT_CUSTOMERS = 100_000
WARM_UP = 0.75


class Visitor:
    """What the bare fold knows of a customer."""

    __slots__ = ("cell", "last_seen", "pages", "session_start")

    def __init__(self) -> None:
        self.cell = 0
        self.last_seen = self.session_start = -1
        self.pages = 0


class BareFold:
    """The least that sessions and distinct customers of one window cost: every event is a page view, a
    customer one object, and a pane counts its logs when it closes. No duplicates, no orders, no
    attributes, no durations, nothing that waits: what it takes says how fast the machine is just now.
    """

    def __init__(self, pane_ms: int, gap_ms: int) -> None:
        self._visitors: dict[str, Visitor] = {}
        self._pane_ms, self._gap_ms = pane_ms, gap_ms
        self._pane_start = 0
        self._came: list[int] = []
        self._left: list[int] = []
        self._seen = np.zeros(1 << 10, np.int64)

    def fold(self, views: list[tuple[int, str]]) -> None:
        """Fold views in the order of time."""
        find, came, left = self._visitors.get, self._came.append, self._left.append
        gap, pane_start, pane_end = self._gap_ms, self._pane_start, self._pane_start + self._pane_ms
        for at, name in views:
            if at >= pane_end:
                self._close(at)
                pane_start, pane_end = self._pane_start, self._pane_start + self._pane_ms
            visitor = find(name)
            if visitor is None:
                visitor = self._visitors[name] = Visitor()
            last = visitor.last_seen
            if last < pane_start:
                came(visitor.cell)
                left(last)
            if at - last > gap:
                visitor.session_start = at
                visitor.pages = 1
            else:
                visitor.pages += 1
            visitor.last_seen = at

    def _close(self, at: int) -> None:
        left = np.array(self._left, np.int64)
        np.subtract.at(self._seen, left[left >= 0] // self._pane_ms % len(self._seen), 1)
        self._seen[self._pane_start // self._pane_ms % len(self._seen)] += len(self._came)
        self._came.clear()
        self._left.clear()
        self._pane_start = at // self._pane_ms * self._pane_ms


def bare(prepared: Batches) -> float:
    """Microseconds an event of the bare fold, for the settled part of the same customers and times."""
    windows = configuration().windows
    fold, warm = BareFold(windows.base_ms, windows.session_gap_ms), int(len(prepared) * WARM_UP)
    spent, events = 0.0, 0
    for number, (_, records) in enumerate(prepared):
        views = [(record.timestamp, record.key.decode()) for record in records]
        started = time.process_time()
        fold.fold(views)
        if number >= warm:
            spent += time.process_time() - started
            events += len(views)
    return spent / events * 1e6


def measure(prepared: Batches) -> tuple[Measured, Measured]:
    """A new partition: the first events, then the settled ones."""
    core = Core(configuration())
    warm = int(len(prepared) * WARM_UP)
    return core.run(prepared[:warm]), core.run(prepared[warm:])


def main() -> int:
    """Run it; 1 if the target is missed."""
    parser = options(__doc__ or "")
    parser.add_argument("--customers", type=int, nargs="+", help="default: 10,000 and 100,000")
    parser.add_argument("--events", type=int, help="2,000,000; short: 600,000")
    parser.add_argument("--rounds", type=int, help="3; short: 1")
    parser.add_argument(
        "--density", type=float, default=2_000, help="events a second of event time"
    )
    arguments = parser.parse_args()
    events = arguments.events or (600_000 if arguments.short else 2_000_000)
    rounds = arguments.rounds or (1 if arguments.short else 3)
    rows: list[Row] = []
    costs: dict[int, float] = {}
    for customers in arguments.customers or [10_000, AT_CUSTOMERS]:
        traffic = Traffic(events, customers, per_second=arguments.density)
        prepared = batches(traffic)
        with profiled(arguments.profile):
            measured = [measure(prepared) for _ in range(rounds)]
        runs = [settled for _, settled in measured]
        costs[customers] = median([run.microseconds(FOLD) for run in runs])
        both = median([run.microseconds(FOLD, CLOSE) for run in runs])
        bare_us = median([bare(prepared) for _ in range(rounds)])
        rows.append(
            {
                "customers": customers,
                "fold us": costs[customers],
                "fold + close us": both,
                "first events us": median([run.microseconds(FOLD, CLOSE) for run, _ in measured]),
                "close us": median([run.microseconds(CLOSE) for run in runs]),
                "merge us": median([run.microseconds(MERGE) for run in runs]),
                "report us": median([run.microseconds(REPORT) for run in runs]),
                "pane ms": median([run.pane_ms for run in runs]),
                "bare fold us": bare_us,
                "times the bare fold": both / bare_us,
            }
        )
    table(f"The core, per event ({events:,} events, median of {rounds})", rows)
    targets = [
        verdict(f"fold, us an event at {customers:,} customers", cost, at_most=MICROSECONDS)
        for customers, cost in costs.items()
        if customers == AT_CUSTOMERS
    ]
    table("Targets", targets)
    finish(arguments.json, "fold", {"fold": rows, "targets": targets})
    return 0 if all(row["holds"] for row in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
