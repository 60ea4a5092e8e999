"""Which partition a key belongs to.

All four inputs are partitioned alike, so that one partition sees everything of its customers.
``murmur2`` is the default of Kafka's Java client and of kafka-python; librdkafka's own default is
CRC-32 of the key, which agrees with it in one case of eight.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

MAX_REMEMBERED = 1_000_000
"""Keys whose partition is remembered; beyond it the memory starts afresh."""


def hash_of(partitioner: str) -> Callable[[bytes], int]:
    """The hash whose remainder by the number of partitions is the partition."""
    if partitioner == "crc32":
        return zlib.crc32
    from kafka.partitioner.default import murmur2

    def positive(key: bytes) -> int:
        return int(murmur2(key)) & 0x7FFFFFFF

    return positive


class Partitions:
    """Partition by key, remembered: a customer has many events, and murmur2 in Python takes 5 us."""

    __slots__ = ("_count", "_hash", "_known")

    def __init__(self, partitioner: str, count: int) -> None:
        """``count`` partitions, of a ``partitioner`` of the settings."""
        self._hash = hash_of(partitioner)
        self._count = count
        self._known: dict[bytes, int] = {}

    def __call__(self, key: bytes) -> int:
        partition = self._known.get(key)
        if partition is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = partition = self._hash(key) % self._count
        return partition
