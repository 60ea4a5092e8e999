"""Who owns a partition: claims in its state topic.

Records of the state topic. No two writers share a key, so compaction can't put one writer's record
in the place of another's:

    c|epoch|writer         "this partition is mine from here on"; of one epoch the first in the log
                           wins
    KIND|epoch|writer|...  anything else, valid only from the owner of the last valid claim

A reader goes through the log in offset order and ignores what the owner of the last valid claim did
not write. That fences a paused worker that wakes up: whatever it still writes stands behind somebody
else's claim.

Everyone who writes has claimed before. So a record of a writer who never claimed, of an epoch that
is still remembered, is a damaged key and no stray: it is refused, because the record that it was
would be missing.
"""

from __future__ import annotations

from typing import NamedTuple

CLAIM = "c"
REMEMBERED_EPOCHS = 1_000
"""Claims of so many epochs back are kept, in the log and by its readers."""


class StateRefused(Exception):
    """The state topic can't be gone on from; the message says why and names the way out."""


class Claim(NamedTuple):
    """An owner: its epoch and the name under which it writes."""

    epoch: int
    writer: str

    @property
    def key(self) -> bytes:
        """The record key of this claim."""
        return f"{CLAIM}|{self.epoch}|{self.writer}".encode()


NOBODY = Claim(0, "")


class ClaimLog:
    """The state topic of one partition, as far as it was read: who owns it, and who did before."""

    def __init__(self) -> None:
        """Nothing was read, nobody owns the partition."""
        self.offset = -1
        self.owner = NOBODY
        self.previous = NOBODY
        """The owner that the last valid claim replaced."""
        self.claimed: set[Claim] = set()
        """Every claim of the remembered epochs, the ones that came second included."""

    def apply(self, offset: int, key: bytes) -> bool:
        """Take the next record of the log. True if it is the owner's and no claim.

        Raises `StateRefused` for a key that Heartline did not write.
        """
        self.offset = offset
        try:
            kind, epoch, writer, *_ = key.decode().split("|")
            claim = Claim(int(epoch), writer)
        except ValueError:
            raise StateRefused(
                f"the state topic has a foreign record at offset {offset}: nothing but Heartline may "
                "write there; give it a topic of its own, or rebuild the state from the input"
            ) from None
        if kind == CLAIM:
            self.claimed.add(claim)
            if claim.epoch > self.owner.epoch:
                self.previous, self.owner = self.owner, claim
                self.claimed = {c for c in self.claimed if not self.is_forgotten(c)}
            return False
        if claim == self.owner:
            return True
        if claim not in self.claimed and not self.is_forgotten(claim):
            raise StateRefused(
                f"the state topic is damaged at offset {offset}: a record of {writer!r}, who never "
                "claimed the partition; rebuild the state from the input"
            )
        return False

    def is_forgotten(self, claim: Claim) -> bool:
        """Whether this claim lies so far back that it may be gone from the log."""
        return claim.epoch <= self.owner.epoch - REMEMBERED_EPOCHS
