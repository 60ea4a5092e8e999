"""What a visit leads to: page views, orders, refunds, subscriptions, social interactions, support.

A visit writes all its events at once, follow-ups of the coming days included: nothing later changes
them. Only what depends on the customer still being there (the next visit, a renewal) is asked for
again in time.
"""

from __future__ import annotations

import datetime
from random import Random
from typing import NamedTuple

from agents.simulation.configuration import Configuration
from agents.simulation.customers import CHANNEL_POOL, Customer
from agents.simulation.personas import (
    DAY_MS,
    DEVICES,
    HOUR_MS,
    MAX_DWELL_MS,
    NETWORK_ACTIONS,
    NETWORKS,
    NO_REPLY_SHARE,
    PAGES,
    SUBSCRIPTION_AMOUNT,
    SUPPORT_CHANNELS,
    UNRESOLVED_SHARE,
)
from schemas.topics import Source

SESSIONS, PURCHASES, SOCIAL, SUPPORT = (int(source) for source in Source)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
OFFLINE_SHARE = 0.01
"""Visits that are an order in a store, outside any session."""
SESSION_ENDED_SHARE = 0.35
NPS_SHARE = 0.01


class Happening(NamedTuple):
    """One true event. Sorts in the order in which it is folded: event time, source, number."""

    at_ms: int
    source: int
    number: int
    kind: str
    """Its ``type``."""
    customer: Customer
    detail: str
    """Session id of a view or a ``session_ended``; CSAT or NPS score; otherwise empty."""
    amount_micros: int
    members: str
    """The JSON members after ``type``, ``event_id`` and ``occurred_at``."""


def rfc3339(at_ms: int) -> str:
    """``at_ms`` as RFC 3339 in UTC, with milliseconds only where there are any."""
    moment = EPOCH + datetime.timedelta(milliseconds=at_ms)
    spec = "milliseconds" if at_ms % 1000 else "seconds"
    return moment.isoformat(timespec=spec).replace("+00:00", "Z")


class Behaviour:
    """Draws what customers do. Owns the numbering of events."""

    def __init__(self, configuration: Configuration, random: Random) -> None:
        """All chance comes from ``random``, in the order of the calls."""
        self._configuration = configuration
        self._scenario = configuration.scenario
        self._random = random
        self._number = 0
        self._tempo = configuration.tempo

    def visit(self, customer: Customer, at_ms: int) -> tuple[int, list[Happening]]:
        """A visit that begins at ``at_ms``: when it is over, and everything that it leads to."""
        random = self._random.random
        persona = customer.persona
        customer.visits += 1
        if random() < OFFLINE_SHARE:
            return at_ms, self._order(customer, at_ms, channel="store")
        channel = customer.channel if random() < 0.7 else self._random.choice(CHANNEL_POOL)
        session = f"{customer.customer_id}.{customer.visits}"
        device = DEVICES[int(random() * len(DEVICES))]
        deep = random() >= persona.bounce
        views = 1
        if deep:
            views = 2 + int(self._random.expovariate(1 / (persona.further_pages + 0.5)))
        found = []
        now_ms = at_ms
        tail = (
            f'{customer.attributes},"session_id":"{session}",'
            f'"channel":"{channel}","device":"{device}","page":"'
        )
        for view in range(views):
            if view:
                now_ms += self._dwell(customer)
            page = PAGES[int(random() * len(PAGES))]
            found.append(
                self._happening(
                    now_ms, SESSIONS, "page_viewed", customer, f'{tail}{page}"', session
                )
            )
        if deep:
            if random() < self._scenario.conversion(at_ms, persona.conversion):
                now_ms += self._dwell(customer)
                found += self._order(customer, now_ms, channel=channel)
            if random() < SESSION_ENDED_SHARE:
                now_ms += self._dwell(customer)
                members = f'{customer.attributes},"session_id":"{session}"'
                found.append(
                    self._happening(now_ms, SESSIONS, "session_ended", customer, members, session)
                )
        if random() < persona.social:
            found.append(self._social(customer, now_ms + self._dwell(customer)))
        if random() < self._scenario.tickets(at_ms, persona.ticket):
            found += self._ticket(customer, now_ms + self._dwell(customer))
        if random() < NPS_SHARE:
            score = self._answer(customer, 10)
            members = f'{customer.attributes},"score":{score}'
            found.append(
                self._happening(now_ms, SUPPORT, "nps_answered", customer, members, str(score))
            )
        return now_ms, found

    def renewal(self, customer: Customer, at_ms: int) -> Happening:
        """The subscription goes on, or is cancelled (which `Customer.subscribed` then says)."""
        gone = at_ms >= customer.ends_ms
        customer.subscribed = self._random.random() >= (1.0 if gone else 0.1)
        if customer.subscribed:
            return self._subscription("subscription_renewed", customer, at_ms)
        reason = "unused" if gone else "price"
        return self._happening(
            at_ms,
            PURCHASES,
            "subscription_cancelled",
            customer,
            f'{customer.attributes},"plan":"plus","reason":"{reason}"',
        )

    def _dwell(self, customer: Customer) -> int:
        return 1 + min(MAX_DWELL_MS, int(self._random.expovariate(1 / customer.dwell_ms)))

    def _later(self, mean_ms: int) -> int:
        """A delay of natural mean ``mean_ms``, at the tempo of the simulation."""
        return 1 + int(self._random.expovariate(self._tempo / mean_ms))

    def _answer(self, customer: Customer, top: int) -> int:
        """A score from 0 (CSAT: 1) to ``top``, around the persona's satisfaction."""
        score = round(self._random.gauss(customer.persona.satisfaction, 0.2) * top)
        return max(0 if top == 10 else 1, min(top, score))

    def _order(self, customer: Customer, at_ms: int, *, channel: str) -> list[Happening]:
        persona = customer.persona
        median = self._scenario.basket(at_ms, persona.basket)
        cents = int(100 * median * self._random.lognormvariate(0, 0.6))
        amount = f"{cents // 100}.{cents % 100:02d}"
        order = f"o{customer.number}.{self._number}"
        money = f'"order_id":"{order}","amount":{amount},"currency":"USD"'
        found = [
            self._happening(
                at_ms,
                PURCHASES,
                "order_placed",
                customer,
                f'{customer.attributes},{money},"channel":"{channel}"',
                amount_micros=cents * 10_000,
            )
        ]
        if self._random.random() < persona.refund:
            found.append(
                self._happening(
                    at_ms + self._later(5 * DAY_MS),
                    PURCHASES,
                    "order_refunded",
                    customer,
                    f"{customer.attributes},{money}",
                    amount_micros=cents * 10_000,
                )
            )
        if not customer.subscribed and self._random.random() < persona.subscription:
            customer.subscribed = True
            found.append(self._subscription("subscription_started", customer, at_ms + 1))
        return found

    def _subscription(self, kind: str, customer: Customer, at_ms: int) -> Happening:
        money = f'"plan":"plus","amount":"{SUBSCRIPTION_AMOUNT}","currency":"USD"'
        return self._happening(at_ms, PURCHASES, kind, customer, f"{customer.attributes},{money}")

    def _social(self, customer: Customer, at_ms: int) -> Happening:
        network = NETWORKS[int(self._random.random() * len(NETWORKS))]
        action = self._random.choice(NETWORK_ACTIONS)
        sentiment = self._random.gauss(2 * customer.persona.satisfaction - 1, 0.4)
        members = f'{customer.attributes},"network":"{network}","action":"{action}"'
        if action in {"comment", "mention", "share"}:
            members += f',"sentiment":{max(-1.0, min(1.0, sentiment)):.3f}'
            members += f',"impressions":{int(self._random.expovariate(1 / 200))}'
        return self._happening(at_ms, SOCIAL, "social_interacted", customer, members, action)

    def _ticket(self, customer: Customer, at_ms: int) -> list[Happening]:
        random = self._random.random
        ticket = f"t{customer.number}.{self._number}"
        named = f'{customer.attributes},"ticket_id":"{ticket}"'
        channel = SUPPORT_CHANNELS[int(random() * len(SUPPORT_CHANNELS))]
        opened = f'{named},"channel":"{channel}","priority":"normal"'
        found = [self._happening(at_ms, SUPPORT, "ticket_opened", customer, opened)]
        now_ms = at_ms + self._later(2 * HOUR_MS)
        if random() >= NO_REPLY_SHARE:
            found.append(self._happening(now_ms, SUPPORT, "ticket_replied", customer, named))
        if random() < UNRESOLVED_SHARE:
            return found
        now_ms += self._later(8 * HOUR_MS)
        found.append(self._happening(now_ms, SUPPORT, "ticket_resolved", customer, named))
        if random() < 0.2:
            now_ms += self._later(12 * HOUR_MS)
            found.append(self._happening(now_ms, SUPPORT, "ticket_reopened", customer, named))
            now_ms += self._later(24 * HOUR_MS)
            found.append(self._happening(now_ms, SUPPORT, "ticket_resolved", customer, named))
        if random() < 0.67:
            scale = 5 if random() < 0.8 else 10
            score = self._answer(customer, scale)
            members = f'{named},"channel":"{channel}","score":{score},"scale_max":{scale}'
            found.append(
                self._happening(
                    now_ms + self._later(HOUR_MS),
                    SUPPORT,
                    "csat_answered",
                    customer,
                    members,
                    f"{score}/{scale}",
                )
            )
        return found

    def _happening(
        self,
        at_ms: int,
        source: int,
        kind: str,
        customer: Customer,
        members: str,
        detail: str = "",
        amount_micros: int = 0,
    ) -> Happening:
        self._number += 1
        return Happening(
            at_ms, source, self._number, kind, customer, detail, amount_micros, members
        )
