"""Moments as text: RFC 3339 in UTC, as results carry them."""

from __future__ import annotations

import datetime

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)


def to_text(moment_ms: int) -> str:
    """``1998-07-01T00:00:00Z``; with milliseconds only where there are any."""
    moment = _EPOCH + moment_ms * _MILLISECOND
    return moment.isoformat(timespec="milliseconds" if moment_ms % 1000 else "seconds").replace(
        "+00:00", "Z"
    )


def from_text(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 moment. Raises ValueError without an offset."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        message = f"{text!r} has no offset: write it as 1998-07-01T00:00:00Z"
        raise ValueError(message)
    return (moment - _EPOCH) // _MILLISECOND
