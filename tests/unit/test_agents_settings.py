from pathlib import Path

import pytest

from agents.settings import Settings, SettingsError, parse_duration_ms


def load(text: str, tmp_path: Path, **environment: str) -> Settings:
    file = tmp_path / "heartline.toml"
    file.write_text(text)
    return Settings.load(file, environment)


def errors_of(text: str, tmp_path: Path, **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(text, tmp_path, **environment)
    return caught.value.errors


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    settings = load("", tmp_path)
    assert settings.kafka.partitions == 8
    assert settings.core().max_out_of_orderness_ms == 5_000
    assert next(str(window) for window in settings.core().windows.windows) == "5m/10s"
    assert settings.topics().dead_letters == "heartline.dead-letters"


def test_every_error_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    errors = errors_of(
        """
        [kafka]
        bootstrp = "x"
        partitions = "8"
        partitioner = "random"
        [time]
        idle_after = 10
        [wndows]
        """,
        tmp_path,
    )
    text = "\n".join(errors)
    assert len(errors) == 5
    for name in ("[kafka] bootstrp", "[kafka] partitions", "[kafka] partitioner", "[wndows]"):
        assert name in text
    assert "bootstrap" in text
    assert (
        '[time] idle_after: is 10: a duration is an integer with ms, s, m, h or d, like "30m"'
        in text
    )


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    settings = load(
        '[kafka]\nbootstrap = "a:1"\n[worker]\nport = 1\n',
        tmp_path,
        HEARTLINE_KAFKA_BOOTSTRAP="b:2",
        HEARTLINE_WORKER_PORT="7000",
        HEARTLINE_WINDOWS_HOPPING="28d/1d, 7d/1d",
        HEARTLINE_TIME_IDLE_AFTER="3s",
    )
    assert settings.kafka.bootstrap == "b:2"
    assert settings.worker.port == 7000
    assert settings.windows.hopping == ("28d/1d", "7d/1d")
    assert settings.time.idle_after_ms == 3_000


def test_an_error_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    (error,) = errors_of("", tmp_path, HEARTLINE_WORKER_PORT="many")
    assert error.startswith("environment: HEARTLINE_WORKER_PORT")


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml: can't be read"):
        Settings.load(tmp_path / "no.toml", {})


def test_a_size_that_is_no_multiple_of_its_hop_says_why(tmp_path: Path) -> None:
    (error,) = errors_of('[windows]\nhopping = ["5m/7s"]\n', tmp_path)
    assert "multiple of the hop" in error


def test_too_many_series_are_refused_at_the_start(tmp_path: Path) -> None:
    series = load("", tmp_path).series()
    assert load(f"[serve]\nseries_budget = {series}\n", tmp_path).series() == series
    (error,) = errors_of(f"[serve]\nseries_budget = {series - 1}\n", tmp_path)
    assert "[serve] series_budget" in error


def test_a_rate_must_be_a_positive_number(tmp_path: Path) -> None:
    settings = load('[currencies]\nreporting = "EUR"\nrates = { USD = "0.92" }\n', tmp_path)
    assert settings.money().reporting == "EUR"
    assert "USD" in errors_of("[currencies]\nrates = { USD = 0 }\n", tmp_path)[0]


def test_segments_are_closed_lists_of_known_dimensions(tmp_path: Path) -> None:
    settings = load('[segments]\nregion = ["emea", "apac"]\n', tmp_path)
    assert settings.core().segments.names == ("region",)
    assert "[segments] mood" in errors_of('[segments]\nmood = ["good"]\n', tmp_path)[0]


@pytest.mark.parametrize(
    "text, milliseconds",
    [("0ms", 0), ("250ms", 250), ("5s", 5_000), ("30m", 1_800_000), ("7d", 604_800_000)],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["5", "5 s", "-5s", "1.5h", "", 5, None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="a duration is an integer"):
        parse_duration_ms(text)
