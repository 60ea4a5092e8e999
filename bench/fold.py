"""What one event costs in the core alone, by number of customers.

Every metric, duplicates, segments and quantiles are on, the windows are the default ones, a pane
holds 20,000 events. Three quarters of the events come first and are not counted: by then most
customers exist and have left the first stages of their journey, which a customer does once. What
those first events cost stands apart.

Target: at most 2.5 us an event at 100,000 customers, for the fold and the closing of its panes.

    python -m bench.fold --short
    python -m bench.fold --customers 10000 100000 1000000 --profile fold.prof
"""

import sys
import time

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


def yardstick_ns() -> float:
    """A look-up and a write per step over 100,000 small objects: how fast this machine is just now."""

    class Thing:
        __slots__ = ("value",)
        value: int

    things = {f"thing-{number}": Thing() for number in range(100_000)}
    names = list(things)
    order = [names[number * 7919 % len(names)] for number in range(400_000)]
    started = time.process_time()
    for name in order:
        things[name].value = 1
    return (time.process_time() - started) / len(order) * 1e9


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
        costs[customers] = median([run.microseconds(FOLD, CLOSE) for run in runs])
        rows.append(
            {
                "customers": customers,
                "fold + close us": costs[customers],
                "fold us": median([run.microseconds(FOLD) for run in runs]),
                "first events us": median([run.microseconds(FOLD, CLOSE) for run, _ in measured]),
                "close us": median([run.microseconds(CLOSE) for run in runs]),
                "merge us": median([run.microseconds(MERGE) for run in runs]),
                "report us": median([run.microseconds(REPORT) for run in runs]),
                "pane ms": median([run.pane_ms for run in runs]),
                "yardstick ns": yardstick_ns(),
            }
        )
    table(f"The core, per event ({events:,} events, median of {rounds})", rows)
    targets = [
        verdict(f"us an event at {customers:,} customers", cost, at_most=MICROSECONDS)
        for customers, cost in costs.items()
        if customers == AT_CUSTOMERS
    ]
    table("Targets", targets)
    finish(arguments.json, "fold", {"fold": rows, "targets": targets})
    return 0 if all(row["holds"] for row in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
