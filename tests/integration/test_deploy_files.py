"""What deploy/ and docker-compose.yml say, checked by the programs that will read it."""

import importlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.settings import Settings
from streams.metrics import METRICS, Kind
from tests.rig.installation import ROOT
from tests.rig.needs import needs_amtool, needs_docker_compose, needs_promtool

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
HEARTLINE_SERVICES = ("topics", "worker", "serve")

Json = dict[str, Any]


def run(*arguments: str | Path, cwd: Path = ROOT, seconds: float = 120) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=cwd,
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def loaded(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> Iterator[Json]:
    """Every recording and alerting rule."""
    for path in RULES:
        for group in loaded(path)["groups"]:
            yield from group["rules"]


# ------------------------------------------------------------------------------------- compose


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """docker-compose.yml as Compose understands it, with nothing overridden."""
    nothing = tmp_path_factory.mktemp("compose") / "env"
    nothing.touch()
    file = ROOT / "docker-compose.yml"
    said = run("docker-compose", "--env-file", nothing, "--file", file, "config")
    services: Json = yaml.safe_load(said)["services"]
    return services


@needs_docker_compose
def test_compose_starts_everything_from_kafka_to_grafana(compose: Json) -> None:
    assert set(compose) == {
        *HEARTLINE_SERVICES,
        *("kafka", "prometheus", "alertmanager", "grafana"),
    }


@needs_docker_compose
def test_every_published_port_is_bound_to_the_loopback_address(compose: Json) -> None:
    published = [port for service in compose.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not str(port).startswith("127.0.0.1:")] == []


@needs_docker_compose
def test_every_image_is_pinned_to_a_release(compose: Json) -> None:
    for name, service in compose.items():
        tag = service["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), f"{name}: {service['image']}"


@needs_docker_compose
def test_kafka_is_the_release_that_the_tests_run_on(compose: Json) -> None:
    pom = (ROOT / "tests" / "rig" / "maven" / "pom.xml").read_text(encoding="utf-8")
    (tested,) = re.findall(r"<kafka.version>(.+)</kafka.version>", pom)
    assert compose["kafka"]["image"] == f"apache/kafka:{tested}"


@needs_docker_compose
def test_no_service_may_gain_privileges_or_take_all_of_the_machine(compose: Json) -> None:
    for name, service in compose.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["cpus"], name
        assert service["pids_limit"], name
        assert "privileged" not in service, name


@needs_docker_compose
def test_services_wait_until_what_they_need_is_there(compose: Json) -> None:
    topics = compose["topics"]
    assert topics["restart"] == "no"
    assert topics["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for name in ("worker", "serve"):
        assert compose[name]["depends_on"] == {
            "kafka": {"condition": "service_healthy"},
            "topics": {"condition": "service_completed_successfully"},
        }
    for name, service in compose.items():
        # The worker's and serve's is in the image.
        checks_itself = name in HEARTLINE_SERVICES or service["healthcheck"]["test"]
        assert checks_itself, name
        assert name == "topics" or service["restart"] == "unless-stopped", name


@needs_docker_compose
def test_data_survives_in_named_volumes_and_mounted_files_exist(compose: Json) -> None:
    kept = {}
    for name, service in compose.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("/"):
                assert Path(source).exists(), f"{name} mounts {source}"
                assert volume.endswith(":ro"), f"{name} may write {source}"
            else:
                kept[name] = source
    assert set(kept) == {"kafka", "prometheus", "alertmanager", "grafana"}


def test_the_example_of_env_names_every_variable_with_its_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text)) | dict(re.findall(r"\$\{(\w+)\}", text))
    used.pop("VARIABLE", None)
    example = (DEPLOY / "env.example").read_text(encoding="utf-8")
    assert dict(re.findall(r"(?m)^#([A-Z_]+)=(.*)$", example)) == used


# --------------------------------------------------------------------------------------- image


def test_the_image_runs_what_is_locked_as_nobody_in_particular() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes --requirement requirements.lock" in text
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-\w+$", text, re.MULTILINE)
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source
        assert re.search(rf"^!{re.escape(source)}/?$", let_in, re.MULTILINE), source


def test_the_settings_for_containers_can_be_used() -> None:
    settings = Settings.load(DEPLOY / "heartline.toml", environment={})
    # Prometheus and the health checks know these ports.
    assert (settings.worker.host, settings.worker.port) == ("0.0.0.0", 6066)  # noqa: S104 - of a container
    assert (settings.serve.host, settings.serve.port) == ("0.0.0.0", 8077)  # noqa: S104 - of a container
    sizes = {window.partition("/")[0] for window in settings.windows.hopping}
    text = "".join(str(rule["expr"]) for rule in rules())
    assert set(re.findall(r'window="(\w+)"', text)) <= sizes


# ------------------------------------------------------------------- Prometheus and Alertmanager


@needs_promtool
def test_prometheus_accepts_its_configuration_and_rules() -> None:
    run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    assert RULES
    run("promtool", "check", "rules", *RULES)


@needs_promtool
@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(file: Path) -> None:
    run("promtool", "test", "rules", file, seconds=240)


@needs_amtool
def test_alertmanager_accepts_its_configuration() -> None:
    run("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


@needs_amtool
def test_both_severities_have_a_receiver() -> None:
    config = DEPLOY / "alertmanager" / "alertmanager.yml"
    for severity in ("page", "ticket"):
        said = run(
            "amtool", "config", "routes", "test", f"--config.file={config}", f"severity={severity}"
        )
        assert said.strip() == "heartline"


def test_every_ratio_has_its_recording_rule_from_numerator_and_denominator() -> None:
    recorded = {
        rule["record"]: rule["expr"]
        for group in loaded(PROMETHEUS / "rules" / "heartline-ratios.yml")["groups"]
        for rule in group["rules"]
    }
    assert recorded == {
        f"heartline:{metric.name}": (
            ("" if metric.factor == 1 else f"{metric.factor} * ")
            + f"max without (instance, pod) (heartline_{metric.name}_numerator) "
            f"/ (max without (instance, pod) (heartline_{metric.name}_denominator) > 0)"
        )
        for metric in METRICS
        if metric.kind is Kind.RATIO
    }


def test_every_alert_says_what_to_do_and_where_it_is_explained() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert {alert["alert"] for alert in alerts} == {"HeartlineChurnSpike", "HeartlineEngineStalled"}
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert set(alert["annotations"]) == {"summary", "description", "action", "runbook"}
        file, _, anchor = alert["annotations"]["runbook"].partition("#")
        headings = re.findall(r"(?m)^#+ (.+)$", (ROOT / file).read_text(encoding="utf-8"))
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


# ------------------------------------------------------------------------------------- Grafana


@pytest.fixture(scope="module")
def dashboard() -> Json:
    """The dashboard's file."""
    text = (DEPLOY / "grafana" / "dashboards" / "vital-signs.json").read_text(encoding="utf-8")
    made: Json = json.loads(text)
    return made


def panels(dashboard: Json) -> list[Json]:
    """Its panels, without the titles of rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_the_dashboard_is_what_its_program_writes() -> None:
    # Not a package: found by its place in the repository.
    program = importlib.import_module("deploy.grafana.vital_signs")
    assert program.FILE.read_text(encoding="utf-8") == program.text(), (
        "run: python -m deploy.grafana.vital_signs"
    )


def test_the_dashboard_covers_every_group_and_the_engine(dashboard: Json) -> None:
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == [
        *("Now", "Conversion", "Sessions", "Purchases", "Returns"),
        *("Retention and churn", "Social involvement", "Satisfaction", "Support", "Journey"),
        "Engine health",
    ]
    assert [one["name"] for one in dashboard["templating"]["list"]] == [
        *("window", "persona", "region"),
    ]
    queries = " ".join(target["expr"] for panel in panels(dashboard) for target in panel["targets"])
    shown = set(re.findall(r"heartline_(\w+)\{", queries))
    assert {metric.name for metric in METRICS} <= shown


def test_every_panel_has_a_unit_a_description_and_the_provisioned_source(dashboard: Json) -> None:
    provisioned = loaded(DEPLOY / "grafana" / "provisioning" / "datasources" / "heartline.yml")
    sources = {source["uid"] for source in provisioned["datasources"]}
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identities)) == len(identities)
    for panel in panels(dashboard):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["targets"], panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"]["uid"] in sources, panel["title"]


def test_what_has_an_interval_is_shown_with_it_and_its_denominator(dashboard: Json) -> None:
    for metric in METRICS:
        if metric.has_interval:
            (chart,) = (
                panel
                for panel in panels(dashboard)
                if f"heartline_{metric.name}_low{{" in str(panel["targets"])
            )
            lines = [target["legendFormat"] for target in chart["targets"]]
            assert lines[1:] == ["low", "high", "n"]
            unit = chart["fieldConfig"]["defaults"]["unit"]
            assert unit == ("percentunit" if metric.is_proportion else "none")


def test_what_is_no_proportion_is_no_percentage(dashboard: Json) -> None:
    others = {metric.name for metric in METRICS if not metric.is_proportion}
    for panel in panels(dashboard):
        shown = re.findall(r"\(heartline_(\w+)\{", str(panel["targets"]))
        if others & set(shown):
            assert panel["fieldConfig"]["defaults"]["unit"] != "percentunit", panel["title"]


def test_panels_neither_overlap_nor_leave_the_grid(dashboard: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@needs_promtool
def test_every_query_of_the_dashboard_can_be_parsed(dashboard: Json, tmp_path: Path) -> None:
    chosen = {"$window": "1h", "$persona": "all", "$region": "all", "$__rate_interval": "1m"}
    expressions = []
    for panel in panels(dashboard):
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in chosen.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            expressions.append(expression)
    # promtool parses the expressions of rules, and an expression is no worse for being recorded.
    file = tmp_path / "queries.yml"
    recorded = [
        {"record": f"query:{number}", "expr": text} for number, text in enumerate(expressions)
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    run("promtool", "check", "rules", file)
