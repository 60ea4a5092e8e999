"""Every reason for which a record is refused, and the values just inside and just outside of every bound."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.decode import EARLIEST_MS, LATEST_MS, MAX_BYTES, Decoder
from schemas.events import (
    COMMON_DIMENSIONS,
    CONTROLS,
    SOURCE_OF,
    TYPE_NAMES,
    PageViewed,
    attribute_of,
    event_types,
)
from schemas.money import MAX_MICROS
from schemas.reasons import Reason, Rejected
from schemas.topics import Source

AT_MS = 1_000_000_000_000
COMMON: dict[str, Any] = {"event_id": "e", "customer_id": "c", "occurred_at": AT_MS}
OWN: dict[str, dict[str, Any]] = {
    "page_viewed": {"page": "/"},
    "session_ended": {},
    "order_placed": {"order_id": "o", "amount": "12.50", "currency": "USD"},
    "order_refunded": {"order_id": "o", "amount": 3, "currency": "USD"},
    "subscription_started": {"plan": "gold"},
    "subscription_renewed": {"plan": "gold", "amount": 9.99, "currency": "USD"},
    "subscription_cancelled": {"plan": "gold", "reason": "price"},
    "social_interacted": {"network": "fedi", "action": "like", "sentiment": 0.5, "impressions": 7},
    "ticket_opened": {"ticket_id": "t", "channel": "email", "priority": "high"},
    "ticket_replied": {"ticket_id": "t"},
    "ticket_resolved": {"ticket_id": "t"},
    "ticket_reopened": {"ticket_id": "t"},
    "csat_answered": {"channel": "email", "score": 4, "scale_max": 5},
    "nps_answered": {"score": 9},
}
VALID = {name: {"type": name, **COMMON, **own} for name, own in OWN.items()}
VALID["time_passed"] = {"type": "time_passed", "until": AT_MS}
FORGOTTEN = {"type": "customer_forgotten", "customer_id": "c", "occurred_at": AT_MS}
VALID["customer_forgotten"] = FORGOTTEN
VIEW = VALID["page_viewed"]
ORDER = VALID["order_placed"]

DECODER = Decoder()


def payload_of(event: Any) -> bytes:
    return json.dumps(event).encode()


def reason_of(payload: Any, source: Source | None = None) -> Reason:
    """Why a payload is refused; a dict stands for its JSON."""
    encoded = payload if isinstance(payload, bytes) else payload_of(payload)
    with pytest.raises(Rejected) as caught:
        DECODER.decode(encoded, source)
    assert caught.value.detail
    return caught.value.reason


def at_of(moment: Any) -> int:
    return DECODER.decode(payload_of({**VIEW, "occurred_at": moment}))[0]


def is_accepted(event: dict[str, Any]) -> bool:
    try:
        DECODER.decode(payload_of(event))
    except Rejected:
        return False
    return True


@pytest.mark.parametrize("name", VALID)
def test_every_documented_type_decodes_on_its_own_topic(name: str) -> None:
    kind = TYPE_NAMES[name]
    at_ms, event, _ = DECODER.decode(payload_of(VALID[name]), SOURCE_OF.get(kind, Source.SOCIAL))
    assert (at_ms, type(event)) == (AT_MS, kind)


CARRYING = Decoder(None, ("tier", "persona", "class", "kind"))


@pytest.mark.parametrize("name", [name for name in VALID if TYPE_NAMES[name] in SOURCE_OF])
def test_an_event_of_any_type_can_carry_dimensions_of_ones_own(name: str) -> None:
    told = {"tier": "gold", "persona": "p", "class": "first", "kind": "good"}
    plain = DECODER.decode(payload_of(VALID[name]))[1]
    event = CARRYING.decode(payload_of({**VALID[name], **told}))[1]
    assert event.kind is plain.kind is type(plain)
    assert isinstance(event, plain.kind)
    assert {own: getattr(event, attribute_of(own)) for own in told} == told
    assert msgspec.to_builtins(event) == msgspec.to_builtins(plain) | told
    without = CARRYING.decode(payload_of(VALID[name]))[1]
    assert getattr(without, attribute_of("tier")) is None
    assert CARRYING.decode(payload_of({**VALID[name], "tier": None}))[1] == without


@pytest.mark.parametrize("name", ["tier", "class", "persona"])
def test_a_dimension_that_is_not_a_string_is_the_dead_letter_that_a_persona_is(name: str) -> None:
    with pytest.raises(Rejected, match=f"{name}: Expected `str | null`, got `int`") as caught:
        CARRYING.decode(payload_of({**VIEW, name: 7}))
    assert caught.value.reason is Reason.BAD_TYPE


def test_control_records_carry_no_dimension() -> None:
    passed = {"type": "time_passed", "until": AT_MS, "tier": 7}
    assert CARRYING.decode(payload_of(passed)) == DECODER.decode(payload_of(passed))


def test_without_dimensions_of_ones_own_the_types_are_as_they_are_declared() -> None:
    assert event_types() == event_types(COMMON_DIMENSIONS) == tuple(TYPE_NAMES.values())
    assert event_types(("tier",)) is event_types(("tier",)), "they are made once"


@pytest.mark.parametrize("name", VALID)
def test_what_is_not_documented_is_ignored(name: str) -> None:
    more = {**VALID[name], "cart": {"type": "unknown", "amount": -1}, "utm": None}
    assert DECODER.decode(payload_of(more)) == DECODER.decode(payload_of(VALID[name]))


def test_of_an_ignored_field_not_even_the_encoding_is_looked_at() -> None:
    payload = payload_of({**VIEW, "ignored": "??"}).replace(b"??", b"\xff\xfe")
    assert DECODER.decode(payload)[0] == AT_MS


# -- one test a reason (future, wrong_key, wrong_partition are decided at the door: test_streams_admission)


@pytest.mark.parametrize("payload", [None, b""], ids=["tombstone", "no bytes"])
def test_a_record_without_payload_is_empty(payload: bytes | None) -> None:
    with pytest.raises(Rejected, match="empty"):
        DECODER.decode(payload)


def test_64_kib_are_accepted_and_one_more_byte_is_oversize() -> None:
    whole = payload_of(VIEW).ljust(MAX_BYTES)
    assert MAX_BYTES == 65_536
    assert DECODER.decode(whole)[0] == AT_MS
    assert reason_of(whole + b" ") is Reason.OVERSIZE


def test_oversize_comes_before_everything_that_would_need_parsing() -> None:
    assert reason_of(b"\xff" * (MAX_BYTES + 1)) is Reason.OVERSIZE


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b'{"type":"\xff"}',
        payload_of(VIEW).replace(b'"/"', b'"\xc3"'),
        payload_of(VIEW).replace(b'"c"', b'"\xed\xa0\x80"'),
    ],
    ids=["no text at all", "type", "cut character", "surrogate"],
)
def test_bytes_that_are_no_utf_8_are_named_so(payload: bytes) -> None:
    assert reason_of(payload) is Reason.NOT_UTF8


@pytest.mark.parametrize(
    "payload",
    [
        payload_of(VIEW)[:-1],
        payload_of(VIEW) + b"x",
        payload_of(VIEW) + payload_of(VIEW),
        payload_of(VIEW).replace(b'"/"', b"NaN"),
        payload_of(VIEW)[:-1] + b',"ignored":NaN}',
        payload_of(VIEW)[:-1] + b',"ignored":Infinity}',
        payload_of(VIEW).replace(b'"/"', b'"\\ud800"'),
        b"\xef\xbb\xbf" + payload_of(VIEW),
        b" ",
        b"page_viewed",
    ],
    ids=[
        "truncated",
        "trailing byte",
        "two documents",
        "NaN",
        "NaN ignored",
        "Infinity",
        "half a surrogate pair",
        "byte order mark",
        "blank",
        "plain text",
    ],
)
def test_what_rfc_8259_refuses_is_not_json(payload: bytes) -> None:
    assert reason_of(payload) is Reason.NOT_JSON


def test_white_space_around_the_document_is_accepted() -> None:
    assert DECODER.decode(b" \t\r\n" + payload_of(VIEW) + b"\n")[0] == AT_MS


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_in_an_ignored_field_is_too_deep_and_ends_nothing(
    opening: bytes, closing: bytes
) -> None:
    def nested(depth: int) -> bytes:
        inner = opening * depth + b"1" + closing * depth
        return payload_of(VIEW)[:-1] + b',"ignored":' + inner + b"}"

    assert DECODER.decode(nested(100))[0] == AT_MS
    assert reason_of(nested(8_000)) is Reason.TOO_DEEP
    assert reason_of(opening * 8_000) is Reason.TOO_DEEP


@pytest.mark.parametrize("payload", [b"1", b"null", b'"text"', b"[]", b"[{}]", b"true"])
def test_a_document_that_is_no_object_is_named_so(payload: bytes) -> None:
    assert reason_of(payload) is Reason.NOT_AN_OBJECT


def test_version_1_and_none_are_known_and_2_is_not() -> None:
    assert is_accepted({**VIEW, "schema_version": 1})
    assert is_accepted({**VIEW, "schema_version": None})
    for version in (0, 2, -1, 10**18):
        assert reason_of({**VIEW, "schema_version": version}) is Reason.UNKNOWN_VERSION


@pytest.mark.parametrize(
    "event",
    [
        {"schema_version": 2},
        {"schema_version": 2, "type": "page_scrolled"},
        {**VIEW, "schema_version": 2, "occurred_at": "soon"},
        {**VIEW, "schema_version": 2, "occurred_at": 1},
        {**ORDER, "schema_version": 2, "amount": -1},
        {**ORDER, "schema_version": 2},
    ],
    ids=["no type", "new type", "bad time", "old time", "bad amount", "wrong topic"],
)
def test_an_unknown_version_comes_before_every_other_fault(event: dict[str, Any]) -> None:
    """Whatever the new version means, it is not for this reader to judge."""
    assert reason_of(event, Source.SESSIONS) is Reason.UNKNOWN_VERSION


def test_a_version_that_is_no_integer_is_a_bad_type() -> None:
    for version in ("1", 1.0, True, False, [1]):
        assert reason_of({**VIEW, "schema_version": version}) is Reason.BAD_TYPE


def test_a_record_without_type_is_named_so() -> None:
    assert reason_of(COMMON) is Reason.MISSING_TYPE
    assert reason_of({}) is Reason.MISSING_TYPE


@pytest.mark.parametrize("name", ["page_scrolled", "Page_Viewed", "", "page_viewed "])
def test_a_type_that_is_not_documented_is_unknown(name: str) -> None:
    assert reason_of({**VIEW, "type": name}) is Reason.UNKNOWN_TYPE


@pytest.mark.parametrize("name", SOURCE_OF)
def test_a_known_type_on_a_topic_that_does_not_carry_it_is_refused(name: type) -> None:
    event = VALID[name.__struct_config__.tag]  # type: ignore[attr-defined]
    for source in Source:
        if source is not SOURCE_OF[name]:
            assert reason_of(event, source) is Reason.WRONG_TOPIC
    assert is_accepted(event)  # of a file no topic is known


def test_the_wrong_topic_comes_before_what_is_wrong_inside() -> None:
    assert reason_of({"type": "order_placed"}, Source.SESSIONS) is Reason.WRONG_TOPIC
    assert reason_of({**ORDER, "amount": -1}, Source.SESSIONS) is Reason.WRONG_TOPIC


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("kind", CONTROLS)
def test_a_control_record_may_stand_on_any_topic(kind: Any, source: Source) -> None:
    control = VALID[kind.__struct_config__.tag]
    _, event, micros = DECODER.decode(payload_of(control), source)
    assert (type(event), micros) == (kind, 0)
    assert reason_of({"type": control["type"]}, source) is Reason.MISSING_FIELD


def test_who_is_forgotten_is_named_as_in_an_event() -> None:
    for name in ("", "x" * 129):
        assert reason_of({**FORGOTTEN, "customer_id": name}) is Reason.BAD_VALUE
    assert is_accepted({**FORGOTTEN, "customer_id": "x" * 128, "schema_version": 1})
    assert reason_of({**FORGOTTEN, "schema_version": 2}) is Reason.UNKNOWN_VERSION


@pytest.mark.parametrize(
    "name, field",
    [
        (name, field)
        for name, event in VALID.items()
        for field in event
        if field not in {"type", "sentiment", "impressions", "priority", "reason"}
        and not (name.startswith("subscription") and field == "amount")
    ],
)
def test_every_required_field_is_missed(name: str, field: str) -> None:
    """Of a subscription's price the currency is required as soon as there is an amount."""
    event = {key: value for key, value in VALID[name].items() if key != field}
    assert reason_of(event) is Reason.MISSING_FIELD


@pytest.mark.parametrize(
    "name, field, value",
    [
        ("page_viewed", "type", 1),
        ("page_viewed", "type", None),
        ("page_viewed", "page", 5),
        ("page_viewed", "page", None),
        ("page_viewed", "customer_id", 5),
        ("page_viewed", "persona", ["a"]),
        ("page_viewed", "region", {"a": 1}),
        ("order_placed", "amount", True),
        ("order_placed", "amount", None),
        ("order_placed", "amount", []),
        ("social_interacted", "action", None),
        ("social_interacted", "sentiment", "0.5"),
        ("social_interacted", "impressions", "7"),
        ("social_interacted", "impressions", 1.5),
        ("csat_answered", "score", 4.5),
        ("csat_answered", "scale_max", "5"),
        ("csat_answered", "scale_max", None),
        ("nps_answered", "score", "9"),
    ],
)
def test_a_field_of_another_json_type_is_a_bad_type(name: str, field: str, value: Any) -> None:
    assert reason_of({**VALID[name], field: value}) is Reason.BAD_TYPE


@pytest.mark.parametrize(
    "name, field",
    [
        ("page_viewed", "event_id"),
        ("page_viewed", "customer_id"),
        ("order_placed", "order_id"),
        ("ticket_opened", "ticket_id"),
    ],
)
def test_an_id_has_1_to_128_characters(name: str, field: str) -> None:
    for inside in ("x", "x" * 128, "é" * 128):
        assert is_accepted({**VALID[name], field: inside})
    for outside in ("", "x" * 129, "é" * 129):
        assert reason_of({**VALID[name], field: outside}) is Reason.BAD_VALUE


@pytest.mark.parametrize(
    "name, field, inside, outside",
    [
        ("social_interacted", "sentiment", (-1, 1, 0, 1.0, None), (-1.0000001, 1.0000001)),
        ("social_interacted", "impressions", (0, 2**53, None), (-1, 2**53 + 1, 2**64, 10**30)),
        ("social_interacted", "action", ("mention", "delete"), ("LIKE", "", "dislike")),
        ("csat_answered", "score", (0, 5), (-1, 6, 11)),
        ("csat_answered", "scale_max", (5, 10), (4, 7, 100)),
        ("nps_answered", "score", (0, 10), (-1, 11)),
    ],
)
def test_values_have_bounds(
    name: str, field: str, inside: tuple[Any, ...], outside: tuple[Any, ...]
) -> None:
    for value in inside:
        assert is_accepted({**VALID[name], field: value})
    for value in outside:
        assert reason_of({**VALID[name], field: value}) is Reason.BAD_VALUE


def test_a_score_may_reach_the_scale_and_not_exceed_it() -> None:
    answer = VALID["csat_answered"]
    assert is_accepted({**answer, "score": 10, "scale_max": 10})
    assert reason_of({**answer, "score": 6, "scale_max": 5}) is Reason.BAD_VALUE


@pytest.mark.parametrize(
    "moment, expected",
    [
        (AT_MS, AT_MS),
        ("2001-09-09T01:46:40Z", AT_MS),
        ("2001-09-09T01:46:40.0009Z", AT_MS),
        ("2001-09-09T01:46:40.001Z", AT_MS + 1),
        ("2001-09-09T03:46:40+02:00", AT_MS),
        ("2001-09-08T20:16:40-05:30", AT_MS),
    ],
)
def test_event_time_is_rfc_3339_with_an_offset_or_epoch_milliseconds(
    moment: Any, expected: int
) -> None:
    assert at_of(moment) == expected


@pytest.mark.parametrize(
    "moment",
    [
        "2001-09-09T01:46:40",
        "2001-09-09",
        "2001-13-09T01:46:40Z",
        "0000-01-01T00:00:00Z",
        "1000000000000",
        "",
        1e12,
        None,
        True,
        {},
    ],
)
def test_a_time_without_offset_or_in_another_form_is_a_bad_time(moment: Any) -> None:
    assert reason_of({**VIEW, "occurred_at": moment}) is Reason.BAD_TIME
    assert reason_of({"type": "time_passed", "until": moment}) is Reason.BAD_TIME
    assert reason_of({**FORGOTTEN, "occurred_at": moment}) is Reason.BAD_TIME


@pytest.mark.parametrize(
    "inside, outside",
    [
        (EARLIEST_MS, EARLIEST_MS - 1),
        (LATEST_MS - 1, LATEST_MS),
        ("1971-01-01T00:00:00Z", "1970-12-31T23:59:59.999Z"),
        ("1971-01-01T01:00:00+01:00", "1971-01-01T00:59:59.999+01:00"),
        ("2199-12-31T23:59:59.999Z", "2200-01-01T00:00:00Z"),
        (AT_MS, 10**30),
        (AT_MS, "0001-01-01T00:00:00+23:59"),
        (AT_MS, "9999-12-31T23:59:59-23:59"),
    ],
)
def test_event_time_lies_between_1971_and_2199(inside: Any, outside: Any) -> None:
    at_of(inside)
    assert reason_of({**VIEW, "occurred_at": outside}) is Reason.TIME_OUT_OF_RANGE
    assert reason_of({"type": "time_passed", "until": outside}) is Reason.TIME_OUT_OF_RANGE
    assert reason_of({**FORGOTTEN, "occurred_at": outside}) is Reason.TIME_OUT_OF_RANGE


def test_a_currency_without_a_rate_is_named_so() -> None:
    assert reason_of({**ORDER, "currency": "XXX"}) is Reason.UNKNOWN_CURRENCY
    assert reason_of({**ORDER, "currency": "usd"}) is Reason.UNKNOWN_CURRENCY


def test_a_price_needs_no_currency_where_there_is_none() -> None:
    assert is_accepted({**VALID["subscription_started"], "currency": "XXX"})


def test_a_price_of_a_subscription_is_converted_like_any_other() -> None:
    assert DECODER.decode(payload_of(VALID["subscription_renewed"]))[2] == 9_990_000


# -- repeated keys, huge numbers


def test_of_a_repeated_field_the_last_counts() -> None:
    payload = payload_of(VIEW)[:-1] + b',"customer_id":"d"}'
    event = DECODER.decode(payload)[1]
    assert isinstance(event, PageViewed)
    assert event.customer_id == "d"


@pytest.mark.parametrize("second", [b'"order_placed"', b'"page_scrolled"', b"5", b"null"])
def test_two_types_that_differ_are_refused_in_either_order(second: bytes) -> None:
    payload = payload_of(VIEW)
    assert isinstance(reason_of(payload[:-1] + b',"type":' + second + b"}"), Reason)
    assert isinstance(reason_of(b'{"type":' + second + b"," + payload[1:]), Reason)


@pytest.mark.parametrize("number", [b"1e999999", b"-1e99999999999999999999", b"1" * 5_000])
def test_a_huge_number_in_an_ignored_field_is_no_fault(number: bytes) -> None:
    assert DECODER.decode(payload_of(VIEW)[:-1] + b',"ignored":' + number + b"}")[0] == AT_MS


def test_a_huge_float_in_an_ignored_field_hides_no_other_fault() -> None:
    for number in (b"1e999999", b"-1e99999999999999999999"):
        payload = payload_of({**VIEW, "page": 5})[:-1] + b',"ignored":' + number + b"}"
        assert reason_of(payload) is Reason.BAD_TYPE


def test_an_integer_of_thousands_of_digits_is_a_bad_value() -> None:
    payload = payload_of(VIEW).replace(str(AT_MS).encode(), b"1" * 5_000)
    assert reason_of(payload) is Reason.BAD_VALUE


def test_the_detail_does_not_repeat_the_payload() -> None:
    for event in (
        {**VIEW, "customer_id": "secret" * 40},
        {**VIEW, "type": "secret"},
        {**VIEW, "occurred_at": "secret"},
        {**VIEW, "page": ["secret"]},
        {**VALID["social_interacted"], "action": "secret"},
        {**ORDER, "amount": "secret"},
        {**ORDER, "currency": "secret"},
    ):
        with pytest.raises(Rejected) as caught:
            DECODER.decode(payload_of(event))
        assert "secret" not in str(caught.value)


# -- whatever comes


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text('a\x00é\ud7ff🛒"1-', max_size=200),
    st.sampled_from(["NaN", "1e999999", "-0", "2001-09-09T01:46:40+24:00", "1e-999999", "sNaN1"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text("abc", max_size=3), st.none(), max_size=2),
)
fields = st.sampled_from(sorted({key for event in VALID.values() for key in event}))


def decodes_or_is_refused(payload: bytes, source: Source | None) -> bool:
    """Any other exception ends the test."""
    try:
        at_ms, event, micros = DECODER.decode(payload, source)
    except Rejected as rejected:
        return rejected.reason in Reason
    return (
        EARLIEST_MS <= at_ms < LATEST_MS
        and type(event) in TYPE_NAMES.values()
        and 0 <= micros <= MAX_MICROS
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(VALID)),
    changes=st.dictionaries(fields, values, max_size=3),
    without=st.sets(fields, max_size=1),
    source=st.one_of(st.none(), st.sampled_from(Source)),
)
def test_a_changed_field_decodes_or_is_refused_and_nothing_else(
    name: str, changes: dict[str, Any], without: set[str], source: Source | None
) -> None:
    event = {key: value for key, value in {**VALID[name], **changes}.items() if key not in without}
    assert decodes_or_is_refused(payload_of(event), source)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(VALID)),
    start=st.integers(0, 250),
    length=st.integers(0, 8),
    inserted=st.one_of(
        st.binary(max_size=6), st.sampled_from([b"e99", b'"', b"}", b"\\ud8", b"["])
    ),
    source=st.one_of(st.none(), st.sampled_from(Source)),
)
def test_changed_bytes_decode_or_are_refused_and_nothing_else(
    name: str, start: int, length: int, inserted: bytes, source: Source | None
) -> None:
    payload = payload_of(VALID[name])
    assert decodes_or_is_refused(payload[:start] + inserted + payload[start + length :], source)


def test_every_reason_has_its_test() -> None:
    """Reasons are data on disk: one that is added needs a test and a line here; none is renamed."""
    assert {reason.value for reason in Reason} == {
        "empty",
        "oversize",
        "not_utf8",
        "not_json",
        "too_deep",
        "not_an_object",
        "unknown_version",
        "missing_type",
        "unknown_type",
        "wrong_topic",
        "missing_field",
        "bad_type",
        "bad_value",
        "bad_time",
        "time_out_of_range",
        "future",
        "unknown_currency",
        "wrong_key",
        "wrong_partition",
    }
