"""The topics that Heartline needs, created and checked (the table of DESIGN.md 3).

The inputs and the state topic have the same number of partitions: one partition sees everything of
its customers. Partials, results and the notes of the roll-up have one each: a single roll-up reads
and writes them in order. The notes of redrives have one, so that of two commands at a time one sees
that it came second.
How long the inputs are kept is the user's business: they are created with the broker's defaults and
never judged by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agents.failures import CommandFailed
from agents.kafka_admin import admin_client, partition_counts, topic_configs
from agents.settings import Settings

DAY_MS = 86_400_000
TOPIC_ALREADY_EXISTS = 36
UNSUPPORTED_CONFIG = frozenset({40, 42})
"""Kafka's error codes INVALID_CONFIG and INVALID_REQUEST."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it should be."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What `check` or `create` found about one topic."""

    level: str
    """ok, note or wrong."""
    topic: str
    message: str


def planned_topics(settings: Settings) -> tuple[TopicPlan, ...]:
    """All topics, inputs first."""
    topics = settings.topics()
    kafka = settings.kafka

    def plan(
        name: str, partitions: int, policy: str | None = None, days: int | None = None
    ) -> TopicPlan:
        configs = {} if policy is None else {"cleanup.policy": policy}
        if days is not None:
            configs["retention.ms"] = str(days * DAY_MS)
        return TopicPlan(name, partitions, kafka.replication, configs)

    state = plan(topics.state, kafka.partitions, "compact")
    # Else what was deleted could stay on the broker's disk for as long as a segment is open.
    state.configs["max.compaction.lag.ms"] = str(DAY_MS)
    return (
        *(plan(name, kafka.partitions) for name in topics.sources),
        state,
        plan(topics.partials, 1, "delete", 2),
        plan(topics.rollup, 1, "delete", 3),
        plan(topics.results, 1, "compact,delete", 7),
        plan(topics.signals, kafka.partitions, "delete", 30),
        plan(topics.alerts, 1, "delete", 30),
        plan(topics.dead_letters, kafka.partitions, "delete", 14),
        plan(topics.late, kafka.partitions, "delete", 14),
        plan(topics.redriven, 1, "compact"),
    )


def create_topics(settings: Settings) -> list[Finding]:
    """Create what is missing; what exists is left as it is. Raises kafka-python's errors."""
    plans = planned_topics(settings)
    with admin_client(settings) as admin:
        existing = set(admin.list_topics())
        missing = [plan for plan in plans if plan.name not in existing]
        found = [
            Finding("ok", plan.name, "exists already") for plan in plans if plan.name in existing
        ]
        if missing:
            found += _create(admin, missing)
            admin.wait_for_topics([plan.name for plan in missing])
    order = {plan.name: position for position, plan in enumerate(plans)}
    return sorted(found, key=lambda finding: order[finding.topic])


def _create(admin: Any, missing: list[TopicPlan]) -> list[Finding]:
    found = []
    answer = admin.create_topics(
        {
            plan.name: {
                "num_partitions": plan.partitions,
                "replication_factor": plan.replication,
                "configs": plan.configs,
            }
            for plan in missing
        },
        raise_errors=False,
    )
    errors = {topic["name"]: topic for topic in answer["topics"]}
    for plan in missing:
        error = errors[plan.name]
        code = error["error_code"]
        if code == 0:
            found.append(Finding("ok", plan.name, f"created: {_words(plan)}"))
        elif code == TOPIC_ALREADY_EXISTS:
            found.append(Finding("ok", plan.name, "exists already"))
        elif code in UNSUPPORTED_CONFIG and plan.configs:
            bare = TopicPlan(plan.name, plan.partitions, plan.replication)
            found += _create(admin, [bare])
            found.append(
                Finding("note", plan.name, "the broker does not take its cleanup settings")
            )
        else:
            reason = error.get("error_message") or f"error {code}"
            raise CommandFailed(
                f"Kafka refused to create {plan.name}: {reason}; check [kafka] partitions and "
                "replication and the right to create topics"
            )
    return found


def check_topics(settings: Settings) -> list[Finding]:
    """Each difference from the plan. Raises kafka-python's errors."""
    plans = planned_topics(settings)
    with admin_client(settings) as admin:
        counts = partition_counts(admin, tuple(plan.name for plan in plans))
        configs = topic_configs(admin, tuple(counts)) if counts else {}
    return [
        finding
        for plan in plans
        for finding in _compare(plan, counts.get(plan.name), configs.get(plan.name, {}))
    ]


def _compare(plan: TopicPlan, partitions: int | None, configs: dict[str, str]) -> list[Finding]:
    if partitions is None:
        return [Finding("wrong", plan.name, "is missing: run `heartline topics create`")]
    found = []
    if partitions != plan.partitions:
        found.append(
            Finding(
                "wrong",
                plan.name,
                f"has {partitions} partitions, not {plan.partitions}: make [kafka] partitions the "
                "number of the inputs, or create the topic anew",
            )
        )
    if plan.configs and not configs:
        found.append(Finding("note", plan.name, "the broker does not report its cleanup settings"))
    elif plan.configs:
        for name, wanted in plan.configs.items():
            actual = configs.get(name, "")
            if _as_set(actual) != _as_set(wanted):
                found.append(
                    Finding("wrong", plan.name, f"{name} is {actual or 'unset'}, not {wanted}")
                )
    return found or [Finding("ok", plan.name, _words(plan))]


def _as_set(value: str) -> frozenset[str]:
    """``compact,delete`` and ``delete,compact`` mean the same."""
    return frozenset(part.strip() for part in value.split(","))


def _words(plan: TopicPlan) -> str:
    noun = "partition" if plan.partitions == 1 else "partitions"
    return ", ".join([f"{plan.partitions} {noun}", *(f"{k}={v}" for k, v in plan.configs.items())])
