"""Real purchases through the core: the published figures, to the cent."""

from __future__ import annotations

import json

import pytest

from schemas.decode import Decoder
from streams.config import CoreConfig
from streams.evaluate import evaluate
from streams.windows import Window, WindowSet
from tests.oracle import cdnow
from tests.oracle.rules import milliseconds

pytestmark = pytest.mark.property


def test_evaluate_gives_the_published_figures_of_cdnow() -> None:
    windows = WindowSet.of([Window.parse("28d/1d"), Window.parse("7d/1d")])
    decoder = Decoder()
    decoded = [decoder.decode(json.dumps(event).encode()) for event in cdnow.events()]
    ats = [milliseconds(at) for at in cdnow.FIGURES]
    results = evaluate(CoreConfig(windows=windows), decoded, ats)
    found = {
        (one.metric, one.at, one.window): one.value
        for one in results
        if not one.segment and not one.dimensions
    }
    for at, figures in cdnow.FIGURES.items():
        assert list(figures) == [
            found["buyers", at, "28d"],
            found["orders", at, "28d"],
            found["revenue", at, "28d"],
            found["revenue", at, "7d"],
            found["new_buyers", at, "7d"],
            found["repeat_orders", at, "7d"],
            found["base_customers", at, "28d"],
            found["retained_customers", at, "28d"],
        ]
        base, retained = figures[-2:]
        assert found["churned_customers", at, "28d"] == base - retained
        assert found["retention_ratio", at, "28d"] == retained / base
