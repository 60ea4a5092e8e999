"""A late event corrects what another worker has published, through Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.topics import Source
from streams.metrics import BY_NAME
from tests.integration.test_durable_state import HOUR_MS, HOURS, START_MS, WINDOWS, story
from tests.rig.brokers import Broker
from tests.rig.installation import Installation, canonical
from tests.rig.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MOMENT_MS = START_MS + 6 * HOUR_MS
MOMENT = "2026-03-01T06:00:00Z"


def revisable(rows: list[dict[str, Any]]) -> list[str]:
    """Of everyone: a late event counts in the segment that its customer is in when it comes."""
    return canonical(
        row for row in rows if BY_NAME[row["metric"]].is_revisable and not row["segment"]
    )


def at_moment(installation: Installation) -> list[dict[str, Any]]:
    return installation.results(MOMENT_MS, WINDOWS, seconds=120)


def expected(installation: Installation, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    file = installation.directory / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    asked = [part for window in WINDOWS for part in ("--window", window)]
    return installation.evaluate(file, "--at", MOMENT, *asked)


def is_noted(installation: Installation) -> bool:
    """Whether the seat has written down that the moment is out."""
    key = f"boundary|6h|1h|{MOMENT_MS}".encode()
    topic = installation.topics.names.rollup
    return any(message.key() == key for message in installation.topics.read(topic, seconds=3))


def test_a_late_event_corrects_what_another_worker_has_published(
    broker: Broker, tmp_path: Path
) -> None:
    with story(broker, tmp_path, seed=43) as told:
        installation = told.installation
        events = [event for _, _, event in told.events]
        told.end()
        first = installation.worker()
        before = at_moment(installation)
        assert revisable(before) == revisable(expected(installation, events))
        wait_until(lambda: is_noted(installation), what="the boundary is noted", seconds=60)
        first.process.stop()

        second = installation.worker()
        late = {
            **next(event for event in events if event["type"] == "order_placed"),
            "event_id": "late",
            "order_id": "late",
            "occurred_at": MOMENT_MS - 600_000,
        }
        installation.topics.tell([(Source.PURCHASES, late)])
        installation.topics.pass_time(START_MS + HOURS * HOUR_MS + 180_000)
        right = revisable(expected(installation, [*events, late]))
        assert right != revisable(before)
        wait_until(
            lambda: revisable(at_moment(installation)) == right, what="the correction", seconds=60
        )
        page = second.page()
        assert page.by("heartline_partials_left_out_total", "reason")["uncorrectable"] == 0
        # What late events do not revise is as it was.
        unrevised = [row for row in before if not BY_NAME[row["metric"]].is_revisable]
        after = [row for row in at_moment(installation) if not BY_NAME[row["metric"]].is_revisable]
        assert canonical(after) == canonical(unrevised)
