"""What `heartline.toml` may say, decoded once into frozen values.

Rules: every key has a default, so an empty or absent file is a valid configuration. A key that is
not declared here is an error, because a misspelt key that is silently ignored is a wrong number
later. All errors of a file are reported at once, each with its file, section and key and what is
allowed. The environment overrides the file: `HEARTLINE_<SECTION>_<KEY>` for every single-valued key
(`HEARTLINE_KAFKA_BOOTSTRAP`, `HEARTLINE_WORKER_PORT`), lists with commas. `HEARTLINE_CONFIG` names
the file. A key whose attribute ends in `_ms` is written as a duration: an integer with ms, s, m, h
or d ("30m").

Secrets come from the environment or from mounted files, never from the file or the command line,
and no print of the settings shows them.
"""

from __future__ import annotations

import os
import re
import tomllib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args, get_origin

import msgspec

from agents.kafka_security import Security
from agents.secret import SecretPlace, SecretUnusable, variable_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.decode import Decoder
    from schemas.money import Currencies
    from schemas.topics import Topics
    from streams.config import CoreConfig

DEFAULT_FILE = "heartline.toml"
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MAX_PORT = 65_535


class SettingsError(ValueError):
    """The configuration can't be used. `errors` has one plain line for each thing wrong."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def parse_duration_ms(text: object) -> int:
    """Milliseconds of a duration like "250ms", "5s", "30m", "24h" or "7d". Raises ValueError."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        msg = f'is {text!r}: a duration is an integer with ms, s, m, h or d, like "30m"'
        raise ValueError(msg)
    return int(match[1]) * _UNIT_MS[match[2]]


class Kafka(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the topics are and how their keys find their partition."""

    bootstrap: str = "127.0.0.1:9092"
    group: str = "heartline"
    topic_prefix: str = "heartline"
    partitions: int = 8
    replication: int = 1
    partitioner: Literal["murmur2", "crc32"] = "murmur2"
    flavour: Literal["auto", "apache", "embedded"] = "auto"
    security: Security = Security()


class Windows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hopping windows, each "size/hop"."""

    hopping: tuple[str, ...] = ("5m/10s", "1h/1m", "24h/10m", "7d/1h", "30d/6h")


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How event time moves and what counts as late."""

    max_out_of_orderness_ms: int = msgspec.field(name="max_out_of_orderness", default=5_000)
    idle_after_ms: int = msgspec.field(name="idle_after", default=10_000)
    max_future_ms: int = msgspec.field(name="max_future", default=300_000)
    allowed_lateness_ms: int = msgspec.field(name="allowed_lateness", default=86_400_000)


class Sessions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a session ends in silence."""

    gap_ms: int = msgspec.field(name="gap", default=1_800_000)


class Activity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The event types that make a customer active."""

    types: tuple[str, ...] = ("page_viewed", "order_placed")


class Channels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The closed list of acquisition channels; anything else counts as `other`."""

    values: tuple[str, ...] = ("direct", "search", "social", "email", "referral", "ads")


class Networks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The closed list of social networks; anything else counts as `other`."""

    values: tuple[str, ...] = ("facebook", "instagram", "linkedin", "tiktok", "x", "youtube")


class Support(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The closed list of channels of tickets and of answers after a contact; anything else counts
    as `other`.
    """

    channels: tuple[str, ...] = ("chat", "email", "phone")


class Money(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reporting currency, and what one unit of every other one is worth in it."""

    reporting: str = "USD"
    rates: dict[str, str | float | int] = {}


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of who a customer is: see docs/security.md."""

    SECRETS: ClassVar[tuple[str, ...]] = ("hash_key",)

    hash_key_file: str = ""
    raw_bytes: bool = True
    """Whether dead letters and late records carry the record's own key and payload."""

    def hash_key(self, source: str) -> SecretPlace:
        """Where the key comes from by which customer ids are hashed; no key, no hashing."""
        return SecretPlace.of(source, "privacy", "hash_key", self.hash_key_file)


class Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operating endpoint of a worker, and its logs."""

    SECRETS: ClassVar[tuple[str, ...]] = ("token",)

    host: str = "127.0.0.1"
    port: int = 6066
    token_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    host_names: tuple[str, ...] = ()
    max_connections: int = 64
    log_format: Literal["plain", "json"] = "plain"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Serve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where results are shown, to whom, and how many series `/metrics` may have at most."""

    SECRETS: ClassVar[tuple[str, ...]] = ("token",)

    host: str = "127.0.0.1"
    port: int = 8077
    token_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    """By what `heartline watch` knows a serve that speaks TLS; the system's authorities if empty."""
    host_names: tuple[str, ...] = ()
    """Names under which a proxy on this machine passes requests on, where no token is asked for."""
    max_connections: int = 512
    max_streams: int = 200
    series_budget: int = 50_000


class Rollup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a global result waits for a partition that doesn't report, and how much of history is
    published: windows with a hop below `history_hop` only at its multiples while history is replayed.
    """

    timeout_ms: int = msgspec.field(name="timeout", default=30_000)
    history_hop_ms: int = msgspec.field(name="history_hop", default=600_000)


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pace of the engine and the bounds of what it holds.

    A pane takes as long as there are cells: with 2,500 it closes in 3.5 ms instead of 1.6 with the
    default 36, with 10,000 in 14, with 30,000 in 140.
    """

    checkpoint_interval_ms: int = msgspec.field(name="checkpoint_interval", default=1_000)
    tick_interval_ms: int = msgspec.field(name="tick_interval", default=200)
    deadline_ms: int = msgspec.field(name="deadline", default=30_000)
    session_timeout_ms: int = msgspec.field(name="session_timeout", default=6_000)
    standby: bool = True
    """Whether to keep the packed state of the partitions of other workers at hand."""
    max_batch: int = 2_000
    buffered_batches: int = 4
    fetch_bytes: int = 1_048_576
    buffer_limit: int = 20_000
    cell_budget: int = 2_500
    """How many combinations of values the customer dimensions may have at most."""


_DEFAULT_SEGMENTS: dict[str, tuple[str, ...]] = {
    "persona": ("newcomer", "regular", "loyal", "bargain"),
    "region": ("north", "south", "east", "west"),
}


class Settings(msgspec.Struct, frozen=True):
    """The whole configuration. Build it with `load`, which is the only place that reads file and
    environment.
    """

    kafka: Kafka = Kafka()
    windows: Windows = Windows()
    time: Time = Time()
    sessions: Sessions = Sessions()
    activity: Activity = Activity()
    segments: dict[str, tuple[str, ...]] = msgspec.field(
        default_factory=lambda: dict(_DEFAULT_SEGMENTS)
    )
    channels: Channels = Channels()
    networks: Networks = Networks()
    support: Support = Support()
    currencies: Money = Money()
    worker: Worker = Worker()
    serve: Serve = Serve()
    rollup: Rollup = Rollup()
    engine: Engine = Engine()
    privacy: Privacy = Privacy()
    source: str = ""

    @classmethod
    def load(
        cls, path: str | Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Settings:
        """The settings of `path`, else of HEARTLINE_CONFIG, else of ./heartline.toml, else the
        defaults.

        Raises SettingsError. A file that was named and does not exist is an error; the default file
        may be absent.
        """
        env = os.environ if environment is None else environment
        named = path or env.get("HEARTLINE_CONFIG")
        file = Path(named or DEFAULT_FILE)
        if named is None and not file.exists():
            return cls.from_mapping({}, source="(defaults)", environment=env)
        try:
            raw = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError([f"{file}: can't be read: {error.strerror or error}"]) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError([f"{file}: is not TOML: {error}"]) from None
        return cls.from_mapping(raw, source=str(file), environment=env)

    @classmethod
    def from_mapping(
        cls, raw: Mapping[str, object], *, source: str, environment: Mapping[str, str]
    ) -> Settings:
        """Check decoded TOML, lay the environment over it. Raises SettingsError: all errors."""
        errors: list[str] = []
        sections = {f.name: f.type for f in msgspec.structs.fields(cls) if f.name != "source"}
        errors += [
            f"{source}: [{name}]: there is no such section; allowed: {', '.join(sections)}"
            for name in raw
            if name not in sections
        ]
        built: dict[str, object] = {}
        for name, kind in sections.items():
            given = raw.get(name, {})
            if not isinstance(given, dict):
                errors.append(f"{source}: {name} is a value: write it as a section, [{name}]")
            elif name == "segments":
                built[name] = (
                    _segments(given, source, errors)
                    if "segments" in raw
                    else dict(_DEFAULT_SEGMENTS)
                )
            else:
                built[name] = _section(name, kind, given, source, environment, errors)
        if not errors:
            settings = cls(**built, source=source)  # type: ignore[arg-type]
            errors = settings._contradictions()
            errors += settings.kafka.security.contradictions(source, environment)
            if not errors:
                return settings
        raise SettingsError(errors)

    def core(self, *, keyless: bool = False) -> CoreConfig:
        """What the core is told. Raises the core's ConfigurationError, a ValueError.

        ``keyless`` is for whoever only shows or checks: where customer ids are hashed it has another
        fingerprint than the engine, and needs no key. Else SecretUnusable may be raised.
        """
        from streams.config import CoreConfig
        from streams.segments import Segments, Values, dimensions
        from streams.windows import Window, WindowSet

        return CoreConfig(
            windows=WindowSet.of(
                tuple(Window.parse(text) for text in self.windows.hopping),
                session_gap_ms=self.sessions.gap_ms,
            ),
            segments=Segments(
                customer=dimensions(**self.segments),
                channel=Values(self.channels.values),
                network=Values(self.networks.values),
                support=Values(self.support.channels),
            ),
            max_out_of_orderness_ms=self.time.max_out_of_orderness_ms,
            idle_after_ms=self.time.idle_after_ms,
            allowed_lateness_ms=self.time.allowed_lateness_ms,
            max_future_ms=self.time.max_future_ms,
            activity=frozenset(self.activity.types),
            buffer_limit=self.engine.buffer_limit,
            history_hop_ms=self.rollup.history_hop_ms,
            pseudonyms="" if keyless else self.pseudonym_digest(),
        )

    def hash_key(self) -> bytes | None:
        """The key by which customer ids are hashed; None where they are not. Raises SecretUnusable."""
        from streams.pseudonyms import usable_key

        place = self.privacy.hash_key(self.source)
        found = place.read()
        if found is None:
            return None
        try:
            return usable_key(found.encode())
        except ValueError as error:
            raise SecretUnusable(f"{place.where}: {error}") from None

    def pseudonym_digest(self) -> str:
        """What the fingerprint says of the key: nothing without one."""
        from streams.pseudonyms import digest_of

        key = self.hash_key()
        return "" if key is None else digest_of(key)

    def series(self) -> int:
        """How many business series this configuration can have on `/metrics` at most."""
        from agents.budgets import series_of

        return sum(series_of(self).values())

    def money(self) -> Currencies:
        """The currencies that amounts may have."""
        from schemas.money import Currencies

        rates = {name: Decimal(str(rate)) for name, rate in self.currencies.rates.items()}
        return Currencies(reporting=self.currencies.reporting, rates=rates)

    def decoder(self, *others: str) -> Decoder:
        """What turns records into events, with the configured currencies and customer dimensions, and
        ``others`` that were asked for.
        """
        from schemas.decode import Decoder

        return Decoder(self.money(), tuple(dict.fromkeys((*self.segments, *others))))

    def topics(self) -> Topics:
        """The names of all topics."""
        from schemas.topics import Topics

        return Topics.with_prefix(self.kafka.topic_prefix)

    def _contradictions(self) -> list[str]:
        """What each key alone can't show."""
        from agents.budgets import over_budget

        errors = [
            f"{self.source}: [{section}] {key}: is {value}: allowed: {low} to {high}"
            for section, key, value, low, high in (
                ("kafka", "partitions", self.kafka.partitions, 1, 1_024),
                ("kafka", "replication", self.kafka.replication, 1, 9),
                ("worker", "port", self.worker.port, 0, _MAX_PORT),
                ("serve", "port", self.serve.port, 0, _MAX_PORT),
                ("worker", "max_connections", self.worker.max_connections, 2, 100_000),
                ("serve", "max_connections", self.serve.max_connections, 2, 100_000),
                ("serve", "max_streams", self.serve.max_streams, 1, self.serve.max_connections - 1),
                ("engine", "max_batch", self.engine.max_batch, 1, 100_000),
                ("engine", "buffered_batches", self.engine.buffered_batches, 1, 1_024),
                ("engine", "tick_interval", self.engine.tick_interval_ms, 10, 60_000),
                ("engine", "checkpoint_interval", self.engine.checkpoint_interval_ms, 100, 600_000),
                ("engine", "session_timeout", self.engine.session_timeout_ms, 1_000, 300_000),
            )
            if not low <= value <= high
        ]
        errors += over_budget(self)
        for currency, rate in self.currencies.rates.items():
            try:
                usable = 0 < Decimal(str(rate)) < Decimal("Infinity")
            except InvalidOperation:
                usable = False
            if not usable:
                where = f"{self.source}: [currencies] rates: {currency}"
                errors.append(f"{where}: is {rate!r}: allowed: a number above 0, best in quotes")
        for section, http in (("worker", self.worker), ("serve", self.serve)):
            if http.key_file and not http.certificate_file:
                where = f"{self.source}: [{section}] key_file"
                errors.append(f"{where}: needs certificate_file, the certificate to the key")
        return errors


def _value(name: str, kind: object, value: object) -> object:
    """One key's value. Raises ValueError (msgspec's errors are) with what is allowed."""
    if name.endswith("_ms"):
        return parse_duration_ms(value)
    if get_origin(kind) is Literal and value not in get_args(kind):
        msg = f"is {value!r}: allowed: {', '.join(get_args(kind))}"
        raise ValueError(msg)
    return msgspec.convert(value, kind)


def _from_environment(kind: object, text: str) -> object:
    """The value of an environment variable in the type that TOML would have given it."""
    if kind is int:
        return int(text) if re.fullmatch(r"-?\d+", text) else text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    return (
        [part.strip() for part in text.split(",") if part.strip()] if "tuple" in str(kind) else text
    )


def _section(
    section: str,
    cls: type[msgspec.Struct],
    given: dict[str, object],
    source: str,
    environment: Mapping[str, str],
    errors: list[str],
) -> msgspec.Struct | None:
    fields = {f.encode_name: f for f in msgspec.structs.fields(cls)}
    secrets = getattr(cls, "SECRETS", ())
    errors += [
        f"{source}: [{section}] {key}: a secret may not stand in this file: set "
        f"{variable_of(section, key)}, or put it into a file and name that by {key}_file"
        if key in secrets
        else f"{source}: [{section}] {key}: there is no such key; allowed: {', '.join(fields)}"
        for key in given
        if key not in fields
    ]
    values: dict[str, object] = {}
    found = len(errors)
    for key, field in fields.items():
        variable = variable_of(section, key)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            below = given.get(key, {})
            name = f"{section}.{key}"
            if not isinstance(below, dict):
                errors.append(f"{source}: [{section}] {key} is a section: write it as [{name}]")
                continue
            values[field.name] = _section(name, field.type, below, source, environment, errors)
            continue
        where = f"{source}: [{section}] {key}"
        if variable in environment and key != "rates":
            where, value = (
                f"environment: {variable}",
                _from_environment(field.type, environment[variable]),
            )
        elif key in given:
            value = given[key]
        else:
            continue
        try:
            values[field.name] = _value(field.name, field.type, value)
        except ValueError as error:
            errors.append(f"{where}: {error}")
    return cls(**values) if len(errors) == found else None


def _segments(
    given: dict[str, object], source: str, errors: list[str]
) -> dict[str, tuple[str, ...]]:
    """Each key is a customer dimension, its value the closed list of what it may be."""
    from streams.segments import Dimension, Values

    found: dict[str, tuple[str, ...]] = {}
    for name, values in given.items():
        where = f"{source}: [segments] {name}"
        try:
            found[name] = msgspec.convert(values, tuple[str, ...])
        except ValueError as error:
            errors.append(f"{where}: {error}: list the values told apart")
            continue
        try:
            Dimension(name, Values(found[name]))
        except ValueError as error:
            errors.append(f"{where}: {error}")
    return found
