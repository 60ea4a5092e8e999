"""The state topic as any reader sees it: how many records it holds, whose they are, what compaction took.

Written from the rules in docs/reliability.md, without the engine's own reader: of one epoch the first claim in
the log wins; a record that the owner of the last valid claim did not write is *stale* and counts for nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.rig.topics import TopicSet

_QUIET_S = 2.0


@dataclass(slots=True)
class StateTopic:
    """What was found on all partitions together."""

    records: int = 0
    bytes: int = 0
    written: int = 0
    """Offsets given out: `records` less than that means that compaction has removed some."""
    kinds: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)
    epochs: int = 0

    @property
    def removed(self) -> int:
        """Records that compaction took away."""
        return self.written - self.records


def read_state(topics: TopicSet, *, seconds: float = 60.0) -> StateTopic:
    """Read the whole topic."""
    found = StateTopic()
    owners: dict[int, tuple[int, str]] = {}
    ends: dict[int, int] = {}
    for message in topics.read(topics.names.state, seconds=seconds, quiet_after=_QUIET_S):
        partition, offset, key = message.partition(), message.offset(), message.key()
        assert partition is not None
        assert offset is not None
        assert isinstance(key, bytes)
        kind, epoch, writer, *_ = key.decode().split("|")
        value = message.value()
        ends[partition] = offset + 1
        found.records += 1
        found.bytes += len(key) + len(value or b"")
        name = {"c": "claim", "k": "chunk", "m": "marker"}.get(kind, kind)
        name = name if value is not None else f"{name} (deleted)"
        found.kinds[name] += 1
        owner = owners.get(partition, (0, ""))
        if kind == "c" and value is not None:
            if int(epoch) > owner[0]:
                owners[partition] = (int(epoch), writer)
                found.epochs += 1
        elif (int(epoch), writer) != owner and value is not None:
            # It stands behind the claim of somebody else.
            found.stale[name] += 1
    found.written = sum(ends.values())
    return found
