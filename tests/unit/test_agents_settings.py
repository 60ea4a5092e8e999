from pathlib import Path

import pytest

from agents.budgets import series_of
from agents.settings import Settings, SettingsError, parse_duration_ms
from schemas.events import attribute_of

THREE = """
[segments]
persona = ["newcomer", "regular", "loyal", "bargain"]
region = ["north", "south", "east", "west"]
tier = ["platinum", "gold", "silver", "basic", "trial"]
"""


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
    assert f"[serve] series_budget: is {series - 1}, but there would be up to {series}" in error


@pytest.mark.parametrize(
    "text, most",
    [
        ('[segments]\nregion = ["n"]\ntier = ["gold", "silver"]\n', "[segments] tier"),
        ("[segments]\n", "[channels] values"),
    ],
)
def test_too_many_series_name_the_list_that_makes_most_of_them(
    text: str, most: str, tmp_path: Path
) -> None:
    (error,) = errors_of(f"{text}[serve]\nseries_budget = 100\n", tmp_path)
    assert f"most by {most} (" in error
    assert "shorten a list, leave out a dimension or a window, or raise the budget" in error


def test_the_parts_of_the_series_add_up_by_the_lists_that_make_them(tmp_path: Path) -> None:
    plain = series_of(load("[segments]\n", tmp_path))
    three = series_of(load(THREE, tmp_path))
    own = {name: count for name, count in three.items() if name.startswith("[segments]")}
    assert {name: count for name, count in three.items() if name not in own} == plain
    assert own["[segments] tier"] * 6 == own["[segments] persona"] * 7


def test_a_third_dimension_of_five_values_fits_without_raising_a_budget(tmp_path: Path) -> None:
    settings = load(THREE, tmp_path)
    assert settings.core().segments.cells == 252
    assert settings.series() < settings.serve.series_budget / 2


def test_too_many_cells_are_refused_at_the_start(tmp_path: Path) -> None:
    assert load(f"[engine]\ncell_budget = 252\n{THREE}", tmp_path).core().segments.cells == 252
    (error,) = errors_of(f"[engine]\ncell_budget = 251\n{THREE}", tmp_path)
    assert "[engine] cell_budget: is 251, but the customer dimensions make 252 cells" in error
    assert "persona 6 x region 6 x tier 7" in error
    assert "[segments] tier has the most values: shorten a list, leave out a dimension" in error


@pytest.mark.parametrize(
    "budget, is_allowed", [(0, False), (36, True), (65_536, True), (65_537, False)]
)
def test_the_budget_of_cells_has_bounds_of_its_own(
    budget: int, *, is_allowed: bool, tmp_path: Path
) -> None:
    text = f"[engine]\ncell_budget = {budget}\n"
    if is_allowed:
        assert load(text, tmp_path).engine.cell_budget == budget
    else:
        assert f"is {budget}: allowed: 1 to 65536" in errors_of(text, tmp_path)[0]


def test_a_rate_must_be_a_positive_number(tmp_path: Path) -> None:
    settings = load('[currencies]\nreporting = "EUR"\nrates = { USD = "0.92" }\n', tmp_path)
    assert settings.money().reporting == "EUR"
    assert "USD" in errors_of("[currencies]\nrates = { USD = 0 }\n", tmp_path)[0]


def test_segments_are_closed_lists_of_the_dimensions_that_are_named(tmp_path: Path) -> None:
    settings = load('[segments]\nregion = ["emea", "apac"]\nmood = ["good"]\n', tmp_path)
    assert settings.core().segments.names == ("region", "mood")
    assert load("[segments]\n", tmp_path).core().segments.names == ()
    assert load("", tmp_path).core().segments.names == ("persona", "region")


@pytest.mark.parametrize(
    "line, said",
    [
        ('Tier = ["gold"]', "[segments] Tier: 'Tier' can't be the name"),
        ('amount = ["1"]', "[segments] amount: 'amount' is a field that events have already"),
        ('stage = ["a"]', "[segments] stage: 'stage' is a label that results have already"),
        ('tier = ["gold", "other"]', "[segments] tier: values must differ"),
        ("tier = 5", "[segments] tier: Expected `array`, got `int`: list the values told apart"),
    ],
)
def test_what_is_wrong_with_a_dimension_is_said_with_its_key(
    line: str, said: str, tmp_path: Path
) -> None:
    (error,) = errors_of(f"[segments]\n{line}\n", tmp_path)
    assert said in error


def test_the_decoder_of_the_settings_knows_the_configured_dimensions(tmp_path: Path) -> None:
    event = (
        b'{"type":"session_ended","event_id":"e","customer_id":"c","occurred_at":1772323200000,'
        b'"tier":"gold","mood":"good"}'
    )
    settings = load(THREE, tmp_path)
    assert getattr(settings.decoder().decode(event)[1], attribute_of("tier")) == "gold"
    assert not hasattr(settings.decoder().decode(event)[1], attribute_of("mood"))
    assert getattr(settings.decoder("mood").decode(event)[1], attribute_of("mood")) == "good"


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
