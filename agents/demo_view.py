"""What a demo shows while it runs: a picture in a terminal, lines elsewhere, and the account."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from agents.figures import figure
from agents.terminal import account_table, draw
from agents.watching import Document, ServeSource, Unreachable
from streams.partition import Account

ACCOUNT = Account.__struct_fields__
_SAMPLE = re.compile(r"^(heartline_\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_PLAIN_METRICS = (
    ("orders", "orders"),
    ("revenue", "revenue"),
    ("active_customers", "active"),
    ("session_conversion_ratio", "conversion"),
    ("retention_ratio", "retention"),
    ("churn_ratio", "churn"),
)


def worker_sums(url: str) -> dict[str, float]:
    """The worker's own metrics, each added up over its labels; empty while it doesn't answer."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=2) as answer:  # noqa: S310 - our own worker on 127.0.0.1
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    sums: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def is_balanced(account: Mapping[str, int]) -> bool:
    """Every record that was consumed is accounted for, once."""
    parts = ("folded", "too_late", "duplicate", "dead", "control", "waiting")
    return account["consumed"] == sum(account[part] for part in parts)


class DemoView:
    """Draws the state of a demo; keeps what it needs to show a rate."""

    def __init__(
        self, source: ServeSource, worker_url: str, console: Console, notes: tuple[str, ...]
    ) -> None:
        """``notes``: lines below the picture."""
        self._source = source
        self._worker_url = worker_url
        self._console = console
        self._notes = notes
        self._began = time.monotonic()
        self._consumed: list[tuple[float, float]] = []
        self._documents: tuple[Document, Document] | None = None

    def look(self) -> bool:
        """Fetch what is new; True when something is shown."""
        sums = worker_sums(self._worker_url)
        if sums:
            self._consumed.append(
                (time.monotonic(), sums.get("heartline_events_consumed_total", 0))
            )
            del self._consumed[:-12]
        self._sums = sums
        try:
            self._documents = self._source.look()
        except Unreachable:
            return False
        return bool(self._documents[1]["windows"])

    def window(self) -> str:
        """The longest window of which retention is known, else the shortest."""
        if self._documents is None:
            return ""
        status, results = self._documents
        known = {
            f"{one['window']}/{one['hop']}"
            for one in results["results"]
            if one["metric"] == "retention_ratio" and one["complete"]
        }
        names = [str(one["name"]) for one in status["windows"]]
        return next((name for name in reversed(names) if name in known), names[0])

    def picture(self, remaining: str) -> RenderableType:
        """The whole picture for a terminal."""
        if self._documents is None:
            return Text("starting", "dim")
        status, results = self._documents
        return Group(
            draw(status, results, self.window(), width=self._console.width),
            Padding(Group(*self._pipeline(), *self._footer(remaining)), (1, 2, 0, 2)),
        )

    def _rate(self) -> float:
        if len(self._consumed) < 2:
            return 0.0
        (first, before), (last, now) = self._consumed[0], self._consumed[-1]
        return (now - before) / max(last - first, 0.001)

    def _pipeline(self) -> list[Text]:
        def total(name: str) -> str:
            return f"{self._sums.get(f'heartline_events_{name}_total', 0):,.0f}"

        return [
            Text.assemble(
                ("events  ", "dim"),
                (total("consumed"), "bold"),
                f" read ({self._rate():,.0f}/s) · {total('folded')} counted"
                f" · {total('late_counted')} of them late · {total('duplicate')} duplicates"
                f" · {total('dead')} dead letters",
            )
        ]

    def _footer(self, remaining: str) -> list[Text]:
        lines = [Text(note, "dim") for note in self._notes]
        return [*lines, Text(remaining, "dim")]

    def line(self) -> str:
        """One plain line, for where there is no terminal."""
        seconds = f"{time.monotonic() - self._began:4.0f} s"
        if self._documents is None or not self._documents[1]["windows"]:
            consumed = self._sums.get("heartline_events_consumed_total", 0)
            return f"{seconds}  {consumed:,.0f} events read, waiting for the first whole result"
        status, results = self._documents
        window = self.window()
        units = {one["name"]: one["unit"] for one in status["metrics"]}
        values = {
            one["metric"]: one["value"]
            for one in results["results"]
            if f"{one['window']}/{one['hop']}" == window
        }
        shown = "  ".join(
            f"{title} {figure(name, units.get(name, ''), values.get(name))}"
            for name, title in _PLAIN_METRICS
        )
        end = next((one["at"] for one in results["windows"] if one["name"] == window), "")
        return f"{seconds}  {window} to {end}  {shown}  ({self._rate():,.0f} events/s)"


def tell_account(console: Console, accounts: Mapping[str, Mapping[str, int]]) -> bool:
    """Print the account and whether it balances."""
    console.print(account_table(accounts, ACCOUNT))
    balanced = all(is_balanced(account) for account in accounts.values())
    if balanced:
        console.print(
            "The account [bold green]balances[/]: "
            "consumed = folded + too late + duplicate + dead + control + waiting"
        )
    else:
        console.print("The account [bold red]does not balance[/]: this is a fault of Heartline")
    return balanced
