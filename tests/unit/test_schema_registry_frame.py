"""The frame that a schema registry's serializers put before a document is cut off, and nothing else."""

import json
from types import SimpleNamespace

import pytest

from schemas.decode import FRAME_BYTES, MAX_BYTES, Decoder
from schemas.reasons import Reason, Rejected
from schemas.topics import Source
from streams.admission import Admission
from streams.config import CoreConfig

EVENT = {
    "type": "page_viewed",
    "event_id": "e",
    "customer_id": "c",
    "occurred_at": 1_000_000_000_000,
    "page": "/",
}
DOCUMENT = json.dumps(EVENT).encode()
FRAME = b"\x00" + (7).to_bytes(4, "big")


def reason_of(payload: bytes) -> Reason:
    with pytest.raises(Rejected) as caught:
        Decoder().decode(payload)
    return caught.value.reason


@pytest.mark.parametrize("schema_id", [0, 1, 2**32 - 1])
def test_a_framed_document_is_the_document(schema_id: int) -> None:
    frame = b"\x00" + schema_id.to_bytes(4, "big")

    assert len(frame) == FRAME_BYTES
    assert Decoder().decode(frame + DOCUMENT, Source.SESSIONS) == Decoder().decode(DOCUMENT)


@pytest.mark.parametrize("length", range(FRAME_BYTES + 1))
def test_a_frame_without_a_document_is_refused(length: int) -> None:
    assert reason_of(FRAME[:length]) is (Reason.NOT_JSON if length else Reason.EMPTY)


@pytest.mark.parametrize("start", [b"\x00", FRAME[:4], FRAME + b"\x00", FRAME + FRAME, b"\x01" * 5])
def test_another_start_is_no_frame(start: bytes) -> None:
    assert reason_of(start + DOCUMENT) is Reason.NOT_JSON


def test_another_format_behind_the_frame_is_refused() -> None:
    assert reason_of(FRAME + b"\x02\x0apage_viewed") is Reason.NOT_JSON


def test_reasons_are_found_behind_the_frame() -> None:
    unknown = json.dumps({**EVENT, "schema_version": 2}).encode()
    missing = json.dumps({**EVENT, "event_id": None}).encode()

    assert reason_of(FRAME + unknown) is Reason.UNKNOWN_VERSION
    assert reason_of(FRAME + missing) is Reason.BAD_TYPE
    assert reason_of(FRAME + b'"\xff"') is Reason.NOT_UTF8


def test_the_frame_counts_towards_the_size_of_the_record() -> None:
    filled = json.dumps({**EVENT, "note": ""}).encode()
    room = MAX_BYTES - FRAME_BYTES - len(filled)

    Decoder().decode(FRAME + filled[:-2] + b"x" * room + filled[-2:])
    too_much = FRAME + filled[:-2] + b"x" * (room + 1) + filled[-2:]
    assert reason_of(too_much) is Reason.OVERSIZE


def test_framed_and_plain_records_stand_beside_each_other_on_a_topic() -> None:
    def record(offset: int, value: bytes) -> SimpleNamespace:
        return SimpleNamespace(key=b"c", value=value, offset=offset, timestamp=EVENT["occurred_at"])

    admission = Admission(
        CoreConfig(), Decoder(), partition=0, partitions=1, partition_of=lambda _key, _count: 0
    )
    records = [record(0, DOCUMENT), record(1, FRAME + DOCUMENT), record(2, FRAME)]
    admitted = admission.admit(Source.SESSIONS, records)

    assert len(admitted.arrivals) == 2
    assert [(one.offset, reason) for one, reason, _ in admitted.dead] == [(2, Reason.NOT_JSON)]
