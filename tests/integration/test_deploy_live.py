"""Every query of the dashboard and of the rules, asked of a real Prometheus that scraped a real worker
and a real serve, with deploy/'s own scrape configuration and rules.

What differs from production: addresses and intervals, and the offsets of the rules ("a day ago"),
because this Prometheus is a minute old. That the rules are right with their offsets is what
`promtool test rules` shows.
"""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from schemas.topics import Source
from tests.rig.brokers import Broker
from tests.rig.installation import ROOT, Installation, Service
from tests.rig.needs import needs_prometheus
from tests.rig.processes import free_ports, wait_until
from tests.rig.prometheus import Prometheus, prometheus
from tests.rig.shoppers import shop

pytestmark = [pytest.mark.integration, needs_prometheus, pytest.mark.timeout(600)]

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
PARTITIONS = 2
# Those that the alerts name, and the one with the smallest hop. Long stretches without events
# between the bursts cost nothing.
WINDOWS = ("5m/30s", "1h/5m", "24h/10m", "7d/1h")
MINUTE_S = 60
DAY_S = 86_400
BURSTS_AGO_S = (
    *(15 * DAY_S, 10 * DAY_S, 3 * DAY_S, 40 * 3600, 30 * 3600, 5 * 3600),
    *(150 * MINUTE_S, 110 * MINUTE_S, 80 * MINUTE_S, 45 * MINUTE_S, 20 * MINUTE_S, 2 * MINUTE_S),
)
"""When something happens: in both halves of every window's doubled length, so that each has a base."""
BURST_S = 110
BURST_EVENTS = 400
EVERY = 20
"""Of so many events one is by somebody who never comes again. Without them everybody returns within
a day, and how many times the usual no churn is where none is usual is undefined: 0 / 0.
"""


@dataclass(frozen=True, slots=True)
class Running:
    """What the tests of this module ask."""

    prometheus: Prometheus
    worker: Service
    serve: Service


def scrape_configuration(worker: Service, serve: Service) -> str:
    """deploy/prometheus/prometheus.yml with the addresses of this test."""
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    configuration["global"] |= {
        # A scrape that takes longer on a busy machine would leave a gap in every series.
        "scrape_interval": "3s",
        "scrape_timeout": "3s",
        "evaluation_interval": "1s",
    }
    del configuration["alerting"]
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    jobs["heartline-serve"]["static_configs"][0]["targets"] = [serve.url.removeprefix("http://")]
    del jobs["heartline-worker"]["dns_sd_configs"]
    jobs["heartline-worker"]["static_configs"] = [{"targets": [worker.url.removeprefix("http://")]}]
    configuration["scrape_configs"] = [jobs["heartline-serve"], jobs["heartline-worker"]]
    return yaml.safe_dump(configuration)


def without_offsets(text: str) -> str:
    """The rules as if yesterday were now."""
    return re.sub(r" offset \d+[smhdw]", "", text)


def rules() -> Iterator[dict[str, Any]]:
    """Every rule of deploy/."""
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


@pytest.fixture(scope="module")
def running(embedded_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A broker with half a month of events, a worker, serve, and Prometheus over both."""
    directory = tmp_path_factory.mktemp("deploy")
    settings: dict[str, dict[str, object]] = {
        "windows": {"hopping": list(WINDOWS)},
        "time": {"idle_after": "2s"},
        # Few values: every series of every tick is a record on the results topic.
        "segments": {"persona": ["regular"], "region": ["north"]},
        "channels": {"values": ["search"]},
    }
    copies = directory / "rules"
    copies.mkdir()
    for file in RULES.glob("*.yml"):
        (copies / file.name).write_text(without_offsets(file.read_text()))
    with Installation(
        embedded_broker, directory, partitions=PARTITIONS, settings=settings
    ) as installation:
        worker, serve = installation.worker(), installation.serve()
        with prometheus(directory, scrape_configuration(worker, serve)) as started:
            produce(installation)
            everything = Running(started, worker, serve)
            wait_until(
                lambda: shows_every_window(serve), seconds=180, what="serve shows every window"
            )
            yield everything


def produce(installation: Installation) -> None:
    """Bursts of events up to now, and one record that nobody can read."""
    names = installation.topics.names
    now_s = int(time.time())
    number = 0
    records: list[tuple[str, bytes | None, bytes, int | None]] = []
    for seed, ago_s in enumerate(BURSTS_AGO_S):
        start_ms = (now_s - ago_s) * 1000
        burst = shop(
            BURST_EVENTS,
            start_ms=start_ms,
            end_ms=start_ms + BURST_S * 1000,
            customers=120,
            seed=seed,
        )
        for _, source, body in burst:
            # The shop numbers its events from 0: each burst is a shop of its own.
            number += 1
            body["event_id"] = f"e{number}"
            if number % 7 == 0:
                body |= {"persona": "regular", "region": "north"}
            if number % EVERY == 0:
                body["customer_id"] = f"once{number}"
            key = str(body["customer_id"]).encode()
            records.append((names.sources[source], key, json.dumps(body).encode(), None))
        # By chance no ticket of the chosen segment may be resolved.
        for step, kind in enumerate(("ticket_opened", "ticket_replied", "ticket_resolved"), 1):
            number += 1
            body = {
                "type": kind,
                "event_id": f"e{number}",
                "customer_id": f"asks{seed}",
                "ticket_id": f"t{seed}",
                "persona": "regular",
                "region": "north",
                "occurred_at": start_ms + (BURST_S + step) * 1000,
            }
            if kind == "ticket_opened":
                body["channel"] = "email"
            key = str(body["customer_id"]).encode()
            records.append((names.support, key, json.dumps(body).encode(), None))
    records.append((names.sources[Source.SESSIONS], b"c1", b'{"type":', None))
    installation.topics.produce(records)


def shows_every_window(serve: Service) -> bool:
    """Whether every window's shown end is within its hop of now, a base for churn included."""
    try:
        page = serve.page()
    except OSError:
        return False
    ends = page.by("heartline_result_end_timestamp_seconds", "window")
    sizes = {window.partition("/")[0] for window in WINDOWS}
    return set(ends) == sizes and all(
        time.time() - end < 2 * 3600 and page.everyone("churn_ratio", size) is not None
        for size, end in ends.items()
        # Whether anybody was here five minutes ago depends on how long the start took.
        if size != "5m"
    )


def asked(expression: str, *, window: str, segment: tuple[str, str] = ("all", "all")) -> str:
    """A query of the dashboard with the variables that Grafana would have filled in."""
    persona, region = segment
    chosen = {
        "$window": window,
        "$persona": persona,
        "$region": region,
        "$__rate_interval": "20s",
    }
    for name, value in chosen.items():
        expression = expression.replace(name, value)
    return expression


def queries() -> list[tuple[str, str]]:
    """(panel, expression) of the dashboard."""
    file = DEPLOY / "grafana" / "dashboards" / "vital-signs.json"
    return [
        (f"{panel['id']} {panel['title']}: {target['legendFormat']}", target["expr"])
        for panel in json.loads(file.read_text())["panels"]
        for target in panel.get("targets", [])
    ]


def unanswered(running: Running, expressions: dict[str, str]) -> dict[str, str]:
    """Those that give no sample, or only NaN."""
    return {
        what: expression
        for what, expression in expressions.items()
        if all(math.isnan(sample.value) for sample in running.prometheus.query(expression))
    }


def assert_answered(running: Running, expressions: dict[str, str]) -> None:
    """All give data, at the latest after the next few scrapes and evaluations."""
    left = dict(expressions)

    def none_left() -> bool:
        nonlocal left
        left = unanswered(running, left)
        return not left

    try:
        wait_until(none_left, what="all queries answered", every=1.0)
    except TimeoutError:
        pytest.fail("no data for:\n" + "\n".join(f"{k}\n    {v}" for k, v in left.items()))


@pytest.mark.parametrize("window", ["1h", "24h", "7d"])
def test_every_query_of_the_dashboard_returns_data(running: Running, window: str) -> None:
    expressions = {what: asked(query, window=window) for what, query in queries()}
    assert len(expressions) == len(queries()) > 90
    assert_answered(running, expressions)


@pytest.mark.parametrize("segment", [("regular", "all"), ("all", "north")])
def test_every_query_of_the_dashboard_returns_data_for_a_segment(
    running: Running, segment: tuple[str, str]
) -> None:
    assert_answered(
        running,
        {what: asked(query, window="24h", segment=segment) for what, query in queries()},
    )


@pytest.mark.parametrize(
    "variable, some",
    [
        ("window", {"5m", "1h", "24h", "7d"}),
        ("persona", {"all", "regular", "other", "unknown"}),
        ("region", {"all", "north", "other", "unknown"}),
    ],
)
def test_the_choices_of_the_dashboard_are_filled(
    running: Running, variable: str, some: set[str]
) -> None:
    file = DEPLOY / "grafana" / "dashboards" / "vital-signs.json"
    (definition,) = (
        one["definition"]
        for one in json.loads(file.read_text())["templating"]["list"]
        if one["name"] == variable
    )
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition)
    assert match is not None
    found = running.prometheus.get(f"label/{match[2]}/values", **{"match[]": match[1]})
    assert isinstance(found, list)
    assert some <= set(found)


def test_every_recording_rule_records_something(running: Running) -> None:
    names = {rule["record"] for rule in rules() if "record" in rule}
    assert len(names) > 15
    assert_answered(running, {name: name for name in names})


def test_every_series_that_an_alert_looks_at_exists(running: Running) -> None:
    selectors = {
        found
        for rule in rules()
        if "alert" in rule
        for found in re.findall(r'(?<![\w:"])(?:heartline[\w:]*|up\b)(?:\{[^}]*\})?', rule["expr"])
    }
    assert 'up{job="heartline-worker"}' in selectors
    assert 'heartline:churn_odds:times_usual{window="24h"}' in selectors
    assert_answered(running, {selector: selector for selector in selectors})


def test_prometheus_evaluates_every_rule_without_error_and_a_healthy_engine_alarms_nobody(
    running: Running,
) -> None:
    answer = running.prometheus.get("rules")
    assert isinstance(answer, dict)
    evaluated = [rule for group in answer["groups"] for rule in group["rules"]]
    assert len(evaluated) == len(list(rules()))
    assert [rule for rule in evaluated if rule.get("lastError")] == []
    assert [rule["name"] for rule in evaluated if rule["health"] != "ok"] == []
    wait_until(
        lambda: running.prometheus.query('ALERTS{alertname=~"Heartline.+"}') == [],
        what="no alert is even pending",
        every=1.0,
    )


def test_recorded_ratios_are_the_exported_ones(running: Running) -> None:
    # Exported once a scrape and recorded a little later: equal as soon as both look at one end.
    difference = (
        'abs(heartline:churn_ratio{window="24h"} - ignoring (instance) '
        'heartline_churn_ratio{window="24h"}) > 1e-12'
    )
    wait_until(lambda: running.prometheus.query(difference) == [], what="equal", every=1.0)
    assert len(running.prometheus.query('heartline:churn_ratio{window="24h"}')) > 1


def test_every_business_series_is_scraped_once_under_the_stable_instance(running: Running) -> None:
    instances = running.prometheus.query('count by (instance) ({__name__=~"heartline_active_.+"})')
    assert [sample.labels for sample in instances] == [{"instance": "heartline"}]
    series = '{__name__=~"heartline_.+", job="heartline-serve"}'
    labels = "__name__, window, persona, region, channel, network, stage, from, to, outcome"
    assert running.prometheus.query(f"count by ({labels}) ({series}) > 1") == []
    both = "count by (__name__) (count by (__name__, job) ({__name__=~'heartline_.+'})) > 1"
    shared = {sample.labels["__name__"] for sample in running.prometheus.query(both)}
    assert shared <= {"heartline_build_info"}


def test_the_health_check_of_the_image_tells_a_living_process_from_none(running: Running) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    (words,) = re.findall(r"HEALTHCHECK(?:.*\\\n)*.*CMD (\[.*\])", dockerfile)
    command = [sys.executable, *json.loads(words)[1:]]
    (nobody,) = free_ports(1)
    exits = [
        subprocess.run(
            command,
            env={"HEARTLINE_HEALTH_URL": f"{url}/healthz"},
            capture_output=True,
            timeout=60,
            check=False,
        ).returncode
        for url in (running.worker.url, running.serve.url, f"http://127.0.0.1:{nobody}")
    ]
    assert exits == [0, 0, 1]
