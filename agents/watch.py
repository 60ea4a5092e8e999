"""The loop of `heartline watch`: look, draw, wait."""

from __future__ import annotations

import contextlib
import time

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from agents.failures import Unusable
from agents.terminal import draw
from agents.watching import Document, Source, Unreachable

_INTERVAL_S = 0.5
_PLAIN_INTERVAL_S = 5.0
_FIRST_PATIENCE_S = 20.0


def chosen_window(status: Document, asked: str | None) -> str:
    """The name of the window that was asked for, or of the first. Raises `Unusable`."""
    names = [str(one["name"]) for one in status["windows"]]
    if asked is None:
        return names[0]
    for name in names:
        if asked in (name, name.partition("/")[0]):
            return name
    raise Unusable(f"window {asked!r} is not configured; there are {', '.join(names)}")


def watch(source: Source, asked: str | None, *, once: bool, for_ms: int | None) -> None:
    """Draw until Ctrl-C or ``for_ms``. Without a terminal one picture every 5 s.

    Raises `Unreachable` if the source doesn't answer at the start; later it is waited for.
    """
    console = Console()
    deadline = None if for_ms is None else time.monotonic() + for_ms / 1000
    status, results = source.look()
    window = chosen_window(status, asked)
    if once:
        # What is read from the topic itself takes a moment to arrive.
        patience = time.monotonic() + _FIRST_PATIENCE_S
        while not results["windows"] and time.monotonic() < patience:
            time.sleep(_INTERVAL_S)
            status, results = source.look()
        console.print(draw(status, results, window, width=console.width))
        return
    last: RenderableType = draw(status, results, window, width=console.width)
    with contextlib.suppress(KeyboardInterrupt):
        if not console.is_terminal:
            while deadline is None or time.monotonic() < deadline:
                console.print(last)
                time.sleep(_PLAIN_INTERVAL_S)
                last = _look(source, window, console)
            return
        with Live(last, console=console, screen=True, auto_refresh=False) as live:
            while deadline is None or time.monotonic() < deadline:
                time.sleep(_INTERVAL_S)
                last = _look(source, window, console)
                live.update(last, refresh=True)


def _look(source: Source, window: str, console: Console) -> RenderableType:
    """A new picture, or why there is none."""
    try:
        status, results = source.look()
    except Unreachable as error:
        return Text(str(error), "bold red")
    return draw(status, results, window, width=console.width)
