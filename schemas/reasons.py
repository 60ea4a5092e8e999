"""Why a record is refused.

Every record that is not folded leaves a dead letter with exactly one of these reasons. They are
data on disk and label values: a name is never changed, only added.
"""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """The machine-readable reason in a dead letter."""

    EMPTY = "empty"
    """No payload at all (a tombstone)."""
    OVERSIZE = "oversize"
    """More than 64 KiB; checked before anything is parsed."""
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    """Truncated, NaN or Infinity, trailing bytes: whatever RFC 8259 refuses."""
    TOO_DEEP = "too_deep"
    """Nested beyond what the decoder follows."""
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_VERSION = "unknown_version"
    MISSING_TYPE = "missing_type"
    UNKNOWN_TYPE = "unknown_type"
    WRONG_TOPIC = "wrong_topic"
    """A known type on a topic that does not carry it."""
    MISSING_FIELD = "missing_field"
    BAD_TYPE = "bad_type"
    """A field holds another JSON type than declared."""
    BAD_VALUE = "bad_value"
    """The type is right, the value is outside its range, length or closed list."""
    BAD_TIME = "bad_time"
    """Neither RFC 3339 with an offset nor integer epoch milliseconds."""
    TIME_OUT_OF_RANGE = "time_out_of_range"
    """Before 1971 or after 2199."""
    FUTURE = "future"
    """More than ``max_future`` ahead of the record's own timestamp."""
    UNKNOWN_CURRENCY = "unknown_currency"
    WRONG_KEY = "wrong_key"
    """The record's key is not the event's customer_id."""
    WRONG_PARTITION = "wrong_partition"
    """The key does not belong to this partition: the producer uses another partitioner."""


class Rejected(Exception):
    """A record cannot become an event.

    ``detail`` is for people. It names the field and the rule and never repeats the payload.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        """Reject for ``reason``."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
