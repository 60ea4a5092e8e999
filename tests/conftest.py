"""Fixtures that every tier may use, and the loud account of tests that a machine could not run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import brokers
from tests.rig.kafka_server import JarsError, jars
from tests.rig.needs import APACHE_KAFKA, absences, needs_apache_kafka, not_run


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*parts): programs without which the test can't run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test's tier is the directory that it lives in: `-m "not integration"`."""
    tests = config.rootpath / "tests"
    for item in items:
        if item.path.is_relative_to(tests):
            item.add_marker(item.path.relative_to(tests).parts[0])


# First, so that a test which can't run builds no fixture.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    absences.check(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = list(absences.lines())
    if lines:
        terminalreporter.section("TESTS THAT DID NOT RUN HERE", sep="!", red=True, bold=True)
        for line in lines:
            terminalreporter.line(line, red=True, bold=True)


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[brokers.Broker]:
    """The embedded broker, in memory."""
    with brokers.embedded(tmp_path_factory.mktemp("embedded-broker")) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_jars(request: pytest.FixtureRequest) -> None:
    """Apache Kafka's jars are there; for every fixture that starts a node of it."""
    try:
        jars()
    except JarsError as error:
        not_run(request, APACHE_KAFKA, f"Maven can't fetch its jars: {str(error).splitlines()[0]}")


@pytest.fixture(scope="session")
def apache_kafka(
    tmp_path_factory: pytest.TempPathFactory, kafka_jars: None
) -> Iterator[brokers.Broker]:
    """Apache Kafka 4; a test that asks for it is marked `needs_apache_kafka`."""
    directory: Path = tmp_path_factory.mktemp("apache-kafka")
    with brokers.apache_kafka(directory) as broker:
        yield broker


@pytest.fixture(
    params=["embedded_broker", pytest.param("apache_kafka", marks=needs_apache_kafka)],
    ids=["embedded", "apache"],
)
def broker(request: pytest.FixtureRequest) -> brokers.Broker:
    """Both brokers, one after the other."""
    chosen: brokers.Broker = request.getfixturevalue(request.param)
    return chosen
