"""Everything that the core is told once, at its start."""

from __future__ import annotations

import hashlib
import math

import msgspec

from streams.segments import Segments
from streams.windows import DAY_MS, DEFAULT_WINDOWS, HOUR_MS, MINUTE_MS, SECOND_MS, WindowSet

STATE_FORMAT = 2
"""Version of what a snapshot holds; raised whenever its meaning changes."""
REPLAY_LAG_MS = HOUR_MS
"""A partition is in replay while its newest record is older than its record timestamp by more than
this.
"""


class CoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Windows, segments and the rules of event time; see DESIGN.md 2 for each."""

    windows: WindowSet = WindowSet.of(DEFAULT_WINDOWS)
    segments: Segments = Segments()
    max_out_of_orderness_ms: int = 5 * SECOND_MS
    idle_after_ms: int = 10 * SECOND_MS
    allowed_lateness_ms: int = DAY_MS
    max_future_ms: int = 5 * MINUTE_MS
    activity: frozenset[str] = frozenset({"page_viewed", "order_placed"})
    history_hop_ms: int = 0
    """In replay, windows with a shorter hop report only at its multiples; 0 reports every hop.

    A year of a 5m/10s window is three million boundaries: history is read for what it leaves
    behind and for its coarser windows, and its fine ones would cost more than all its events.
    """
    buffer_limit: int = 20_000
    """More waiting events than this hold the inputs that run ahead."""
    pseudonyms: str = ""
    """Digest of the key by which customer ids are hashed; empty where they are not. Under another
    key every customer would be a new one, so it is part of the fingerprint.
    """

    def report_step_ms(self, hop_ms: int, *, is_replay: bool) -> int:
        """The distance of the boundaries at which a window with this hop reports."""
        if not is_replay or hop_ms >= self.history_hop_ms:
            return hop_ms
        return math.lcm(hop_ms, self.history_hop_ms)

    @property
    def fingerprint(self) -> str:
        """What a snapshot or a partial depends on: windows, session gap, segments, activity,
        format, and whether and how customer ids are hashed.
        """
        parts = (
            STATE_FORMAT,
            [str(window) for window in self.windows.windows],
            self.windows.session_gap_ms,
            msgspec.to_builtins(self.segments.identity),
            sorted(self.activity),
            *((self.pseudonyms,) if self.pseudonyms else ()),
        )
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
