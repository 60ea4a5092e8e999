"""A few seeds of the simulation; `make simulate-faults` runs thousands."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.faults import PROFILES, Send
from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import Run, Verdict
from tests.simulation.seeds import command

SEEDS = range(48)


@pytest.fixture(scope="module", params=range(0, len(SEEDS), len(PROFILES)))
def verdicts(request: pytest.FixtureRequest) -> list[Verdict]:
    """One run of each profile."""
    return [Run(request.param + number).verdict() for number in range(len(PROFILES))]


def test_every_invariant_holds_whatever_goes_wrong(verdicts: list[Verdict]) -> None:
    wrong = [
        f"{violation}\n    {command(verdict.seed)}"
        for verdict in verdicts
        for violation in verdict.violations
    ]
    assert not wrong, "\n".join(wrong)


def test_each_profile_injects_faults_but_the_calm_one(verdicts: list[Verdict]) -> None:
    assert sorted(verdict.profile for verdict in verdicts) == sorted(p.name for p in PROFILES)
    assert sum(sum(verdict.injected.values()) for verdict in verdicts) > 20


def test_every_kind_of_fault_is_met() -> None:
    met: Counter[str] = Counter()
    kinds = {fate.value for fate in Send} - {Send.WRITTEN.value} | {
        "crash before a send",
        "crash after a send",
        "crash before a commit",
        "crash after a commit",
        "crash while reading",
        "failed commit",
        "pause",
        "kill",
        "stop",
        "join",
        "compaction",
        "slow agent",
        "damage",
    }
    for seed in range(120):
        if kinds <= met.keys():
            break
        met += Run(seed).verdict().injected
    assert kinds <= met.keys(), f"not met: {kinds - met.keys()}"


def test_a_seed_is_the_same_run_each_time() -> None:
    lines: list[list[str]] = [[], []]
    for told in lines:
        Run(6, tell=told.append).verdict()
    assert lines[0] == lines[1]
    assert len(lines[0]) > 100


def test_a_safeguard_is_out_only_while_its_run_lasts() -> None:
    Run(0, without=MUTATIONS["state before commit"]).verdict()
    assert not Run(0).verdict().violations
