"""The broker and the seed of the chaos tests, and their account at the end of a session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.chaos_run import TALLY
from tests.rig.kafka_nodes import Cluster


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TALLY.runs or TALLY.faults:
        terminalreporter.section(f"chaos, seed {chosen_seed()}")
        for line in TALLY.lines():
            terminalreporter.line(line)


def chosen_seed() -> int:
    """HEARTLINE_CHAOS_SEED, by default 1: of the streams and of what is random in the faults."""
    return int(os.environ.get("HEARTLINE_CHAOS_SEED", "1"))


@pytest.fixture(scope="session")
def seed() -> int:
    return chosen_seed()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, kafka_jars: None) -> Iterator[Cluster]:
    """One Apache Kafka node for the tests of a module."""
    directory: Path = tmp_path_factory.mktemp("kafka")
    with Cluster(directory, 1) as cluster:
        yield cluster


@pytest.fixture
def three_nodes(tmp_path: Path, kafka_jars: None) -> Iterator[Cluster]:
    """Three of them: every topic on all three, two of which must have a record."""
    with Cluster(tmp_path / "cluster", 3) as cluster:
        yield cluster
