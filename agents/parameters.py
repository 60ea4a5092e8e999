"""Options and kinds of values that several commands share."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

import click

from agents.settings import Settings, SettingsError, parse_duration_ms

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)
EARLIEST = datetime.datetime(1971, 1, 1, tzinfo=datetime.UTC)
LATEST = datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC)

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


class Instant(click.ParamType):
    """RFC 3339 with an offset -> milliseconds since the epoch. 1971 to 2200, like event times."""

    name = "RFC3339"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or "T" not in value.upper().replace(" ", "T"):
            self.fail(
                f"'{value}' is no RFC 3339 time; write for example 2026-03-01T00:00:00Z", param, ctx
            )
        if moment.tzinfo is None:
            self.fail(f"'{value}' has no offset; add Z for UTC, as in {value}Z", param, ctx)
        if not EARLIEST <= moment < LATEST:
            self.fail(f"'{value}' must lie between 1971 and 2200", param, ctx)
        return (moment - EPOCH) // MILLISECOND


class Duration(click.ParamType):
    """An integer with ms, s, m, h or d -> milliseconds, at least one."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            duration_ms = parse_duration_ms(value)
        except ValueError:
            duration_ms = 0
        if duration_ms <= 0:
            self.fail(
                f"'{value}' is no duration; write for example 90s, 30m, 24h or 7d", param, ctx
            )
        return duration_ms


INSTANT = Instant()
DURATION = Duration()


def config_option(command: AnyCommand) -> AnyCommand:
    """``--config FILE``, on every command that reads settings."""
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        help="Settings, in TOML. Default: $HEARTLINE_CONFIG, ./heartline.toml, built-in values.",
    )(command)


def bootstrap_option(command: AnyCommand) -> AnyCommand:
    """``--bootstrap HOST:PORT``, on every command that talks to Kafka."""
    return click.option(
        "--bootstrap",
        metavar="HOST:PORT",
        help="Kafka to talk to, instead of [kafka] bootstrap.",
    )(command)


def load_settings(config_file: str | None, bootstrap: str | None = None) -> Settings:
    """The settings a command runs with. Raises `SettingsError`."""
    import msgspec

    settings = Settings.load(config_file)
    if bootstrap is None:
        return settings
    if not all(_is_address(part) for part in bootstrap.split(",")):
        raise SettingsError([f"--bootstrap: '{bootstrap}' is not HOST:PORT[,HOST:PORT...]"])
    kafka = msgspec.structs.replace(settings.kafka, bootstrap=bootstrap)
    return msgspec.structs.replace(settings, kafka=kafka)


def _is_address(text: str) -> bool:
    host, colon, port = text.strip().rpartition(":")
    return bool(host and colon and port.isdigit() and 0 < int(port) < 65_536)
