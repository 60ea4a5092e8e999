"""A node of Apache Kafka (KRaft, broker and controller in one, no Docker): its jars, its storage, its process.

Whoever starts one (`brokers`, `kafka_nodes`, `secure_kafka`) says by settings how it differs from the others.
"""

import base64
import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.rig.processes import Process, StartError

POM = Path(__file__).parent / "maven" / "pom.xml"
START_SECONDS = 90.0
STEADY = ("-Xmx512m",)
SHORT_LIVED = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Options of the virtual machine: one that lives for a minute takes a third less of the processor where it
doesn't optimise much. Measurements want `STEADY`.
"""
_EVERY_NODE = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # A group of one needs no time to gather.
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
}


class JarsError(RuntimeError):
    """Apache Kafka's jars could not be fetched."""


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


def new_cluster_id() -> str:
    """As the storage tool wants it: all nodes of a cluster have the same."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def copies(count: int) -> dict[str, str]:
    """Of everything that brokers keep for themselves; all of them but one must have a record."""
    return {
        "offsets.topic.replication.factor": str(count),
        "transaction.state.log.replication.factor": str(count),
        "transaction.state.log.min.isr": str(max(1, count - 1)),
    }


def plain_listeners(client: int, controller: int) -> dict[str, str]:
    """The listeners of a node that anybody may use, on these ports."""
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    }


class KafkaServer:
    """The configuration of one node and its storage, both in `directory`, and the commands that use them."""

    def __init__(
        self,
        directory: Path,
        name: str,
        settings: Mapping[str, str],
        *,
        java: tuple[str, ...] = SHORT_LIVED,
    ) -> None:
        """`settings` is laid over what every node has; `java` are options of the virtual machine."""
        self._properties = directory / f"{name}.properties"
        self._java = java
        everything = {**_EVERY_NODE, "log.dirs": str(directory / name), **settings}
        # A value of several lines, such as a certificate, is written in one.
        lines = ((key, value.strip().replace("\n", r"\n")) for key, value in everything.items())
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in lines))

    def format(self, cluster: str, *arguments: str) -> None:
        """Prepare the storage, once."""
        done = subprocess.run(
            [
                *self._program("kafka.tools.StorageTool"),
                *("format", f"--cluster-id={cluster}", "-c", str(self._properties), *arguments),
            ],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise StartError(
                f"Apache Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}"
            )

    def command(self) -> list[str]:
        """What starts the node."""
        return [*self._program("kafka.Kafka"), str(self._properties)]

    def _program(self, name: str) -> list[str]:
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *self._java, quiet, "-cp", f"{jars()}/*", name]


def answers(bootstrap: str) -> bool:
    """Whether a broker answers there."""
    client = AdminClient(
        {"bootstrap.servers": bootstrap, "socket.timeout.ms": 3000, "log_level": 0}
    )
    try:
        return bool(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def wait_until_answers(process: Process, bootstrap: str) -> None:
    """Return once the broker that `process` is answers; raise StartError if it doesn't."""
    process.wait_until_up(lambda: answers(bootstrap), seconds=START_SECONDS)
