"""The log in memory: topics, partitions, offsets, compaction. What Kafka would keep on its disks.

Nothing here fails or waits; faults happen on the way to it (`wire`).
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

UNCOMPACTED = 6
"""At most so many records at the end are left as they are: Kafka compacts no active segment."""


class Record(NamedTuple):
    """A record as aiokafka hands it over, and who wrote it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    sender: str
    partition: int


class PartitionLog:
    """One partition of a topic."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.records: list[Record] = []
        self.next_offset = 0
        self.compactions = 0

    def append(self, key: bytes | None, value: bytes | None, timestamp: int, sender: str) -> int:
        offset = self.next_offset
        self.records.append(Record(offset, key, value, timestamp, sender, self.number))
        self.next_offset += 1
        return offset

    def read(self, offset: int, most: int) -> list[Record]:
        """At most ``most`` records from ``offset`` on; compaction leaves gaps."""
        place = bisect_left(self.records, offset, key=lambda record: record.offset)
        return self.records[place : place + most]

    def compact(self, rng: random.Random, *, drop_tombstones: bool) -> int:
        """Keep the last record of each key; how many records went. The end stays as it is."""
        cut = max(0, len(self.records) - rng.randint(0, UNCOMPACTED))
        last = {record.key: record.offset for record in self.records[:cut]}
        kept = [
            record
            for record in self.records[:cut]
            if last[record.key] == record.offset and not (drop_tombstones and record.value is None)
        ]
        gone = cut - len(kept)
        self.records[:cut] = kept
        self.compactions += 1
        return gone


def damage(rng: random.Random, log: PartitionLog, place: int) -> str:
    """Flip one bit of a record's key or value, or lose a chunk; what was done, in words.

    A log whose last marker is lost, or bears an older one's name, is the log of a moment before. That
    can only be told when more was committed since, so of a marker only the value is damaged.
    """
    record = log.records[place]
    ways = ["a bit of the value"]
    if record.key is not None and record.key.startswith(b"k|"):
        ways += ["a bit of the key", "the loss"]
    how = rng.choice(ways)
    if how == "the loss":
        del log.records[place]
    elif how == "a bit of the key":
        log.records[place] = record._replace(key=_flipped(rng, record.key or b""))
    else:
        log.records[place] = record._replace(value=_flipped(rng, record.value or b""))
    return how


def _flipped(rng: random.Random, text: bytes) -> bytes:
    bit = rng.randrange(8 * len(text))
    changed = bytearray(text)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class Log:
    """All topics of the simulated cluster."""

    def __init__(self, topics: Iterable[tuple[str, int]]) -> None:
        self.topics = {name: [PartitionLog(n) for n in range(count)] for name, count in topics}

    def partition(self, topic: str, number: int) -> PartitionLog:
        return self.topics[topic][number]
