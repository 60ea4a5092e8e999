"""kafka-python for the commands: connecting, asking about topics, and failures in plain words.

kafka-python is the client of administration, replay and simulation; the engine has its own. It
brings no type information, so what comes from it is Any until it is decoded. It logs every retry; a
command says once, in its own words, what went wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agents.failures import CommandFailed, Unusable
from agents.kafka_client import blocking_arguments, client_arguments
from agents.settings import Settings

if TYPE_CHECKING:
    from agents.kafka_probe import Probed

CONNECT_MS = 5_000
REQUEST_MS = 15_000
NO_ID = "00000000-0000-0000-0000-000000000000"
"""What brokers before topic ids say."""


def connection(settings: Settings) -> dict[str, Any]:
    """The arguments by which every kafka-python client of a command connects."""
    hosts = [part.strip() for part in settings.kafka.bootstrap.split(",") if part.strip()]
    return {
        **blocking_arguments(settings),
        "bootstrap_servers": hosts,
        "client_id": "heartline-command",
        "bootstrap_timeout_ms": CONNECT_MS,
    }


@contextmanager
def plain_failures(settings: Settings) -> Iterator[list[Probed]]:
    """Turn kafka-python's exceptions into `CommandFailed`, and keep its log off the terminal.

    Whether Kafka is there and lets us in is asked first: the client would try for seconds, and
    then not say why it failed. Yields what was found.
    """
    from kafka.errors import (
        ClusterAuthorizationFailedError,
        KafkaConnectionError,
        KafkaError,
        KafkaTimeoutError,
        MetadataEmptyBrokerList,
        TopicAuthorizationFailedError,
        UnknownTopicOrPartitionError,
    )

    from agents.kafka_probe import probe

    where = settings.kafka.bootstrap
    nobody = f"no Kafka answers at {where} any more: is it stopped, or the network down?"
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    probed = asyncio.run(probe(settings, client_arguments(settings)))
    try:
        yield probed
    except (KafkaConnectionError, MetadataEmptyBrokerList) as error:
        raise CommandFailed(nobody) from error
    except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError) as error:
        raise CommandFailed(
            f"Kafka at {where} lets us in but forbids this: grant the user what docs/security.md lists"
        ) from error
    except UnknownTopicOrPartitionError as error:
        raise Unusable("a topic does not exist: run `heartline topics create` first") from error
    except KafkaTimeoutError as error:
        if "bootstrap" in str(error):
            raise CommandFailed(nobody) from error
        raise CommandFailed(f"Kafka at {where} did not answer in time: {_words(error)}") from error
    except KafkaError as error:
        raise CommandFailed(f"Kafka at {where}: {_words(error)}") from error


def _words(error: Exception) -> str:
    """The exception in one line; some of kafka-python's carry no text."""
    return " ".join(f"{type(error).__name__} {error}".split())


@contextmanager
def admin_client(settings: Settings) -> Iterator[Any]:
    """A connected admin client. Raises kafka-python's errors: use it inside `plain_failures`."""
    from kafka.admin import KafkaAdminClient

    client = KafkaAdminClient(**connection(settings), request_timeout_ms=REQUEST_MS)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def lone_consumer(settings: Settings, group: str | None = None, **more: Any) -> Iterator[Any]:
    """A consumer that joins nothing and commits nothing; ``more`` are arguments of kafka-python's.

    With a ``group`` it can ask what that has committed. Use it inside `plain_failures`.
    """
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        **connection(settings),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **more,
    )
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False)


def topic_ids(settings: Settings) -> dict[str, str]:
    """The ids of the four inputs, by name; without those that the broker doesn't tell.

    A topic that is deleted and created again has another one. Raises `CommandFailed`.
    """
    names = settings.topics().sources
    with plain_failures(settings), admin_client(settings) as admin:
        described = admin.describe_topics(list(names))
    found = {topic["name"]: str(topic.get("topic_id") or NO_ID) for topic in described}
    return {name: topic_id for name, topic_id in found.items() if topic_id != NO_ID}


def partition_counts(admin: Any, names: tuple[str, ...]) -> dict[str, int]:
    """The partition count of each of ``names`` that exists."""
    existing = set(admin.list_topics())
    wanted = [name for name in names if name in existing]
    if not wanted:
        return {}
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(wanted)}


def topic_configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The configuration of topics that exist; nothing for one of which the broker reports none."""
    from kafka.admin import ConfigResource, ConfigResourceType

    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found = admin.describe_configs(resources, config_filter="all").get("topic", {})
    return {
        name: {key: str(one.get("value") or "") for key, one in (found.get(name) or {}).items()}
        for name in names
    }


def input_partitions(settings: Settings) -> int:
    """The number of partitions of the four inputs. Raises `Unusable` unless all four have the same."""
    names = settings.topics().sources
    with admin_client(settings) as admin:
        counts = partition_counts(admin, names)
    missing = [name for name in names if name not in counts]
    if missing:
        raise Unusable(f"no topic {', '.join(missing)}: run `heartline topics create` first")
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise Unusable(
            f"the input topics have different numbers of partitions ({found}): a customer's events "
            "would not meet; give all four the same"
        )
    return counts[names[0]]
