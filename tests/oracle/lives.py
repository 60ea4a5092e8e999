"""What one customer does, in event time: visits, orders, posts, answers and tickets that love the edges.

Gaps are hit to the millisecond, days cut in two, silences last exactly a window or two, tickets stay silent for
exactly 90 days. `tests.oracle.generate` puts the lives of several customers together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tests.oracle.rules import DAY_MS
from tests.oracle.tickets import MEMORY_MS, MOST

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
EPOCH_MS = 1_700_006_400_000  # 2023-11-15T00:00:00Z: a UTC day begins
PERSONAS = ("browser", "collector", "hunter")
REGIONS = ("north", "south")
CHANNELS = ("email", "search")
NETWORKS = ("fedi", "pictures")
SUPPORT_CHANNELS = ("chat", "phone")
ACTIONS = ("mention", "like", "share", "comment", "follow", "unlike", "unfollow", "delete")

Event: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a stream looks: its span, its customers and the windows that it is made for."""

    name: str
    windows: tuple[tuple[int, int], ...]
    session_gap_ms: int
    base_ms: int
    span_ms: int
    customers: int
    visits: int
    bound_ms: int = 5_000
    lateness_ms: int = DAY_MS
    late_share: float = 0.05
    duplicate_share: float = 0.05
    marathons: bool = True

    @property
    def end_ms(self) -> int:
        """The end of time: two of the largest windows fit before it, and some silence after the last event."""
        return EPOCH_MS + self.span_ms

    def on_time(self) -> Shape:
        """The same without late records."""
        return replace(self, late_share=0.0)


class Life:
    """One customer's days."""

    def __init__(self, shape: Shape, rng: random.Random, customer: str) -> None:
        self._shape = shape
        self._rng = rng
        self._customer = customer
        self._events: list[Event] = []
        self._persona = rng.choice((*PERSONAS, "stranger", None))
        self._region = rng.choice((*REGIONS, None))
        self._session = 0
        self._tickets = 0

    def events(self) -> list[Event]:
        """Everything, in the order in which it was drawn."""
        rng, shape = self._rng, self._shape
        last = shape.end_ms - rng.choice((0, shape.windows[0][0], shape.span_ms // 5))
        time = EPOCH_MS + rng.randrange(shape.span_ms // 3)
        if rng.random() < 0.3:
            self._social(time - rng.randrange(HOUR_MS))  # known before the first visit
        if rng.random() < 0.1:
            self._flood(time)
        visits = rng.randrange(2, 2 * shape.visits)
        for _ in range(visits):
            if time >= last:
                break
            self._maybe_move()
            time = self._visit(self._snapped(time), last)
            time += self._silence()
        return [event for event in self._events if event["occurred_at"] < last]

    def _silence(self) -> int:
        """How long until the next visit: often a special length, to the millisecond."""
        rng, shape = self._rng, self._shape
        gap = shape.session_gap_ms
        w = rng.choice(shape.windows)[0]
        off = rng.choice((-1, 0, 1))
        lapse = 30 * DAY_MS + off
        return max(
            0,
            rng.choice(
                (
                    gap + off,
                    rng.randrange(3 * gap),
                    rng.randrange(1, shape.span_ms // shape.visits),
                    rng.randrange(1, shape.span_ms // shape.visits),
                    w + off,
                    rng.randrange(w),
                    min(2 * w + off, shape.span_ms // 2),
                    rng.randrange(1, shape.span_ms // 3),
                    lapse if lapse < shape.span_ms // 2 else gap,
                )
            ),
        )

    def _snapped(self, time: int) -> int:
        """Move a third of the visits to a boundary of a hop or a day."""
        rng = self._rng
        if rng.random() < 1 / 3:
            step = rng.choice((*(hop for _, hop in self._shape.windows), DAY_MS))
            snapped = -(-time // step) * step + rng.choice((-1, 0, 1))
            if snapped >= time and snapped - time <= self._shape.span_ms // 4:
                return snapped
        return time

    def _maybe_move(self) -> None:
        if self._rng.random() < 0.3:
            self._persona = self._rng.choice((*PERSONAS, "stranger"))
        if self._rng.random() < 0.2:
            self._region = self._rng.choice(REGIONS)

    def _visit(self, time: int, last: int) -> int:
        rng, gap = self._rng, self._shape.session_gap_ms
        session_id = self._new_session() if rng.random() < 0.5 else None
        views = rng.choice((0, 1, 1, 2, 3, 5, 8))
        if self._shape.marathons and rng.random() < 0.06:
            return self._marathon(time, session_id)
        for _ in range(views):
            self._view(time, session_id)
            self._beside(time, gap)
            if rng.random() < 0.1:
                session_id = rng.choice((None, self._new_session()))
            time += rng.choice(
                (0, 1, gap, gap - 1, gap + 1, rng.randrange(gap), rng.randrange(gap))
            )
            if time >= last:
                return time
        if rng.random() < 0.3:
            ended = rng.choice((session_id, None, self._new_session()))
            self._add(time + rng.choice((-1, 0, 1)), "session_ended", session_id=ended)
        if views == 0:
            self._beside(time, gap)
            self._order(time)
        return time

    def _marathon(self, time: int, session_id: str | None) -> int:
        """A robot that never rests: the session ends at 24 h, sometimes to the millisecond."""
        gap = self._shape.session_gap_ms
        start = time
        step = self._rng.choice((gap, gap // 3 * 2, gap - 1))
        while time - start < DAY_MS + 2 * gap:
            self._view(time, session_id)
            if self._rng.random() < 0.08:
                self._order(time + self._rng.choice((0, gap, step)))
            time += step
        self._order(start + DAY_MS + self._rng.choice((-1, 0)))
        return time

    def _beside(self, time: int, gap: int) -> None:
        """What happens around a page view."""
        rng = self._rng
        offset = rng.choice((0, gap, gap + 1, 1, -1, rng.randrange(gap), rng.randrange(4 * gap)))
        if rng.random() < 0.3:
            self._beside_the_shop(time + offset)
        drawn = rng.random()
        if drawn < 0.25:
            self._order(time + offset)
        elif drawn < 0.30:
            currency = rng.choice(("USD", "EUR"))
            amount = self._amount()
            self._add(
                time + offset, "order_refunded", order_id="o", amount=amount, currency=currency
            )
        elif drawn < 0.35:
            kind = rng.choice(("started", "renewed", "cancelled", "cancelled"))
            self._add(time + offset, f"subscription_{kind}", plan="gold")

    def _beside_the_shop(self, time: int) -> None:
        """A post, an answer or a ticket; some of them tell who the customer is by now."""
        if self._rng.random() < 0.2:
            self._maybe_move()
        self._rng.choice((self._social, self._social, self._answer, self._csat, self._ticket))(time)

    def _view(self, time: int, session_id: str | None) -> None:
        channel = self._rng.choice((*CHANNELS, "carrier pigeon", None))
        self._add(time, "page_viewed", page="/", session_id=session_id, channel=channel)

    def _order(self, time: int) -> None:
        currency = self._rng.choice(("USD", "USD", "EUR"))
        self._add(time, "order_placed", order_id="o", amount=self._amount(), currency=currency)

    def _social(self, time: int) -> None:
        rng = self._rng
        sentiments = (None, None, 0, -1, 1.0, 0.5, 0.0000005, -0.0000015, rng.uniform(-1, 1))
        self._add(
            time,
            "social_interacted",
            network=rng.choice((*NETWORKS, "smoke signals")),
            action=rng.choice(ACTIONS),
            sentiment=rng.choice(sentiments),
            impressions=rng.choice((None, None, 0, 1, 200, rng.randrange(10**9))),
        )

    def _answer(self, time: int) -> None:
        """Who is asked once is often asked again: at once, in the same millisecond, a window later."""
        rng = self._rng
        w = rng.choice(self._shape.windows)[0]
        for _ in range(rng.choice((1, 1, 2, 3))):
            self._add(time, "nps_answered", score=rng.choice((0, 6, 7, 8, 9, 10)))
            time += rng.choice((0, 1, MINUTE_MS, w - 1, w, w + 1))

    def _csat(self, time: int, ticket: str | None = None) -> None:
        scale = self._rng.choice((5, 10))
        self._add(
            time,
            "csat_answered",
            channel=self._rng.choice((*SUPPORT_CHANNELS, "letter")),
            score=self._rng.randrange(scale + 1),
            scale_max=scale,
            ticket_id=ticket,
        )

    def _ticket(self, time: int) -> None:
        """A ticket and what becomes of it. Some were never opened, some are opened twice."""
        rng = self._rng
        if rng.random() < 0.8 or not self._tickets:
            self._tickets += 1
        ticket = self._ticket_name(rng.randrange(self._tickets) + 1)
        if rng.random() < 0.85:
            self._open(time, ticket)
        for _ in range(rng.randrange(5)):
            time += self._patience()
            kind = rng.choice(("replied", "replied", "resolved", "resolved", "reopened"))
            self._add(time, f"ticket_{kind}", ticket_id=ticket)
        if rng.random() < 0.1:
            self._open(time + self._patience(), ticket)
        if rng.random() < 0.3:
            self._csat(time + 1, ticket)

    def _flood(self, time: int) -> None:
        """Around as many tickets as are remembered of a customer; then something happens to some of them."""
        rng = self._rng
        first = self._tickets + 1
        self._tickets += MOST + rng.choice((-1, 0, 1, 5))
        for number in range(first, self._tickets + 1):
            self._open(time, self._ticket_name(number))
            if rng.random() < 0.1:
                self._add(time, "ticket_resolved", ticket_id=self._ticket_name(number))
            time += rng.choice((0, 1, 1000))
        for _ in range(20):
            kind = rng.choice(("replied", "resolved", "reopened"))
            number = rng.choice((first, first + 1, self._tickets, rng.randrange(self._tickets) + 1))
            self._add(time, f"ticket_{kind}", ticket_id=self._ticket_name(number))
            time += rng.choice((1, 1000, MINUTE_MS))

    def _open(self, time: int, ticket: str) -> None:
        channel = self._rng.choice((*SUPPORT_CHANNELS, "letter"))
        self._add(time, "ticket_opened", ticket_id=ticket, channel=channel)

    def _ticket_name(self, number: int) -> str:
        return f"{self._customer}-ticket-{number}"

    def _patience(self) -> int:
        """How long until the next thing happens to a ticket."""
        rng, shape = self._rng, self._shape
        choices = [0, 1, MINUTE_MS, rng.randrange(HOUR_MS), rng.randrange(shape.span_ms // 10)]
        if shape.span_ms > MEMORY_MS:
            choices += [MEMORY_MS + off for off in (-1, 0, 1)]
        return rng.choice(choices)

    def _amount(self) -> int | float | str:
        rng = self._rng
        return rng.choice(
            (
                0,
                rng.randrange(1, 500),
                f"{rng.randrange(1, 10**9) / 10**6:.6f}",
                f"{rng.randrange(10**6)}.{rng.randrange(100):02}",
                rng.randrange(10_000) / 100,
                "900000000.999999",
                "0.000001",
            )
        )

    def _new_session(self) -> str:
        self._session += 1
        return f"{self._customer}-session-{self._session}"

    def _add(self, time: int, kind: str, **fields: object) -> None:
        event: Event = {
            "type": kind,
            "customer_id": self._customer,
            "occurred_at": max(EPOCH_MS, time),
        }
        event.update((name, value) for name, value in fields.items() if value is not None)
        if self._persona is not None and self._rng.random() < 0.4:
            event["persona"] = self._persona
        if self._region is not None and self._rng.random() < 0.4:
            event["region"] = self._region
        self._events.append(event)
