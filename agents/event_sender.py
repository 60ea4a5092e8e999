"""Events to the four input topics, by kafka-python, with every future checked.

Rules:
- A record's partition is chosen here, by the configured partitioner, and the four topics have the
  same number of partitions: anything else would split customers, so it is refused at the start.
- At most `MAX_UNCONFIRMED` records are unconfirmed at any time. A refused or unanswered send ends
  the command; nothing is reported as sent that Kafka has not confirmed.
- Records carry no timestamp of their own: it is the time of sending, as from any live producer. In
  a replay it lies far from the event time, which is how the engine tells a replay from live
  traffic.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from agents.failures import CommandFailed
from agents.kafka_admin import connection, input_partitions
from agents.partitioners import Partitions
from agents.settings import Settings
from schemas.topics import Source

MAX_UNCONFIRMED = 20_000
CHECK_AT_ONCE = 5_000
DEADLINE_S = 30.0
CLOSE_S = 3.0


class EventSender:
    """Use as a context manager, inside `agents.kafka_admin.plain_failures`."""

    def __init__(self, settings: Settings) -> None:
        """Connect, and check the topics."""
        from kafka import KafkaProducer

        self._topics = settings.topics().sources
        self.partitions = input_partitions(settings)
        self.partition_of = Partitions(settings.kafka.partitioner, self.partitions)
        self._producer: Any = KafkaProducer(
            **connection(settings),
            acks="all",
            linger_ms=20,
            batch_size=262_144,
            delivery_timeout_ms=int(DEADLINE_S * 1000),
            request_timeout_ms=10_000,
            allow_auto_create_topics=False,
        )
        self._unconfirmed: deque[Any] = deque()
        self._sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Confirm what was sent. After an error (or Ctrl-C) it may not replace the reason."""
        if kind is None:
            try:
                self.flush()
            finally:
                self._producer.close(timeout=CLOSE_S)
            return
        from kafka.errors import KafkaError

        with suppress(KafkaError):
            self._producer.close(timeout=CLOSE_S)

    @property
    def confirmed(self) -> int:
        """Records that Kafka has acknowledged."""
        return self._sent - len(self._unconfirmed)

    def send(self, source: int, key: bytes, value: bytes) -> None:
        """Send one record to the topic of ``source``, to the partition of ``key``."""
        self.send_to(source, self.partition_of(key), key, value)

    def send_to(self, source: int, partition: int, key: bytes | None, value: bytes) -> None:
        """Send one record to an explicit partition. Blocks while too much is unconfirmed."""
        unconfirmed = self._unconfirmed
        unconfirmed.append(
            self._producer.send(self._topics[source], value, key=key, partition=partition)
        )
        self._sent += 1
        if len(unconfirmed) >= MAX_UNCONFIRMED:
            self._confirm(CHECK_AT_ONCE)

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
        # kafka-python's flush() returns also when sends have failed: the futures tell.
        self._producer.flush(timeout=DEADLINE_S)
        self._confirm(len(self._unconfirmed))

    def _confirm(self, count: int) -> None:
        """Check the oldest ``count`` futures."""
        unconfirmed = self._unconfirmed
        for _ in range(count):
            future = unconfirmed[0]
            if not future.is_done:
                future.get(timeout=DEADLINE_S)
            if future.failed():
                error = future.exception
                raise CommandFailed(
                    f"Kafka refused a record after {self.confirmed} were confirmed: "
                    f"{type(error).__name__} {error}"
                )
            unconfirmed.popleft()
