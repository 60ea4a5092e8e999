"""The folded state of one partition: the one place where an event changes a customer.

Rules that hold everywhere in this file:

- On-time events come in event-time order; ties by topic, then offset. A late event comes with the
  watermark behind which it fell, after everything older than that watermark was folded.
- The hot loop (`State.fold`) touches customers and the logs of the open pane, never a level or a
  window.
- A session expires in the cell its customer had; only then does the customer move to another cell.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, itemgetter

import numpy as np

from schemas.events import (
    SOURCE_OF,
    CsatAnswered,
    Event,
    NpsAnswered,
    OrderPlaced,
    OrderRefunded,
    PageViewed,
    SessionEnded,
    SocialInteracted,
    SubscriptionCancelled,
    TicketOpened,
    TicketReopened,
    TicketReplied,
    TicketResolved,
)
from streams.arrivals import CELL, CUSTOMER, NO_ATTRIBUTES, Arrival, View, name_in
from streams.attributes import reader_of, taker_of
from streams.config import CoreConfig
from streams.contacts import Contact
from streams.customers import NO_SESSION, NO_SLOT, Customer, Return
from streams.evicted import Evicted
from streams.journey import Journey
from streams.last_seen import NEVER
from streams.lifetime import Lifetime
from streams.open_pane import BOUNCED, CONVERTED
from streams.recent_ids import SILENCE_MS, RecentIds
from streams.rows import NOT_DUE, dues_of, pack, touched_of, unpack
from streams.satisfaction import Satisfaction
from streams.social import Social
from streams.stages import ENGAGED_PAGES, LAPSE_MS, NOWHERE, Stage
from streams.sums import Additive, Mark, Stock
from streams.support import Support
from streams.timeline import Report, Timeline
from streams.timers import Wheel
from streams.windows import DAY_MS, HOUR_MS

LONGEST_SESSION_MS = DAY_MS
SWEEP_EVERY_MS = 6 * HOUR_MS
"""By event time: so often the silent are looked for."""
_slot_of = attrgetter("slot")
_TICKET_EVENTS = frozenset({TicketOpened, TicketReplied, TicketResolved, TicketReopened})
# As plain integers: in the fold a look-up of a member, or a sum with one, costs as much as a call.
_AWARE, _ENGAGED, _CUSTOMER = int(Stage.AWARE), int(Stage.ENGAGED), int(Stage.CUSTOMER)
_LOYAL, _LAPSED = int(Stage.LOYAL), int(Stage.LAPSED)
_ORDERS, _REPEAT_ORDERS = int(Additive.ORDERS), int(Additive.REPEAT_ORDERS)
_REVENUE_MICROS = int(Additive.REVENUE_MICROS)


def retention_ms(config: CoreConfig) -> int:
    """How long a silent customer is needed: by every mark until the histogram has forgotten it, by
    base and returns over two windows, by the journey, by late events, by the memory of event ids
    and by the longest session.
    """
    windows = config.windows
    return (
        max(*(2 * window.size_ms for window in windows.windows), LAPSE_MS)
        + 2 * max(window.hop_ms for window in windows.windows)
        + config.allowed_lateness_ms
        + max(SILENCE_MS, LONGEST_SESSION_MS)
        + windows.session_gap_ms
    )


class State:
    """Customers, their sessions and timers, and the timeline into which they are counted."""

    def __init__(
        self, config: CoreConfig, *, on_report: Callable[[Report], None] | None = None
    ) -> None:
        """``on_report`` is that of `Timeline`."""
        segments, windows = config.segments, config.windows
        self.config = config
        self.customers: dict[str, Customer] = {}
        self.packed: dict[str, bytes] = {}
        """Rows of those whom nothing has touched for a day, or since they were restored; none of
        them is among `customers`.
        """
        self.evicted = Evicted()
        self._retention_ms = retention_ms(config)
        self._sweep: list[str] = []
        """Whom the present search for the silent has still to look at."""
        self._next_sweep_ms = NEVER
        self.is_tracked = False
        self.touched: list[Customer] = []
        """While `is_tracked`: whoever may have changed since the list was last cleared, with
        repetitions.
        """
        self.forgotten: list[str] = []
        """While `is_tracked`: of whom no row is to be left, not even a dead one."""
        self.recent_ids = RecentIds()
        self.timeline = Timeline(
            config, fire=self._fire_timers, next_due_ms=self._next_due_ms, on_report=on_report
        )
        self._pane = self.timeline.pane
        self._base = windows.base_ms
        self._gap = windows.session_gap_ms
        self._wheel = Wheel()
        self._journey = Journey(self.timeline, cells=segments.cells, base_ms=windows.base_ms)
        self._lifetime = Lifetime(self._pane)
        self._social = Social(segments, self.timeline)
        self._satisfaction = Satisfaction(segments, self.timeline)
        self._support = Support(segments, self.timeline)
        self._sizes = sorted({w.size_ms for w in windows.windows})
        self._shortest = min(self._sizes[0], LAPSE_MS)
        """After more silence than this an activity is a return to something."""
        self._cells = segments.cells
        self._channels = len(segments.channel.all)
        self._take = taker_of(segments)
        self._told_by = reader_of(segments.names)
        self._nowhere = segments.nowhere
        self._views_are_activity = "page_viewed" in config.activity
        self._orders_are_activity = "order_placed" in config.activity
        self._active_kinds = frozenset(
            kind
            for kind in SOURCE_OF
            if kind.__struct_config__.tag in config.activity  # type: ignore[attr-defined]
            and kind not in {PageViewed, OrderPlaced}
        )

    # One loop on purpose: a call costs 60-100 ns, and an event would pay for five of them.
    def fold(  # noqa: C901, PLR0912, PLR0915
        self, arrivals: Sequence[Arrival]
    ) -> list[Arrival]:
        """Fold on-time events, in order; returns the duplicates among them, which changed nothing.

        Each costs the same whatever windows there are.
        """
        # Everything the loop touches is bound to a local name: a quarter of its time otherwise goes
        # into look-ups.
        timeline, pane = self.timeline, self._pane
        counted = pane.counted.append
        came_cells, came_from = pane.came_cells.append, pane.came_from.append
        active_cells, active_from = pane.active_cells.append, pane.active_from.append
        visited_cells, visited_from = pane.visited_cells.append, pane.visited_from.append
        bought_cells, bought_from = pane.bought_cells.append, pane.bought_from.append
        gap, shortest, cells = self._gap, self._shortest, self._cells
        views_are_activity = self._views_are_activity
        pane_start, pane_end = timeline.pane_start, timeline.pane_end
        # All customers first: in a loop as tight as this the memory is read ahead, and they are in
        # the cache when their events come.
        met: list[Customer] = list(map(itemgetter(CUSTOMER), arrivals))
        try:
            slots = list(map(_slot_of, met))
        except AttributeError:  # A name: a search for it would cost more than this seldom does.
            slots = self._meet(arrivals, met)
        if NO_SLOT in slots:
            slots = self._meet(arrivals, met)
        duplicates: list[Arrival] = []
        if again := self.recent_ids.duplicates(slots, arrivals, met):
            duplicates = [arrivals[i] for i in again]
            left_out = set(again)
            kept = [i for i in range(len(arrivals)) if i not in left_out]
            arrivals, met = [arrivals[i] for i in kept], [met[i] for i in kept]
        if self.is_tracked:
            self.touched += met
        for arrival, customer in zip(arrivals, met, strict=True):
            at, _, event, micros, _, _, _, cell = arrival
            if at >= pane_end:
                if pane_start == NEVER:
                    timeline.start(at)
                else:
                    timeline.advance(at)
                pane_start, pane_end = timeline.pane_start, timeline.pane_end
            customer.touched = at
            if cell == customer.target:
                # Nearly always the values of all dimensions are there, listed and unchanged.
                customer.attributes_at = at
            elif cell != NO_ATTRIBUTES:
                self._take_attributes(customer, event, cell, at)
            if isinstance(event, View):
                start = customer.session_start
                if start >= 0 and (
                    at - customer.session_last > gap or at - start >= LONGEST_SESSION_MS
                ):
                    self._close_session(customer)
                    start = NO_SESSION
                if views_are_activity:
                    if customer.target != customer.cell:
                        self._move(customer, at)
                    cell = customer.cell
                    last, visit = customer.last_activity, customer.last_visit
                    if last < pane_start:
                        if visit == last:
                            came_cells(cell)
                            came_from(last)
                        else:
                            active_cells(cell)
                            active_from(last)
                            visited_cells(cell)
                            visited_from(visit)
                        if at - last > shortest:
                            self._come_back(customer, at, last)
                    elif visit < pane_start:
                        visited_cells(cell)
                        visited_from(visit)
                    customer.last_activity = at
                else:
                    cell = customer.cell
                    visit = customer.last_visit
                    if visit < pane_start:
                        visited_cells(cell)
                        visited_from(visit)
                if visit < pane_start and customer.last_order > visit:
                    pane.both_cells.append(cell)
                    pane.both_from.append(visit)
                    pane.both_to.append(customer.last_order)
                customer.last_visit = at
                counted(cell)  # Additive.PAGE_VIEWS is 0
                if start < 0:
                    self._open_session(customer, event, at)
                else:
                    name = event.session_id
                    if name is not None and name != customer.session_id:
                        if customer.session_id is None:
                            customer.session_id = name
                        else:
                            self._close_session(customer)
                            self._open_session(customer, event, at)
                            continue
                    pages = customer.session_pages = customer.session_pages + 1
                    customer.session_last = at
                    if pages == ENGAGED_PAGES and customer.reached == _AWARE:
                        # A second session would have led further: this is the first.
                        self._journey.reach(customer, _ENGAGED, at, is_activity=views_are_activity)
            elif event.kind is OrderPlaced:
                self._expire_session(customer, at)
                if self._orders_are_activity:
                    self._be_active(customer, at)
                cell = customer.cell
                bought = customer.last_order
                if bought < pane_start:
                    bought_cells(cell)
                    bought_from(bought)
                    if customer.last_visit > bought:
                        pane.both_cells.append(cell)
                        pane.both_from.append(bought)
                        pane.both_to.append(customer.last_visit)
                customer.last_order = at
                counted(_ORDERS * cells + cell)
                self._lifetime.order(customer, micros)
                if customer.first_order == NEVER:
                    customer.first_order = at
                    customer.first_order_cell = cell
                else:
                    counted(_REPEAT_ORDERS * cells + cell)
                if micros:
                    pane.sum(_REVENUE_MICROS, cell, micros)
                if customer.session_start >= 0:
                    customer.session_converted = CONVERTED
                reached = self._stage_of_orders(customer)
                if customer.stage != reached:
                    self._journey.reach(
                        customer, reached, at, is_activity=self._orders_are_activity
                    )
            else:
                self._fold_other(customer, event, at, micros)
        return duplicates

    def _fold_other(self, customer: Customer, event: Event, at: int, micros: int) -> None:
        """An on-time event that is neither a page view nor an order."""
        kind = event.kind
        if kind is SessionEnded:
            self._expire_session(customer, at)
        is_activity = kind in self._active_kinds
        if is_activity:
            self._expire_session(customer, at)
            self._be_active(customer, at)
        stage = _AWARE
        if kind is SessionEnded:
            if customer.session_start >= 0:
                name = event.session_id  # type: ignore[union-attr]
                if name is None or customer.session_id is None or name == customer.session_id:
                    self._close_session(customer)
        else:
            stage = self._count_other(customer, event, at, micros, now_ms=at)
        if is_activity or stage > _AWARE or customer.stage == NOWHERE:
            self._journey.reach(customer, stage, at, is_activity=is_activity)

    def _count_other(
        self, customer: Customer, event: Event, at: int, micros: int, *, now_ms: int
    ) -> int:
        """Count an event that is neither view, order nor end of a session, on time or late; returns
        the stage that it reaches.
        """
        kind, timeline = event.kind, self.timeline
        if kind is SocialInteracted:
            self._social.fold(customer, event, at)  # type: ignore[arg-type]
        elif kind in _TICKET_EVENTS:
            self._support.fold(customer, event, at, now_ms=now_ms)  # type: ignore[arg-type]
        elif kind is CsatAnswered:
            self._satisfaction.fold_csat(customer, event, at)  # type: ignore[arg-type]
        elif kind is NpsAnswered:
            if self._satisfaction.fold_nps(customer, event, at):  # type: ignore[arg-type]
                return _LOYAL
        elif kind is OrderRefunded:
            timeline.count(at, Additive.REFUNDED_MICROS, customer.cell, micros)
            self._lifetime.refund(customer, micros, is_late=at < timeline.pane_start)
        elif kind is SubscriptionCancelled:
            timeline.count(at, Additive.CANCELLATIONS, customer.cell)
        return _AWARE

    def _stage_of_orders(self, customer: Customer) -> int:
        """What somebody who ordered has reached: orders on two days make a loyal customer."""
        is_loyal = customer.first_order // DAY_MS != customer.last_order // DAY_MS
        return _LOYAL if is_loyal else _CUSTOMER

    def _come_back(self, customer: Customer, at: int, last: int) -> None:
        """An activity after a silence that some window or the journey notices; or the first ever."""
        if last == NEVER:
            customer.first_activity = at
        elif at - last > self._sizes[0]:
            customer.returns = self._returned(at, last, customer.returns)
        if at - last > LAPSE_MS:
            self._journey.expire(customer, at)

    def _be_active(self, customer: Customer, at: int) -> None:
        """What the hot loop does inline for page views."""
        if customer.target != customer.cell:
            self._move(customer, at)
        last = customer.last_activity
        if last < self.timeline.pane_start:
            self._pane.active_cells.append(customer.cell)
            self._pane.active_from.append(last)
            if at - last > self._shortest:
                self._come_back(customer, at, last)
        customer.last_activity = at

    # -- late events

    def fold_late(self, arrival: Arrival, watermark_ms: int) -> bool:
        """Fold an event that came behind ``watermark_ms``, up to which time has been advanced.

        Returns whether it counted: False for a duplicate, which changed nothing.

        It enters every additive count in its own pane. It is activity only if it is newer than the
        customer's last; then the remembered distinct counts and the returns of the boundaries
        already passed are corrected. It never opens, extends or splits a session; an order marks a
        session that is still open and had started by then.
        """
        at, _, event, micros, _, _, digest, cell = arrival
        timeline, identity = self.timeline, name_in(arrival)
        if timeline.observed_from_ms is None:
            timeline.start(at)
            timeline.advance(watermark_ms)
        customer = self.find(identity) or self._new(identity, cell)
        if not self.recent_ids.accept(
            customer.slot, touched_ms=customer.touched, now_ms=watermark_ms, digest=digest
        ):
            return False
        if self.is_tracked:
            self.touched.append(customer)
        timeline.observed_from_ms = min(
            timeline.observed_from_ms or at, at // self._base * self._base
        )
        customer.touched = max(customer.touched, at)
        self._journey.expire(customer, watermark_ms)
        if cell != NO_ATTRIBUTES:
            self._take_attributes(customer, event, cell, at)
        kind = event.kind
        is_activity = (
            self._views_are_activity
            if kind is PageViewed
            else self._orders_are_activity
            if kind is OrderPlaced
            else kind in self._active_kinds
        )
        if (
            kind is OrderPlaced
            and NO_SESSION < customer.session_start <= at
            and self._session_due(customer) >= watermark_ms
        ):
            # Before anything expires: 24 h after its start, to the millisecond, the session still
            # takes the order.
            customer.session_converted = CONVERTED
        is_newest = is_activity and at > customer.last_activity
        if is_newest:
            self._be_active_late(customer, at, watermark_ms)
        stage = _AWARE
        if isinstance(event, View):
            if at > customer.last_visit:
                self._move_visit_and_order(customer, visit=at, order=customer.last_order)
                timeline.touch(at)
            timeline.count(at, Additive.PAGE_VIEWS, customer.cell)
        elif kind is OrderPlaced:
            self._order_late(customer, at, micros)
            stage = self._stage_of_orders(customer)
        elif kind is not SessionEnded:
            stage = self._count_other(customer, event, at, micros, now_ms=watermark_ms)
        if is_newest or stage > _AWARE or customer.stage == NOWHERE:
            self._journey.reach(customer, stage, watermark_ms, is_activity=is_newest)
        timeline.note_late(watermark_ms)
        return True

    def _be_active_late(self, customer: Customer, at: int, watermark_ms: int) -> None:
        """The customer's last activity moves to ``at``, which boundaries already passed."""
        self._expire_session(customer, watermark_ms)
        timeline, seen = self.timeline, self.timeline.seen
        old, last = customer.cell, customer.last_activity
        if customer.target != old:
            self._move(customer, at)
        cell = customer.cell
        seen.change(Mark.ACTIVE, last, cell, -1)
        seen.change(Mark.ACTIVE, at, cell, 1)
        if last // DAY_MS == at // DAY_MS:
            seen.change(Mark.DAY, last, cell, -1)
        seen.change(Mark.DAY, at, cell, 1)
        if last == NEVER:
            customer.first_activity = at
            seen.change(Mark.FIRST_ACTIVE, at, cell, 1)
        for cohort in timeline.cohorts:
            size = cohort.size_ms
            cohort.change_distinct(after_ms=at, until_ms=at + size, cell=cell, by=1)
            if last != NEVER:
                cohort.change_distinct(after_ms=at, until_ms=last + size, cell=old, by=-1)
                cohort.change_return(back_ms=at, last_ms=last, cell=cell, by=1)
        if last != NEVER and at - last > self._sizes[0]:
            customer.returns = self._returned(at, last, customer.returns)
        customer.last_activity = at
        timeline.touch(at)

    def _order_late(self, customer: Customer, at: int, micros: int) -> None:
        timeline, seen, cell = self.timeline, self.timeline.seen, customer.cell
        if at > customer.last_order:
            self._move_visit_and_order(customer, visit=customer.last_visit, order=at)
        timeline.touch(at)
        timeline.count(at, Additive.ORDERS, cell)
        if micros:
            timeline.count(at, Additive.REVENUE_MICROS, cell, micros)
        self._lifetime.order(customer, micros, is_late=at < timeline.pane_start)
        first = customer.first_order
        if first == NEVER or at < first:
            seen.change(Mark.FIRST_BOUGHT, first, cell, -1)
            seen.change(Mark.FIRST_BOUGHT, at, cell, 1)
            if first != NEVER:
                timeline.count(first, Additive.REPEAT_ORDERS, customer.first_order_cell)
            customer.first_order = at
            customer.first_order_cell = cell
        else:
            timeline.count(at, Additive.REPEAT_ORDERS, cell)

    def _move_visit_and_order(self, customer: Customer, *, visit: int, order: int) -> None:
        """Last view and last order move to these moments, and with them the earlier of the two."""
        seen, cell = self.timeline.seen, customer.cell
        for mark, before, after in (
            (Mark.VISITED, customer.last_visit, visit),
            (Mark.BOUGHT, customer.last_order, order),
            (
                Mark.VISITED_AND_BOUGHT,
                min(customer.last_visit, customer.last_order),
                min(visit, order),
            ),
        ):
            if before != after:
                seen.change(mark, before, cell, -1)
                seen.change(mark, after, cell, 1)
        customer.last_visit, customer.last_order = visit, order

    # -- snapshot

    def rows_of(self, names: list[str]) -> list[bytes | None]:
        """The rows of these customers as they are now; None for one who isn't there."""
        found = list(map(self.customers.get, names))
        here = [customer for customer in found if customer is not None] if None in found else found
        rows: Iterable[bytes | None] = self._pack(here, self.recent_ids)  # type: ignore[arg-type]
        if len(here) == len(found):
            return list(rows)
        packed, rows = self.packed.get, iter(rows)
        return [
            packed(name) if customer is None else next(rows)
            for name, customer in zip(names, found, strict=True)
        ]

    def _pack(self, customers: list[Customer], recent: RecentIds | None) -> list[bytes]:
        gap = self._gap
        dues: list[int] = []
        # Without min() and max(), which cost 80 ns each: of 20,000 rows a second it is felt.
        for customer in customers:
            due = NOT_DUE
            start, stage = customer.session_start, customer.stage
            if start >= 0:
                due = customer.session_last + gap
                if due > start + LONGEST_SESSION_MS:  # noqa: PLR1730
                    due = start + LONGEST_SESSION_MS
            if NOWHERE < stage < _LAPSED:
                silent_from, stage_at = customer.last_activity, customer.stage_at
                lapse = (stage_at if stage_at > silent_from else silent_from) + LAPSE_MS  # noqa: FURB136
                if lapse < due:  # noqa: PLR1730
                    due = lapse
            dues.append(due)
        return pack(customers, dues, recent)

    def load(self, rows: dict[str, bytes]) -> None:
        """Take the customers of these rows into a fresh state. Their timers are armed; nothing else
        of a row is read before the customer is touched.
        """
        self.packed = rows
        dues = dues_of(rows.values())
        names = list(rows)
        places = np.flatnonzero(dues != NOT_DUE)
        arm = self._journey.wheel.arm
        for place, pane in zip(places.tolist(), (dues[places] // self._base).tolist(), strict=True):
            # Whichever comes first: the timer of a session is armed when this one fires.
            arm(pane, names[place])

    # -- customers

    def find(self, identity: str) -> Customer | None:
        """A known customer, unpacked if need be."""
        customer = self.customers.get(identity)
        if customer is not None:
            return customer
        if (row := self.packed.pop(identity, None)) is not None:
            customer = self.customers[identity] = unpack(identity, row, self.recent_ids)
        elif (kept := self.evicted.take(identity)) is not None:
            customer = self._new(identity, NO_ATTRIBUTES)
            for name, value in kept.items():
                setattr(customer, name, value)
            if self.is_tracked:
                self.touched.append(customer)
        return customer

    def put_away(self, *, looked_at: int, moved: int) -> None:
        """Let those who are silent take less memory; no figure changes, now or when they return.

        Whoever is silent for longer than anything looks back at single customers is *evicted*: a
        compact row stays, in memory and in what is durable. Whoever is silent for so long that their
        event ids are forgotten is packed as a row, as if they had been restored.

        Looks at ``looked_at`` customers and moves ``moved`` of each kind at most, so that it costs
        little at a time. Once everybody was looked at, it begins again after `SWEEP_EVERY_MS`.
        """
        now = self.timeline.pane_start
        if not self._sweep:
            if now < self._next_sweep_ms or now == NEVER:
                return
            self._next_sweep_ms = now + SWEEP_EVERY_MS
            self._sweep = [*self.packed, *self.customers]
        horizon, rests = now - self._retention_ms, now - SILENCE_MS
        sweep, customers, packed = self._sweep, self.customers, self.packed
        silent: list[str] = []
        resting: list[Customer] = []
        for name in sweep[-looked_at:]:
            customer = customers.get(name)
            if customer is None:
                if (row := packed.get(name)) is not None and touched_of(row) < horizon:
                    silent.append(name)
            elif customer.touched < horizon:
                silent.append(name)
            elif customer.touched < rests and not customer.is_armed:
                resting.append(customer)
        del sweep[-looked_at:]
        sweep += silent[moved:]
        for name in silent[:moved]:
            self._evict(name)
        self._rest(resting[:moved])

    def _rest(self, customers: list[Customer]) -> None:
        """Pack those who are silent and for whom no timer runs; their event ids are forgotten."""
        for customer, row in zip(customers, self._pack(customers, None), strict=True):
            self.packed[customer.id] = row
            del self.customers[customer.id]
            self.recent_ids.release(customer)

    def _may_leave(self, customer: Customer) -> bool:
        """Whether nothing is open: no session, no timer, no ticket, no way on in the journey."""
        contact = customer.contact
        return (
            customer.session_start == NO_SESSION
            and not customer.is_armed
            and customer.stage == _LAPSED
            and (contact is None or contact.is_over(self.timeline.pane_start))
        )

    def _evict(self, identity: str) -> None:
        customer = self.find(identity)
        if customer is None or not self._may_leave(customer):
            return
        self.evicted.put(customer)
        del self.customers[identity]
        self.recent_ids.release(customer)
        if self.is_tracked:
            self.touched.append(customer)

    def _meet(self, arrivals: Sequence[Arrival], met: list[Customer]) -> list[int]:
        """Put customers into ``met`` where only their names are known, and all their slots."""
        for i, arrival in enumerate(arrivals):
            known = arrival[CUSTOMER]
            if isinstance(known, str) or known.slot == NO_SLOT:
                identity = name_in(arrival)
                met[i] = self.find(identity) or self._new(identity, arrival[CELL])
        return list(map(_slot_of, met))

    def _new(self, identity: str, cell: int) -> Customer:
        """A customer whose first event carries the attributes of ``cell``, as far as it is one."""
        if cell < 0:
            cell = self._nowhere
        customer = Customer(identity, slot=self.recent_ids.take_slot(), cell=cell)
        self.customers[identity] = customer
        return customer

    def forget(self, identity: str, at_ms: int) -> None:
        """Delete all that is known of a customer; everything older than ``at_ms`` was folded.

        What was counted stays counted, as if they had been somebody who never comes back: marks
        grow old where they stand, and nothing is taken out twice. Whoever comes back under this
        name is new. An open session closes here: nobody is left to go on with it.
        """
        if at_ms >= self.timeline.pane_end:
            self.timeline.advance(at_ms)
        customer = self.find(identity)
        if customer is None:
            return
        del self.customers[identity]
        if customer.session_start != NO_SESSION:
            self._close_session(customer)
        if customer.is_armed:
            self._wheel.remove(customer)
        self._journey.forget(customer)
        if (contact := customer.contact) is not None and (backlog := contact.open_tickets):
            self._pane.stock(Stock.OPEN_TICKETS, customer.cell, -backlog)
        self.recent_ids.release(customer)
        if self.is_tracked:
            self.touched.append(customer)
            self.forgotten.append(identity)

    def _take_attributes(self, customer: Customer, event: Event | View, cell: int, at: int) -> None:
        """The newest value of each dimension by event time decides the cell the customer will
        take; ``cell`` is that of the arrival.
        """
        if not isinstance(event, View):
            told = self._told_by(event)
        elif event.told is not None:
            told = event.told
        else:
            told = self.config.segments.told_in(cell)
        self._take(customer, told, at)
        if customer.last_activity == NEVER and customer.target != customer.cell:
            # Before the first activity a change takes effect at once; an order may have left marks
            # all the same.
            self._move(customer, at)

    def _move(self, customer: Customer, at: int) -> None:
        """The customer's marks go over to the target cell; additive counts stay where they were
        counted.
        """
        old, new = customer.cell, customer.target
        self._journey.expire(customer, at)
        customer.cell = new
        self._journey.change_cell(customer, old, new)
        self._lifetime.change_cell(customer, old, new)
        if customer.contact is not None:
            self._move_contact(customer.contact, old, new)
        if customer.last_visit == customer.last_order == customer.last_activity == NEVER:
            return
        seen = self.timeline.seen
        last, visit, order = customer.last_activity, customer.last_visit, customer.last_order
        marks = [
            (Mark.ACTIVE, last),
            (Mark.VISITED, visit),
            (Mark.BOUGHT, order),
            (Mark.VISITED_AND_BOUGHT, min(visit, order)),
            (Mark.FIRST_ACTIVE, customer.first_activity),
            (Mark.FIRST_BOUGHT, customer.first_order),
        ]
        if last != NEVER and last // DAY_MS == at // DAY_MS:
            marks.append((Mark.DAY, last))
        for mark, moment in marks:
            seen.change(mark, moment, old, -1)
            seen.change(mark, moment, new, 1)
        pending = customer.returns
        while pending is not None:
            back, before, pending = pending
            for cohort in self.timeline.cohorts:
                cohort.change_return(back_ms=back, last_ms=before, cell=old, by=-1)
                cohort.change_return(back_ms=back, last_ms=before, cell=new, by=1)

    def _move_contact(self, contact: Contact, old: int, new: int) -> None:
        seen, backlog = self.timeline.seen, contact.open_tickets
        for cell, sign in ((old, -1), (new, 1)):
            seen.change(Mark.SOCIAL, contact.last_social, cell, sign)
            seen.change(contact.answer, contact.answered_at, cell, sign)
            if backlog:
                self._pane.stock(Stock.OPEN_TICKETS, cell, sign * backlog)

    def _returned(self, at: int, last: int, older: Return | None) -> Return:
        """Remember a return, and of the older ones those that some window still counts."""
        sizes = self._sizes
        while older is not None:
            back, before, rest = older
            # A window counts the older return while it is longer than the time since and shorter
            # than that silence.
            longer = bisect_right(sizes, at - back)
            if longer < len(sizes) and sizes[longer] < back - before:
                break
            older = rest
        return at, last, older

    # -- sessions

    def _open_session(self, customer: Customer, view: View, at: int) -> None:
        before = customer.last_session_start
        cell = customer.cell
        if before != NEVER:
            pane = self._pane
            pane.counted.append(Additive.VISIT_INTERVALS * self._cells + cell)
            pane.sum(Additive.VISIT_INTERVAL_MS, cell, at - before)
        channel = view.channel
        self._pane.started.append(cell * self._channels + channel)
        customer.last_session_start = customer.session_start = customer.session_last = at
        customer.session_pages = 1
        customer.session_converted = 0
        customer.session_channel = channel
        customer.session_id = view.session_id
        if not customer.is_armed:
            customer.is_armed = True
            self._wheel.arm((at + min(self._gap, LONGEST_SESSION_MS)) // self._base, customer)
        self._journey.reach(
            customer,
            _AWARE if before == NEVER else _ENGAGED,
            at,
            is_activity=self._views_are_activity,
        )

    def _expire_session(self, customer: Customer, at: int) -> None:
        """Close a session that was over before ``at``."""
        start = customer.session_start
        if start >= 0 and (
            at - customer.session_last > self._gap or at - start >= LONGEST_SESSION_MS
        ):
            self._close_session(customer)

    def _close_session(self, customer: Customer) -> None:
        """The session closes in the open pane, in the customer's cell."""
        bounced = BOUNCED if customer.session_pages == 1 else 0
        self._pane.closed.append(
            (customer.cell * self._channels + customer.session_channel) * 4
            + customer.session_converted
            + bounced
        )
        self._pane.closed_ms.append(customer.session_last - customer.session_start)
        customer.session_start = NO_SESSION
        customer.session_id = None

    def _fire_timers(self, end: int) -> None:
        """Who was silent for too long before ``end`` lapses; sessions that fell silent before it
        close; what went on is armed again.
        """
        lapsing = self._taken(self._journey.wheel, end)
        self._journey.fire(lapsing, end)
        for customer in lapsing:
            if customer.session_start != NO_SESSION and not customer.is_armed:
                # Restored with its session open.
                customer.is_armed = True
                self._wheel.arm(self._session_due(customer) // self._base, customer)
        due_now = self._taken(self._wheel, end)
        for customer in due_now:
            customer.is_armed = False
            if customer.session_start == NO_SESSION:
                continue
            due = self._session_due(customer)
            if due < end:
                self._close_session(customer)
            else:
                customer.is_armed = True
                self._wheel.arm(due // self._base, customer)

    def _taken(self, wheel: Wheel, end: int) -> list[Customer]:
        """Everybody whose timer comes before ``end``."""
        taken = (
            self.find(one) if isinstance(one, str) else one
            for one in wheel.take(end // self._base - 1)
        )
        found = [customer for customer in taken if customer is not None]
        if self.is_tracked:
            self.touched += found
        return found

    def _session_due(self, customer: Customer) -> int:
        """When the open session closes if nothing more happens."""
        return min(customer.session_last + self._gap, customer.session_start + LONGEST_SESSION_MS)

    def _next_due_ms(self) -> int | None:
        panes = [
            pane
            for wheel in (self._wheel, self._journey.wheel)
            if (pane := wheel.next_pane()) is not None
        ]
        return min(panes) * self._base if panes else None
