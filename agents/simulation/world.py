"""The simulation itself: who visits when, and what comes out in which order.

Time goes forward in slices. In each one, first every visit that begins in it happens, which may
write events into it and into later slices; then its events are known completely, are counted by the
truth in event-time order and handed to the disturbance, which may put records into this and later
slices; then the records that arrive in it are handed out. So memory holds only what is still under
way. The width of a slice changes nothing in what comes out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from random import Random
from typing import Generic, TypeVar

from agents.simulation.behaviour import Behaviour, Happening, rfc3339
from agents.simulation.configuration import Configuration
from agents.simulation.customers import Customer
from agents.simulation.disturbance import MAX_DELAY_MS, Disturbance, Record
from agents.simulation.personas import PERSONAS, REGIONS, RENEWAL_MS
from agents.simulation.rhythm import Rhythm
from agents.simulation.truth import Truth

VISIT = 0
RENEWAL = 1
BIRTH = 2
MIN_SLICE_MS = 100
MAX_SLICE_MS = 60_000
RECORDS_A_SLICE = 2_000

Item = TypeVar("Item", Happening, Record)


class Slices(Generic[Item]):
    """Items by the slice of time in which they are due."""

    def __init__(self, width_ms: int) -> None:
        """Slice n is ``[n * width_ms, (n + 1) * width_ms)``."""
        self._width_ms = width_ms
        self._items: dict[int, list[Item]] = {}
        self._due: list[int] = []

    def add(self, item: Item) -> None:
        """``item[0]`` says when it is due."""
        number = item[0] // self._width_ms
        items = self._items.get(number)
        if items is None:
            self._items[number] = items = []
            heapq.heappush(self._due, number)
        items.append(item)

    def first(self) -> int | None:
        """The number of the earliest slice that holds anything."""
        return self._due[0] if self._due else None

    def take_until(self, number: int) -> list[Item]:
        """All items of slices up to and including ``number``, in order."""
        taken: list[Item] = []
        while self._due and self._due[0] <= number:
            taken += sorted(self._items.pop(heapq.heappop(self._due)))
        return taken


class World:
    """One simulation. Iterate `records` once; `truth` then knows what really happened."""

    def __init__(self, configuration: Configuration) -> None:
        """Draw the customers who are alive at the start."""
        self._configuration = configuration
        self._random = Random(configuration.seed)
        self._rhythms = [
            Rhythm(utc_offset_hours=hours, flat=configuration.flat) for _, _, hours in REGIONS
        ]
        self._behaviour = Behaviour(configuration, self._random)
        # A generator of its own: records that are lost or repeated must not change what customers
        # do.
        self._disturbance = Disturbance(configuration, Random(configuration.seed + 1_000_003))
        self.truth = Truth()
        self._agenda: list[tuple[int, int, int, Customer | None]] = []
        self._entries = 0
        self._born = 0
        self.ended_ms = configuration.start_ms
        """The end of the run, once `records` is exhausted: no event lies at or after it."""
        share_leaving = sum(persona.share / persona.lifetime_ms for persona in PERSONAS)
        self._birth_interval_ms = 1 / (
            configuration.customers * share_leaving * configuration.tempo
        )

    def records(self) -> Iterator[list[Record]]:
        """The records in order of arrival, in chunks that arrive within one slice."""
        configuration = self._configuration
        start_ms = configuration.start_ms
        width_ms = self._slice_width()
        happenings: Slices[Happening] = Slices(width_ms)
        arrivals: Slices[Record] = Slices(width_ms)
        self._populate()
        end_ms = configuration.end_ms
        left = configuration.max_records
        while True:
            first = happenings.first()
            number = self._agenda[0][0] // width_ms
            number = number if first is None else min(number, first)
            slice_end_ms = (number + 1) * width_ms
            self._live_until(slice_end_ms, happenings)
            for happening in happenings.take_until(number):
                at_ms = happening.at_ms
                if at_ms < start_ms:
                    continue
                if (end_ms is not None and at_ms >= end_ms) or (left is not None and left <= 0):
                    break
                self.truth.count(happening)
                records = self._disturbance.records(happening)
                if left is not None:
                    records = records[:left]
                    left -= len(records)
                    self.ended_ms = max(self.ended_ms, at_ms + 1)
                for record in records:
                    arrivals.add(record)
            over = left is not None and left <= 0
            if over or (end_ms is not None and slice_end_ms >= end_ms):
                break
            if chunk := arrivals.take_until(number):
                yield chunk
        if not over and end_ms is not None:
            self.ended_ms = end_ms
        self.ended_ms = max(self.ended_ms, start_ms)
        self.truth.finish(self.ended_ms)
        rest = sorted(self._in_time(record) for record in arrivals.take_until(2**62))
        for index in range(0, len(rest), RECORDS_A_SLICE):
            yield rest[index : index + RECORDS_A_SLICE]

    def _in_time(self, record: Record) -> Record:
        """What is still under way at the end arrives then; its lateness is what it is by then."""
        early_ms = record.arrival_ms - self.ended_ms
        if early_ms <= 0:
            return record
        note = record.note
        if note is not None and "late_ms" in note:
            late_ms = int(note["late_ms"]) - early_ms
            note = {**note, "late_ms": late_ms} if late_ms > MAX_DELAY_MS else None
        return record._replace(arrival_ms=self.ended_ms, note=note)

    def description(self) -> dict[str, object]:
        """What the records depend on, for the head of the truth file."""
        configuration = self._configuration
        return {
            "seed": configuration.seed,
            "start": rfc3339(configuration.start_ms),
            "end": None if configuration.end_ms is None else rfc3339(configuration.end_ms),
            "max_records": configuration.max_records,
            "customers": configuration.customers,
            "tempo": configuration.tempo,
            "scenario": configuration.scenario.name,
            "scenario_start": rfc3339(configuration.scenario.start_ms),
            "scenario_end": rfc3339(configuration.scenario.end_ms),
            "late_share": configuration.late_share,
            "duplicate_share": configuration.duplicate_share,
            "malformed_share": configuration.malformed_share,
        }

    def _slice_width(self) -> int:
        per_second = self._configuration.expected_rate()
        return max(MIN_SLICE_MS, min(MAX_SLICE_MS, int(RECORDS_A_SLICE * 1000 / per_second)))

    def _populate(self) -> None:
        start_ms = self._configuration.start_ms - self._configuration.warm_up_ms()
        for _ in range(self._configuration.customers):
            customer = self._bear(start_ms, newborn=False)
            # The rest of an interval that somebody steps into is a uniform part of one that is
            # drawn with a chance in proportion to its length: gamma of shape + 1.
            shape = customer.persona.regularity
            interval_ms = customer.interval_ms * self._random.gammavariate(shape + 1, 1 / shape)
            wait_ms = self._random.random() * interval_ms
            self._plan_visit(customer, start_ms, customer.rhythm.later(start_ms, wait_ms))
        self._plan_birth(start_ms)

    def _bear(self, at_ms: int, *, newborn: bool) -> Customer:
        customer = Customer(
            self._configuration,
            self._rhythms,
            self._random,
            self._born,
            born_ms=at_ms,
            newborn=newborn,
        )
        self._born += 1
        self.truth.born(customer)
        return customer

    def _plan(self, at_ms: int, what: int, customer: Customer | None) -> None:
        self._entries += 1
        heapq.heappush(self._agenda, (at_ms, self._entries, what, customer))

    def _plan_birth(self, now_ms: int) -> None:
        wait_ms = self._random.expovariate(1 / self._birth_interval_ms)
        self._plan(self._rhythms[0].later(now_ms, wait_ms), BIRTH, None)

    def _plan_visit(self, customer: Customer, now_ms: int, planned_ms: int) -> None:
        scenario = self._configuration.scenario
        at_ms = scenario.next_visit(
            self._random, customer.persona.name, now_ms=now_ms, planned_ms=planned_ms
        )
        if at_ms < customer.ends_ms:
            self._plan(max(at_ms, now_ms + 1), VISIT, customer)

    def _live_until(self, until_ms: int, happenings: Slices[Happening]) -> None:
        agenda = self._agenda
        while agenda[0][0] < until_ms:
            at_ms, _, what, customer = heapq.heappop(agenda)
            if customer is None:
                self._plan_visit(self._bear(at_ms, newborn=True), at_ms - 1, at_ms)
                self._plan_birth(at_ms)
            elif what == RENEWAL:
                happenings.add(self._behaviour.renewal(customer, at_ms))
                if customer.subscribed:
                    self._plan_renewal(customer, at_ms)
            else:
                self._visit(customer, at_ms, happenings)

    def _visit(self, customer: Customer, at_ms: int, happenings: Slices[Happening]) -> None:
        random = self._random
        if random.random() < self._configuration.move_share:
            if random.random() < 0.5:
                customer.move_to(int(random.random() * len(REGIONS)), self._rhythms)
            else:
                customer.show_as(random.choice(PERSONAS).name)
        subscribed = customer.subscribed
        over_ms, found = self._behaviour.visit(customer, at_ms)
        for happening in found:
            happenings.add(happening)
        if customer.subscribed and not subscribed:
            self._plan_renewal(customer, over_ms)
        shape = customer.persona.regularity
        wait_ms = customer.interval_ms * random.gammavariate(shape, 1 / shape)
        self._plan_visit(customer, over_ms, customer.rhythm.later(over_ms, wait_ms))

    def _plan_renewal(self, customer: Customer, at_ms: int) -> None:
        self._plan(at_ms + 1 + int(RENEWAL_MS / self._configuration.tempo), RENEWAL, customer)
