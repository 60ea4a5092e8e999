"""What every benchmark has in common: its options, a table for people, JSON for programs, a
profile.

Absolute figures of a busy machine are noisy; ratios of things measured in turn in one run hold. So
the benchmarks print medians over rounds, and CPU time beside the time of day where a process is
measured.
"""

import argparse
import contextlib
import cProfile
import json
import os
import platform
import pstats
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

Value = str | float | int | bool | None
Row = dict[str, Value]


def options(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a quick run: less data, wider noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="profile what is measured into FILE (for pstats or snakeviz); slows it two to three times",
    )
    return parser


@contextlib.contextmanager
def profiled(file: Path | None, *, lines: int = 25) -> Iterator[None]:
    """Profile the block if a file is given, and print the functions that took the most time."""
    if file is None:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(file)
        pstats.Stats(profile).sort_stats("tottime").print_stats(lines)


def table(title: str, rows: Sequence[Row]) -> None:
    """Print rows of the same keys under each other, numbers to the right."""
    print(f"\n{title}")
    if not rows:
        print("  (nothing)")
        return
    names = list(rows[0])
    cells = [[_text(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    print("  " + "  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)))
    for row, cell in zip(rows, cells, strict=True):
        line = [
            text.ljust(width) if isinstance(row.get(name), str) else text.rjust(width)
            for name, text, width in zip(names, cell, widths, strict=True)
        ]
        print("  " + "  ".join(line).rstrip())


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def verdict(
    name: str, measured: float, *, at_most: float | None = None, at_least: float | None = None
) -> Row:
    """A row that holds a figure against its target."""
    if at_most is not None:
        return {
            "target": name,
            "measured": measured,
            "wanted": f"<= {at_most:g}",
            "holds": measured <= at_most,
        }
    assert at_least is not None
    return {
        "target": name,
        "measured": measured,
        "wanted": f">= {at_least:g}",
        "holds": measured >= at_least,
    }


def machine() -> dict[str, Value]:
    """Where the figures come from."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def finish(file: Path | None, name: str, figures: dict[str, object]) -> None:
    """Write the figures as JSON."""
    if file is not None:
        file.write_text(
            json.dumps({"benchmark": name, "machine": machine(), **figures}, indent=2) + "\n"
        )


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)
