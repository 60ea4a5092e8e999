"""`heartline demo`: everything on this machine, and nothing left behind.

Who owns what: this process starts broker, worker, serve and simulator (or replay), each a `Child`, in
that order, and ends them in the reverse one: first what makes events, then, when what is under way has
been counted, worker, serve, broker. That holds for Ctrl-C, SIGTERM, the end of ``--for`` and errors
alike. Files (configuration, logs, summary) live in one temporary directory that goes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from agents.broker import EmbeddedBroker, free_port, port_is_free, require_kafka
from agents.children import Child, stop_signals_raise, stop_signals_wait
from agents.demo_plan import CUSTOMERS_PER_RATE, DemoOptions, DemoPlan, configuration, plan_for
from agents.demo_view import DemoView, tell_account, worker_sums
from agents.failures import FAILED, CommandFailed, Unusable
from agents.watching import ServeSource

DEFAULT_RATE = 120.0
START_S = 40.0
DRAIN_S = 12.0
REPLAY_DRAIN_S = 60.0
_LOOK_S = 0.5
_LINE_S = 5.0


def run_demo(options: DemoOptions) -> int:
    """Run a demo to its end; the exit status. Raises `CommandFailed` in plain words."""
    console = Console()
    plan = plan_for(options)
    serve_port = options.serve_port or free_port()
    if not port_is_free(serve_port):
        raise Unusable(
            f"port {serve_port} is in use: choose another for the live page with --port, "
            "or --port 0 for any free one"
        )
    with (
        stop_signals_raise(),
        tempfile.TemporaryDirectory(prefix="heartline-demo-") as folder,
        contextlib.ExitStack() as stack,
    ):
        return _Demo(options, plan, serve_port, Path(folder), console, stack).run()


class _Demo:
    """One run. Children are entered on ``stack`` as they start, so every way out ends them."""

    def __init__(
        self,
        options: DemoOptions,
        plan: DemoPlan,
        serve_port: int,
        folder: Path,
        console: Console,
        stack: contextlib.ExitStack,
    ) -> None:
        self._options, self._plan, self._folder = options, plan, folder
        self._console, self._stack = console, stack
        self._worker_url = f"http://127.0.0.1:{free_port()}"
        self._serve_url = f"http://127.0.0.1:{serve_port}"
        self._config = folder / "heartline.toml"
        self._summary = folder / "summary.json"
        self._is_live = options.live and console.is_terminal

    def run(self) -> int:
        """Start, show, end in order, tell the account."""
        if self._is_live:
            self._say("starting broker, worker and serve")
        bootstrap = self._start_broker()
        self._prepare(bootstrap)
        worker = self._heartline("worker", "--summary", str(self._summary), grace_s=25.0)
        serve = self._heartline("serve", grace_s=5.0)
        self._wait_for(worker, f"{self._worker_url}/healthz")
        self._wait_for(serve, f"{self._serve_url}/readyz")
        self._say_addresses(bootstrap)
        source = self._start_source()
        view = DemoView(
            ServeSource(self._serve_url), self._worker_url, self._console, self._notes(bootstrap)
        )
        with contextlib.suppress(KeyboardInterrupt):
            self._show(view, source, (worker, serve))
        with contextlib.suppress(KeyboardInterrupt):
            self._say(f"ending {source.name}, then worker, serve and broker")
            source.end()
            self._drain(worker)
            view.look()
        with stop_signals_wait():
            source.end()
            worker_status = worker.end()
        self._console.print(view.picture(""))
        if source.exit_code in {FAILED, 2}:
            raise CommandFailed(f"{source.name} failed: {_last_line(source)}")
        return self._tell(worker, worker_status)

    def _start_broker(self) -> str:
        if self._options.bootstrap is not None:
            require_kafka(self._options.bootstrap)
            return self._options.bootstrap
        broker = EmbeddedBroker(self._folder, port=self._options.broker_port)
        return self._stack.enter_context(broker).bootstrap

    def _prepare(self, bootstrap: str) -> None:
        """Write the configuration and create the topics."""
        from agents.kafka_admin import plain_failures
        from agents.settings import Settings
        from agents.topic_plan import create_topics

        embedded = self._options.bootstrap is None
        # On somebody's own Kafka a run has topics of its own, and takes them away again.
        prefix = "heartline" if embedded else f"heartline-demo-{int(time.time())}"
        self._config.write_text(
            configuration(
                self._plan,
                bootstrap=bootstrap,
                embedded=embedded,
                prefix=prefix,
                worker_port=int(self._worker_url.rpartition(":")[2]),
                serve_port=int(self._serve_url.rpartition(":")[2]),
            ),
            encoding="utf-8",
        )
        settings = Settings.load(self._config, {})
        with plain_failures(settings):
            create_topics(settings)
        if not embedded:
            self._stack.callback(_delete_topics, settings)

    def _heartline(self, command: str, *arguments: str, grace_s: float) -> Child:
        """Start one of our own commands on the configuration of this run."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HEARTLINE_")}
        child = Child(
            command,
            [
                *(sys.executable, "-m", "agents.cli", command),
                *("--config", str(self._config), *arguments),
            ],
            log=self._folder / f"{command}.log",
            environment={**inherited, "TMPDIR": str(self._folder)},
            grace_s=grace_s,
        )
        return self._stack.enter_context(child)

    def _start_source(self) -> Child:
        options, arguments = self._options, list[str]()
        if options.replay is not None:
            arguments += [options.replay, "--format", options.replay_format]
            if options.rate is not None:
                arguments += ["--rate", str(options.rate)]
            elif self._plan.speed is not None:
                arguments += ["--speed", str(self._plan.speed)]
            return self._heartline("replay", *arguments, grace_s=5.0)
        rate = options.rate or DEFAULT_RATE
        customers = max(100, min(int(rate * CUSTOMERS_PER_RATE), 1_000_000))
        arguments += ["--rate", str(rate), "--customers", str(customers), "--flat"]
        arguments += ["--scenario", options.scenario]
        if options.for_ms is not None:
            arguments += ["--for", f"{options.for_ms}ms"]
        elif options.scenario != "steady":
            arguments += ["--scenario-after", "60s", "--scenario-for", "2m"]
        return self._heartline("simulate", *arguments, grace_s=5.0)

    def _wait_for(self, child: Child, url: str) -> None:
        """Until ``url`` answers 200. Raises `CommandFailed` with what the child said last."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if not child.is_running:
                raise CommandFailed(f"{child.name} ended at its start: {_last_line(child)}")
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(url, timeout=2),  # noqa: S310 - our own child on 127.0.0.1
            ):
                return
            time.sleep(0.1)
        raise CommandFailed(
            f"{child.name} did not answer within {START_S:g} s: {_last_line(child)}"
        )

    def _show(self, view: DemoView, source: Child, needed: tuple[Child, ...]) -> None:
        """Until the source has ended, or ``--for`` is over."""
        began = time.monotonic()
        for_s = None if self._options.for_ms is None else self._options.for_ms / 1000

        def goes_on() -> bool:
            for child in needed:
                if not child.is_running:
                    raise CommandFailed(f"{child.name} ended by itself: {_last_line(child)}")
            # A simulator with an end ends itself; the margin is for one that lags.
            late = for_s is not None and time.monotonic() - began > for_s + 5
            if self._options.replay is not None and for_s is not None:
                late = time.monotonic() - began > for_s
            return source.is_running and not late

        def remaining() -> str:
            if for_s is None:
                return "Ctrl-C ends everything"
            return (
                f"{max(for_s - (time.monotonic() - began), 0):.0f} s to go · Ctrl-C ends everything"
            )

        if self._is_live:
            with Live(console=self._console, screen=True, auto_refresh=False) as live:
                self._each(
                    _LOOK_S,
                    goes_on,
                    view,
                    lambda: live.update(view.picture(remaining()), refresh=True),
                )
        else:
            self._each(_LINE_S, goes_on, view, lambda: self._say(view.line()))

    def _each(
        self, seconds: float, goes_on: Callable[[], bool], view: DemoView, show: Callable[[], None]
    ) -> None:
        shown = 0.0
        while goes_on():
            if time.monotonic() - shown >= seconds:
                shown = time.monotonic()
                view.look()
                show()
            time.sleep(0.1)

    def _drain(self, worker: Child) -> None:
        """Until what was sent has been counted and its results are out, or the time is up."""
        # Replayed months become many results at once, which come in bursts.
        replays = self._options.replay is not None
        seconds, enough = (REPLAY_DRAIN_S, 10) if replays else (DRAIN_S, 3)
        deadline, quiet, published = time.monotonic() + seconds, 0, -1.0
        while worker.is_running and quiet < enough and time.monotonic() < deadline:
            sums = worker_sums(self._worker_url)
            under_way = sums.get("heartline_events_waiting", 0) + sums.get(
                "heartline_input_lag_records", 0
            )
            # In replay no boundary follows the last event; live, the clock makes one every hop.
            more = sums.get("heartline_results_published_total", 0)
            moves = replays and more != published
            published = more
            quiet = quiet + 1 if sums and not under_way and not moves else 0
            time.sleep(0.4)

    def _tell(self, worker: Child, worker_status: int | None) -> int:
        try:
            summary: dict[str, Any] = json.loads(self._summary.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise CommandFailed(f"the worker left no account: {_last_line(worker)}") from None
        balanced = tell_account(self._console, summary["accounts"])
        if summary.get("failure") or worker_status != 0:
            self._say(f"the worker failed: {summary.get('failure') or _last_line(worker)}")
            return FAILED
        return 0 if balanced else FAILED

    def _notes(self, bootstrap: str) -> tuple[str, ...]:
        return (
            f"live page {self._serve_url}/ · /metrics · /api/v1/results",
            f"Kafka {bootstrap} · worker {self._worker_url}/metrics",
        )

    def _say_addresses(self, bootstrap: str) -> None:
        if self._is_live:
            return
        self._say(f"live page  {self._serve_url}/")
        self._say(f"metrics    {self._serve_url}/metrics")
        self._say(f"API        {self._serve_url}/api/v1/results")
        self._say(f"worker     {self._worker_url}/metrics")
        self._say(f"Kafka      {bootstrap}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _last_line(child: Child) -> str:
    lines = [line for line in child.last_lines().splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {child.exit_code}, without a word"


def _delete_topics(settings: Any) -> None:
    """Take the topics of this run away; a Kafka that forbids it keeps them."""
    from agents.kafka_admin import admin_client
    from agents.topic_plan import planned_topics

    with contextlib.suppress(Exception), admin_client(settings) as admin:
        admin.delete_topics([plan.name for plan in planned_topics(settings)])
