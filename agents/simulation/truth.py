"""What really happened, counted from the events themselves in event-time order.

A deliberately plain second implementation of the simplest metrics of the engine: it sees every good
event once, in order, before anything is delayed, repeated or spoilt. What it hands out are lines of
the truth file:

| `kind` | content |
|---|---|
| `record` | a record that is not simply good: `line` (from 0, in the order of writing), `disposition` late, duplicate or malformed, with `late_ms`, `duplicate_of`, `reason` |
| `hour` | counts of the events with `start <= event time < end` (money in millionths) |
| `customer` | one customer: birth, end of life (null if beyond the end of the run), first and last activity, orders, revenue |
| `total` | the same counts over the whole run, and how many customers were alive, active and gone at its end |

Sessions follow METRICS.md: one closes at `session_ended`, at a view with another id, or 30 minutes
after its last view; it is counted at that moment. (No simulated session gets near the cap of 24
hours.) *Active* = a page view or an order. What customers say and ask is counted in
`agents.simulation.contacts`, how far they have come in `agents.simulation.progress`. An `hour` line also
tells how things stand at its end: `ticket_backlog`, customers by stage (`journey_*`), what all buyers
ever have brought.
"""  # noqa: E501 - a table row is one line

from __future__ import annotations

from collections import deque

from agents.simulation import contacts, progress
from agents.simulation.behaviour import SOCIAL, SUPPORT, Happening, rfc3339
from agents.simulation.contacts import Contacts
from agents.simulation.customers import Customer
from agents.simulation.personas import HOUR_MS
from agents.simulation.progress import Progress

GAP_MS = 30 * 60_000
NEVER = -1

COUNTS = (
    "page_views", "visitors", "sessions_started", "sessions_closed", "sessions_converted",
    "bounces", "session_ms", "orders", "buyers", "new_buyers", "revenue_micros",
    "refunded_micros", "active_customers", "new_customers", "cancellations",
    *contacts.COUNTS, *progress.COUNTS,
)  # fmt: skip

Line = dict[str, str | int | None]


class Life:
    """What the truth knows about one customer."""

    __slots__ = (
        "active_hour", "buyer_hour", "converted", "customer", "first_ms", "last_ms", "last_view_ms",
        "orders", "revenue_micros", "session", "started_ms", "views", "visited", "visitor_hour",
    )  # fmt: skip

    def __init__(self, customer: Customer) -> None:
        self.customer = customer
        self.first_ms = self.last_ms = self.last_view_ms = NEVER
        self.active_hour = self.buyer_hour = self.visitor_hour = NEVER
        self.orders = self.revenue_micros = 0
        self.session = ""
        self.started_ms = self.views = 0
        self.converted = self.visited = False


class Truth:
    """Counts happenings. `take` hands out the lines that are final."""

    def __init__(self) -> None:
        self._lives: dict[int, Life] = {}
        self._hour = dict.fromkeys(COUNTS, 0)
        self._total = dict.fromkeys(COUNTS, 0)
        self._hour_start_ms = NEVER
        # The gap is the same for all, so views come in the order of the moments at which it ends.
        self._silences: deque[tuple[int, Life]] = deque()
        self._contacts = Contacts(self._hour)
        self._progress = Progress(self._hour)
        self._lines: list[Line] = []
        self._ended_ms = NEVER

    def born(self, customer: Customer) -> None:
        """A customer who may visit from now on."""
        self._lives[customer.number] = Life(customer)

    def count(self, happening: Happening) -> None:
        """Count one event. Events come in order of event time."""
        at_ms = happening.at_ms
        if self._hour_start_ms == NEVER:
            self._hour_start_ms = at_ms // HOUR_MS * HOUR_MS
        self._pass_time(at_ms)
        kind, number = happening.kind, happening.customer.number
        life = self._lives[number]
        hour = self._hour
        if happening.source in (SOCIAL, SUPPORT):
            self._contacts.count(happening, self._hour_start_ms)
            if kind == "nps_answered":
                self._progress.answered(number, at_ms, int(happening.detail))
        elif kind == "page_viewed":
            self._view(life, at_ms, happening.detail)
        elif kind == "session_ended":
            if life.session == happening.detail:
                self._close(life, at_ms)
        elif kind == "order_placed":
            self._order(life, at_ms, happening.amount_micros)
        elif kind == "order_refunded":
            hour["refunded_micros"] += happening.amount_micros
            self._progress.refunded(number, at_ms, happening.amount_micros)
        elif kind == "subscription_cancelled":
            hour["cancellations"] += 1
        self._progress.touched(number, at_ms)

    def finish(self, end_ms: int) -> None:
        """The run is over at ``end_ms``; what closes before it is counted."""
        if self._hour_start_ms != NEVER:
            self._pass_time(end_ms)
            if end_ms > self._hour_start_ms:
                self._end_hour(end_ms)
        self._ended_ms = end_ms
        self._lines += (self._customer_line(life) for life in self._lives.values())
        self._lines.append(self._total_line())

    def take(self) -> list[Line]:
        """The lines that became final since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def _pass_time(self, now_ms: int) -> None:
        """Close the sessions silent since before ``now_ms``, and the hours that lie before it."""
        silences = self._silences
        while True:
            hour_end_ms = self._hour_start_ms + HOUR_MS
            until_ms = min(now_ms, hour_end_ms)
            # A view exactly at the end of the gap still belongs to the session: strictly before.
            while silences and silences[0][0] < until_ms:
                silent_ms, life = silences.popleft()
                if life.session and life.last_view_ms + GAP_MS == silent_ms:
                    self._close(life, silent_ms)
            self._progress.pass_time(until_ms)
            if now_ms < hour_end_ms:
                return
            self._end_hour(hour_end_ms)
            self._hour_start_ms = hour_end_ms

    def _end_hour(self, end_ms: int) -> None:
        hour = self._hour
        line: Line = {
            "kind": "hour", "start": rfc3339(self._hour_start_ms), "end": rfc3339(end_ms),
        }  # fmt: skip
        line.update(hour)
        line.update(self._levels())
        self._lines.append(line)
        for name, value in hour.items():
            self._total[name] += value
            hour[name] = 0

    def _levels(self) -> dict[str, int]:
        """How things stand, up to which time has passed."""
        return {"ticket_backlog": self._contacts.backlog, **self._progress.levels()}

    def _active(self, life: Life, at_ms: int) -> None:
        if life.first_ms == NEVER:
            life.first_ms = at_ms
            self._hour["new_customers"] += 1
        life.last_ms = at_ms
        if life.active_hour != self._hour_start_ms:
            life.active_hour = self._hour_start_ms
            self._hour["active_customers"] += 1

    def _view(self, life: Life, at_ms: int, session: str) -> None:
        self._active(life, at_ms)
        hour = self._hour
        hour["page_views"] += 1
        if life.visitor_hour != self._hour_start_ms:
            life.visitor_hour = self._hour_start_ms
            hour["visitors"] += 1
        if life.session and life.session != session:
            self._close(life, at_ms)
        if not life.session:
            life.session = session
            life.started_ms = at_ms
            life.views = 0
            life.converted = False
            hour["sessions_started"] += 1
        starts = life.started_ms == at_ms and life.views == 0
        self._progress.viewed(life.customer.number, at_ms, starts_session=starts)
        life.visited = True
        life.views += 1
        life.last_view_ms = at_ms
        self._silences.append((at_ms + GAP_MS, life))

    def _order(self, life: Life, at_ms: int, amount_micros: int) -> None:
        self._active(life, at_ms)
        self._progress.ordered(life.customer.number, at_ms, amount_micros)
        hour = self._hour
        hour["orders"] += 1
        hour["revenue_micros"] += amount_micros
        hour["new_buyers"] += not life.orders
        life.orders += 1
        life.revenue_micros += amount_micros
        life.converted = True
        if life.buyer_hour != self._hour_start_ms:
            life.buyer_hour = self._hour_start_ms
            hour["buyers"] += 1

    def _close(self, life: Life, at_ms: int) -> None:
        """Count the open session at ``at_ms``, which lies in the open hour."""
        hour = self._hour
        hour["sessions_closed"] += 1
        hour["sessions_converted"] += life.converted
        hour["bounces"] += life.views == 1
        hour["session_ms"] += life.last_view_ms - life.started_ms
        life.session = ""
        assert at_ms >= self._hour_start_ms, "a session closes in an hour that is already reported"  # noqa: S101

    def _customer_line(self, life: Life) -> Line:
        customer = life.customer
        gone = customer.ends_ms < self._ended_ms
        return {
            "kind": "customer",
            "customer_id": customer.customer_id,
            "persona": customer.shown_persona,
            "region": customer.region if customer.shown_persona else None,
            "born_at": rfc3339(customer.born_ms),
            "ended_at": rfc3339(customer.ends_ms) if gone else None,
            "first_active_at": None if life.first_ms == NEVER else rfc3339(life.first_ms),
            "last_active_at": None if life.last_ms == NEVER else rfc3339(life.last_ms),
            "orders": life.orders,
            "revenue_micros": life.revenue_micros,
        }

    def _total_line(self) -> Line:
        lives = self._lives.values()
        line: Line = {"kind": "total", "end": rfc3339(self._ended_ms)}
        line.update(self._total)
        line.update(self._levels())
        line.update(self._contacts.distinct())
        # Distinct customers don't add up over hours.
        line["visitors"] = sum(life.visited for life in lives)
        line["buyers"] = sum(life.orders > 0 for life in lives)
        line["active_customers"] = sum(life.first_ms != NEVER for life in lives)
        line["customers"] = len(lives)
        line["churned_customers"] = sum(life.customer.ends_ms < self._ended_ms for life in lives)
        line["sessions_open"] = sum(life.session != "" for life in lives)
        return line
