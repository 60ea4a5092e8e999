"""Version 1 of the events is a promise: what it accepts stays accepted and means the same."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agents import compatibility
from agents.compatibility import Events, breakages, current_events, frozen_events, main
from streams.metrics import METRICS
from streams.segments import Own

ALL = {metric.name for metric in METRICS}
JOURNEY = {"journey_customers", "journey_moves", "journey_stage_seconds_p50"}
"""Any first event enters it."""
NPS = {"nps_promoters", "nps_passives", "nps_detractors", "nps"}


@pytest.fixture
def changed() -> Events:
    return deepcopy(frozen_events())


def only(changed: Events) -> compatibility.Breakage:
    (found,) = breakages(frozen_events(), changed)
    return found


def test_no_event_breaks_its_promise() -> None:
    broken = [str(one) for one in breakages(frozen_events(), current_events())]

    assert broken == [], "a breaking change needs a new schema_version"


def test_every_addition_is_promised_too() -> None:
    assert current_events() == frozen_events(), "run `python -m agents.compatibility`"


@pytest.mark.parametrize(
    "event, field, touched",
    [
        ("page_viewed", "page", set()),
        ("page_viewed", "device", set()),
        ("order_refunded", "amount", {"refunded", "net_revenue", "clv_historic_mean"}),
        (
            "order_placed",
            "currency",
            {"revenue", "net_revenue", "average_order_value", "clv_historic_mean"},
        ),
        ("social_interacted", "persona", ALL),
        ("subscription_cancelled", "customer_id", {"cancellations", *JOURNEY}),
        ("nps_answered", "score", {*NPS, *JOURNEY}),
        ("csat_answered", "channel", {"csat_responses", "csat_satisfied", "csat_ratio"}),
        ("time_passed", "until", ALL),
    ],
)
def test_a_field_that_is_gone_touches_the_metrics_that_read_it(
    changed: Events, event: str, field: str, touched: set[str]
) -> None:
    del changed[event]["properties"][field]
    found = only(changed)

    assert (found.event, found.field) == (event, field)
    assert "gone or has another name" in found.what
    assert set(found.metrics) == touched


def test_the_acquisition_channel_touches_what_is_given_by_it(changed: Events) -> None:
    del changed["page_viewed"]["properties"]["channel"]

    assert set(only(changed).metrics) == {
        metric.name for metric in METRICS if metric.dimension is Own.CHANNEL
    }


def test_a_renamed_field_is_one_that_is_gone(changed: Events) -> None:
    properties = changed["page_viewed"]["properties"]
    properties["visit_id"] = properties.pop("session_id")
    found = only(changed)

    assert found.field == "session_id"
    assert {"sessions_closed", "session_conversion_ratio", "bounce_ratio"} <= set(found.metrics)
    assert not {"page_views", "orders", "churn_ratio"} & set(found.metrics)


def test_a_renamed_type_touches_all_that_it_feeds(changed: Events) -> None:
    changed["order_returned"] = changed.pop("order_refunded")
    found = only(changed)

    assert found.field is None
    assert str(found) == (
        "order_refunded is gone or has another name; touches refunded, net_revenue, "
        "clv_historic_mean, journey_customers, journey_moves, journey_stage_seconds_p50"
    )


def test_a_type_that_moved_to_another_topic_is_broken(changed: Events) -> None:
    changed["csat_answered"]["topic"] = "social"

    assert str(only(changed)) == (
        "csat_answered moved from topic support to social; touches csat_responses, csat_satisfied, "
        "csat_ratio, journey_customers, journey_moves, journey_stage_seconds_p50"
    )


@pytest.mark.parametrize("is_new", [False, True], ids=["known", "new"])
def test_a_field_that_became_required_touches_all_that_the_type_feeds(
    changed: Events, is_new: bool
) -> None:
    field = "referrer" if is_new else "device"
    changed["page_viewed"]["properties"].setdefault(field, {"type": "string"})
    changed["page_viewed"]["required"].append(field)
    found = only(changed)

    assert (found.field, found.what) == (field, "became required")
    assert {"page_views", "visitors", "active_customers", "churn_ratio"} <= set(found.metrics)


@pytest.mark.parametrize(
    "event, field, schema",
    [
        ("page_viewed", "device", {"type": "string"}),
        ("page_viewed", "page", {"type": "string", "maxLength": 2_000}),
        ("page_viewed", "page", {"type": "string", "pattern": "^/"}),
        ("page_viewed", "page", {"type": "string", "format": "uri"}),
        ("page_viewed", "page", {"enum": ["/", "/cart"]}),
        ("page_viewed", "page", {"type": "string", "contentEncoding": "base64"}),
        ("page_viewed", "event_id", {"type": "string", "minLength": 1, "maxLength": 127}),
        ("page_viewed", "event_id", {"type": "string", "minLength": 2, "maxLength": 128}),
        ("page_viewed", "occurred_at", {"type": "integer"}),
        ("page_viewed", "schema_version", {"enum": [1]}),
        ("csat_answered", "score", {"type": "integer", "minimum": 1, "maximum": 10}),
        ("csat_answered", "score", {"type": "integer", "minimum": 0, "maximum": 9}),
        ("csat_answered", "scale_max", {"enum": [5]}),
        ("csat_answered", "scale_max", {"type": "integer", "maximum": 9}),
        ("social_interacted", "action", {"enum": ["like", "share"]}),
        ("social_interacted", "sentiment", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    ],
)
def test_a_field_that_accepts_less_is_refused(
    changed: Events, event: str, field: str, schema: dict[str, Any]
) -> None:
    changed[event]["properties"][field] = schema

    assert "is narrower" in only(changed).what


@pytest.mark.parametrize(
    "event, field, schema",
    [
        ("page_viewed", "page", {}),
        ("page_viewed", "page", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ("page_viewed", "event_id", {"type": "string", "minLength": 0, "maxLength": 129}),
        ("page_viewed", "event_id", {"type": "string"}),
        ("page_viewed", "schema_version", {"enum": [None, 2, 1]}),
        ("csat_answered", "score", {"type": "integer", "minimum": 0, "maximum": 100}),
        ("csat_answered", "score", {"type": "number", "minimum": 0, "maximum": 10}),
        ("csat_answered", "scale_max", {"enum": [5, 7, 10]}),
        ("csat_answered", "scale_max", {"type": "integer", "minimum": 5}),
        ("social_interacted", "action", {"type": "string"}),
    ],
)
def test_a_field_that_accepts_more_is_no_breakage(
    changed: Events, event: str, field: str, schema: dict[str, Any]
) -> None:
    changed[event]["properties"][field] = schema

    assert list(breakages(frozen_events(), changed)) == []


def test_additions_and_relaxed_demands_are_no_breakage(changed: Events) -> None:
    changed["page_viewed"]["properties"]["referrer"] = {"type": "string"}
    changed["page_viewed"]["required"].remove("page")
    changed["review_written"] = deepcopy(changed["page_viewed"])

    assert list(breakages(frozen_events(), changed)) == []


def test_the_frozen_file_takes_additions_and_refuses_breaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: Events
) -> None:
    monkeypatch.setattr(compatibility, "FROZEN", tmp_path / "frozen" / "events.json")
    first = CliRunner().invoke(main, [])
    assert first.exit_code == 0
    assert frozen_events() == current_events()

    changed["page_viewed"]["properties"]["referrer"] = {"type": "string"}
    monkeypatch.setattr(compatibility, "current_events", lambda: changed)
    assert CliRunner().invoke(main, []).exit_code == 0
    assert "referrer" in frozen_events()["page_viewed"]["properties"]

    del changed["order_refunded"]
    refused = CliRunner().invoke(main, [])
    assert refused.exit_code == 1
    assert "order_refunded is gone" in refused.output
    assert "order_refunded" in frozen_events()
