"""The oracle gives the published figures of real purchases."""

from __future__ import annotations

import pytest

from tests.oracle import cdnow
from tests.oracle.customers import OracleConfig
from tests.oracle.metrics import compute
from tests.oracle.rules import DAY_MS, milliseconds

pytestmark = pytest.mark.unit


def test_the_oracle_gives_the_published_figures_of_cdnow() -> None:
    instants = [milliseconds(at) for at in cdnow.FIGURES]
    ticks = [(t, w) for t in instants for w in (cdnow.WEEK_MS, cdnow.MONTH_MS)]
    found = compute(cdnow.judged(), OracleConfig(base_ms=1_800_000), ticks)

    def value(metric: str, t: int, w: int) -> float | None:
        return found[metric, t, w, "", ""].value

    for t, figures in zip(instants, cdnow.FIGURES.values(), strict=True):
        month, week = cdnow.MONTH_MS, cdnow.WEEK_MS
        assert list(figures) == [
            value("buyers", t, month),
            value("orders", t, month),
            value("revenue", t, month),
            value("revenue", t, week),
            value("new_buyers", t, week),
            value("repeat_orders", t, week),
            value("base_customers", t, month),
            value("retained_customers", t, month),
        ]
        base, retained = figures[-2:]
        assert value("churned_customers", t, month) == base - retained
        assert value("retention_ratio", t, month) == retained / base
        assert value("active_customers", t, month) == value("buyers", t, month)


def test_the_sample_is_whole() -> None:
    last = milliseconds("1998-07-01T00:00:00Z")
    found = compute(cdnow.judged(), OracleConfig(base_ms=1_800_000), [(last, 600 * DAY_MS)])
    assert found["orders", last, 600 * DAY_MS, "", ""].value == 6919
    assert found["buyers", last, 600 * DAY_MS, "", ""].value == 2357
    assert found["revenue", last, 600 * DAY_MS, "", ""].value == 244091.94
    assert sum(one["amount"] == "0.00" for one in cdnow.events()) == 8
