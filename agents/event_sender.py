"""Events to the four input topics.

Rules:
- A record's partition is chosen here, by the configured partitioner, and the four topics have the
  same number of partitions: anything else would split customers, so it is refused at the start.
- Records carry no timestamp of their own: it is the time of sending, as from any live producer. In
  a replay it lies far from the event time, which is how the engine tells a replay from live
  traffic.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from agents.checked_producer import CheckedProducer
from agents.kafka_admin import input_partitions
from agents.partitioners import Partitions
from agents.settings import Settings
from schemas.topics import Source


class EventSender:
    """Use as a context manager, inside `agents.kafka_admin.plain_failures`."""

    def __init__(self, settings: Settings) -> None:
        """Connect, and check the topics."""
        self._topics = settings.topics().sources
        self.partitions = input_partitions(settings)
        self.partition_of = Partitions(settings.kafka.partitioner, self.partitions)
        self._producer = CheckedProducer(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._producer.__exit__(kind, error, trace)

    @property
    def confirmed(self) -> int:
        """Records that Kafka has acknowledged."""
        return self._producer.confirmed

    def send(self, source: int, key: bytes, value: bytes) -> None:
        """Send one record to the topic of ``source``, to the partition of ``key``."""
        self.send_to(source, self.partition_of(key), key, value)

    def send_to(self, source: int, partition: int, key: bytes | None, value: bytes) -> None:
        """Send one record to an explicit partition. Blocks while too much is unconfirmed."""
        self._producer.send(self._topics[source], partition, key, value)

    def time_passed(self, until_ms: int, only: list[tuple[int, int]] | None = None) -> int:
        """Say that nothing before ``until_ms`` will follow, to ``only`` these (source, partition).

        By default to every partition of all four topics. Returns how many records that took.
        """
        value = b'{"type":"time_passed","until":%d}' % until_ms
        everywhere = [
            (int(source), partition) for source in Source for partition in range(self.partitions)
        ]
        places = everywhere if only is None else only
        for source, partition in places:
            self.send_to(source, partition, None, value)
        return len(places)

    def flush(self) -> None:
        """Wait until everything is confirmed. Raises `CommandFailed` if anything is not."""
        self._producer.flush()
