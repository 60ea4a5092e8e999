import base64
import hashlib
import json
from dataclasses import dataclass

import pytest
from faust.types import TP

from agents.rejects import dead_letter, late_record
from schemas.decode import MAX_BYTES
from schemas.reasons import Reason

TOPIC = TP("t.sessions", 3)
PAYLOAD = b'{"customer_id":"c-canary"}'


@dataclass(frozen=True, slots=True)
class Record:
    key: bytes | None
    value: bytes | None
    offset: int = 7
    timestamp: int = 1_000


def letter(record: Record, *, raw_bytes: bool) -> dict[str, object]:
    sent = dead_letter(TOPIC, record, Reason.BAD_VALUE, "score: too high", raw_bytes=raw_bytes)
    assert sent.key == b"t.sessions|3|7"
    assert sent.value is not None
    found: dict[str, object] = json.loads(sent.value)
    return found


def test_a_dead_letter_carries_key_and_payload() -> None:
    found = letter(Record(b"c-canary", PAYLOAD), raw_bytes=True)
    assert base64.b64decode(str(found["key"])) == b"c-canary"
    assert base64.b64decode(str(found["payload"])) == PAYLOAD
    assert (found["payload_bytes"], found["payload_sha256"]) == (len(PAYLOAD), None)


def test_without_raw_bytes_it_carries_origin_length_and_hash() -> None:
    found = letter(Record(b"c-canary", PAYLOAD), raw_bytes=False)
    assert (found["key"], found["payload"]) == (None, None)
    assert found["payload_bytes"] == len(PAYLOAD)
    assert found["payload_sha256"] == hashlib.sha256(PAYLOAD).hexdigest()
    assert (found["topic"], found["partition"], found["offset"]) == ("t.sessions", 3, 7)


@pytest.mark.parametrize("raw_bytes", [True, False])
def test_a_tombstone_has_neither_payload_nor_hash(raw_bytes: bool) -> None:
    found = letter(Record(None, None), raw_bytes=raw_bytes)
    assert (found["payload"], found["payload_bytes"], found["payload_sha256"]) == (None, 0, None)


@pytest.mark.parametrize("size, is_cut", [(MAX_BYTES, False), (MAX_BYTES + 1, True)])
def test_a_payload_is_cut_beyond_64_kib_and_named_by_its_hash(size: int, is_cut: bool) -> None:
    found = letter(Record(None, b"x" * size), raw_bytes=True)
    assert len(base64.b64decode(str(found["payload"]))) == MAX_BYTES
    assert (found["payload_sha256"] is not None) is is_cut


def test_a_late_record_is_like_that_too() -> None:
    record = Record(b"c-canary", PAYLOAD)
    with_bytes, without = (
        json.loads(late_record(TOPIC, record, 1, 2, raw_bytes=raw_bytes).value or b"")
        for raw_bytes in (True, False)
    )
    assert base64.b64decode(with_bytes["payload"]) == PAYLOAD
    assert with_bytes["payload_sha256"] is None
    assert (without["key"], without["payload"]) == (None, None)
    assert without["payload_sha256"] == hashlib.sha256(PAYLOAD).hexdigest()
    assert with_bytes["payload_bytes"] == without["payload_bytes"] == len(PAYLOAD)
