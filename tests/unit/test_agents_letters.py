"""Which letters are meant, and which can go back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents.letters import TOO_LATE, Choice, Letter, Tally, Verdict, customer_of
from agents.redrive import Redrive, Resent
from schemas.records import DeadLetter, LateRecord, Redriven

LETTER = DeadLetter(
    topic="in", partition=1, offset=7, timestamp_ms=1_000, reason="unknown_currency", detail="",
    key=b"c", payload=b'{"customer_id":"c"}', payload_bytes=19, payload_sha256=None,
)  # fmt: skip


class Nothing:
    """The topics, of which judging a letter needs none."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def judged(*, fix_key: bool = False, again: bool = False, **fields: Any) -> Resent | Verdict:
    log: Any = Nothing()
    redrive = Redrive(
        log,
        run="r",
        inputs={"in": 3},
        partition_of=lambda key: len(key) - 1,
        now_ms=lambda: 0,
        pause=lambda _seconds: None,
    )
    redrive._learn(
        [
            (b"in|0|1", note("sent", offset=50)),
            (b"in|0|2", note("intended", offset=None)),
        ]
    )
    redrive._perhaps.add(b"in|0|2")
    letter = Letter.of(msgspec.structs.replace(LETTER, **fields))
    return redrive.judge(letter, fix_key=fix_key, again=again)


def note(state: Any, *, offset: int | None) -> Redriven:
    return Redriven(
        state=state, run="before", topic="in", partition=2, after=0, offset=offset, at_ms=0
    )


def test_a_letter_goes_back_as_its_record_was_to_the_partition_of_its_key() -> None:
    expected = Resent(b"in|1|7", "in", 0, b"c", b'{"customer_id":"c"}', 1_000)
    assert judged() == expected


def test_one_without_a_key_goes_to_the_partition_from_which_it_came() -> None:
    found = judged(key=None, reason="not_json", payload=b"{", payload_bytes=1)
    assert isinstance(found, Resent)
    assert (found.partition, found.key) == (1, None)


@pytest.mark.parametrize(
    "fields, verdict",
    [
        ({"partition": 0, "offset": 1}, Verdict.SENT_BEFORE),
        ({"partition": 0, "offset": 2}, Verdict.PERHAPS_SENT),
        ({"partition": 2, "offset": 50}, Verdict.REFUSED_AGAIN),
        ({"topic": "elsewhere"}, Verdict.FOREIGN),
        ({"partition": 3}, Verdict.FOREIGN),
        ({"payload": None, "payload_bytes": 0}, Verdict.EMPTY),
        ({"payload": b"", "payload_bytes": 0}, Verdict.EMPTY),
        ({"payload": None, "key": None}, Verdict.WITHOUT_BYTES),
        ({"payload_bytes": 20}, Verdict.CUT),
        ({"reason": "wrong_key"}, Verdict.NEEDS_KEY),
    ],
)
def test_what_can_not_or_need_not_be_sent_is_told(fields: dict[str, Any], verdict: Verdict) -> None:
    assert judged(**fields) is verdict


def test_a_wrong_key_is_corrected_if_asked_for_and_what_was_refused_again_sent_again() -> None:
    found = judged(fix_key=True, reason="wrong_key", key=b"other")
    assert isinstance(found, Resent)
    assert (found.key, found.partition) == (b"c", 0)
    nameless: dict[str, Any] = {"reason": "wrong_key", "payload": b"[]", "payload_bytes": 2}
    assert judged(fix_key=True, **nameless) is Verdict.NAMELESS
    assert isinstance(judged(again=True, partition=2, offset=50), Resent)


@pytest.mark.parametrize(
    "payload, key",
    [
        (b'{"customer_id":"c","amount":"?"}', b"c"),
        (b'\x00\x00\x00\x00\x07{"customer_id":"c"}', b"c"),
        (b'{"customer_id":"%s"}' % (b"x" * 128), b"x" * 128),
        (b'{"customer_id":"%s"}' % (b"x" * 129), None),
        (b'{"customer_id":""}', None),
        (b'{"customer_id":7}', None),
        (b'{"customer_id":"\xff"}', None),
        (b"[" * 100_000, None),
        (b"\x00", None),
        (b"{", None),
    ],
)
def test_the_customer_of_a_payload_is_read_as_far_as_it_can_be(
    payload: bytes, key: bytes | None
) -> None:
    assert customer_of(payload) == key


def test_filters_take_what_lies_inside_and_time_is_that_of_the_record() -> None:
    letter = Letter.of(LETTER)
    assert Choice().takes(letter)
    assert Choice(since_ms=1_000, until_ms=1_001).takes(letter)
    assert not Choice(since_ms=1_001).takes(letter)
    assert not Choice(until_ms=1_000).takes(letter)
    assert Choice(topics=frozenset({"in"}), reasons=frozenset({"unknown_currency"})).takes(letter)
    assert not Choice(topics=frozenset({"out"})).takes(letter)
    assert not Choice(reasons=frozenset({"empty"})).takes(letter)


def test_a_late_record_is_a_letter_with_a_reason_of_its_own() -> None:
    late = LateRecord(
        topic="in", partition=1, offset=7, timestamp_ms=1_000, event_time_ms=0, watermark_ms=1,
        key=b"c", payload=b"{}", payload_bytes=2, payload_sha256=None,
    )  # fmt: skip
    assert (Letter.of(late).reason, Letter.of(late).origin) == (TOO_LATE, b"in|1|7")


def test_a_tally_knows_the_oldest_and_the_newest() -> None:
    tally = Tally()
    for at_ms in (5, 2, 9):
        letter = Letter.of(msgspec.structs.replace(LETTER, timestamp_ms=at_ms))
        tally.count(letter, Verdict.SENT)
    (line,) = tally.lines.values()
    assert (line.letters, line.oldest_ms, line.newest_ms) == (3, 2, 9)
    assert tally.verdicts() == {Verdict.SENT: 3}
