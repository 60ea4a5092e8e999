"""One naive pass over each customer's folded events: what SQL can't say briefly.

The pass assigns cells (segments), finds the events that are activity, and derives sessions. Everything it writes
carries a *place*: the point of event time at which the fold knew it. An on-time event's place is its own time; a
late event's place is the watermark at which it was folded. A tick at t sees exactly what has place < t.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.oracle.journey import Journey
from tests.oracle.rules import Fate, Judged, folded, time_of
from tests.oracle.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_SESSION_MS = 86_400_000
OTHER = "other"
UNKNOWN = "unknown"
EXACT = Context(prec=60)
WITHDRAWALS = ("unlike", "unfollow", "delete")

Cell: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """What the oracle has to know of the configuration."""

    session_gap_ms: int = 1_800_000
    base_ms: int = 10_000
    segments: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"persona": (), "region": ()}
    )
    """The values of each customer dimension."""
    channels: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    support_channels: tuple[str, ...] = ()
    activity: frozenset[str] = frozenset({"page_viewed", "order_placed"})
    reporting_currency: str = "USD"
    rates: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Facts:
    """Rows of the derived tables, in fold order. `seq` orders rows of one customer."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    activities: list[tuple[Any, ...]] = field(default_factory=list)
    cells: list[tuple[Any, ...]] = field(default_factory=list)
    started: list[tuple[Any, ...]] = field(default_factory=list)
    closed: list[tuple[Any, ...]] = field(default_factory=list)
    social: list[tuple[Any, ...]] = field(default_factory=list)
    csat: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[tuple[Any, ...]] = field(default_factory=list)
    tickets: list[tuple[Any, ...]] = field(default_factory=list)
    durations: list[tuple[Any, ...]] = field(default_factory=list)
    backlog: list[tuple[Any, ...]] = field(default_factory=list)
    stages: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(slots=True)
class _Session:
    start: int
    last: int
    session_id: str | None
    channel: str
    views: int = 1
    converted: bool = False


def derive(judged: Sequence[Judged], config: OracleConfig) -> Facts:
    """Fold the on-time and late-counted events, customer by customer."""
    by_customer: dict[str, list[tuple[int, Judged]]] = {}
    for place, one in folded(judged):
        by_customer.setdefault(one.arrival.event["customer_id"], []).append((place, one))
    facts = Facts()
    for customer, own in sorted(by_customer.items()):
        history = _Customer(customer, config, facts)
        for place, one in own:
            history.fold(
                one.arrival.event, time_of(one.arrival), place, late=one.fate is Fate.LATE_COUNTED
            )
        history.finish()
    return facts


def micros_of(event: Mapping[str, Any], config: OracleConfig) -> int:
    """Convert an amount to millionths of the reporting currency, half-even."""
    if event.get("amount") is None:
        return 0
    amount = Decimal(str(event["amount"]))
    currency = event["currency"]
    rate = Decimal(1) if currency == config.reporting_currency else Decimal(config.rates[currency])
    exact = EXACT.multiply(EXACT.multiply(amount, rate), Decimal(1_000_000))
    return int(exact.to_integral_value(rounding=ROUND_HALF_EVEN))


class _Customer:
    def __init__(self, customer: str, config: OracleConfig, facts: Facts) -> None:
        self._customer = customer
        self._config = config
        self._facts = facts
        self._seq = 0
        self._told: dict[str, tuple[int, str]] = {}
        self._cell: Cell = (UNKNOWN,) * len(config.segments)
        self._last_activity: int | None = None
        self._session: _Session | None = None
        self._previous_start: int | None = None
        self._journey = Journey(customer, facts.stages)
        self._tickets = Tickets(UNKNOWN)

    def fold(self, event: Mapping[str, Any], time: int, place: int, *, late: bool) -> None:
        self._seq += 1
        kind = event["type"]
        newer = self._last_activity is None or time > self._last_activity
        is_activity = kind in self._config.activity and (newer or not late)
        if kind == "order_placed" and late:
            self._mark_late_order(time, place)
        self._close_expired(place)
        self._journey.lapse_before(place, self._cell)
        self._learn(event, time)
        if is_activity or self._last_activity is None:
            self._cell = self._known_cell()
        row = (
            self._customer,
            self._seq,
            kind,
            time,
            place,
            micros_of(event, self._config),
            *self._cell,
        )
        self._facts.events.append(row)
        self._facts.cells.append((self._customer, self._seq, place, *self._cell))
        if is_activity:
            self._last_activity = (
                time if self._last_activity is None else max(time, self._last_activity)
            )
            self._facts.activities.append((self._customer, self._seq, time, place, *self._cell))
        self._beside_the_shop(event, time, place)
        if kind == "order_placed":
            self._journey.ordered(time)
            if not late and self._session is not None:
                self._session.converted = True
        elif kind == "page_viewed" and not late:
            self._view(event, time)
            self._journey.viewed()
        elif kind == "session_ended" and not late:
            self._end(event, time)
        self._journey.move_on(place, time if is_activity else None, self._cell)

    def finish(self) -> None:
        """Let the last session fall silent."""
        if self._session is not None:
            self._close(self._closing_moment(self._session))
        self._journey.finish(self._cell)

    def _beside_the_shop(self, event: Mapping[str, Any], time: int, place: int) -> None:
        """Posts, answers and tickets: late or not, they are told in the customer's cell."""
        kind, facts = event["type"], self._facts
        who = (self._customer, self._seq, time, place, *self._cell)
        if kind == "social_interacted":
            sentiment = event.get("sentiment")
            facts.social.append(
                (
                    *who,
                    _listed(event["network"], self._config.networks),
                    event["action"] in WITHDRAWALS,
                    None if sentiment is None else round(float(sentiment) * 1_000_000),
                    event.get("impressions"),
                )
            )
        elif kind == "csat_answered":
            channel = _listed(event["channel"], self._config.support_channels)
            lowest = {5: 4, 10: 9}[event["scale_max"]]
            facts.csat.append((*who, channel, event["score"] >= lowest))
        elif kind == "nps_answered":
            facts.answers.append((*who, event["score"]))
            self._journey.answered(event["score"], time)
        elif kind.startswith("ticket_"):
            channel = _listed(event.get("channel"), self._config.support_channels)
            effect = self._tickets.fold(kind, event["ticket_id"], channel, time=time, now=place)
            if effect.channel is not None:
                facts.tickets.append((*who, kind, effect.channel))
            if effect.backlog:
                facts.backlog.append((self._customer, place, effect.backlog))
            for what, length in (
                ("first_reply", effect.first_reply_ms),
                ("resolution", effect.resolution_ms),
            ):
                if length is not None:
                    facts.durations.append((*who, what, length))

    def _learn(self, event: Mapping[str, Any], time: int) -> None:
        for name in self._config.segments:
            value = event.get(name)
            if value is not None and (name not in self._told or time >= self._told[name][0]):
                self._told[name] = (time, value)

    def _known_cell(self) -> Cell:
        return tuple(
            _listed(self._told[name][1] if name in self._told else None, values)
            for name, values in self._config.segments.items()
        )

    def _closing_moment(self, session: _Session) -> int:
        return min(session.last + self._config.session_gap_ms, session.start + LONGEST_SESSION_MS)

    def _close_expired(self, place: int) -> None:
        session = self._session
        if session is None:
            return
        silent_at = session.last + self._config.session_gap_ms
        capped_at = session.start + LONGEST_SESSION_MS
        if silent_at < place or capped_at <= place:
            self._close(min(silent_at, capped_at))

    def _mark_late_order(self, time: int, watermark: int) -> None:
        session = self._session
        if (
            session is not None
            and session.start <= time
            and self._closing_moment(session) >= watermark
        ):
            session.converted = True

    def _view(self, event: Mapping[str, Any], time: int) -> None:
        session_id = event.get("session_id")
        session = self._session
        if (
            session is not None
            and None not in (session_id, session.session_id)
            and session_id != session.session_id
        ):
            self._close(time)
            session = None
        if session is not None:
            session.last = time
            session.views += 1
            session.session_id = session.session_id or session_id
            return
        channel = _listed(event.get("channel"), self._config.channels)
        self._session = _Session(time, time, session_id, channel)
        self._facts.started.append(
            (self._customer, time, self._previous_start, *self._cell, channel)
        )
        self._previous_start = time
        self._journey.session_started()

    def _end(self, event: Mapping[str, Any], time: int) -> None:
        session = self._session
        if session is None:
            return
        ids = (event.get("session_id"), session.session_id)
        if None in ids or ids[0] == ids[1]:
            self._close(time)

    def _close(self, moment: int) -> None:
        session = self._session
        assert session is not None
        length = session.last - session.start
        row = (
            self._customer,
            moment,
            length,
            session.views,
            session.converted,
            *self._cell,
            session.channel,
        )
        self._facts.closed.append(row)
        self._session = None


def _listed(value: str | None, values: tuple[str, ...]) -> str:
    if value is None:
        return UNKNOWN
    return value if value in values else OTHER
