"""The names and keys that Heartline writes under: data on disk, never changed."""

from __future__ import annotations

from schemas.records import DeadLetter, LateRecord, Partial
from schemas.topics import Source, Topics


def test_the_topics_carry_their_documented_names() -> None:
    topics = Topics.with_prefix("heartline")
    assert topics.sources == (
        "heartline.sessions",
        "heartline.purchases",
        "heartline.social",
        "heartline.support",
    )
    assert topics.sources[Source.SUPPORT] == topics.support
    assert topics.dead_letters == "heartline.dead-letters"
    assert (topics.state, topics.late) == ("heartline.state", "heartline.late")
    assert topics.redriven == "heartline.redriven"


def test_another_prefix_gives_other_topics() -> None:
    assert Topics.with_prefix("shop").results == "shop.results"


def test_the_same_record_leaves_the_same_dead_letter_under_the_same_key() -> None:
    letter = DeadLetter(
        topic="heartline.social",
        partition=3,
        offset=17,
        timestamp_ms=1,
        reason="empty",
        detail="the record has no payload",
        key=None,
        payload=None,
        payload_bytes=0,
        payload_sha256=None,
    )
    late = LateRecord(
        topic="heartline.social",
        partition=3,
        offset=17,
        timestamp_ms=1,
        event_time_ms=1,
        watermark_ms=2,
        key=None,
        payload=b"{}",
        payload_bytes=2,
        payload_sha256=None,
    )
    assert letter.origin == late.origin == b"heartline.social|3|17"


def test_a_partial_is_named_by_partition_window_boundary_and_epoch() -> None:
    partial = Partial(
        partition=2,
        window="1h",
        hop="1m",
        end_ms=60_000,
        valid_through_ms=120_000,
        epoch=7,
        revision=1,
        watermark_ms=0,
        observed_from_ms=None,
        is_replay=False,
        is_untouched=False,
        fingerprint="f",
        sums=[],
        durations=[],
        is_correction=False,
    )
    assert partial.key == b"2|1h|1m|60000|7"
