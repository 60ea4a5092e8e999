"""The records that Heartline writes: results, partials, dead letters, late records, redrive notes.

All are JSON objects. Field order is fixed by the structs, so equal values are equal bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Number = int | float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one window at one instant, as `heartline evaluate` prints it (DESIGN.md 6.1).

    ``segment`` is empty for everyone or names one customer dimension and its value; ``dimensions``
    is empty for the total or names one channel-like dimension. What is absent or undefined is None,
    never 0.
    """

    metric: str
    window: str
    hop: str
    at: str
    segment: dict[str, str]
    dimensions: dict[str, str]
    value: Number | None
    numerator: Number | None
    denominator: Number | None
    n: int | None
    low: float | None
    high: float | None
    complete: bool


class PublishedResult(Result, frozen=True, kw_only=True):
    """A `Result` as it stands on the results topic.

    ``result_id`` names the number: a correction has the same id and a higher ``revision``.
    ``end_ms`` is ``at`` in milliseconds; ``watermark_ms`` the lowest watermark of the partitions
    that took part; ``missing_partitions`` how many did not. ``results_in_tick`` is how many results
    carry the same window, end and revision, so that a reader knows when it has them all.
    """

    result_id: str
    end_ms: int
    revision: int
    watermark_ms: int
    missing_partitions: int
    results_in_tick: int


class Partial(msgspec.Struct, frozen=True, kw_only=True):
    """What one partition reports of one window: its absolute sums at a hop boundary.

    The sums hold for every boundary in ``[end_ms, valid_through_ms]``, until a partial of the same
    partition and window with a higher (epoch, revision) says otherwise from its own ``end_ms`` on.
    ``sums`` is the table with one row a `streams.sums.Sum` and one column a `streams.segments`
    column, as place and value of what is not zero; ``durations`` are the histograms as lane, bin and
    count; both are flattened. A *correction* speaks of the additive counters at ``end_ms`` alone.
    ``observed_from_ms`` is the earliest event of the partition, down to the base pane; None before
    its first event. A partition is *untouched* while not one record of it has been read and all its
    inputs are idle.
    """

    partition: int
    window: str
    hop: str
    end_ms: int
    valid_through_ms: int
    epoch: int
    revision: int
    watermark_ms: int
    observed_from_ms: int | None
    is_replay: bool
    is_untouched: bool
    fingerprint: str
    sums: list[int]
    durations: list[int]
    is_correction: bool

    @property
    def key(self) -> bytes:
        """The record key: one per partition, window, boundary and epoch, and one for its
        correction.
        """
        kind = "|correction" if self.is_correction else ""
        name = f"{self.partition}|{self.window}|{self.hop}|{self.end_ms}|{self.epoch}{kind}"
        return name.encode()


class PublishedBoundary(msgspec.Struct, frozen=True, kw_only=True):
    """What is out of one boundary of a window: its newest revision, and a digest of what that was
    computed from. The roll-up notes it for whoever has its seat next.
    """

    window: str
    hop: str
    end_ms: int
    revision: int
    missing_partitions: int
    totals_digest: int
    fingerprint: str

    @property
    def key(self) -> bytes:
        """The record key: window, hop and boundary."""
        return f"{self.window}|{self.hop}|{self.end_ms}".encode()


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not become an event: its raw bytes, where it stood, and why.

    ``key`` and ``payload`` travel as base64. An oversize payload is cut at 64 KiB;
    ``payload_bytes`` and ``payload_sha256`` are those of the whole. With `[privacy] raw_bytes =
    false` key and payload are left out, and length and hash say which record it was.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    detail: str
    key: bytes | None
    payload: bytes | None
    payload_bytes: int
    payload_sha256: str | None

    @property
    def origin(self) -> bytes:
        """The record key: the same record leaves the same dead letter, however often it is read."""
        return f"{self.topic}|{self.partition}|{self.offset}".encode()


class LateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An event older than the allowed lateness: its raw bytes and how late it was.

    With `[privacy] raw_bytes = false` key and payload are left out; ``payload_sha256`` is there only
    then.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    event_time_ms: int
    watermark_ms: int
    key: bytes | None
    payload: bytes | None
    payload_bytes: int
    payload_sha256: str | None

    @property
    def origin(self) -> bytes:
        """The record key, as that of a dead letter."""
        return f"{self.topic}|{self.partition}|{self.offset}".encode()


class Redriven(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one dead letter (or late record) that was chosen for sending back; its key is
    the letter's origin.

    ``intended`` is noted before the record is sent, with ``after``, an offset of the target before
    which it can't stand; ``sent`` when it is acknowledged, with the offset at which it stands. While
    ``offset`` is None nobody knows whether it was sent. ``begun`` stands under a key of its own: the
    command called ``run`` is at work now, and no other sends any more.
    """

    state: Literal["begun", "intended", "sent"]
    run: str
    topic: str
    partition: int
    after: int
    offset: int | None
    at_ms: int
