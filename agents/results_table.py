"""Results as a table for people."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from schemas.records import Number, Result

WIDE = 160
"""Where there is no terminal, a table is as wide as it needs to be."""


def standard_output(width: int = WIDE) -> Console:
    """Where a command draws; ``width`` counts where there is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=width)


def print_table(results: list[Result]) -> None:
    """One table for each instant and window, on standard output."""
    console = standard_output()
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.at, result.window, result.hop), []).append(result)
    for (at, window, hop), group in groups.items():
        table = Table(title=f"{window}/{hop} until {at}", title_justify="left")
        for name in ("metric", "of"):
            table.add_column(name, overflow="fold")
        for name in ("value", "numerator", "denominator", "95 %"):
            table.add_column(name, justify="right", no_wrap=True)
        for result in group:
            of = {**result.segment, **result.dimensions}
            table.add_row(
                result.metric,
                ", ".join(f"{name}={value}" for name, value in of.items()),
                _number(result.value),
                _number(result.numerator),
                _number(result.denominator),
                _interval(result.low, result.high),
                style=None if result.complete else "dim",
            )
        console.print(table)
    if not all(result.complete for result in results):
        console.print("[dim]dim: the window was not observed whole[/dim]")


def _number(value: Number | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}".rstrip("0").rstrip(".")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
