"""What a test needs that a machine may lack, and how loudly its absence is told.

A test says what it needs by a mark (`@needs_apache_kafka`) or, where only trying shows it, a
fixture calls `not_run`. Such a test does not run, and the terminal summary says so in capitals: one
line for each absent part, with the number of tests. With HEARTLINE_REQUIRE_ALL=1, as in CI, it
fails instead. Nothing is skipped in silence.
"""

import functools
import os
import re
import resource
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

JAVA_AT_LEAST = 17
"""What Apache Kafka 4 brokers run on."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something outside of Python that tests use. `lacking()` says what of it is not there, or
    nothing.
    """

    name: str
    lacking: Callable[[], str]


def programs(*names: str) -> Callable[[], str]:
    """What of these programs is not on PATH, in words: "java, mvn not found"."""

    def lacking() -> str:
        absent = [name for name in names if shutil.which(name) is None]
        return f"{', '.join(absent)} not found" if absent else ""

    return lacking


@functools.cache
def _java_and_maven() -> str:
    if absent := programs("java", "mvn")():
        return absent
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None:
        return "java does not tell its version"
    return (
        ""
        if int(version[1]) >= JAVA_AT_LEAST
        else f"java is {version[1]}, at least {JAVA_AT_LEAST} is needed"
    )


APACHE_KAFKA = Part("Apache Kafka", _java_and_maven)
PROMETHEUS = Part("Prometheus", programs("prometheus"))
PROMTOOL = Part("promtool", programs("promtool"))
AMTOOL = Part("amtool", programs("amtool"))
DOCKER_COMPOSE = Part("docker-compose", programs("docker-compose"))
CHROMIUM = Part("Chromium", programs("chromium"))
PRLIMIT = Part(
    "limits of another process",
    lambda: "" if hasattr(resource, "prlimit") else "only Linux has prlimit",
)
PROC = Part(
    "the environment of other processes",
    lambda: "" if Path("/proc/self/environ").exists() else "there is no /proc/self/environ",
)
PARENT_DEATH = Part(
    "the parent-death signal",
    lambda: "" if sys.platform == "linux" else "only Linux has it",
)

PARTS = {
    part.name: part
    for part in (
        *(APACHE_KAFKA, PROMETHEUS, PROMTOOL, AMTOOL, DOCKER_COMPOSE, CHROMIUM),
        *(PRLIMIT, PROC, PARENT_DEATH),
    )
}


def needs(*parts: Part) -> pytest.MarkDecorator:
    """The mark of a test that runs only where all these parts are. A mark holds names: pytest
    prints them.
    """
    return pytest.mark.needs(*(part.name for part in parts))


needs_apache_kafka = needs(APACHE_KAFKA)
needs_prometheus = needs(PROMETHEUS)
needs_promtool = needs(PROMTOOL)
needs_amtool = needs(AMTOOL)
needs_docker_compose = needs(DOCKER_COMPOSE)
needs_chromium = needs(CHROMIUM)
needs_prlimit = needs(PRLIMIT)
needs_proc = needs(PROC)
needs_parent_death = needs(PARENT_DEATH)


class Absences:
    """Which tests did not run for want of which part; one lives as long as the test session."""

    def __init__(self, *, all_required: bool) -> None:
        """`all_required`: an absent part fails the test instead of leaving it out."""
        self._all_required = all_required
        self._tests: dict[tuple[str, str], set[str]] = defaultdict(set)

    def check(self, item: pytest.Item) -> None:
        """Leave out, or fail, a test one of whose parts is absent."""
        for mark in item.iter_markers("needs"):
            for name in mark.args:
                if lacking := PARTS[name].lacking():
                    self.absent(item.nodeid, name, lacking)

    def absent(self, test: str, part: str, lacking: str) -> None:
        """Note that a test has to do without a part, and end it."""
        self._tests[part, lacking].add(test)
        if self._all_required:
            pytest.fail(f"needs {part}: {lacking} (HEARTLINE_REQUIRE_ALL is set)", pytrace=False)
        # The one skip in the tests, and a loud one: `lines` tells it, and CI never comes here.
        pytest.skip(f"needs {part}: {lacking}")

    def lines(self) -> Iterator[str]:
        """The summary: "NOT RUN: 4 tests need Apache Kafka: java, mvn not found"."""
        for (part, lacking), tests in sorted(self._tests.items()):
            who = "1 test needs" if len(tests) == 1 else f"{len(tests)} tests need"
            yield f"NOT RUN: {who} {part}: {lacking}"


absences = Absences(all_required=os.environ.get("HEARTLINE_REQUIRE_ALL", "") not in {"", "0"})
"""The session's one record of absent parts; the hooks in conftest.py read it at the end."""


def not_run(request: pytest.FixtureRequest, part: Part, lacking: str) -> None:
    """For fixtures that learn only by trying that a part is absent (jars that can't be fetched)."""
    absences.absent(request.node.nodeid, part.name, lacking)
