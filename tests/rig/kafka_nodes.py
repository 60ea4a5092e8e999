"""Apache Kafka nodes that a test may stop, kill and start again, alone or three together.

Each node is broker and controller (KRaft) on ports and a log directory of its own, which it keeps over
restarts. The cleaner runs several times a second, so a topic with small segments is really compacted while
a test looks on. Topics are created by the test with the replication of the cluster.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.rig import kafka_server
from tests.rig.brokers import Broker
from tests.rig.processes import Process, free_ports, wait_until

STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """The ports of one node."""

    number: int
    client: int
    controller: int


class Node:
    """One broker and controller."""

    def __init__(self, directory: Path, mine: Address, voters: list[Address]) -> None:
        self.number = mine.number
        self.address = f"127.0.0.1:{mine.client}"
        self._directory = directory
        self._process: Process | None = None
        self._starts = 0
        count = min(3, len(voters))
        self._server = kafka_server.KafkaServer(
            directory,
            f"node-{mine.number}",
            {
                "node.id": str(mine.number),
                "controller.quorum.voters": ",".join(
                    f"{one.number}@127.0.0.1:{one.controller}" for one in voters
                ),
                **kafka_server.plain_listeners(mine.client, mine.controller),
                **kafka_server.copies(count),
                "min.insync.replicas": str(max(1, count - 1)),
                "default.replication.factor": str(count),
                "unclean.leader.election.enable": "false",
                "auto.leader.rebalance.enable": "false",
                "group.min.session.timeout.ms": "1000",
                # A dead node is noticed after seconds, not after the better part of a minute.
                "broker.session.timeout.ms": "4000",
                "broker.heartbeat.interval.ms": "800",
                "replica.lag.time.max.ms": "5000",
                "replica.fetch.wait.max.ms": "200",
                "num.network.threads": "2",
                "num.io.threads": "3",
                "num.replica.fetchers": "1",
                # Compaction that happens while somebody looks on.
                "log.cleaner.backoff.ms": "300",
                "log.cleaner.dedupe.buffer.size": "8388608",
                "log.cleaner.threads": "1",
                "log.retention.check.interval.ms": "1000",
                "log.segment.delete.delay.ms": "500",
                "controlled.shutdown.enable": "true",
            },
            java=(*kafka_server.SHORT_LIVED, "-Xmx320m"),
        )

    def format(self, cluster: str) -> None:
        """Prepare the storage, once."""
        self._server.format(cluster)

    def start(self) -> None:
        """Start it; don't wait."""
        assert not self.is_running
        self._starts += 1
        log = self._directory / f"node-{self.number}-{self._starts}.log"
        self._process = Process(self._server.command(), log=log)

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.exit_status is None

    @property
    def process(self) -> Process:
        """The process of the last start."""
        assert self._process is not None
        return self._process

    def wait_until_up(self) -> None:
        """Return once it answers; raise StartError with what it wrote if it ends before."""
        kafka_server.wait_until_answers(self.process, self.address)

    def stop(self) -> None:
        """End it in order (SIGTERM)."""
        self.process.stop(grace=STOP_SECONDS)

    def kill(self) -> None:
        """End it at once (kill -9)."""
        self.process.signal(signal.SIGKILL)
        self.process.wait(10)

    def fill_disk(self) -> None:
        """From now on no file of this node can grow: every append fails as on a full disk.

        A limit of the file size (RLIMIT_FSIZE) for this one process: it needs no rights and touches
        nothing else. The node sees an I/O error at its next append, as with ENOSPC.
        """
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (1, hard))


class Cluster:
    """Nodes that know each other; a context manager."""

    def __init__(self, directory: Path, size: int = 1) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        ports = iter(free_ports(2 * size))
        addresses = [Address(number + 1, next(ports), next(ports)) for number in range(size)]
        self.nodes = [Node(directory, one, addresses) for one in addresses]
        self.copies = min(3, size)

    @property
    def broker(self) -> Broker:
        """All nodes, as clients name them."""
        return Broker(",".join(node.address for node in self.nodes), is_embedded=False)

    def __enter__(self) -> Self:
        cluster = kafka_server.new_cluster_id()
        for node in self.nodes:
            node.format(cluster)
        try:
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            if node.is_running:
                node.process.stop(grace=3)

    def leader_of(self, topic: str, partition: int) -> Node:
        """The node that leads a partition now."""
        found: list[int] = []

        def has_leader() -> bool:
            with contextlib.suppress(KafkaException, KeyError):
                live = [node.address for node in self.nodes if node.is_running]
                topics = _admin(",".join(live)).list_topics(topic, timeout=5).topics
                leader = topics[topic].partitions[partition].leader
                if leader > 0 and self.nodes[leader - 1].is_running:
                    found.append(leader)
            return bool(found)

        wait_until(has_leader, what=f"{topic}-{partition} has a leader")
        return self.nodes[found[0] - 1]

    def wait_until_in_sync(self, topics: Iterator[str] | tuple[str, ...]) -> None:
        """Return once every partition of these topics has all its copies in sync."""
        wanted = set(topics)

        def all_in_sync() -> bool:
            try:
                found = _admin(self.broker.bootstrap).list_topics(timeout=5).topics
            except KafkaException:
                return False
            return all(
                len(partition.isrs) == self.copies
                for name in wanted
                for partition in found[name].partitions.values()
            )

        wait_until(all_in_sync, what="every copy in sync", every=0.5)


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "socket.timeout.ms": 3000, "log_level": 0})
