import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agents import secret
from agents.kafka_client import blocking_arguments, client_arguments, faust_credentials
from agents.secret import SecretPlace, SecretUnusable, is_open_to_all, redacted
from agents.settings import Settings, SettingsError
from tests.rig.certificates import Authority

pytestmark = pytest.mark.usefixtures("no_secrets_of_others")

PASSWORD = "correct-horse-battery"


def settings_of(security: Mapping[str, Any], **environment: str) -> Settings:
    return Settings.from_mapping(
        {"kafka": {"security": dict(security)}}, source="heartline.toml", environment=environment
    )


def errors_of(security: Mapping[str, Any], **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings_of(security, **environment)
    return caught.value.errors


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    return file


# -- what may stand in the file ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["password", "key_password", "client_secret"])
def test_a_secret_in_the_file_is_refused_with_the_way_out_and_not_repeated(name: str) -> None:
    (error,) = errors_of({"protocol": "sasl_ssl", "username": "u", name: PASSWORD})
    assert f"[kafka.security] {name}: a secret may not stand in this file" in error
    assert f"HEARTLINE_KAFKA_SECURITY_{name.upper()}" in error
    assert f"{name}_file" in error
    assert PASSWORD not in error


def test_the_old_flat_key_says_that_it_is_a_section() -> None:
    with pytest.raises(SettingsError, match=r"write it as \[kafka\.security\]"):
        Settings.from_mapping({"kafka": {"security": "ssl"}}, source="t", environment={})


def test_every_key_of_the_section_has_its_variable() -> None:
    found = settings_of({}, HEARTLINE_KAFKA_SECURITY_PROTOCOL="ssl")
    assert found.kafka.security.protocol == "ssl"
    (error,) = errors_of({}, HEARTLINE_KAFKA_SECURITY_PROTOCOL="sasl_plaintext")
    assert error.startswith("environment: HEARTLINE_KAFKA_SECURITY_PROTOCOL: is 'sasl_plaintext'")


@pytest.mark.parametrize("key", ["username", "password_file", "ca_file", "client_id", "key_file"])
def test_anything_secret_beside_plaintext_is_refused(key: str) -> None:
    (error,) = errors_of({key: "something"})
    assert f"[kafka.security] {key}: is given, but" in error
    assert "unencrypted" in error


def test_a_password_in_the_environment_beside_plaintext_is_refused_and_not_shown() -> None:
    (error,) = errors_of({}, HEARTLINE_KAFKA_SECURITY_PASSWORD=PASSWORD)
    assert "HEARTLINE_KAFKA_SECURITY_PASSWORD: is given, but" in error
    assert PASSWORD not in error


@pytest.mark.parametrize(
    "security, key",
    [
        ({"protocol": "ssl", "username": "u"}, "username"),
        ({"protocol": "sasl_ssl", "username": "u", "scope": "s"}, "scope"),
        (
            {
                "protocol": "sasl_ssl",
                "mechanism": "OAUTHBEARER",
                "token_endpoint": "https://x",
                "client_id": "c",
                "password_file": "f",
            },
            "password_file",
        ),
    ],
)
def test_a_key_that_has_no_effect_is_refused(security: dict[str, str], key: str) -> None:
    (error,) = errors_of(security)
    assert f"[kafka.security] {key}: " in error
    assert "does not use it" in error


def test_what_a_mechanism_needs_is_named() -> None:
    assert "username: is needed for SCRAM-SHA-512" in errors_of({"protocol": "sasl_ssl"})[0]
    found = errors_of({"protocol": "sasl_ssl", "mechanism": "OAUTHBEARER"})
    assert [error.partition("] ")[2] for error in found] == [
        "token_endpoint: is needed for OAUTHBEARER",
        "client_id: is needed for OAUTHBEARER",
    ]


def test_a_token_endpoint_without_tls_is_refused() -> None:
    security = {"protocol": "sasl_ssl", "mechanism": "OAUTHBEARER", "client_id": "c"}
    (error,) = errors_of({**security, "token_endpoint": "http://id.example/token"})
    assert "must begin with https://" in error
    settings_of({**security, "token_endpoint": "https://id.example/token"})


def test_a_key_needs_its_certificate() -> None:
    (error,) = errors_of({"protocol": "ssl", "key_file": "k"})
    assert "key_file: needs certificate_file" in error
    settings_of({"protocol": "ssl", "key_file": "k", "certificate_file": "c"})


# -- where secrets come from -------------------------------------------------------------------


def test_the_environment_goes_before_the_file(password_file: Path) -> None:
    place = SecretPlace("t: [kafka.security] password", "VARIABLE", str(password_file))
    assert place.read({}) == PASSWORD
    assert place.read({"VARIABLE": "another-one"}) == "another-one"
    assert place.read({"VARIABLE": " "}) == PASSWORD


@pytest.mark.parametrize(
    "content, told", [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "is no UTF-8 text")]
)
def test_a_file_without_a_secret_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(SecretUnusable, match=told):
        SecretPlace("w password", "V", str(file)).read({})


def test_a_file_that_is_far_too_long_is_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"x" * secret.LONGEST_BYTES)
    assert SecretPlace("w password", "V", str(file)).read({})
    file.write_bytes(b"x" * (secret.LONGEST_BYTES + 1))
    with pytest.raises(SecretUnusable, match="is it the file"):
        SecretPlace("w password", "V", str(file)).read({})


def test_no_secret_at_all_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEARTLINE_KAFKA_SECURITY_PASSWORD", raising=False)
    settings = settings_of({"protocol": "sasl_ssl", "username": "u"})
    with pytest.raises(SecretUnusable) as caught:
        client_arguments(settings)
    assert "set HEARTLINE_KAFKA_SECURITY_PASSWORD" in str(caught.value)
    assert "password_file" in str(caught.value)


def test_a_missing_file_names_it(tmp_path: Path) -> None:
    settings = settings_of(
        {"protocol": "sasl_ssl", "username": "u", "password_file": str(tmp_path / "no")}
    )
    with pytest.raises(SecretUnusable, match=r"password_file: .*no: can't be read"):
        client_arguments(settings)


# -- no print shows one ------------------------------------------------------------------------


def test_no_print_shows_the_password(
    password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(
        {"protocol": "sasl_ssl", "username": "u", "password_file": str(password_file)}
    )
    arguments = client_arguments(settings)
    assert arguments["sasl_plain_password"] == PASSWORD
    credentials = faust_credentials(arguments)
    for thing in (settings, arguments, credentials, [arguments["sasl_plain_password"]]):
        assert PASSWORD not in repr(thing)
        assert PASSWORD not in f"{thing}"
    assert redacted(f"refused {PASSWORD}!") == "refused ***!"


def test_of_two_secrets_that_begin_alike_nothing_is_left() -> None:
    for text in ("one-secret", "one-secret-and-more"):
        SecretPlace("w", "V", "").read({"V": text})
    assert redacted("one-secret-and-more, one-secret") == "***, ***"


@pytest.mark.parametrize("style", ["plain", "json"])
def test_the_logs_show_no_secret(
    style: str, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from agents import logs

    SecretPlace("w password", "V", str(password_file)).read({})
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.set_up(style, "info")
    try:
        logging.getLogger("agents.test").warning("connecting with %s", PASSWORD)
        logging.getLogger("elsewhere").error("password=%s", PASSWORD)
        try:
            raise ValueError(PASSWORD)
        except ValueError:
            logging.getLogger("agents.test").exception("failed")
    finally:
        root.handlers[:], root.level = before, level
    printed = capsys.readouterr().err
    assert "connecting with ***" in printed
    assert PASSWORD not in printed


# -- the arguments of the clients --------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_faust_speaks_sasl_ssl_with_our_context(mechanism: str, password_file: Path) -> None:
    from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

    settings = settings_of(
        {
            "protocol": "sasl_ssl",
            "mechanism": mechanism,
            "username": "u",
            "password_file": str(password_file),
        }
    )
    arguments = client_arguments(settings)
    told = credentials_to_aiokafka_auth(faust_credentials(arguments))
    assert told == {name: arguments[name] for name in told}
    assert told["security_protocol"] == "SASL_SSL"
    assert told["ssl_context"].check_hostname
    assert told["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert told["ssl_context"].minimum_version >= ssl.TLSVersion.TLSv1_2


def test_faust_speaks_tls_without_sasl_and_plaintext_without_credentials() -> None:
    assert faust_credentials(client_arguments(settings_of({}))) is None
    tls = faust_credentials(client_arguments(settings_of({"protocol": "ssl"})))
    assert tls.protocol.value == "SSL"


def test_tokens_are_handed_to_each_client_in_its_own_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aiokafka.abc import AbstractTokenProvider
    from kafka.net.sasl.oauth import AbstractTokenProvider as BlockingProvider

    monkeypatch.setenv("HEARTLINE_KAFKA_SECURITY_CLIENT_SECRET", "the-client-secret")
    settings = settings_of(
        {
            "protocol": "sasl_ssl",
            "mechanism": "OAUTHBEARER",
            "token_endpoint": "https://localhost:1/token",
            "client_id": "c",
        }
    )
    arguments = client_arguments(settings)
    assert isinstance(arguments["sasl_oauth_token_provider"], AbstractTokenProvider)
    assert faust_credentials(arguments).protocol.value == "SASL_SSL"
    blocking = blocking_arguments(settings)
    assert isinstance(blocking["sasl_oauth_token_provider"], BlockingProvider)


def test_a_scram_name_with_special_characters_is_sent_alike_by_both_clients(
    password_file: Path,
) -> None:
    from aiokafka.conn import ScramAuthenticator
    from kafka.net.sasl.scram import ScramClient

    settings = settings_of(
        {"protocol": "sasl_ssl", "username": "a=b,c", "password_file": str(password_file)}
    )
    arguments, blocking = client_arguments(settings), blocking_arguments(settings)
    ours = ScramAuthenticator(
        loop=None,
        sasl_plain_password=arguments["sasl_plain_password"],
        sasl_plain_username=arguments["sasl_plain_username"],
        sasl_mechanism="SCRAM-SHA-512",
    ).first_message()
    theirs = ScramClient(
        blocking["sasl_plain_username"], blocking["sasl_plain_password"], "SCRAM-SHA-512"
    ).first_message()
    name = "n,,n=a=3Db=2Cc,r="
    assert ours.startswith(name)
    assert theirs.decode().startswith(name)


# -- certificates ------------------------------------------------------------------------------


def test_a_client_certificate_is_loaded(authority: Authority) -> None:
    issued = authority.issue("client")
    for key in (str(issued.key), ""):
        certificate = issued.certificate
        if not key:
            certificate = authority.directory / "both.pem"
            certificate.write_text(issued.both())
        settings_of(
            {
                "protocol": "ssl",
                "ca_file": str(authority.certificate),
                "certificate_file": str(certificate),
                "key_file": key,
            }
        ).kafka.security.context("t")


@pytest.mark.parametrize(
    "files, told",
    [
        ({"ca_file": "/no/ca.pem"}, r"ca_file: /no/ca\.pem: No such file"),
        ({"ca_file": "KEY"}, "holds no certificate"),
        ({"certificate_file": "/no/c.pem"}, r"certificate_file: /no/c\.pem: No such file"),
        ({"certificate_file": "CERT", "key_file": "/no/k"}, "key_file: /no/k: No such file"),
        ({"certificate_file": "CERT", "key_file": "OTHER"}, "is not the key of the certificate"),
        ({"certificate_file": "KEY", "key_file": "KEY"}, "no certificate and key as PEM"),
        ({"certificate_file": "CERT"}, "no certificate and key as PEM"),
        ({"certificate_file": "CERT", "key_file": "LOCKED"}, "its password is missing or wrong"),
    ],
)
def test_files_that_can_not_be_used_are_told_one_by_one(
    authority: Authority, files: dict[str, str], told: str
) -> None:
    issued, other = authority.issue("one"), authority.issue("other")
    locked = authority.issue("locked", password="secret-of-the-key")
    names = {
        "CERT": str(issued.certificate),
        "KEY": str(issued.key),
        "OTHER": str(other.key),
        "LOCKED": str(locked.key),
    }
    security = {name: names.get(file, file) for name, file in files.items()}
    with pytest.raises(SecretUnusable, match=told):
        settings_of({"protocol": "ssl", **security}).kafka.security.context("heartline.toml")


def test_an_encrypted_key_is_opened_by_its_password(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = authority.issue("locked-too", password="secret-of-the-key")
    security = {
        "protocol": "ssl",
        "certificate_file": str(locked.certificate),
        "key_file": str(locked.key),
    }
    monkeypatch.setenv("HEARTLINE_KAFKA_SECURITY_KEY_PASSWORD", "secret-of-the-key")
    settings_of(security).kafka.security.context("t")
    monkeypatch.setenv("HEARTLINE_KAFKA_SECURITY_KEY_PASSWORD", "wrong")
    with pytest.raises(SecretUnusable, match="HEARTLINE_KAFKA_SECURITY_KEY_PASSWORD"):
        settings_of(security).kafka.security.context("t")


def test_a_file_that_everybody_may_read_is_seen(password_file: Path) -> None:
    password_file.chmod(0o640)
    assert not is_open_to_all(str(password_file))
    password_file.chmod(0o644)
    assert is_open_to_all(str(password_file))
    assert not is_open_to_all(str(password_file.parent / "no"))
    assert not is_open_to_all("")
