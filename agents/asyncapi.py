"""What stands on the topics as one AsyncAPI 3.0 document, made from settings, topic plan and structs.

Heartline is the application that the document describes: it receives the inputs and sends the rest.
The state topic and the notes of the roll-up are private to the engine and left out; nothing stands on
the topics for signals and alerts.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from agents.json_schemas import event_schemas, output_schemas
from agents.settings import Settings
from agents.topic_plan import TopicPlan, planned_topics
from schemas.decode import MAX_BYTES
from schemas.events import CONTROLS, LONGEST_ID, SOURCE_OF, TYPE_NAMES, TimePassed
from schemas.topics import Source

ASYNCAPI = "3.0.0"
KAFKA_BINDING = "0.5.0"
CONTENT_TYPE = "application/json"

_CUSTOMER_KEY = {
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST_ID,
    "description": "The event's customer_id, in UTF-8; another key is a dead letter.",
}
_NO_KEY = {"type": "null", "description": "None: the record is sent to an explicit partition."}
_ORIGIN_KEY = {"type": "string", "description": "topic|partition|offset of the record's origin."}
_OUTPUT_KEYS = {
    "result": {"type": "string", "description": "The result_id: a correction has the same key."},
    "partial": {"type": "string", "description": "partition|window|hop|end_ms|epoch."},
    "dead_letter": _ORIGIN_KEY,
    "late_record": _ORIGIN_KEY,
    "redriven": _ORIGIN_KEY,
}
_OUTPUT_PARTITIONER = "crc32"
"""`agents.publisher` writes by it, whatever the inputs' partitioner is."""

_SOURCES = {
    Source.SESSIONS: ("sessions", "What customers do on the site."),
    Source.PURCHASES: ("purchases", "Orders, refunds and subscriptions."),
    Source.SOCIAL: ("social", "What customers do on social networks."),
    Source.SUPPORT: ("support", "Tickets and answers to surveys."),
}
_OUTPUTS = {
    "results": ("result", "Every metric of every window at every boundary of its hop."),
    "partials": ("partial", "The window sums of one partition, which the roll-up adds up."),
    "dead_letters": ("dead_letter", "Records that could not become events, and why."),
    "late": ("late_record", "Events that came later than the allowed lateness."),
    "redriven": ("redriven", "What `heartline redrive` intends to send and has sent."),
}
_TIME_PASSED = str(TimePassed.__struct_config__.tag)
_CONTROLS = [str(kind.__struct_config__.tag) for kind in CONTROLS]  # type: ignore[attr-defined]


def document(settings: Settings) -> dict[str, Any]:
    """The document for the topics, the partitioner and the brokers of ``settings``."""
    plans = {plan.name: plan for plan in planned_topics(settings)}
    topics = settings.topics()
    addresses = {name: getattr(topics, name) for name in topics.__struct_fields__}
    channels, operations = {}, {}
    for source, (name, summary) in _SOURCES.items():
        carried = [kind for kind, type_ in TYPE_NAMES.items() if SOURCE_OF.get(type_) is source]
        channels[name] = _channel(
            plans[addresses[name]],
            summary=f"{summary} Keyed by customer; all inputs have the same number of partitions.",
            messages=[*carried, *_CONTROLS],
            partitioner=settings.kafka.partitioner,
        )
        operations[f"receive_{name}"] = _operation("receive", name, settings)
    for name, (message, summary) in _OUTPUTS.items():
        channels[name] = _channel(
            plans[addresses[name]],
            summary=summary,
            messages=[message],
            partitioner=_OUTPUT_PARTITIONER,
        )
        operations[f"send_{name}"] = _operation("send", name, settings)
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "heartline",
            "version": _version(),
            "description": (
                "The vital signs of a customer base: events in, exact rolling windows out. "
                f"An input record is one JSON object of at most {MAX_BYTES} bytes; unknown fields "
                "are ignored, and a schema registry's frame before it is cut off. What the "
                "numbers mean is in docs/metrics.md."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": _servers(settings),
        "channels": channels,
        "operations": operations,
        "components": {"messages": _messages(tuple(settings.segments))},
    }


def _servers(settings: Settings) -> dict[str, Any]:
    protocol = "kafka" if settings.kafka.security.protocol == "plaintext" else "kafka-secure"
    addresses = [part.strip() for part in settings.kafka.bootstrap.split(",")]
    scheme = _security_scheme(settings)
    shared = {"protocol": protocol} | ({"security": [scheme]} if scheme else {})
    return {
        f"kafka-{number}": {"host": address, **shared}
        for number, address in enumerate(addresses, 1)
    }


def _security_scheme(settings: Settings) -> dict[str, Any]:
    """How a client proves itself; nothing where it need not."""
    security = settings.kafka.security
    if security.protocol == "plaintext":
        return {}
    if security.protocol == "ssl":
        return {"type": "X509"} if security.certificate_file else {}
    if security.uses_tokens:
        scopes = dict.fromkeys(security.scope.split(), "as configured")
        flow = {"tokenUrl": security.token_endpoint, "availableScopes": scopes}
        return {"type": "oauth2", "flows": {"clientCredentials": flow}}
    kinds = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}
    return {"type": kinds[security.mechanism]}


def _channel(
    plan: TopicPlan, *, summary: str, messages: list[str], partitioner: str
) -> dict[str, Any]:
    configuration: dict[str, Any] = {}
    if policy := plan.configs.get("cleanup.policy"):
        configuration["cleanup.policy"] = policy.split(",")
    if retention := plan.configs.get("retention.ms"):
        configuration["retention.ms"] = int(retention)
    binding: dict[str, Any] = {
        "topic": plan.name,
        "partitions": plan.partitions,
        "replicas": plan.replication,
    }
    if configuration:
        binding["topicConfiguration"] = configuration
    return {
        "address": plan.name,
        "summary": summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {**binding, "bindingVersion": KAFKA_BINDING}},
        "x-partitioner": partitioner,
    }


def _operation(action: str, channel: str, settings: Settings) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
    }
    if action == "receive":
        group = {"type": "string", "enum": [settings.kafka.group]}
        operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": KAFKA_BINDING}}
    return operation


def _messages(dimensions: tuple[str, ...]) -> dict[str, Any]:
    outputs = output_schemas()
    events = {
        name: _message(name, schema, _NO_KEY if name == _TIME_PASSED else _CUSTOMER_KEY)
        for name, schema in event_schemas(dimensions).items()
    }
    return events | {name: _message(name, outputs[name], key) for name, key in _OUTPUT_KEYS.items()}


def _message(name: str, schema: dict[str, Any], key: dict[str, Any]) -> dict[str, Any]:
    """The payload is a plain schema: AsyncAPI's own is a superset of JSON Schema draft 07, and ours
    use nothing newer.
    """
    payload = {word: value for word, value in schema.items() if word != "$schema"}
    return {
        "name": name,
        "title": schema["title"],
        "summary": schema["description"].partition("\n")[0],
        "contentType": CONTENT_TYPE,
        "payload": payload,
        "bindings": {"kafka": {"key": key, "bindingVersion": KAFKA_BINDING}},
    }


def _version() -> str:
    try:
        return version("heartline")
    except PackageNotFoundError:  # Run from a checkout that is not installed.
        return "0"
