"""Who the customers are: the parameters of each persona, in natural time.

All durations are natural ones (a regular comes every four days). A simulation may live faster: it
divides them by its tempo (`agents.simulation.configuration`).
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Persona:
    """How customers of one kind live. Shares and probabilities are 0-1."""

    name: str
    share: float
    """Of the customers alive at any moment."""
    visit_interval_ms: int
    """Mean; each customer has their own, spread by a gamma distribution of shape 2."""
    regularity: float
    """Shape of the gamma-distributed time between visits: 1 is memoryless, more is more regular."""
    lifetime_ms: int
    """Mean of an exponential: the shop loses a constant share of them a day."""
    bounce: float
    further_pages: float
    """Mean number of page views after the second in a session that does not bounce."""
    conversion: float
    """Of the sessions that do not bounce."""
    basket: float
    """Median order amount in US dollars; orders are log-normal."""
    refund: float
    subscription: float
    """Chance that an order starts a subscription, if there is none."""
    social: float
    """Chance of a social interaction in a session."""
    ticket: float
    """Chance of a support ticket in a session."""
    satisfaction: float
    """Mean of the answers, 0-1."""


PERSONAS = (
    Persona(
        "newcomer", 0.30, 6 * DAY_MS, 1.0, 40 * DAY_MS,
        0.50, 2.0, 0.05, 24.0, 0.08, 0.02, 0.03, 0.020, 0.62,
    ),
    Persona(
        "regular", 0.40, 4 * DAY_MS, 2.0, 300 * DAY_MS,
        0.30, 3.0, 0.12, 42.0, 0.05, 0.05, 0.05, 0.012, 0.74,
    ),
    Persona(
        "loyal", 0.10, 2 * DAY_MS, 3.0, 900 * DAY_MS,
        0.15, 4.0, 0.22, 58.0, 0.03, 0.12, 0.10, 0.010, 0.88,
    ),
    Persona(
        "bargain", 0.20, 8 * DAY_MS, 1.0, 200 * DAY_MS,
        0.40, 5.0, 0.08, 18.0, 0.10, 0.01, 0.06, 0.018, 0.66,
    ),
)  # fmt: skip

REGIONS = (("north", 0.35, 1), ("south", 0.25, 2), ("east", 0.22, 8), ("west", 0.18, -5))
"""Name, share, offset of the local time from UTC in hours."""

UNKNOWN_SHARE = 0.03
"""Customers whose events carry neither persona nor region."""

OTHER_SHARE = 0.02
"""Customers whose persona is not in the configured list: the engine counts them as ``other``."""

OTHER_PERSONA = "reseller"

CHANNELS = ("direct", "search", "social", "email", "referral", "ads")
CHANNEL_WEIGHTS = (0.28, 0.30, 0.12, 0.14, 0.06, 0.10)
SUPPORT_CHANNELS = ("email", "chat", "phone")
NETWORKS = ("instagram", "tiktok", "youtube", "x")
NETWORK_ACTIONS = (
    *("like",) * 7, *("comment", "share", "mention", "follow") * 2, "unlike", "unfollow", "delete",
)  # fmt: skip
NO_REPLY_SHARE = 0.1
"""Tickets that are resolved without an answer."""
UNRESOLVED_SHARE = 0.06
"""Tickets that stay open for good."""
PAGES = ("/", "/new", "/search", "/product", "/product", "/product", "/cart", "/help")
DEVICES = ("mobile", "mobile", "desktop", "tablet")
DWELL_MS = 40_000
"""Mean time on a page."""
DWELL_PART = 60
"""A fast life shortens it: never more than this part of the interval between visits."""
MAX_DWELL_MS = 25 * 60_000
"""Never as long as the session gap: a simulated session is one session to the engine."""
RENEWAL_MS = 30 * DAY_MS
SUBSCRIPTION_AMOUNT = "9.90"
