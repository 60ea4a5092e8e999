"""A real Prometheus for the tests: its own port and storage, a scrape configuration of the test's
choice.
"""

import contextlib
import functools
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.rig.processes import PATIENCE_SECONDS, free_ports, running


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query's answer."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str) -> object:
        """The `data` of an answer of its HTTP API; raises urllib's HTTPError for a query that it
        refuses.
        """
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - http only
            data: object = json.load(answer)["data"]
        return data

    def query(self, expression: str) -> list[Sample]:
        """An instant query now; a vector or a scalar."""
        data = self.get("query", query=expression)
        if not isinstance(data, dict):
            raise TypeError(data)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(series["metric"], float(series["value"][1])) for series in data["result"]]

    def is_ready(self) -> bool:
        """Whether it answers queries yet."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


@contextlib.contextmanager
def prometheus(directory: Path, configuration: str) -> Iterator[Prometheus]:
    """Prometheus with this configuration (the YAML text of prometheus.yml; paths in it are relative
    to `directory`).
    """
    (port,) = free_ports(1)
    file = directory / "prometheus.yml"
    file.write_text(configuration)
    arguments = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with running(arguments, log=directory / "prometheus.log") as process:
        running_one = Prometheus(f"http://127.0.0.1:{port}")
        is_ready = functools.partial(Prometheus.is_ready, running_one)
        process.wait_until_up(is_ready, seconds=PATIENCE_SECONDS)
        yield running_one
