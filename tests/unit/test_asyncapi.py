"""The AsyncAPI document is valid, and says what the topics and the decoder say."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from agents.asyncapi import document
from agents.cli import main
from agents.metric_docs import OF_GROUP, ROOT
from agents.settings import Settings
from agents.topic_plan import planned_topics
from schemas.events import SOURCE_OF, TYPE_NAMES
from schemas.records import DeadLetter, LateRecord, Partial, PublishedResult, Redriven
from tests.rig.json_schema import errors

OFFICIAL = json.loads((ROOT / "tests/data/asyncapi/3.0.0-kafka.json").read_text(encoding="utf-8"))
CONFIGURED = Settings.from_mapping(
    {
        "kafka": {
            "bootstrap": "one:9092, two:9092",
            "security": {"protocol": "ssl"},
            "topic_prefix": "shop",
            "partitions": 3,
            "partitioner": "crc32",
        },
        "segments": {"region": ["north"], "tier": ["gold", "silver"]},
    },
    source="test",
    environment={},
)


def made(settings: Settings) -> dict[str, Any]:
    """As a reader of the file has it."""
    found: dict[str, Any] = json.loads(json.dumps(document(settings)))
    return found


def without(node: dict[str, Any], *path: str) -> dict[str, Any]:
    copy = deepcopy(node)
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copy


def test_events_list_the_customer_dimensions_of_the_configuration() -> None:
    messages = made(CONFIGURED)["components"]["messages"]
    without = made(Settings())["components"]["messages"]
    for name, kind in TYPE_NAMES.items():
        fields = messages[name]["payload"]["properties"]
        assert ("tier" in fields) == (kind in SOURCE_OF)
        assert set(fields) - {"tier"} == set(without[name]["payload"]["properties"])
        if kind in SOURCE_OF:
            assert fields["tier"] == fields["persona"]


@pytest.mark.parametrize("settings", [Settings(), CONFIGURED], ids=["default", "configured"])
def test_the_document_is_valid_asyncapi(settings: Settings) -> None:
    assert errors(OFFICIAL, made(settings)) == []


@pytest.mark.parametrize(
    "path",
    [
        ("info", "title"),
        ("asyncapi",),
        ("operations", "receive_sessions", "channel"),
        ("servers", "kafka-1", "protocol"),
        ("channels", "results", "messages", "result", "$ref"),
    ],
)
def test_a_document_without_a_required_part_is_not(path: tuple[str, ...]) -> None:
    broken = without(made(Settings()), *path)
    if path[-1] == "$ref":
        broken["channels"]["results"]["messages"]["result"] = {"contents": "unknown"}

    assert errors(OFFICIAL, broken)


def test_every_reference_leads_somewhere() -> None:
    whole = made(Settings())

    def follow(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                target = whole
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for member in node.values():
                follow(member)
        elif isinstance(node, list):
            for member in node:
                follow(member)

    follow(whole)


def test_channels_are_the_topics_as_they_are_created() -> None:
    plans = {plan.name: plan for plan in planned_topics(CONFIGURED)}
    channels = made(CONFIGURED)["channels"]

    assert channels["sessions"]["address"] == "shop.sessions"
    assert channels["dead_letters"]["address"] == "shop.dead-letters"
    for channel in channels.values():
        plan, binding = plans[channel["address"]], channel["bindings"]["kafka"]
        assert (binding["partitions"], binding["replicas"]) == (plan.partitions, plan.replication)
        policy = binding.get("topicConfiguration", {}).get("cleanup.policy", [])
        assert ",".join(policy) == plan.configs.get("cleanup.policy", "")


def test_a_type_stands_on_the_topic_that_takes_it_and_a_control_record_on_all() -> None:
    channels = made(Settings())["channels"]

    for name, kind in TYPE_NAMES.items():
        on = {c for c, channel in channels.items() if name in channel["messages"]}
        source = SOURCE_OF.get(kind)
        inputs = {"sessions", "purchases", "social", "support"}
        assert on == (inputs if source is None else {source.name.lower()})


def test_inputs_name_the_configured_partitioner_and_outputs_their_own() -> None:
    told = {name: one["x-partitioner"] for name, one in made(Settings())["channels"].items()}

    assert {told[name] for name in ("sessions", "purchases", "social", "support")} == {"murmur2"}
    assert {told[name] for name in ("results", "partials", "dead_letters", "late")} == {"crc32"}
    assert made(CONFIGURED)["channels"]["social"]["x-partitioner"] == "crc32"


def test_every_broker_is_a_server_and_encryption_shows() -> None:
    assert made(CONFIGURED)["servers"] == {
        "kafka-1": {"host": "one:9092", "protocol": "kafka-secure"},
        "kafka-2": {"host": "two:9092", "protocol": "kafka-secure"},
    }


SASL = {"protocol": "sasl_ssl", "username": "u"}
TOKENS = {
    "protocol": "sasl_ssl",
    "mechanism": "OAUTHBEARER",
    "token_endpoint": "https://id.example.org/token",
    "client_id": "c",
    "scope": "kafka other",
}


@pytest.mark.parametrize(
    "security, scheme",
    [
        ({}, None),
        ({"protocol": "ssl"}, None),
        ({"protocol": "ssl", "certificate_file": "c.pem"}, "X509"),
        ({**SASL, "mechanism": "PLAIN"}, "plain"),
        ({**SASL, "mechanism": "SCRAM-SHA-256"}, "scramSha256"),
        (SASL, "scramSha512"),
        (TOKENS, "oauth2"),
    ],
)
def test_how_a_client_proves_itself_is_told_without_who_it_is(
    security: dict[str, str], scheme: str | None
) -> None:
    settings = Settings.from_mapping(
        {"kafka": {"security": security}}, source="test", environment={}
    )
    document = made(settings)
    assert errors(OFFICIAL, document) == []
    found = document["servers"]["kafka-1"].get("security", [{"type": None}])
    assert [one["type"] for one in found] == [scheme]
    if scheme == "oauth2":
        flow = found[0]["flows"]["clientCredentials"]
        assert flow["tokenUrl"] == "https://id.example.org/token"
        assert list(flow["availableScopes"]) == ["kafka", "other"]


@pytest.mark.parametrize("example", OF_GROUP.values(), ids=lambda e: e.file)
def test_documented_events_fit_the_payload_of_their_message(example: Any) -> None:
    messages = made(Settings())["components"]["messages"]

    for line in example.lines:
        event = json.loads(line)
        assert errors(messages[event["type"]]["payload"], event) == []
        assert errors(messages[event["type"]]["payload"], without(event, "event_id"))


RESULT = PublishedResult(
    metric="orders", window="1d", hop="1h", at="2026-03-01T00:00:00Z", segment={}, dimensions={},
    value=1, numerator=None, denominator=None, n=None, low=None, high=None, complete=True,
    result_id="x", end_ms=0, revision=1, watermark_ms=0, missing_partitions=0, results_in_tick=1,
)  # fmt: skip
PARTIAL = Partial(
    partition=0, window="1d", hop="1h", end_ms=0, valid_through_ms=0, epoch=1, revision=1,
    watermark_ms=0, observed_from_ms=None, is_replay=False, is_untouched=False, fingerprint="f",
    sums=[0, 1], durations=[], is_correction=False,
)  # fmt: skip
DEAD = DeadLetter(
    topic="t", partition=0, offset=0, timestamp_ms=0, reason="empty", detail="", key=None,
    payload=b"{", payload_bytes=1, payload_sha256=None,
)  # fmt: skip
LATE = LateRecord(
    topic="t", partition=0, offset=0, timestamp_ms=0, event_time_ms=0, watermark_ms=0, key=b"c",
    payload=b"{}", payload_bytes=2, payload_sha256=None,
)  # fmt: skip
REDRIVEN = Redriven(
    state="intended", run="r", topic="t", partition=0, after=0, offset=None, at_ms=0
)


@pytest.mark.parametrize(
    "name, record",
    [
        ("result", RESULT),
        ("partial", PARTIAL),
        ("dead_letter", DEAD),
        ("late_record", LATE),
        ("redriven", REDRIVEN),
    ],
)
def test_what_is_written_fits_the_payload_of_its_message(name: str, record: Any) -> None:
    payload = made(Settings())["components"]["messages"][name]["payload"]
    written = json.loads(msgspec.json.encode(record))

    assert errors(payload, written) == []
    for field in written:
        assert errors(payload, without(written, field))


def test_the_command_prints_it_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEARTLINE_CONFIG", raising=False)
    (tmp_path / "shop.toml").write_text('[kafka]\ntopic_prefix = "shop"\n')
    run = CliRunner().invoke
    printed = run(main, ["schema", "--asyncapi"])
    configured = run(main, ["schema", "--asyncapi", "--config", "shop.toml"])
    written = run(main, ["schema", "--out", "contracts"])
    both = run(main, ["schema", "--asyncapi", "--out", "contracts"])

    assert json.loads(printed.stdout) == made(Settings())
    assert json.loads(configured.stdout)["channels"]["results"]["address"] == "shop.results"
    assert written.exit_code == 0
    assert json.loads((tmp_path / "contracts/asyncapi.json").read_text()) == made(Settings())
    assert len(list((tmp_path / "contracts").rglob("*.schema.json"))) == 22
    assert both.exit_code == 2
    assert both.stderr.count("\n") == 1
