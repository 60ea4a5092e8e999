"""Fixtures of tests that read secrets and certificates."""

from __future__ import annotations

import pytest

from agents import secret
from tests.rig.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def no_secrets_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test reads as a secret is none for the tests after it."""
    monkeypatch.setattr(secret, "_seen", set())
