"""What README, docs and locks promise is true: links lead somewhere, examples are accepted."""

import re
import tomllib
from pathlib import Path

import pytest

from agents.cli import SUMMARIES
from agents.settings import Settings
from schemas.decode import Decoder
from schemas.events import TYPE_NAMES
from schemas.reasons import Reason

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language, without the indent of the list that holds them."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def pins(lock: str) -> dict[str, set[str]]:
    """Each package of a lock with its versions: one for each range of Python, if they differ."""
    found: dict[str, set[str]] = {}
    text = (ROOT / lock).read_text(encoding="utf-8")
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http://", "https://"))]

    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")

    assert [p.name for p in ROOT.glob("docs/decisions/0*.md") if p.name not in index] == []


def test_the_configuration_in_the_readme_is_accepted() -> None:
    (text,) = blocks(README, "toml")

    settings = Settings.from_mapping(tomllib.loads(text), source="README", environment={})

    assert settings.kafka.partitions == 16


def test_the_events_in_the_readme_are_accepted() -> None:
    (text,) = blocks(README, "json")
    events = re.findall(r"\{.*?\}", text, re.DOTALL)

    assert len(events) == 2
    for event in events:
        Decoder().decode(event.encode())


def test_the_readme_names_only_commands_that_are_declared() -> None:
    named = set(re.findall(r"heartline ([a-z]+)\b", "\n".join(blocks(README, "sh"))))
    named |= set(re.findall(r"`heartline ([a-z]+)", README))

    assert named <= set(SUMMARIES)


def test_the_definitions_name_every_event() -> None:
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")

    assert [name for name in TYPE_NAMES if name not in text] == []


def test_the_reasons_named_in_the_docs_exist() -> None:
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    named = {name for group in re.findall(r"`dead` \((.*?)\)", text) for name in group.split(", ")}

    assert named
    assert {name.strip("`") for name in named} <= {str(reason) for reason in Reason}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_by_hash_and_names_no_registry(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")

    assert "://" not in text
    assert "--find-links" not in text
    assert all(
        "--hash=sha256:" in part for part in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    )


def test_the_tools_are_locked_onto_the_versions_that_run() -> None:
    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")

    assert {name: development.get(name) for name in runtime} == runtime


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [re.split(r"[=><;]", one)[0] for one in project["project"]["dependencies"]]
    tools = [re.split(r"[=><;]", one)[0] for one in project["dependency-groups"]["dev"]]

    assert [name for name in wanted if name not in pins("requirements.lock")] == []
    assert [name for name in tools if name not in pins("requirements-dev.lock")] == []
