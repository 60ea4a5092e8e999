"""Every metric, declared once: name, unit, kind, formula, help.

Exporters, results, documentation and dashboards are made from `METRICS`; a metric that is not here
does not exist. The definitions are those of METRICS.md 3; `help` is the short form.
"""

from __future__ import annotations

import enum
import functools
import math

import msgspec

from schemas.money import MICROS
from schemas.records import Number, Result
from streams.config import CoreConfig
from streams.quantiles import Histograms
from streams.segments import OWN_OF_DISTRIBUTION, Column, Integers, Own, Segments
from streams.sums import ENTERED_LATE, Additive, Cohort, Distribution, Mark, Stock, Sum, row_of

WILSON_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
SCORE_Z = 1.96
"""So many standard errors to each side are the interval of a net score."""
MILLIS = 1_000

Term = tuple[int, int]
"""A sum's row and the factor with which it enters."""


class Unit(enum.StrEnum):
    """What a value is measured in. ``count`` and ``ratio`` have no unit."""

    COUNT = "count"
    RATIO = "ratio"
    SECONDS = "seconds"
    CURRENCY = "currency"


class Kind(enum.StrEnum):
    """How a value follows from the sums."""

    COUNT = "count"
    """An integer, or money: a linear combination of sums."""
    RATIO = "ratio"
    """Numerator over denominator, both linear combinations."""
    QUANTILE = "quantile"
    """A rank in a histogram of durations."""


class Group(enum.StrEnum):
    """What a metric speaks of; the values are headings, in the order of the groups."""

    SESSIONS = "Sessions and conversion"
    PURCHASES = "Purchases"
    RETURN = "Return frequency"
    RETENTION = "Retention and churn"
    LIFETIME = "Customer lifetime value"
    SOCIAL = "Social involvement"
    SATISFACTION = "Satisfaction"
    SUPPORT = "Support"
    JOURNEY = "Journey"


class Needs(enum.IntEnum):
    """How many windows must have been observed."""

    WINDOW = 1
    TWO_WINDOWS = 2


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of one metric."""

    name: str
    help: str
    pitfall: str
    """What the number is easily mistaken for; one or two sentences."""
    group: Group
    unit: Unit
    kind: Kind
    numerator: tuple[Term, ...] = ()
    denominator: tuple[Term, ...] = ()
    numerator_scale: int = 1
    """The numerator's integers are this many to one unit."""
    is_proportion: bool = False
    """The numerator counts a part of the denominator, so a Wilson interval belongs to the ratio."""
    spread: tuple[Term, ...] = ()
    """Of a net score, whose numerator counts some as 1 and some as -1: how many these are together.
    Its interval follows from its standard error.
    """
    factor: int = 1
    """The value is so many times numerator over denominator."""
    dimension: Own | None = None
    """Also reported by the values of this dimension."""
    distribution: Distribution | None = None
    """Of a quantile: the durations it is a rank of."""
    needs: Needs = Needs.WINDOW
    """`Result.complete` is false until this many windows have been observed."""
    is_null_until_complete: bool = False
    q: float = 0.0

    @property
    def is_revisable(self) -> bool:
        """Whether late events change results that were already published: every sum in it is a
        counter that they enter in the pane of their own time.
        """
        return self.kind is not Kind.QUANTILE and all(
            row in _ENTERED_LATE for row, _ in (*self.numerator, *self.denominator)
        )

    @property
    def has_interval(self) -> bool:
        """Whether `Result.low` and `Result.high` are ever given."""
        return self.is_proportion or bool(self.spread)


_ENTERED_LATE = frozenset(row_of(additive) for additive in ENTERED_LATE)


def _terms(*members: Sum, minus: tuple[Sum, ...] = ()) -> tuple[Term, ...]:
    return tuple((row_of(m), 1) for m in members) + tuple((row_of(m), -1) for m in minus)


def _count(
    name: str,
    text: str,
    *members: Sum,
    group: Group,
    pitfall: str,
    minus: tuple[Sum, ...] = (),
    dimension: Own | None = None,
    needs: Needs = Needs.WINDOW,
    is_null_until_complete: bool = False,
) -> Metric:
    return Metric(
        name=name,
        help=text,
        pitfall=pitfall,
        group=group,
        unit=Unit.COUNT,
        kind=Kind.COUNT,
        numerator=_terms(*members, minus=minus),
        dimension=dimension,
        needs=needs,
        is_null_until_complete=is_null_until_complete,
    )


def _money(name: str, text: str, terms: tuple[Term, ...], *, pitfall: str) -> Metric:
    return Metric(
        name=name,
        help=text,
        pitfall=pitfall,
        group=Group.PURCHASES,
        unit=Unit.CURRENCY,
        kind=Kind.COUNT,
        numerator=terms,
        numerator_scale=MICROS,
    )


def _ratio(  # noqa: PLR0913 - a declaration names what it has beyond the common
    name: str,
    text: str,
    numerator: tuple[Term, ...],
    denominator: tuple[Term, ...],
    *,
    group: Group,
    pitfall: str,
    unit: Unit = Unit.RATIO,
    scale: int = 1,
    factor: int = 1,
    is_proportion: bool = False,
    spread: tuple[Term, ...] = (),
    dimension: Own | None = None,
    needs: Needs = Needs.WINDOW,
    is_null_until_complete: bool = False,
) -> Metric:
    return Metric(
        name=name,
        help=text,
        pitfall=pitfall,
        group=group,
        unit=unit,
        kind=Kind.RATIO,
        numerator=numerator,
        denominator=denominator,
        numerator_scale=scale,
        factor=factor,
        is_proportion=is_proportion,
        spread=spread,
        dimension=dimension,
        needs=needs,
        is_null_until_complete=is_null_until_complete,
    )


def _quantile(
    name: str, text: str, distribution: Distribution, q: float, *, group: Group, pitfall: str
) -> Metric:
    return Metric(
        name=f"{name}_p{round(q * 100)}",
        help=f"{round(q * 100)} % of {text} at most this long (nearest rank, within 1 %)",
        pitfall=pitfall,
        group=group,
        unit=Unit.SECONDS,
        kind=Kind.QUANTILE,
        dimension=OWN_OF_DISTRIBUTION[distribution],
        distribution=distribution,
        q=q,
    )


def _duration_quantile(q: float, *, pitfall: str) -> Metric:
    return _quantile(
        "session_duration_seconds",
        "the sessions that closed lasted",
        Distribution.SESSION,
        q,
        group=Group.SESSIONS,
        pitfall=pitfall,
    )


_CLOSED = _terms(Additive.SESSIONS_CLOSED)
_TWO = Needs.TWO_WINDOWS

METRICS: tuple[Metric, ...] = (
    # Sessions and conversion
    _count(
        "page_views",
        "Page views",
        Additive.PAGE_VIEWS,
        group=Group.SESSIONS,
        pitfall="A reload is a page view, and so is a robot's unless the producer leaves it out.",
    ),
    _count(
        "visitors",
        "Distinct customers with a page view",
        Mark.VISITED,
        group=Group.SESSIONS,
        pitfall=(
            "Does not add up over windows: who comes on two days is one visitor of both. A person "
            "under two customer ids is two."
        ),
    ),
    _count(
        "sessions_started",
        "Sessions whose first page view lies in the window",
        Additive.SESSIONS_STARTED,
        dimension=Own.CHANNEL,
        group=Group.SESSIONS,
        pitfall="A session that began before the window and goes on in it is not counted.",
    ),
    _count(
        "sessions_closed",
        "Sessions that closed in the window",
        Additive.SESSIONS_CLOSED,
        dimension=Own.CHANNEL,
        group=Group.SESSIONS,
        pitfall=(
            "A silent session closes only when the session gap has passed, so the latest visits "
            "are not in it yet."
        ),
    ),
    _count(
        "sessions_converted",
        "Sessions that closed in the window and during which the customer placed an order",
        Additive.SESSIONS_CONVERTED,
        dimension=Own.CHANNEL,
        group=Group.SESSIONS,
        pitfall="An order after the session has closed does not count, however soon it comes.",
    ),
    _ratio(
        "session_conversion_ratio",
        "Share of the closed sessions with an order",
        _terms(Additive.SESSIONS_CONVERTED),
        _CLOSED,
        is_proportion=True,
        dimension=Own.CHANNEL,
        group=Group.SESSIONS,
        pitfall=(
            "Not orders per session: a session with two orders counts once. Visits still going on "
            "are in neither part."
        ),
    ),
    _ratio(
        "visitor_conversion_ratio",
        "Share of the visitors who also ordered in the window",
        _terms(Mark.VISITED_AND_BOUGHT),
        _terms(Mark.VISITED),
        is_proportion=True,
        group=Group.SESSIONS,
        pitfall=(
            "View and order need not belong to one visit, and it grows with the window: compare "
            "windows of one length only."
        ),
    ),
    _ratio(
        "bounce_ratio",
        "Share of the closed sessions with one page view",
        _terms(Additive.SESSIONS_BOUNCED),
        _CLOSED,
        is_proportion=True,
        dimension=Own.CHANNEL,
        group=Group.SESSIONS,
        pitfall="One page that was read for long is a bounce too.",
    ),
    _ratio(
        "session_duration_seconds",
        "Mean time from first to last page view of the closed sessions",
        _terms(Additive.SESSION_MS),
        _CLOSED,
        unit=Unit.SECONDS,
        scale=MILLIS,
        dimension=Own.CHANNEL,
        group=Group.SESSIONS,
        pitfall=(
            "Time on the last page is unknown and counts as nothing: the mean is a lower bound, "
            "and a session of one page lasts 0 s."
        ),
    ),
    _duration_quantile(
        0.5,
        pitfall="Half of the sessions lasted no longer. Quantiles of windows or segments cannot be averaged.",
    ),
    _duration_quantile(
        0.9,
        pitfall="Quantiles of windows or segments cannot be averaged.",
    ),
    _duration_quantile(
        0.99,
        pitfall="With fewer than 100 sessions this is the longest of them.",
    ),
    # Purchases
    _count(
        "orders",
        "Orders",
        Additive.ORDERS,
        group=Group.PURCHASES,
        pitfall="Orders of amount 0 and orders that are refunded later are orders.",
    ),
    _count(
        "buyers",
        "Distinct customers with an order",
        Mark.BOUGHT,
        group=Group.PURCHASES,
        pitfall="Does not add up over windows: who buys on two days is one buyer of both.",
    ),
    _count(
        "new_buyers",
        "Customers whose first order ever lies in the window",
        Mark.FIRST_BOUGHT,
        needs=_TWO,
        group=Group.PURCHASES,
        pitfall=(
            "First ever means first that Heartline has seen: without a replay of history "
            "everybody is new at the start."
        ),
    ),
    _count(
        "repeat_orders",
        "Orders that are not the customer's first",
        Additive.REPEAT_ORDERS,
        needs=_TWO,
        group=Group.PURCHASES,
        pitfall="Counts orders, not customers; a customer's first and second order may lie in the same window.",
    ),
    _money(
        "revenue",
        "Amount of the orders",
        _terms(Additive.REVENUE_MICROS),
        pitfall="Gross: no refund lowers it, and payments for subscriptions are no orders.",
    ),
    _money(
        "refunded",
        "Amount given back, on the day it was",
        _terms(Additive.REFUNDED_MICROS),
        pitfall="Counted when it is given back, not when the order was placed: it may exceed the window's revenue.",
    ),
    _money(
        "net_revenue",
        "Revenue less refunds",
        _terms(Additive.REVENUE_MICROS, minus=(Additive.REFUNDED_MICROS,)),
        pitfall="Negative where more was given back than sold: the refunds may belong to orders of earlier windows.",
    ),
    _ratio(
        "average_order_value",
        "Revenue per order",
        _terms(Additive.REVENUE_MICROS),
        _terms(Additive.ORDERS),
        unit=Unit.CURRENCY,
        scale=MICROS,
        group=Group.PURCHASES,
        pitfall="A mean of gross amounts: one large order moves it, and refunds do not.",
    ),
    _ratio(
        "repeat_buyer_ratio",
        "Share of the buyers who had ordered before the window",
        _terms(Mark.BOUGHT, minus=(Mark.FIRST_BOUGHT,)),
        _terms(Mark.BOUGHT),
        is_proportion=True,
        needs=_TWO,
        group=Group.PURCHASES,
        pitfall="Who buys for the first time and again within the window is new, not repeat.",
    ),
    # Return frequency
    _count(
        "active_customers",
        "Distinct customers with an activity",
        Mark.ACTIVE,
        group=Group.RETURN,
        pitfall=(
            "Does not add up over windows. Events that are no activity, a support ticket for one, "
            "make nobody active."
        ),
    ),
    _count(
        "new_customers",
        "Customers whose first activity ever lies in the window",
        Mark.FIRST_ACTIVE,
        needs=_TWO,
        group=Group.RETURN,
        pitfall="New to Heartline, not to the business: without a replay of history everybody is new at the start.",
    ),
    _count(
        "returning_customers",
        "Active customers who are not new",
        Mark.ACTIVE,
        minus=(Mark.FIRST_ACTIVE,),
        needs=_TWO,
        group=Group.RETURN,
        pitfall="Not the retained: they may have been away for longer than a window.",
    ),
    _ratio(
        "returning_ratio",
        "Share of the active customers who are not new",
        _terms(Mark.ACTIVE, minus=(Mark.FIRST_ACTIVE,)),
        _terms(Mark.ACTIVE),
        is_proportion=True,
        needs=_TWO,
        group=Group.RETURN,
        pitfall=(
            "Rises when fewer new customers come, though nobody returns more often: read it "
            "beside its numerator."
        ),
    ),
    _count(
        "active_days",
        "Pairs of customer and UTC day with an activity",
        Mark.DAY,
        group=Group.RETURN,
        pitfall="A visit across midnight UTC is two days.",
    ),
    _ratio(
        "return_frequency",
        "Active days per active customer",
        _terms(Mark.DAY),
        _terms(Mark.ACTIVE),
        group=Group.RETURN,
        pitfall=(
            "Lies between 1 and the number of UTC days that the window touches: compare windows "
            "of one length only."
        ),
    ),
    _ratio(
        "sessions_per_visitor",
        "Sessions started per visitor",
        _terms(Additive.SESSIONS_STARTED),
        _terms(Mark.VISITED),
        group=Group.RETURN,
        pitfall="Can fall below 1: a session that goes on from before the window has a visitor in it and no start.",
    ),
    _ratio(
        "visit_interval_seconds",
        "Mean time between the starts of a customer's consecutive sessions, counted at the later one",
        _terms(Additive.VISIT_INTERVAL_MS),
        _terms(Additive.VISIT_INTERVALS),
        unit=Unit.SECONDS,
        scale=MILLIS,
        group=Group.RETURN,
        pitfall="Says nothing of those who did not come back: when the rare visitors leave, it falls.",
    ),
    # Retention and churn
    _count(
        "base_customers",
        "Customers active in the window before this one",
        Cohort.BASE,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Of the window before this one: it does not move with what happens in this window.",
    ),
    _count(
        "retained_customers",
        "Of the base, those active in this window",
        Cohort.BASE,
        minus=(Cohort.CHURNED,),
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Active at least once in each of the two windows; a single page view is enough.",
    ),
    _count(
        "churned_customers",
        "Of the base, those silent in this window",
        Cohort.CHURNED,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Silent, not necessarily lost: who comes back in the next window was counted all the same.",
    ),
    _count(
        "reactivated_customers",
        "Active in this window and before the base's, silent in between",
        Cohort.REACTIVATED,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Neither new nor retained: they count in no retention ratio.",
    ),
    _ratio(
        "retention_ratio",
        "Share of the base that is active in this window",
        _terms(Cohort.BASE, minus=(Cohort.CHURNED,)),
        _terms(Cohort.BASE),
        is_proportion=True,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="Depends on the length of the window: never compare 7d with 30d. It is not (end - new) / start.",
    ),
    _ratio(
        "churn_ratio",
        "Share of the base that is silent in this window",
        _terms(Cohort.CHURNED),
        _terms(Cohort.BASE),
        is_proportion=True,
        needs=_TWO,
        is_null_until_complete=True,
        group=Group.RETENTION,
        pitfall="The share that was silent for one window, not that cancelled, and not a forecast.",
    ),
    _count(
        "cancellations",
        "Subscriptions cancelled",
        Additive.CANCELLATIONS,
        group=Group.RETENTION,
        pitfall="Events, not customers, and no part of the churn ratio, which looks at activity alone.",
    ),
    # Customer lifetime value
    _ratio(
        "clv_historic_mean",
        "Orders less refunds so far, per customer who ever ordered",
        _terms(Stock.NET_MICROS_EVER),
        _terms(Stock.BUYERS_EVER),
        unit=Unit.CURRENCY,
        scale=MICROS,
        group=Group.LIFETIME,
        pitfall=(
            "What was earned, no forecast: it grows with the age of the customers, and of who "
            "bought before the first event only the later orders are known."
        ),
    ),
    # Social involvement
    _count(
        "social_interactions",
        "Social interactions, without those taken back",
        Additive.SOCIAL_INTERACTIONS,
        dimension=Own.NETWORK,
        group=Group.SOCIAL,
        pitfall="What is taken back later is counted apart and lowers nothing here.",
    ),
    _count(
        "social_withdrawn",
        "Unlikes, unfollows and deletions",
        Additive.SOCIAL_WITHDRAWN,
        dimension=Own.NETWORK,
        group=Group.SOCIAL,
        pitfall="What is withdrawn may have been given long before the window.",
    ),
    _count(
        "social_customers",
        "Distinct customers with a social interaction",
        Mark.SOCIAL,
        group=Group.SOCIAL,
        pitfall=(
            "Does not add up over windows, and is no part of the active customers unless social "
            "interactions are configured to be an activity."
        ),
    ),
    _ratio(
        "social_per_1000_active",
        "Social interactions per 1,000 active customers",
        _terms(Additive.SOCIAL_INTERACTIONS),
        _terms(Mark.ACTIVE),
        factor=1_000,
        group=Group.SOCIAL,
        pitfall="Interactions of customers who are not active in the window count too.",
    ),
    _ratio(
        "sentiment_mean",
        "Mean sentiment of the interactions that carry one, -1 to 1",
        _terms(Additive.SENTIMENT_MICROS),
        _terms(Additive.SENTIMENTS),
        scale=MICROS,
        group=Group.SOCIAL,
        pitfall="As good as whoever judged the sentiment; a mean near 0 may hide two camps.",
    ),
    _ratio(
        "engagement_ratio",
        "Interactions per impression, of those that tell their impressions",
        _terms(Additive.IMPRESSED),
        _terms(Additive.IMPRESSIONS),
        group=Group.SOCIAL,
        pitfall="No share of persons: one impression may lead to several interactions, one person see several.",
    ),
    # Satisfaction
    _count(
        "csat_responses",
        "Answers to the question after a contact",
        Additive.CSAT_RESPONSES,
        dimension=Own.SUPPORT,
        group=Group.SATISFACTION,
        pitfall="Who answers chose to: read a ratio of few answers with its interval.",
    ),
    _count(
        "csat_satisfied",
        "Of these, 4 or 5 of 5, and 9 or 10 of 10",
        Additive.CSAT_SATISFIED,
        dimension=Own.SUPPORT,
        group=Group.SATISFACTION,
        pitfall="8 of 10 is not satisfied, though 4 of 5 is.",
    ),
    _ratio(
        "csat_ratio",
        "Share of the answers that are satisfied",
        _terms(Additive.CSAT_SATISFIED),
        _terms(Additive.CSAT_RESPONSES),
        is_proportion=True,
        dimension=Own.SUPPORT,
        group=Group.SATISFACTION,
        pitfall="Counts answers, not customers: who is asked often weighs more.",
    ),
    _count(
        "nps_promoters",
        "Customers whose latest answer in the window is 9 or 10",
        Mark.PROMOTER,
        group=Group.SATISFACTION,
        pitfall="A customer counts once, by the latest answer, however often they answer.",
    ),
    _count(
        "nps_passives",
        "Customers whose latest answer in the window is 7 or 8",
        Mark.PASSIVE,
        group=Group.SATISFACTION,
        pitfall="They are in the denominator of the score and not in its numerator.",
    ),
    _count(
        "nps_detractors",
        "Customers whose latest answer in the window is 0 to 6",
        Mark.DETRACTOR,
        group=Group.SATISFACTION,
        pitfall="A 6 is a detractor: on other scales that is a good mark.",
    ),
    _ratio(
        "nps",
        "Net promoter score: 100 times promoters less detractors, per answering customer",
        _terms(Mark.PROMOTER, minus=(Mark.DETRACTOR,)),
        _terms(Mark.PROMOTER, Mark.PASSIVE, Mark.DETRACTOR),
        factor=100,
        spread=_terms(Mark.PROMOTER, Mark.DETRACTOR),
        group=Group.SATISFACTION,
        pitfall=(
            "From -100 to 100, no percentage. With 100 answers the interval is about 15 points to "
            "each side: most changes from week to week mean nothing."
        ),
    ),
    # Support
    _count(
        "tickets_opened",
        "Support tickets opened",
        Additive.TICKETS_OPENED,
        dimension=Own.SUPPORT,
        group=Group.SUPPORT,
        pitfall="Events: a ticket that is opened twice counts twice. A reopening is its own metric.",
    ),
    _count(
        "tickets_resolved",
        "Resolutions, by the channel of the opening",
        Additive.TICKETS_RESOLVED,
        dimension=Own.SUPPORT,
        group=Group.SUPPORT,
        pitfall="A ticket that was reopened is resolved twice. Of tickets not known the channel is `unknown`.",
    ),
    _count(
        "tickets_reopened",
        "Reopenings, by the channel of the opening",
        Additive.TICKETS_REOPENED,
        dimension=Own.SUPPORT,
        group=Group.SUPPORT,
        pitfall="Belongs to resolutions of earlier windows as well: it is no share of this window's.",
    ),
    _count(
        "ticket_backlog",
        "Tickets open now",
        Stock.OPEN_TICKETS,
        group=Group.SUPPORT,
        pitfall=(
            "At the end of the window, not over it: the same for every window. Tickets opened "
            "before the first event that was read are not known."
        ),
    ),
    _ratio(
        "first_reply_seconds",
        "Mean time from the opening to the first reply, counted at the reply",
        _terms(Additive.FIRST_REPLY_MS),
        _terms(Additive.FIRST_REPLIES),
        unit=Unit.SECONDS,
        scale=MILLIS,
        group=Group.SUPPORT,
        pitfall="Who still waits is not in it: when replies stop it does not rise. Read it beside the backlog.",
    ),
    _quantile(
        "first_reply_seconds",
        "the first replies took",
        Distribution.FIRST_REPLY,
        0.5,
        group=Group.SUPPORT,
        pitfall="Of the replies given, not of the tickets that still wait.",
    ),
    _quantile(
        "first_reply_seconds",
        "the first replies took",
        Distribution.FIRST_REPLY,
        0.9,
        group=Group.SUPPORT,
        pitfall="Quantiles of windows or segments cannot be averaged.",
    ),
    _ratio(
        "resolution_seconds",
        "Mean time from the opening to a resolution, counted at the resolution",
        _terms(Additive.RESOLUTION_MS),
        _terms(Additive.RESOLUTIONS),
        unit=Unit.SECONDS,
        scale=MILLIS,
        group=Group.SUPPORT,
        pitfall=(
            "Nights and weekends count, and so does the time before a reopening: each resolution "
            "is measured from the first opening."
        ),
    ),
    _quantile(
        "resolution_seconds",
        "the resolutions took",
        Distribution.RESOLUTION,
        0.5,
        group=Group.SUPPORT,
        pitfall="Working off old tickets raises it, though that is good news.",
    ),
    _quantile(
        "resolution_seconds",
        "the resolutions took",
        Distribution.RESOLUTION,
        0.9,
        group=Group.SUPPORT,
        pitfall="Quantiles of windows or segments cannot be averaged.",
    ),
    _ratio(
        "tickets_per_1000_active",
        "Tickets opened per 1,000 active customers",
        _terms(Additive.TICKETS_OPENED),
        _terms(Mark.ACTIVE),
        factor=1_000,
        group=Group.SUPPORT,
        pitfall="Tickets of customers who are not active in the window count too.",
    ),
    # Journey
    _count(
        "journey_customers",
        "Customers in each stage now",
        Stock.CUSTOMERS,
        dimension=Own.STAGE,
        group=Group.JOURNEY,
        pitfall=(
            "Everybody ever seen, the lapsed included, at the end of the window: the same for "
            "every window. The stage is the highest reached, not the latest mood."
        ),
    ),
    _count(
        "journey_moves",
        "Moves from one stage to another",
        Additive.JOURNEY_MOVES,
        dimension=Own.MOVE,
        group=Group.JOURNEY,
        pitfall="Moves, not customers: who lapses and returns within the window moved twice.",
    ),
    _quantile(
        "journey_stage_seconds",
        "those who left a stage had stayed in it",
        Distribution.STAGE,
        0.5,
        group=Group.JOURNEY,
        pitfall="Of those who moved on in the window: who stays for ever is never in it.",
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}
_REVISABLE = frozenset(metric.name for metric in METRICS if metric.is_revisable)


class WindowTotals(msgspec.Struct, frozen=True, kw_only=True):
    """A window at a boundary, over all partitions: what results are computed from.

    ``sums[row][column]`` are exact integers; ``durations`` are the sparse histograms, rows of
    ``lane * BINS + bin, count``, ascending. ``observed_from_ms`` is the earliest event of all.
    ``revised`` are the sums from which revisable metrics are computed, where late events have
    changed them since the boundary was first reported.
    """

    window: str
    hop: str
    size_ms: int
    end_ms: int
    at: str
    sums: Integers
    durations: Integers
    observed_from_ms: int | None
    revised: Integers | None = None


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """The Wilson score interval at 95 % of a proportion; None unless ``0 <= successes <= n`` and n
    > 0.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA
    22 (1927).
    """
    if n <= 0 or not 0 <= successes <= n:
        return None
    z2 = WILSON_Z * WILSON_Z
    p = successes / n
    centre = p + z2 / (2 * n)
    spread = WILSON_Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + spread) / scale)
    return low, high


def score_interval(net: int, spread: int, n: int) -> tuple[float, float]:
    """The 95 % interval of ``100 * net / n``, a mean of n values of 1, 0 and -1, ``spread`` of them
    not 0: 1.96 standard errors to each side.
    """
    error = 100 * math.sqrt(max(0.0, spread - net * net / n)) / n
    value = 100 * net / n
    return value - SCORE_Z * error, value + SCORE_Z * error


class _Layout:
    """Columns by own dimension, and the first lane of each distribution: fixed by the segments."""

    def __init__(self, segments: Segments) -> None:
        self.columns = {own: segments.columns(own) for own in (None, *Own)}
        self.lanes = segments.lanes()


_layout_of = functools.lru_cache(maxsize=8)(_Layout)


def results_of(
    totals: WindowTotals, config: CoreConfig, metrics: tuple[Metric, ...] = METRICS
) -> list[Result]:
    """Every metric for every column that it is reported for, in declaration order."""
    layout = _layout_of(config.segments)
    histograms = Histograms(totals.durations, layout.lanes[-1])
    # Lists of Python integers: reading a numpy scalar costs four times as much.
    rows: list[list[int]] = totals.sums.tolist()
    revised = rows if totals.revised is None else totals.revised.tolist()
    return [
        _result(metric, totals, table, histograms, column, index, first_lane)
        for metric in metrics
        for table in (revised if metric.name in _REVISABLE else rows,)
        for first_lane in (layout.lanes[metric.distribution or 0],)
        for index, column in enumerate(layout.columns[metric.dimension])
    ]


def _result(
    metric: Metric,
    totals: WindowTotals,
    rows: list[list[int]],
    histograms: Histograms,
    column: Column,
    index: int,
    first_lane: int,
) -> Result:
    observed = totals.observed_from_ms
    is_complete = observed is not None and totals.end_ms - metric.needs * totals.size_ms >= observed
    value: Number | None = None
    numerator: Number | None = None
    denominator: int | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    if metric.distribution is not None:
        n = histograms.count(first_lane + index)
        found = histograms.quantile(first_lane + index, metric.q)
        value = None if found is None else found / MILLIS
    elif metric.is_null_until_complete and not is_complete:
        pass
    else:
        amount = _combine(metric.numerator, rows, index)
        if metric.kind is Kind.COUNT:
            value = _scaled(amount, metric.numerator_scale)
        else:
            denominator = n = _combine(metric.denominator, rows, index)
            numerator = _scaled(amount, metric.numerator_scale)
            if denominator:
                value = amount * metric.factor / (denominator * metric.numerator_scale)
                if metric.is_proportion:
                    interval = wilson(amount, denominator)
                elif metric.spread:
                    spread = _combine(metric.spread, rows, index)
                    interval = score_interval(amount, spread, denominator)
    return Result(
        metric=metric.name,
        window=totals.window,
        hop=totals.hop,
        at=totals.at,
        segment=column.segment,
        dimensions=column.dimensions,
        value=value,
        numerator=numerator,
        denominator=denominator,
        n=n,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        complete=is_complete,
    )


def _combine(terms: tuple[Term, ...], rows: list[list[int]], column: int) -> int:
    # Python integers: sums over partitions and differences cannot overflow here.
    total = 0
    for row, factor in terms:
        total += rows[row][column] * factor
    return total


def _scaled(amount: int, scale: int) -> Number:
    """An integer number of millionths or thousandths in whole units; exact to 2^53 of them."""
    if scale == 1:
        return amount
    return amount // scale if amount % scale == 0 else amount / scale
