"""A partition that is checkpointed into a log in memory, crashes, and goes on from what the log says."""

from __future__ import annotations

from collections.abc import Iterable

from streams.checkpoint import Checkpoint, Keeper, LogRecord
from streams.claims import Claim
from streams.config import CoreConfig
from streams.state_log import StateLog


class MemoryLog:
    """A state topic of one partition."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes, bytes | None]] = []

    def append(self, records: Iterable[LogRecord]) -> None:
        for record in records:
            offset = self.records[-1][0] + 1 if self.records else 0
            self.records.append((offset, record.key, record.value))

    def compact(self, *, tombstones: bool = True) -> None:
        """Keep the last record of each key, and of tombstones only those asked for; offsets stay."""
        newest = {key: offset for offset, key, _ in self.records}
        self.records = [
            (offset, key, value)
            for offset, key, value in self.records
            if newest[key] == offset and (tombstones or value is not None)
        ]

    def read(self) -> StateLog:
        reader = StateLog()
        for offset, key, value in self.records:
            reader.apply(offset, key, value)
        return reader

    def claim(self, writer: str = "w") -> Claim:
        """Claim the partition for the next epoch."""
        claim = Claim(self.read().owner.epoch + 1, writer)
        self.append([LogRecord(claim.key, b"{}")])
        return claim

    def take_over(self, config: CoreConfig, writer: str = "w") -> Keeper:
        claim = self.claim(writer)
        return self.read().restore(config, claim)


def write(log: MemoryLog, keeper: Keeper, partials: Iterable[LogRecord] = ()) -> Checkpoint | None:
    """Checkpoint all the way, as the engine does."""
    found = keeper.checkpoint(list(partials))
    if found is not None:
        log.append(found.chunks)
        log.append([found.marker])
        log.append(keeper.committed(found))
    return found


def restored(keeper: Keeper, log: MemoryLog | None = None) -> Keeper:
    """The same partition after a checkpoint and a crash."""
    log = MemoryLog() if log is None else log
    write(log, keeper)
    return log.take_over(keeper.partition.config)
