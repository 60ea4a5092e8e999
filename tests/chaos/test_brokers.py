"""Brokers stop, die, lose their disk and come back, under load."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.rig.chaos_run import DEADLINE_S, ChaosRun
from tests.rig.fleet import when
from tests.rig.kafka_nodes import Cluster
from tests.rig.kafka_server import answers
from tests.rig.needs import needs_apache_kafka, needs_prlimit
from tests.rig.phased_stream import PARTITIONS, PhasedStream

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900), needs_apache_kafka, pytest.mark.long]


def test_a_broker_that_restarts_changes_no_count(node: Cluster, tmp_path: Path, seed: int) -> None:
    """In order; by kill -9; and away for longer than any deadline, so that every worker ends and is
    started again in vain until it is back.
    """
    (broker,) = node.nodes
    stream = PhasedStream(seed + 6, 4, late_phases=(2,), events_a_phase=1_800)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(2)
        with run.playing(0):
            run.fleet.wait_until_owned(PARTITIONS)
            broker.stop()
            run.faults["broker stopped and started"] += 1
            broker.start()
            broker.wait_until_up()
        with run.playing(1):
            time.sleep(2)
            broker.kill()
            run.faults["kill -9 of the broker"] += 1
            broker.start()
            broker.wait_until_up()
        run.settle()
        with run.playing(2):
            time.sleep(2)
            broker.kill()
            run.faults["broker away for longer than the deadline"] += 1
            time.sleep(DEADLINE_S + 10)
            broker.start()
            broker.wait_until_up()
        run.play(3)
        run.verdict()
        assert run.fleet.ended[1] >= 2, "nobody ended although nothing could be written"


@needs_prlimit
def test_a_full_disk_ends_the_worker_and_changes_no_count(
    node: Cluster, tmp_path: Path, seed: int
) -> None:
    """No append succeeds any more: the broker gives its disk up, the worker ends, commits nothing, and
    goes on where it was when there is space again.
    """
    (broker,) = node.nodes
    stream = PhasedStream(seed + 7, 4, late_phases=(2,), events_a_phase=1_200)
    with ChaosRun(node.broker, tmp_path, stream) as run:
        run.fleet.scale(1)
        run.play(0)
        run.settle()
        for number in (1, 2):
            with run.playing(number):
                time.sleep(1)
                broker.fill_disk()
                run.faults["the broker's disk is full"] += 1
                when(lambda: run.fleet.ended[1] >= number, "the worker ends")  # noqa: B023
                if broker.is_running:
                    broker.kill()
                broker.start()
                broker.wait_until_up()
        run.play(3)
        run.verdict()


def test_a_cluster_of_three_loses_its_leaders_and_no_count(
    three_nodes: Cluster, tmp_path: Path, seed: int
) -> None:
    """Replication 3, two copies must have a record. The leader of the state topic dies; the group's
    coordinator dies; then two of three are away, so that nothing can be written.
    """
    cluster = three_nodes
    stream = PhasedStream(seed + 8, 5, late_phases=(2, 4), events_a_phase=1_800)
    with ChaosRun(cluster.broker, tmp_path, stream, copies=3) as run:
        names = run.installation.topics.names
        everything = (*names.sources, names.state, names.partials, names.results)
        run.fleet.scale(2)
        run.play(0)
        for number, topic in ((1, names.state), (2, names.sessions), (3, "__consumer_offsets")):
            with run.playing(number):
                time.sleep(1.5)
                leader = cluster.leader_of(topic, 0)
                leader.kill()
                run.faults[f"kill -9 of the leader of {topic.rpartition('.')[2]}"] += 1
                time.sleep(8)
                leader.start()
                leader.wait_until_up()
            cluster.wait_until_in_sync(everything)
        run.settle()
        with run.playing(4):
            time.sleep(1.5)
            away = cluster.nodes[:2]
            for one in away:
                one.kill()
                run.faults["fewer copies in sync than required"] += 1
            when(lambda: run.fleet.ended[1] >= 1, "a worker ends, as it can't write")
            for one in away:
                one.start()
            for one in away:
                one.wait_until_up()
        assert answers(cluster.broker.bootstrap)
        run.verdict()
