"""Workers come, go, and are paused under load."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.rig.chaos_run import ChaosRun
from tests.rig.fleet import when
from tests.rig.kafka_nodes import Cluster
from tests.rig.needs import needs_apache_kafka
from tests.rig.phased_stream import PARTITIONS, PhasedStream

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900), needs_apache_kafka]

IN_THE_MIDDLE = ("chunks-due", "chunks-sent", "marker-due", "commit-due")
"""Where a worker is paused that will go on writing as if nothing had happened."""
WRITES_ON = {"chunks-due": "chunk", "marker-due": "marker"}
"""What a worker that was paused there writes behind the claim of its successor."""


def test_kills_a_pause_and_a_sigterm_change_no_count(
    node: Cluster, tmp_path: Path, seed: int
) -> None:
    """The short selection: one of each, in every run of the tests."""
    stream = PhasedStream(seed, 4, late_phases=(2,), events_a_phase=900)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(2)
        with run.playing(0):
            run.fleet.wait_until_fired(run.fleet.inject(0, "kill@chunks-sent:2"))
        with run.playing(1):
            pause_and_wake(run, "marker-due")
        with run.playing(2):
            run.fleet.wait_until_fired(run.fleet.inject(1, "kill@marker-sent:2"))
        with run.playing(3):
            run.fleet.terminate(0)
        run.verdict()


@pytest.mark.long
def test_sigterm_under_load_changes_no_count(node: Cluster, tmp_path: Path, seed: int) -> None:
    stream = PhasedStream(seed + 2, 5, late_phases=(2, 4), events_a_phase=1_800)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(2)
        for number in range(len(stream.phases)):
            with run.playing(number):
                for place in (0, 1):
                    run.fleet.wait_until_owned(PARTITIONS)
                    run.fleet.terminate(place)
        run.verdict()
        assert run.fleet.ended.total() == 0


@pytest.mark.long
def test_a_paused_worker_wakes_up_behind_its_successor_and_is_ignored(
    node: Cluster, tmp_path: Path, seed: int
) -> None:
    """SIGSTOP in the middle of a checkpoint, until another worker owns everything; then SIGCONT. It
    finishes what it was about to write, which counts for nothing, and ends.
    """
    stream = PhasedStream(seed + 3, 5, late_phases=(2, 4), events_a_phase=900)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(2)
        for number, step in enumerate(IN_THE_MIDDLE):
            with run.playing(number):
                pause_and_wake(run, step)
        with run.playing(len(IN_THE_MIDDLE)):
            paused = run.fleet.pause(1)
            when(lambda: run.fleet.owns(0) == PARTITIONS, "the other worker owns everything")
            run.fleet.resume(paused)
        run.verdict()


def pause_and_wake(run: ChaosRun, step: str) -> None:
    """Pause a worker at a step beyond its session, wake it, and see it end."""
    zombie = run.fleet.inject(0, f"stop@{step}:2")
    run.fleet.wait_until_fired(zombie)
    when(lambda: run.fleet.owns(1) == PARTITIONS, "the other worker owns everything")
    run.fleet.resume(zombie)
    when(lambda: zombie.process.exit_status is not None, f"the worker paused at {step} ends")
    assert zombie.process.exit_status == 1
    stale = run.note_stale()
    if step in WRITES_ON:
        assert stale[WRITES_ON[step]] >= 1, f"{step}: nothing stale in the state topic: {stale}"


@pytest.mark.long
def test_a_storm_of_rebalances_changes_no_count(node: Cluster, tmp_path: Path, seed: int) -> None:
    """1 -> 3 -> 1 -> 3 -> 1 workers, faster than most takeovers can end."""
    draw = random.Random(seed)
    stream = PhasedStream(seed + 4, 4, late_phases=(2,), events_a_phase=3_000)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(1)
        for number in range(len(stream.phases)):
            with run.playing(number):
                for size in (2, 3, 2, 1, 3, 1):
                    run.fleet.scale(size)
                    run.faults["a worker joins or leaves"] += 1
                    time.sleep(1.5 + draw.random() * 4)
        run.verdict()


@pytest.mark.long
def test_whatever_happens_at_any_moment_changes_no_count(
    node: Cluster, tmp_path: Path, seed: int
) -> None:
    """Faults of all kinds at random moments; three workers most of the time."""
    draw = random.Random(seed)
    stream = PhasedStream(seed + 5, 8, late_phases=(2, 4, 6), events_a_phase=3_000)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(3)
        for number in range(len(stream.phases)):
            with run.playing(number):
                for _ in range(3):
                    time.sleep(draw.random() * 4)
                    place = draw.randrange(3)
                    turn = draw.random()
                    if turn < 0.4:
                        run.fleet.kill(place)
                    elif turn < 0.6:
                        run.fleet.terminate(place)
                    elif turn < 0.8:
                        paused = run.fleet.pause(place)
                        time.sleep(draw.choice((0.5, 3, 8)))
                        run.fleet.resume(paused)
                    else:
                        for other in range(3):
                            run.fleet.kill(other)
        run.verdict()
