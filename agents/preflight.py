"""What must hold before a worker joins the group. Every breach is one plain error that says what to
do.

- Faust's compiled stream iterator is there: the pure-Python one acknowledges events that it
skipped.
- The broker answers; its flavour is known (`apache` or `embedded`).
- Every topic exists; the four inputs and the state topic have `[kafka] partitions` partitions each,
the partials topic one. Otherwise a customer's events would not meet in one partition.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agents.failures import CommandFailed, Unusable
from agents.kafka_probe import probe
from agents.settings import Settings

Flavour = Literal["apache", "embedded"]
_EMBEDDED_CLUSTER = "tansu"
_TIMEOUT_S = 15.0


def check_faust() -> None:
    """Raises CommandFailed if Faust's compiled stream iterator is missing."""
    from faust import streams

    if getattr(streams, "_CStreamIterator", None) is None:
        raise CommandFailed(
            "faust-streaming was installed without its compiled parts, which acknowledge skipped "
            "events wrongly: reinstall it from a wheel (pip install --force-reinstall "
            "--only-binary faust-streaming faust-streaming==0.15.3)"
        )


async def check_broker(settings: Settings, client: dict[str, Any]) -> Flavour:
    """Look at the broker and its topics. Raises CommandFailed, Unusable."""
    await probe(settings, client)
    admin = AIOKafkaAdminClient(**client)
    library = logging.getLogger("aiokafka")
    level = library.level
    # What it would log on the way is said below, once and with a way out.
    library.setLevel(logging.CRITICAL)
    where = settings.kafka.bootstrap
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await admin.start()
            cluster = await admin.describe_cluster()
            topics = settings.topics()
            counted = _wanted(settings)
            plain = {topics.results, topics.dead_letters, topics.late}
            # Asked for all topics: asking for one by name creates it on some brokers.
            described = await admin.describe_topics()
    except (TimeoutError, KafkaError, OSError) as error:
        reason = str(error) or f"no answer in {_TIMEOUT_S:g} s"
        raise CommandFailed(f"Kafka at {where} lets us in but does not answer: {reason}") from None
    finally:
        await admin.close()
        library.setLevel(level)
    found = {
        topic["topic"]: 0 if topic["error_code"] else len(topic["partitions"])
        for topic in described
    }
    missing = [name for name in sorted(counted.keys() | plain) if not found.get(name)]
    if missing:
        raise Unusable(
            f"topics missing at {where}: {', '.join(missing)}; create them with: heartline topics create"
        )
    wrong = [
        f"{name} has {found[name]} partitions, not {count}"
        for name, count in counted.items()
        if found[name] != count
    ]
    if wrong:
        raise Unusable(
            f"{'; '.join(wrong)}: a customer's events would not meet in one partition. Set [kafka] "
            "partitions to the number of the input topics, or create topics with that number under "
            "another [kafka] topic_prefix"
        )
    if settings.kafka.flavour != "auto":
        return settings.kafka.flavour
    name = str(cluster.get("cluster_id") or "")
    return "embedded" if name.startswith(_EMBEDDED_CLUSTER) else "apache"


def _wanted(settings: Settings) -> dict[str, int]:
    """The topics whose number of partitions matters, with that number."""
    topics = settings.topics()
    wanted = dict.fromkeys((*topics.sources, topics.state), settings.kafka.partitions)
    wanted[topics.partials] = 1
    return wanted
