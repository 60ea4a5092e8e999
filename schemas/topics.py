"""The topics, their names and the order of the four inputs.

A topic name is data on disk: every name is spelled out from one prefix here and nowhere else.
"""

from __future__ import annotations

import enum

import msgspec


class Source(enum.IntEnum):
    """One of the four co-partitioned inputs.

    The integer is the rank among events of equal time: a session event is folded before a purchase
    of the same millisecond, a purchase before a social interaction, that before a support event.
    """

    SESSIONS = 0
    PURCHASES = 1
    SOCIAL = 2
    SUPPORT = 3


class Topics(msgspec.Struct, frozen=True, kw_only=True):
    """The names of all topics of one installation."""

    sessions: str
    purchases: str
    social: str
    support: str
    state: str
    partials: str
    rollup: str
    results: str
    signals: str
    alerts: str
    dead_letters: str
    late: str
    redriven: str

    @classmethod
    def with_prefix(cls, prefix: str = "heartline") -> Topics:
        """Name the topics of the installation called ``prefix``: ``prefix.sessions`` and so on."""
        return cls(**{name: f"{prefix}.{name.replace('_', '-')}" for name in cls.__struct_fields__})

    @property
    def sources(self) -> tuple[str, str, str, str]:
        """The input topics in the order of `Source`."""
        return (self.sessions, self.purchases, self.social, self.support)
