"""`heartline explain` against Kafka: the published number, and that it follows from the inputs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_same_numbers import moment
from tests.rig.brokers import Broker
from tests.rig.installation import Installation
from tests.rig.shoppers import shop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

PARTITIONS = 3
START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
HOUR_MS = 3_600_000
WINDOW = "6h/1h"
AT_MS = START_MS + 18 * HOUR_MS
ASKED = ("--at", moment(AT_MS), "--window", WINDOW)


def fill(installation: Installation) -> None:
    """A day of events; of the window that is asked about three records are no events, one is too late."""
    names, topics = installation.topics.names, installation.topics
    events = shop(3_000, start_ms=START_MS, end_ms=START_MS + 24 * HOUR_MS, customers=200, seed=7)
    topics.tell((source, event) for _, source, event in events)
    view = {
        "type": "page_viewed", "event_id": "odd", "customer_id": "odd", "page": "/",
        "occurred_at": AT_MS - HOUR_MS,
    }  # fmt: skip
    odd = ({**view, "page": 5}, {**view, "type": "page_veiwed"}, {**view, "customer_id": "other"})
    elsewhere = {**view, "type": "page_veiwed", "occurred_at": AT_MS}
    topics.produce(
        (names.sessions, b"odd", json.dumps(one).encode(), None) for one in (*odd, elsewhere)
    )
    topics.pass_time(START_MS + 50 * HOUR_MS)


def explained(installation: Installation, metric: str, *arguments: str) -> dict[str, Any]:
    done = installation.run("explain", metric, *ASKED, *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_published_number_is_taken_apart(broker: Broker, tmp_path: Path) -> None:
    settings = {"windows": {"hopping": [WINDOW]}, "segments": {"persona": ["student", "parent"]}}
    with Installation(broker, tmp_path, partitions=PARTITIONS, settings=settings) as installation:
        fill(installation)
        installation.worker()
        rows = installation.results(AT_MS, [WINDOW], seconds=120)
        asked: tuple[tuple[str, dict[str, str]], ...] = (
            ("session_conversion_ratio", {}),
            ("active_customers", {"persona": "student"}),
            ("sessions_closed", {"channel": "unknown"}),
            ("churn_ratio", {}),
            ("new_customers", {}),
            ("reactivated_customers", {}),
            ("csat_ratio", {"channel": "email"}),
            ("nps", {"persona": "student"}),
            ("ticket_backlog", {}),
            ("journey_moves", {"from": "aware", "to": "customer"}),
            ("clv_historic_mean", {}),
        )

        def answer(metric: str, where: dict[str, str]) -> dict[str, Any]:
            by = [part for name, value in where.items() for part in ("--by", f"{name}={value}")]
            return explained(installation, metric, *by)

        # Each waits for Kafka far more than it computes.
        with ThreadPoolExecutor(4) as side_by_side:
            answers = list(side_by_side.map(answer, *zip(*asked, strict=True)))
        for (metric, where), told in zip(asked, answers, strict=True):
            (published,) = (
                row
                for row in rows
                if row["metric"] == metric and row["segment"] | row["dimensions"] == where
            )
            assert {name: told["result"][name] for name in published} == published
            assert told["recomputed"] == published
            assert told["result"]["missing_partitions"] == 0
            assert told["rejected"] == {"bad_type": 1, "unknown_type": 1, "wrong_key": 1}
            assert told["panes"][-1]["until"] in {moment(AT_MS), moment(AT_MS - 6 * HOUR_MS)}
            assert told["samples"] or not published["value"]
        shown = installation.run("explain", "session_conversion_ratio", *ASKED)
        assert shown.returncode == 0, shown.stderr
        assert "recomputed from the events read back" in shown.stdout
        assert "the same" in shown.stdout

        # A record that is later than allowed is in no number, but it is told.
        late = {
            "type": "page_viewed", "event_id": "late", "customer_id": "late", "page": "/",
            "occurred_at": AT_MS - 1,
        }  # fmt: skip
        names = installation.topics.names
        installation.topics.produce([(names.sessions, b"late", json.dumps(late).encode(), None)])
        assert next(iter(installation.topics.read(names.late, seconds=60))).value()
        told = explained(installation, "page_views")
        assert told["late"]["too late to count"] == 1

        cut = explained(installation, "page_views", "--limit", "100")
        assert any("--limit" in note for note in cut["notes"])
        assert cut["recomputed"] != cut["result"]


def test_what_was_never_published_is_said(broker: Broker, tmp_path: Path) -> None:
    with Installation(broker, tmp_path, partitions=PARTITIONS) as installation:
        told = explained(installation, "orders")
        assert told["result"] is None
        assert told["recomputed"]["value"] == 0
        assert any("has no such result" in note for note in told["notes"])
        shown = installation.run("explain", "orders", *ASKED)
        assert "not published" in shown.stdout


def test_without_topics_it_says_what_to_do(broker: Broker, tmp_path: Path) -> None:
    installation = Installation(broker, tmp_path, partitions=PARTITIONS)
    done = installation.run("explain", "orders", *ASKED)
    assert done.returncode == 2
    assert "heartline topics create" in done.stderr
