"""One partition of ours: its state, what is durable of it, and what it has still to say.

It lives from a takeover until another worker has claimed the partition, or until a takeover in which
it isn't ours. It is *settled* while its memory is what its last checkpoint says: from its restoration
to the start of the tenure, and again from the last checkpoint and its commit on. Only then it is kept
over a rebalance.

Partials wait here until a checkpoint covers them: what has left this process can't change after a
crash, because whoever recovers has the same sums. A word of an untouched partition says nothing about
any state, must be fresh, and goes out at once.
"""

from __future__ import annotations

import time

import msgspec

from agents.partials import Reporter
from agents.publisher import Outgoing
from agents.stages import Stages
from schemas.records import Partial
from schemas.topics import Source
from streams.admission import Admission
from streams.checkpoint import Checkpoint, Keeper, LogRecord
from streams.claims import Claim
from streams.partition import Account

_encode = msgspec.json.Encoder().encode
_decode_partial = msgspec.json.Decoder(Partial).decode


class Owned:
    """One partition of ours."""

    def __init__(self, number: int, keeper: Keeper, admission: Admission, stages: Stages) -> None:
        self.number = number
        self.keeper = keeper
        self.state = state = keeper.partition
        self.reporter = Reporter(state.config, number)
        self.admit = stages.timed("decode", admission.admit)
        self.receive = stages.timed("merge", state.receive)
        self.tick = stages.timed("merge", state.tick)
        self.drain = stages.timed("report", self._drain)
        self._checkpoint = stages.timed("checkpoint", keeper.checkpoint)
        timeline = state.state.timeline
        state.state.fold = stages.timed("fold", state.state.fold)  # type: ignore[method-assign]
        timeline.advance = stages.timed("close", timeline.advance)  # type: ignore[method-assign]
        self.first_offset: dict[Source, int] = dict.fromkeys(Source, 0)
        self.moved_at: dict[Source, float] = dict.fromkeys(Source, time.monotonic())
        # What was counted before the restored checkpoint is no gain of this process.
        self.counted: dict[Source, Account] = {s: state.account(s) for s in Source}
        self.is_settled = True
        self.due_again: list[LogRecord] = keeper.unsent
        """Partials that were durable but not known to be sent when we restored, in their order."""
        self.unsent: list[LogRecord] = []
        self.unsent_bytes = 0

    @property
    def claim(self) -> Claim:
        """Under which we own it."""
        return self.keeper.claim

    def partials_again(self) -> list[Outgoing]:
        """Those of `due_again`, as ours: the roll-up takes them whatever it has of them already.

        Under their old epoch it would ignore those behind which another one had been written.
        """
        found = []
        for record in self.due_again:
            partial = self.reporter.again(_decode_partial(record.value or b""), self.claim.epoch)
            found.append(Outgoing(partial.key, _encode(partial)))
        return found

    def next_offset(self, source: Source) -> int:
        """Where to read ``source`` from: what retention has removed can't be due."""
        return max(self.state.next_offset(source), self.first_offset[source])

    def _drain(self) -> list[Outgoing]:
        """Take what the windows report. Partials wait for a checkpoint; words are returned."""
        words = []
        for partial in self.reporter.partials(self.state.drain(), epoch=self.claim.epoch):
            encoded = _encode(partial)
            if partial.is_untouched:
                words.append(Outgoing(partial.key, encoded))
            else:
                self.unsent.append(LogRecord(partial.key, encoded))
                self.unsent_bytes += len(encoded)
        return words

    def checkpoint(self) -> tuple[Checkpoint | None, list[LogRecord]]:
        """Snapshot, in one step with the partials that it covers, which are returned beside it."""
        covered, self.unsent, self.unsent_bytes = self.unsent, [], 0
        return self._checkpoint(covered), covered
