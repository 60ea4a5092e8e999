"""One installation of Heartline under test: topics of its own, a configuration file, its commands
run as processes exactly as a user runs them.

The settings of a test are laid over ones that make a test quick: small partition count, short
idleness. Ports are free ones. Every process is ended when the block ends, by its id.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.rig.brokers import Broker
from tests.rig.exposition import Exposition
from tests.rig.processes import PATIENCE_SECONDS, Process, free_ports
from tests.rig.topics import TopicSet

ROOT = Path(__file__).parents[2]
Record = dict[str, Any]
"""A decoded JSON record of the results, dead-letter or late topic."""

FIELDS = (
    *("metric", "window", "hop", "at", "segment", "dimensions"),
    *("value", "numerator", "denominator", "n", "low", "high", "complete"),
)
"""What `evaluate` prints of a result, and the results topic must say alike."""
_END = re.compile(rb'"end_ms":(\d+),')


def get(url: str, *, timeout: float = 30.0) -> str:
    """The body of a page; raises OSError (an HTTP error status is one)."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - http only
        body: bytes = answer.read()
    return body.decode()


def toml(settings: Mapping[str, Mapping[str, object]]) -> str:
    """Sections of plain values as TOML; JSON's strings, numbers and arrays are TOML's too."""
    return "\n".join(
        "\n".join(
            [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        )
        for section, keys in settings.items()
    )


class Installation:
    """Topics, configuration and processes of one test; a context manager."""

    def __init__(
        self,
        broker: Broker,
        directory: Path,
        *,
        partitions: int = 4,
        settings: Mapping[str, Mapping[str, object]] | None = None,
        topics: TopicSet | None = None,
    ) -> None:
        """`settings` is laid over the defaults of the tests, section by section; `topics` replaces
        the usual ones."""
        self.topics = topics or TopicSet(broker, partitions)
        self.directory = directory
        self.config = directory / "heartline.toml"
        self._processes: list[Process] = []
        sections: dict[str, dict[str, object]] = {
            "kafka": {
                "bootstrap": broker.bootstrap,
                "group": self.topics.prefix,
                "topic_prefix": self.topics.prefix,
                "partitions": partitions,
                "flavour": "embedded" if broker.is_embedded else "apache",
            },
        }
        for section, keys in (settings or {}).items():
            sections[section] = {**sections.get(section, {}), **keys}
        self.config.write_text(toml(sections))

    def __enter__(self) -> Self:
        self.topics.create()
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.stop()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {
            "HEARTLINE_CONFIG": str(self.config),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **more,
        }

    def start(self, *arguments: str, under: Sequence[str] = (), **environment: str) -> Process:
        """Start `heartline ARGUMENTS`; its output goes to a file of its own.

        `under` stands between the interpreter and the program: ("-m", "cProfile", "-o", "FILE").
        """
        number = len(self._processes)
        process = Process(
            [sys.executable, *under, "-m", "agents.cli", *arguments],
            log=self.directory / f"{number:02d}-{arguments[0]}.log",
            environment=self._environment(environment),
        )
        self._processes.append(process)
        return process

    def run(
        self, *arguments: str | Path, stdin: str | None = None, seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run `heartline ARGUMENTS` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "agents.cli", *(str(argument) for argument in arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **self._environment({})},
        )

    def worker(
        self,
        *arguments: str,
        ready_within: float | None = PATIENCE_SECONDS,
        under: Sequence[str] = (),
    ) -> "Service":
        """Start `heartline worker ARGUMENTS`; return when its /readyz says that it makes progress."""
        (port,) = free_ports(1)
        process = self.start("worker", *arguments, under=under, HEARTLINE_WORKER_PORT=str(port))
        service = Service(process, f"http://127.0.0.1:{port}")
        if ready_within is not None:
            service.wait_for("/readyz", seconds=ready_within)
        return service

    def serve(self) -> "Service":
        """Start `heartline serve`; return when its /healthz answers."""
        (port,) = free_ports(1)
        process = self.start("serve", HEARTLINE_SERVE_PORT=str(port))
        service = Service(process, f"http://127.0.0.1:{port}")
        service.wait_for("/healthz", seconds=PATIENCE_SECONDS)
        return service

    def results(
        self, at_ms: int, windows: Iterable[str], *, seconds: float, settle: float = 2.0
    ) -> list[Record]:
        """What the results topic says of the moment `at_ms`, in the fields of `evaluate`.

        `windows` is what to wait for ("28d/1d"); all of them must have come, whole, and then nothing
        more for `settle` seconds, before `seconds` are over. Of each result the highest revision
        counts.
        """
        return self.results_at({at_ms: windows}, seconds=seconds, settle=settle)[at_ms]

    def results_at(
        self, wanted: Mapping[int, Iterable[str]], *, seconds: float, settle: float = 2.0
    ) -> dict[int, list[Record]]:
        """`results` of several moments, by one reading of the topic."""
        moments = {at_ms: AtMoment(windows) for at_ms, windows in wanted.items()}

        def settled() -> bool:
            return (
                all(found.is_whole() for found in moments.values())
                and time.monotonic() - max(one.changed_at for one in moments.values()) > settle
            )

        # Of hundreds of thousands of results a few hundred are of a moment: only these are parsed.
        for message in self.topics.read(self.topics.names.results, seconds=seconds, until=settled):
            value = message.value()
            if value is None or (end := _END.search(value)) is None:
                continue
            if (found := moments.get(int(end[1]))) is not None:
                found.take(json.loads(value))
        missing = {at_ms: found.missing() for at_ms, found in moments.items() if found.missing()}
        assert not missing, f"not on the results topic after {seconds:g} s: {missing}"
        return {at_ms: found.rows() for at_ms, found in moments.items()}

    def evaluate(self, file: Path, *arguments: str) -> list[Record]:
        """What `evaluate` says of a file of events, by this installation's configuration."""
        configured = ("--config", str(self.config), "--format", "json")
        done = self.run("evaluate", file, *arguments, *configured)
        assert done.returncode == 0, done.stderr
        rows: list[Record] = json.loads(done.stdout)
        return rows


class AtMoment:
    """The results of one moment, gathered record by record."""

    def __init__(self, windows: Iterable[str]) -> None:
        """Each window as "size/hop"."""
        self._windows = set(windows)
        self._kept: dict[str, Record] = {}
        self.changed_at = time.monotonic()

    def take(self, record: Record) -> None:
        """Keep it unless a newer revision is kept already."""
        before = self._kept.get(record["result_id"])
        if before is None or record["revision"] > before["revision"]:
            self._kept[record["result_id"]] = record
            self.changed_at = time.monotonic()

    def missing(self) -> set[str]:
        """The windows whose results have not all come, with every partition in them."""
        found: dict[str, int] = {}
        wanted: dict[str, int] = {}
        for record in self._kept.values():
            window = f"{record['window']}/{record['hop']}"
            if not record["missing_partitions"]:
                found[window] = found.get(window, 0) + 1
            wanted[window] = max(wanted.get(window, 0), record["results_in_tick"])
        return {
            window for window in self._windows if not found.get(window, 0) >= wanted.get(window, 1)
        }

    def is_whole(self) -> bool:
        """Whether every window has come."""
        return not self.missing()

    def rows(self) -> list[Record]:
        """The results in the fields of `evaluate`, of the windows asked for."""
        return [
            {name: record[name] for name in FIELDS}
            for record in self._kept.values()
            if f"{record['window']}/{record['hop']}" in self._windows
        ]


def canonical(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Results as sorted lines that can be compared byte for byte."""
    return sorted(json.dumps({name: row[name] for name in FIELDS}) for row in rows)


class Service:
    """A process with HTTP endpoints."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url

    def get(self, path: str, *, timeout: float = 30.0) -> str:
        """The body of one of its pages; raises OSError."""
        return get(self.url + path, timeout=timeout)

    def answers(self, path: str) -> bool:
        """Whether the page is there with status 200."""
        with contextlib.suppress(OSError):
            self.get(path)
            return True
        return False

    def wait_for(self, path: str, *, seconds: float) -> None:
        """Return when the page answers with status 200."""
        self.process.wait_until_up(lambda: self.answers(path), seconds=seconds)

    def page(self) -> Exposition:
        """Its /metrics."""
        return Exposition(self.get("/metrics"))

    def owned(self) -> float:
        """How many partitions a worker says that it owns; 0 while it doesn't answer."""
        with contextlib.suppress(OSError):
            return self.page().total("heartline_assigned_partitions")
        return 0.0

    def samples(self) -> Iterator[tuple[str, float]]:
        """The lines of its /metrics: series as written, value."""
        for line in self.get("/metrics").splitlines():
            if line and not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                yield series, float(value)
