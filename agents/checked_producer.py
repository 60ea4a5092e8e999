"""kafka-python's producer with every future checked: nothing counts as sent that Kafka has not confirmed.

At most `MAX_UNCONFIRMED` records are unconfirmed at any time. A refused or unanswered send raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from agents.failures import CommandFailed
from agents.kafka_admin import connection
from agents.settings import Settings

MAX_UNCONFIRMED = 20_000
CHECK_AT_ONCE = 5_000
DEADLINE_S = 30.0
CLOSE_S = 3.0


class CheckedProducer:
    """Use as a context manager, inside `agents.kafka_admin.plain_failures`."""

    def __init__(self, settings: Settings, **overrides: Any) -> None:
        """Connect. ``overrides`` are arguments of kafka-python's producer."""
        from kafka import KafkaProducer

        self._producer: Any = KafkaProducer(
            **connection(settings),
            **{
                "acks": "all",
                "linger_ms": 20,
                "batch_size": 262_144,
                "delivery_timeout_ms": int(DEADLINE_S * 1000),
                "request_timeout_ms": 10_000,
                "allow_auto_create_topics": False,
                **overrides,
            },
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

    def send(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        *,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Any:
        """Send one record to an explicit partition; without a timestamp that of the sending counts.

        Blocks while too much is unconfirmed. Returns the future, which has an offset after `flush`.
        """
        future = self._producer.send(
            topic,
            value,
            key=key,
            partition=partition,
            timestamp_ms=timestamp_ms,
            headers=list(headers),
        )
        self._unconfirmed.append(future)
        self._sent += 1
        if len(self._unconfirmed) >= MAX_UNCONFIRMED:
            self._confirm(CHECK_AT_ONCE)
        return future

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
