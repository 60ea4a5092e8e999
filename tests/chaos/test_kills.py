"""kill -9 of a worker at each step of a takeover and of a checkpoint, under load."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.rig.chaos_run import ChaosRun
from tests.rig.fault_points import STEPS
from tests.rig.kafka_nodes import Cluster
from tests.rig.needs import needs_apache_kafka
from tests.rig.phased_stream import PhasedStream

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900), needs_apache_kafka]

AT_ITS_START = frozenset({"claim-due", "claim-sent"})
"""Steps that a worker reaches once, when it takes over; the others come again and again."""
OF_THE_ROLL_UP = frozenset({"results-due", "results-half", "results-sent"})
"""Steps that only the worker reaches which has the roll-up."""


@pytest.mark.long
def test_kill_9_at_each_step_changes_no_count(node: Cluster, tmp_path: Path, seed: int) -> None:
    """Two workers; one of them dies at the step while the other one goes on, takes over, and gives
    half of it back to the next.
    """
    draw = random.Random(seed)
    phases = len(STEPS)
    stream = PhasedStream(seed, phases, late_phases=range(2, phases, 2), events_a_phase=900)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(2)
        for number, step in enumerate(STEPS):
            with run.playing(number):
                fault = f"kill@{step}:{1 if step in AT_ITS_START else draw.randrange(1, 4)}"
                if step in OF_THE_ROLL_UP:
                    run.fleet.inject_anywhere(fault)
                else:
                    run.fleet.wait_until_fired(run.fleet.inject(number % 2, fault))
        run.verdict()
        assert all(run.faults[f"kill@{step}"] == 1 for step in STEPS)


@pytest.mark.long
def test_kill_9_of_the_only_worker_and_a_compaction_before_the_next_one(
    node: Cluster, tmp_path: Path, seed: int
) -> None:
    """Nobody is there while the cleaner runs: what the next worker finds is what compaction left."""
    steps = ("chunks-sent", "marker-half", "marker-sent", "commit-done", "tombstones-due")
    stream = PhasedStream(seed + 1, 6, late_phases=(2, 4), events_a_phase=1_200)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(1)
        for number, step in enumerate(steps):
            with run.playing(number):
                time.sleep(2)
                run.fleet.hold_back()
                doomed = run.fleet.inject(0, f"kill@{step}:{number + 3}")
                run.fleet.wait_until_fired(doomed)
            run.wait_until_compacted()
            run.fleet.go_on()
        run.play(len(steps))
        run.verdict()
        assert run.state is not None
        assert run.state.removed > 0
