"""Heartline over TLS: every command, every way of proving oneself, and what is said when it fails.

It has a broker of its own, and by its name a lane of its own (`tests/lanes.py`).
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from tests.rig.installation import Installation
from tests.rig.needs import needs_apache_kafka
from tests.rig.processes import wait_until
from tests.rig.secure_kafka import USER, SecureKafka, secure_kafka
from tests.rig.topics import TopicSet

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), needs_apache_kafka]

PARTITIONS = 2
START_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
AT_MS = START_MS + 3_600_000
WINDOWS = ("1h/10m",)
EVENTS = 400
SOON_S = 15.0
"""A refusal is told within a few seconds; a busy machine needs one or two only to start Python."""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, kafka_jars: None) -> Iterator[SecureKafka]:
    with secure_kafka(tmp_path_factory.mktemp("secure-apache-kafka")) as running:
        yield running


def installation(
    kafka: SecureKafka,
    directory: Path,
    security: dict[str, str],
    *,
    listener: str = "sasl_ssl",
    **more: dict[str, object],
) -> Installation:
    """One that reaches Kafka by `listener`; the test itself reaches it by the plain one."""
    settings: dict[str, dict[str, object]] = {
        "kafka": {"bootstrap": kafka.address(listener)},
        "kafka.security": dict(security),
        "windows": {"hopping": list(WINDOWS)},
        **more,
    }
    return Installation(kafka.plain, directory, partitions=PARTITIONS, settings=settings)


def events() -> Iterator[dict[str, Any]]:
    for number in range(EVENTS):
        yield {
            "type": "page_viewed",
            "event_id": f"e{number}",
            "customer_id": f"c{number % 37}",
            "occurred_at": START_MS + number * 8_000,
            "page": "/",
        }


def secrets_of(kafka: SecureKafka) -> tuple[str, ...]:
    return kafka.password, kafka.tokens.client_secret


def test_every_command_works_over_sasl_ssl_apache(kafka: SecureKafka, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events()))
    heartline = installation(kafka, tmp_path, kafka.section("SCRAM-SHA-512"))
    said = []
    try:
        for arguments in (("topics", "create"), ("topics", "check"), ("replay", str(file))):
            done = heartline.run(*arguments)
            assert done.returncode == 0, done.stderr
            said.append(done.stdout + done.stderr)
        worker = heartline.worker()
        serve = heartline.serve()
        rows = heartline.results(AT_MS, WINDOWS, seconds=60)
        (views,) = [
            row["value"] for row in rows if row["metric"] == "page_views" and not row["segment"]
        ]
        assert views == EVENTS
        doctor = heartline.run("doctor")
        assert doctor.returncode == 0, doctor.stdout
        assert "SCRAM-SHA-512 as heartline" in doctor.stdout
        assert "(TLSv1.3)" in doctor.stdout
        simulated = heartline.run("simulate", "--rate", "50", "--for", "2s", "--customers", "100")
        assert simulated.returncode == 0, simulated.stderr
        wait_until(lambda: serve.answers("/readyz"), what="serve reads the results")
        assert "heartline_page_views{" in serve.get("/metrics")
        tail = heartline.run("tail", "results", "--from-beginning", "--limit", "1")
        assert tail.returncode == 0, tail.stderr
        said += [doctor.stdout, simulated.stdout, simulated.stderr, tail.stdout, tail.stderr]
        said += [worker.process.output(), serve.process.output(), worker.get("/metrics")]
    finally:
        heartline.__exit__()
    assert worker.process.exit_status == 0
    for secret in secrets_of(kafka):
        assert not [text for text in said if secret in text]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "certificate"])
def test_a_worker_and_the_commands_are_let_in_apache(
    kafka: SecureKafka, tmp_path: Path, mechanism: str
) -> None:
    listener = "ssl" if mechanism == "certificate" else "sasl_ssl"
    heartline = installation(kafka, tmp_path, kafka.section(mechanism), listener=listener)
    with heartline:
        seen = heartline.run("topics", "create")
        assert seen.returncode == 0, seen.stdout + seen.stderr
        worker = heartline.worker()
        assert json.loads(worker.get("/readyz"))["ready"]


def test_a_worker_outlives_its_tokens_apache(kafka: SecureKafka, tmp_path: Path) -> None:
    """The broker ends a connection whose token has ended; the next one shows a new token, also when
    there was none to be had for a while.
    """
    patience: dict[str, object] = {"session_timeout": "30s"}
    kafka.tokens.lifetime_s = 6
    try:
        with installation(
            kafka, tmp_path, kafka.section("OAUTHBEARER"), engine=patience
        ) as heartline:
            names = heartline.topics.names
            seen = heartline.run("topics", "create")
            assert seen.returncode == 0, seen.stdout + seen.stderr
            worker = heartline.worker()
            before, began = kafka.tokens.granted, time.monotonic()
            produced = 0
            refused = kafka.tokens.refused
            while (now_s := time.monotonic() - began) < 16:
                kafka.tokens.is_down = 3 < now_s < 12
                heartline.topics.produce(
                    (
                        names.sessions,
                        b"c1",
                        json.dumps(event | {"customer_id": "c1"}).encode(),
                        None,
                    )
                    for event in list(events())[produced : produced + 20]
                )
                produced += 20
                time.sleep(1)
            wait_until(
                lambda: (
                    sum(
                        value
                        for series, value in worker.samples()
                        if series.startswith("heartline_events_consumed_total")
                    )
                    >= produced
                ),
                what="everything was read",
                seconds=40,
            )
            # One of them was due in the middle of the outage; a slow worker asks the later for it.
            wait_until(lambda: kafka.tokens.granted >= before + 2, what="new tokens were granted")
            assert worker.process.exit_status is None
            # Of the hundreds of attempts to connect meanwhile few came to the endpoint.
            assert 0 < kafka.tokens.refused - refused < 40
            assert "refused with status 503: it is tried again" in worker.process.output()
            assert json.loads(worker.get("/readyz"))["ready"]
    finally:
        kafka.tokens.lifetime_s, kafka.tokens.is_down = 3_600, False


READ, WRITE, CREATE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE
INPUTS = ("sessions", "purchases", "social", "support")
OWN = (
    "state",
    "partials",
    "rollup",
    "results",
    "dead_letters",
    "late",
    "signals",
    "alerts",
    "redriven",
)
REPLAYING = dict.fromkeys(INPUTS, (WRITE,))
WORKING = {
    **dict.fromkeys(INPUTS, (READ,)),
    **dict.fromkeys(("state", "partials", "rollup", "results"), (READ, WRITE)),
    **dict.fromkeys(("dead_letters", "late", "signals", "alerts"), (WRITE,)),
}
SERVING = {"results": (READ,)}
"""What docs/security.md says that each needs; READ and WRITE include DESCRIBE."""


def give(
    kafka: SecureKafka, topics: TopicSet, rights: Mapping[str, tuple[AclOperation, ...]]
) -> None:
    """Our user gets exactly these rights on the topics, and none on the cluster as such."""
    kafka.allow_everything()
    for name in (*INPUTS, *OWN):
        topic: str = getattr(topics.names, name)
        kafka.allow(ResourceType.TOPIC, topic, CREATE, user="an-administrator")
        if name in rights:
            kafka.allow(ResourceType.TOPIC, topic, *rights[name])
    kafka.allow(ResourceType.BROKER, "kafka-cluster", CREATE, user="an-administrator")
    reader = USER if rights is WORKING else "an-administrator"
    kafka.allow(ResourceType.GROUP, topics.prefix, READ, user=reader)


@pytest.fixture
def rights(kafka: SecureKafka) -> Iterator[None]:
    """Rights that a test gives end with it."""
    yield
    kafka.allow_everything()


def test_everybody_gets_along_with_the_documented_rights_apache(
    kafka: SecureKafka, tmp_path: Path, rights: None
) -> None:
    file = tmp_path / "events.jsonl"
    lines = [json.dumps(event) for event in events()]
    # Without a page it is no event: the door writes a dead letter.
    lines.append('{"type": "page_viewed", "customer_id": "c1"}')
    file.write_text("\n".join(lines))
    with installation(kafka, tmp_path, kafka.section("SCRAM-SHA-512")) as heartline:
        topics = heartline.topics
        give(kafka, topics, REPLAYING)
        replayed = heartline.run("replay", file)
        assert replayed.returncode == 0, replayed.stderr
        give(kafka, topics, WORKING)
        worker = heartline.worker()
        rows = heartline.results(AT_MS, WINDOWS, seconds=60)
        assert [
            row["value"] for row in rows if row["metric"] == "page_views" and not row["segment"]
        ] == [EVENTS]
        assert list(topics.read(topics.names.dead_letters, seconds=20, quiet_after=0.5))
        worker.process.stop()
        assert worker.process.exit_status == 0
        give(kafka, topics, SERVING)
        serve = heartline.serve()
        wait_until(lambda: serve.answers("/readyz"), what="serve reads the results")
        tail = heartline.run("tail", "results", "--from-beginning", "--limit", "1")
        assert tail.returncode == 0, tail.stderr


def test_what_is_forbidden_is_told_with_the_right_that_is_lacking_apache(
    kafka: SecureKafka, tmp_path: Path, rights: None
) -> None:
    with installation(kafka, tmp_path, kafka.section("SCRAM-SHA-512")) as heartline:
        names = heartline.topics.names
        kafka.allow(ResourceType.TOPIC, names.results, AclOperation.READ)
        kafka.allow(ResourceType.TOPIC, names.state, AclOperation.READ)
        worker = heartline.start("worker", HEARTLINE_WORKER_PORT="0")
        assert worker.wait(60) == 1
        assert f"{names.state}: Kafka forbids it: grant WRITE" in worker.output()
        assert "Traceback" not in worker.output()


def _wrong_password(kafka: SecureKafka, directory: Path) -> str:
    file = directory / "wrong"
    file.write_text("not-the-password")
    return str(file)


COMMANDS = (("worker", "--port", "0"), ("topics", "check"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_one_clear_line_apache(
    kafka: SecureKafka, tmp_path: Path, mechanism: str, command: tuple[str, ...]
) -> None:
    section = kafka.section(mechanism, password_file=_wrong_password(kafka, tmp_path))
    (line,) = refusal(installation(kafka, tmp_path, section), *command)
    assert f"refused the credentials of 'heartline' ({mechanism})" in line
    assert "HEARTLINE_KAFKA_SECURITY_PASSWORD or password_file" in line
    assert "not-the-password" not in line


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_untrusted_certificate_is_one_clear_line_apache(
    kafka: SecureKafka, tmp_path: Path, command: tuple[str, ...]
) -> None:
    section = kafka.section("SCRAM-SHA-512")
    del section["ca_file"]
    (line,) = refusal(installation(kafka, tmp_path, section), *command)
    assert "is not trusted by the system's authorities" in line
    assert "set [kafka.security] ca_file" in line


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    "listener, told",
    [("stranger", "is not for the name 127.0.0.1"), ("expired", "has expired: have it renewed")],
)
def test_a_certificate_of_somebody_else_or_of_the_past_is_one_clear_line_apache(
    kafka: SecureKafka, tmp_path: Path, listener: str, told: str, command: tuple[str, ...]
) -> None:
    section = kafka.section("SCRAM-SHA-512")
    (line,) = refusal(installation(kafka, tmp_path, section, listener=listener), *command)
    assert told in line


@pytest.mark.parametrize(
    "listener, mechanism, told",
    [
        ("sasl_ssl", "", "is this listener for TLS? Then set [kafka.security] protocol"),
        ("plain", "SCRAM-SHA-512", "Its security protocol must be SASL_SSL"),
        ("ssl", "no certificate", "a client certificate (certificate_file, key_file)"),
    ],
)
def test_the_wrong_listener_is_one_clear_line_apache(
    kafka: SecureKafka, tmp_path: Path, listener: str, mechanism: str, told: str
) -> None:
    section = kafka.section(mechanism) if mechanism else {}
    if mechanism == "no certificate":
        section = {"protocol": "ssl", "ca_file": str(kafka.authority.certificate)}
    heartline = installation(kafka, tmp_path, section, listener=listener)
    (line,) = refusal(heartline, "topics", "check")
    assert told in line


def test_tokens_that_are_not_granted_or_not_accepted_are_told_apache(
    kafka: SecureKafka, tmp_path: Path
) -> None:
    wrong = kafka.section("OAUTHBEARER", client_secret_file=_wrong_password(kafka, tmp_path))
    (line,) = refusal(installation(kafka, tmp_path, wrong), "topics", "check")
    assert "refused with status 401 invalid_client" in line
    kafka.tokens.audience = "somebody-else"
    try:
        heartline = installation(kafka, tmp_path, kafka.section("OAUTHBEARER"))
        (line,) = refusal(heartline, "topics", "check")
        assert "refused the token: check the issuer and audience" in line
    finally:
        kafka.tokens.audience = "kafka"


def test_serve_says_why_it_is_not_ready_apache(kafka: SecureKafka, tmp_path: Path) -> None:
    section = kafka.section("PLAIN", password_file=_wrong_password(kafka, tmp_path))
    heartline = installation(kafka, tmp_path, section)
    try:
        serve = heartline.serve()
        wait_until(
            lambda: "refused the credentials" in serve.process.output(), what="serve says why"
        )
        assert "not-the-password" not in serve.process.output()
        assert not serve.answers("/readyz")
    finally:
        heartline.__exit__()


def refusal(heartline: Installation, *command: str) -> list[str]:
    """What a command that can't get in says, within a few seconds and without a traceback."""
    began = time.monotonic()
    done = heartline.run(*command)
    assert done.returncode in {1, 2}
    assert time.monotonic() - began < SOON_S
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()
