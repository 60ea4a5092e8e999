"""Support: what is known of a ticket, for how long, and what its events count as."""

from __future__ import annotations

import pytest

from streams.config import CoreConfig
from streams.contacts import MAX_TICKETS, REMEMBERED_MS, Contact, Ticket
from streams.segments import Segments, Values, dimensions
from streams.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSet
from tests.rig.told import T0, Told

CONFIG = CoreConfig(
    windows=WindowSet.of([Window.parse("1h/10m"), Window.parse("100d/10m")]),
    segments=Segments(
        customer=dimensions(persona=("a", "b"), region=()), support=Values(("chat", "mail"))
    ),
)
END = T0 + HOUR_MS
ALL = 1
"""The window that holds everything."""


@pytest.fixture
def told() -> Told:
    return Told(CONFIG)


def backlog(told: Told, at_ms: int, **labels: str) -> object:
    return told.at("ticket_backlog", at_ms, 0, **labels).value


def test_a_ticket_is_in_the_backlog_from_opening_to_resolution_and_again_when_reopened(
    told: Told,
) -> None:
    for minutes, kind in enumerate(("opened", "resolved", "reopened", "resolved")):
        told.tell(f"ticket_{kind}", "c", T0 + 10 * minutes * MINUTE_MS)

    found = [backlog(told, T0 + minutes * MINUTE_MS) for minutes in (10, 20, 30, 40, 50)]
    assert found == [1, 0, 1, 0, 0]
    assert backlog(told, T0) == 0  # the opening at t is not before t


def test_events_count_in_the_channel_of_the_opening(told: Told) -> None:
    told.tell("ticket_opened", "c", T0, channel="mail")
    told.tell("ticket_resolved", "c", T0 + 1)
    told.tell("ticket_reopened", "c", T0 + 2)
    told.tell("ticket_opened", "c", T0, ticket_id="u", channel="letter")

    for name in ("tickets_opened", "tickets_resolved", "tickets_reopened"):
        assert told.at(name, END, channel="mail").value == 1
    assert told.at("tickets_opened", END, channel="other").value == 1


def test_an_unknown_ticket_counts_under_unknown_and_nowhere_else(told: Told) -> None:
    told.tell("ticket_replied", "c", T0)
    told.tell("ticket_resolved", "c", T0)
    told.tell("ticket_reopened", "c", T0)

    assert told.at("tickets_resolved", END, channel="unknown").value == 1
    assert told.at("tickets_reopened", END, channel="unknown").value == 1
    assert backlog(told, END) == 0
    assert told.at("first_reply_seconds", END).n == told.at("resolution_seconds", END).n == 0


def test_a_ticket_belongs_to_its_customer(told: Told) -> None:
    told.tell("ticket_opened", "c", T0)
    told.tell("ticket_resolved", "d", T0 + 1)

    assert told.at("tickets_resolved", END, channel="unknown").value == 1
    assert backlog(told, END) == 1


def test_the_first_reply_counts_once_and_also_after_the_resolution(told: Told) -> None:
    told.tell("ticket_opened", "c", T0)
    told.tell("ticket_resolved", "c", T0 + 1_000)
    told.tell("ticket_replied", "c", T0 + 5_000)
    told.tell("ticket_replied", "c", T0 + 9_000)
    found = told.at("first_reply_seconds", END)

    assert (found.numerator, found.denominator, found.value) == (5, 1, 5)
    assert told.at("first_reply_seconds_p50", END).value == pytest.approx(5, rel=0.01)
    assert told.at("first_reply_seconds_p90", END).n == 1


def test_each_resolution_of_an_open_ticket_is_measured_from_the_opening(told: Told) -> None:
    told.tell("ticket_opened", "c", T0)
    told.tell("ticket_resolved", "c", T0 + 10_000)
    told.tell("ticket_resolved", "c", T0 + 11_000)  # nothing to resolve
    told.tell("ticket_reopened", "c", T0 + 20_000)
    told.tell("ticket_reopened", "c", T0 + 21_000)  # nothing to reopen
    told.tell("ticket_resolved", "c", T0 + 30_000)
    found = told.at("resolution_seconds", END)

    assert (found.numerator, found.n) == (40, 2)
    assert told.at("tickets_resolved", END).value == 3
    assert told.at("tickets_reopened", END).value == 2
    assert backlog(told, END) == 0
    assert told.at("resolution_seconds_p90", END).value == pytest.approx(30, rel=0.01)


def test_opening_a_known_ticket_again_counts_and_changes_nothing_else(told: Told) -> None:
    told.tell("ticket_opened", "c", T0, channel="mail")
    told.tell("ticket_opened", "c", T0 + 1_000, channel="chat")
    told.tell("ticket_resolved", "c", T0 + 10_000)

    assert told.at("tickets_opened", END).value == 2
    assert told.at("tickets_resolved", END, channel="mail").value == 1
    assert told.at("resolution_seconds", END).value == 10
    assert backlog(told, END) == 0


@pytest.mark.parametrize("over, channel", [(0, "chat"), (1, "unknown")])
def test_a_resolved_ticket_is_known_for_90_days_after_its_newest_event(
    told: Told, over: int, channel: str
) -> None:
    told.tell("ticket_opened", "c", T0 - DAY_MS)
    told.tell("ticket_resolved", "c", T0)
    told.tell("ticket_reopened", "c", T0 + REMEMBERED_MS + over)

    end = (T0 + REMEMBERED_MS) // (10 * MINUTE_MS) * 10 * MINUTE_MS + 10 * MINUTE_MS
    assert told.at("tickets_reopened", end, channel=channel).value == 1
    assert backlog(told, end) == (1 if channel == "chat" else 0)


def test_an_open_ticket_is_known_for_ever(told: Told) -> None:
    told.tell("ticket_opened", "c", T0)
    told.tell("ticket_resolved", "c", T0 + 99 * DAY_MS)

    assert told.at("tickets_resolved", T0 + 100 * DAY_MS, window=ALL, channel="chat").value == 1
    assert told.at("resolution_seconds", T0 + 100 * DAY_MS, window=ALL).value == 99 * 86_400


def test_of_64_tickets_the_resolved_one_that_was_quiet_longest_makes_room(told: Told) -> None:
    for number in range(MAX_TICKETS):
        told.tell("ticket_opened", "c", T0 + number, ticket_id=f"t{number}")
    told.tell("ticket_resolved", "c", T0 + 100, ticket_id="t5")
    told.tell("ticket_resolved", "c", T0 + 101, ticket_id="t3")
    told.tell("ticket_opened", "c", T0 + 102, ticket_id="new")
    told.tell("ticket_reopened", "c", T0 + 103, ticket_id="t5")
    told.tell("ticket_reopened", "c", T0 + 104, ticket_id="t3")

    assert told.at("tickets_reopened", END, channel="unknown").value == 1  # t5 is forgotten
    assert told.at("tickets_reopened", END, channel="chat").value == 1
    assert backlog(told, END) == MAX_TICKETS


def test_a_65th_open_ticket_counts_and_is_not_known(told: Told) -> None:
    for number in range(MAX_TICKETS + 1):
        told.tell("ticket_opened", "c", T0 + number, ticket_id=f"t{number}")
    told.tell("ticket_resolved", "c", T0 + 100, ticket_id=f"t{MAX_TICKETS}")

    assert told.at("tickets_opened", END, channel="chat").value == MAX_TICKETS + 1
    assert told.at("tickets_resolved", END, channel="unknown").value == 1
    assert backlog(told, END) == MAX_TICKETS


def test_tickets_are_set_against_a_thousand_active_customers(told: Told) -> None:
    told.tell("page_viewed", "d", T0)
    told.tell("ticket_opened", "c", T0)

    assert told.at("tickets_per_1000_active", END).value == 1_000


def test_the_backlog_goes_with_the_customer_and_the_opening_stays(told: Told) -> None:
    told.tell("ticket_opened", "c", T0, persona="a")
    told.tell("ticket_opened", "c", T0, ticket_id="u")
    told.tell("ticket_resolved", "c", T0 + 1, ticket_id="u")
    told.tell("page_viewed", "c", T0 + 15 * MINUTE_MS, persona="b")

    assert [backlog(told, T0 + 10 * MINUTE_MS, persona=one) for one in "ab"] == [1, 0]
    assert [backlog(told, END, persona=one) for one in "ab"] == [0, 1]
    assert told.at("tickets_opened", END, persona="a").value == 2


def test_late_events_of_a_ticket_count_in_their_own_panes(told: Told) -> None:
    told.pass_time(T0)
    told.send("ticket_opened", "c", T0 + 15 * MINUTE_MS)
    told.pass_time(T0 + 45 * MINUTE_MS)
    told.send("ticket_replied", "c", T0 + 15 * MINUTE_MS + 1_000)
    told.send("ticket_resolved", "c", T0 + 25 * MINUTE_MS)  # in closed panes
    told.send("ticket_opened", "c", T0 + 41 * MINUTE_MS, ticket_id="u")  # in the open one
    told.send("ticket_replied", "c", T0 + 42 * MINUTE_MS, ticket_id="u")
    told.pass_time(T0 + 3 * HOUR_MS)

    assert told.live("first_reply_seconds", END).numerator == 61
    assert told.live("first_reply_seconds_p50", END).value == pytest.approx(1, rel=0.01)
    assert told.live("resolution_seconds", END).value == 600
    assert told.live("resolution_seconds_p50", T0 + 80 * MINUTE_MS).n == 1
    assert told.live("resolution_seconds_p50", T0 + 90 * MINUTE_MS).n == 0
    assert told.live("ticket_backlog", T0 + 40 * MINUTE_MS).value == 1
    assert told.live("ticket_backlog", T0 + 50 * MINUTE_MS).value == 1  # the other one


def test_a_late_event_older_than_the_newest_leaves_the_ticket_as_it_is(told: Told) -> None:
    told.pass_time(T0)
    told.send("ticket_opened", "c", T0 + 10 * MINUTE_MS)
    told.send("ticket_reopened", "c", T0 + 20 * MINUTE_MS)
    told.pass_time(T0 + 45 * MINUTE_MS)
    told.send("ticket_resolved", "c", T0 + 20 * MINUTE_MS - 1)  # older: it only counts
    told.send("ticket_replied", "c", T0 + 10 * MINUTE_MS - 1)  # before the opening: nothing
    told.send("ticket_replied", "c", T0 + 12 * MINUTE_MS)  # older, but the first reply
    told.pass_time(T0 + 3 * HOUR_MS)

    assert told.live("tickets_resolved", END, channel="chat").value == 1
    assert told.live("resolution_seconds", END).n == 0
    assert told.live("first_reply_seconds", END).value == 120
    assert told.live("ticket_backlog", T0 + 3 * HOUR_MS).value == 1


def test_a_late_opening_makes_a_ticket_known_from_then_on(told: Told) -> None:
    told.pass_time(T0)
    told.send("ticket_replied", "c", T0 + 20 * MINUTE_MS)
    told.pass_time(T0 + 25 * MINUTE_MS)
    told.send("ticket_opened", "c", T0 + 10 * MINUTE_MS)
    told.send("ticket_resolved", "c", T0 + 30 * MINUTE_MS)
    told.pass_time(T0 + 3 * HOUR_MS)

    assert told.live("first_reply_seconds", END).n == 0
    assert told.live("resolution_seconds", END).value == 1_200
    assert told.live("ticket_backlog", T0 + 20 * MINUTE_MS).value == 0
    assert told.live("ticket_backlog", T0 + 30 * MINUTE_MS).value == 1


def test_tickets_that_are_over_are_dropped_at_the_next_doubling_and_take_nobody_s_place() -> None:
    contact = Contact()
    for number in range(MAX_TICKETS):
        assert contact.remember(str(number), Ticket(T0, T0, 0, is_open=number >= 4), T0)
    over_ms = T0 + REMEMBERED_MS + 1
    assert contact.remember("new", Ticket(over_ms, over_ms, 0), over_ms)
    assert set(contact.tickets) == {*map(str, range(1, MAX_TICKETS)), "new"}

    contact = Contact(tickets={name: Ticket(T0, T0, 0, is_open=name == "b") for name in "abcd"})
    assert contact.remember("new", Ticket(over_ms, over_ms, 0), over_ms)
    assert set(contact.tickets) == {"b", "new"}
