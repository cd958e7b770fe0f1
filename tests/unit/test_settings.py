from __future__ import annotations

from pathlib import Path

import pytest

from sbr_tasks.errors import SettingsError
from sbr_tasks.settings import load_settings, parse_overrides


def test_a_place_may_be_a_path(tmp_path: Path) -> None:
    settings = load_settings({"store": tmp_path / "store", "source.path": tmp_path / "clicks.dat"})
    assert (settings.store, settings.source.path) == (str(tmp_path / "store"), str(tmp_path / "clicks.dat"))


def test_sources_override_each_other_in_rising_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sbr.toml").write_text("[window]\ndays = 10\nshortest = 3\nleast_click = 4\n")
    monkeypatch.setenv("SBR_WINDOW__SHORTEST", "5")
    monkeypatch.setenv("SBR_WINDOW__LEAST_CLICK", "6")
    window = load_settings({"window.least_click": 7}).window
    assert (window.days, window.shortest, window.least_click) == (10, 5, 7)


def test_settings_file_named_by_environment_wins_over_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sbr.toml").write_text("[window]\ndays = 10\n")
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "mine.toml"
    other.write_text('store = "here"\n[window]\ndays = 20\n')
    monkeypatch.setenv("SBR_SETTINGS", str(other))
    settings = load_settings()
    assert settings.window.days == 20
    assert settings.store == str(tmp_path / "elsewhere" / "here")


def test_mlflow_and_scratch_lie_inside_a_local_store_by_default(tmp_path: Path) -> None:
    settings = load_settings({"store": f"{tmp_path}/my store"})
    assert settings.mlflow.tracking_uri == f"sqlite:///{tmp_path}/my store/mlflow/mlflow.db"
    assert settings.scratch == f"{tmp_path}/my store/scratch"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "window.dayz=3",
            "Unknown setting 'window.dayz' in the overrides (--set). Did you mean 'window.days'? "
            "Known here: days, cleanse, shortest, least_click, longest, longest_action, max_missing_days, engine, "
            "spark_master, spark_memory.",
        ),
        ("window.days=1", "Setting 'window.days' in the overrides (--set) is 1: input should be greater than or equal to 3."),
        ("model.layers=[0]", "Setting 'model.layers' in the overrides (--set) is [0]: every layer needs at least 1 unit."),
        (
            "timezone=Mars/Olympus",
            "Setting 'timezone' in the overrides (--set) is 'Mars/Olympus': no time zone is called 'Mars/Olympus'; "
            "use a name such as 'UTC' or 'Europe/Amsterdam'.",
        ),
        (
            "window=3 window.days=4",
            "'window.days' sets a part of 'window', which is also given as a whole; use one of them.",
        ),
        (
            "max_rejected=0.1",
            "Unknown setting 'max_rejected' in the overrides (--set). Did you mean 'ingest.max_rejected'? Known here: store, "
            "store_options, scratch, timezone, source, ingest, validation, window, model, training, evaluation, vsknn, "
            "vstan, gate, serving, recommend, mlflow, upkeep, alerts.",
        ),
        (
            "alerts.on={}",
            "Setting 'alerts.on' in the overrides (--set) is {}: expected a value, several with commas, or JSON such as "
            """'["a", "b"]'.""",
        ),
        (
            "store_options=eu-west-1",
            "Setting 'store_options' in the overrides (--set) is ***: expected JSON such as "
            """'{"region": "eu-west-1"}'.""",
        ),
        (
            "gate.min_delta=-5",
            "Setting 'gate.min_delta' in the overrides (--set) is -5: metrics differ by 1 at most; for a share of the "
            "champion's score, write '-5%'.",
        ),
        (
            "gate.min_delta=-100%",
            "Setting 'gate.min_delta' in the overrides (--set) is '-100%': a share must be above -100%, which would let every "
            "challenger pass.",
        ),
        *(
            (
                f"gate.min_delta={value}",
                f"Setting 'gate.min_delta' in the overrides (--set) is {shown}: expected a difference of metrics such as 0.001 "
                "or -0.002, or a share of the champion's score: '-1%'.",
            )
            for value, shown in (("little", "'little'"), ("NaN", "nan"), ("true", "True"), ("%", "'%'"))
        ),
        ("window", "Expected --set key=value, such as --set window.days=7; found 'window'."),
    ],
)
def test_bad_override_is_refused_with_a_sentence(override: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(parse_overrides(override.split(" ")))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "value", "margin"),
    [("-0.002", -0.002, -0.002), ("-1.0%", "-1%", -0.005), ("1", 1.0, 1.0), ('"0.001"', 0.001, 0.001)],
)
def test_margin_of_the_gate_is_a_difference_or_a_share(text: str, value: float | str, margin: float) -> None:
    gate = load_settings(parse_overrides([f"gate.min_delta={text}"])).gate
    assert gate.min_delta == value and gate.margin(0.5) == pytest.approx(margin)


def test_unknown_key_in_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sbr.toml"
    file.write_text("[gate]\nmin_delt = 1\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == (
        f"Unknown setting 'gate.min_delt' in {file}. Did you mean 'gate.min_delta'? "
        "Known here: min_delta, confidence, baselines, min_events, min_sessions, replace_unusable."
    )


@pytest.mark.parametrize(
    ("variable", "start"),
    [
        ("SBR_WINDOW__DAYZ", "Unknown setting 'window.dayz' in the environment. Did you mean 'window.days'?"),
        ("SBR_WINDOW_DAYS", "Unknown setting 'SBR_WINDOW_DAYS' in the environment. Did you mean SBR_WINDOW__DAYS?"),
        ("SBR_STORE_OPTIONS", "Setting 'store_options' in the environment is ***: expected JSON such as"),
        ("SBR_WINDOW", "Setting 'window' in the environment is 3: "),
        ("SBR_STOER", "Unknown setting 'SBR_STOER' in the environment. Did you mean SBR_STORE?"),
    ],
)
def test_unknown_environment_variable_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, start: str) -> None:
    monkeypatch.setenv(variable, "3")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(start)


def test_variable_that_resembles_no_setting_is_ignored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SBR_UNRELATED_PLACE", "x")
    load_settings()
    assert "SBR_UNRELATED_PLACE" in caplog.text


@pytest.mark.parametrize("override", ["alerts.on=late", 'alerts.on=["late"]', "model.embedding=-1", "model.layers=0"])
def test_bad_part_of_a_value_is_found_where_the_value_was_given(override: str) -> None:
    with pytest.raises(SettingsError, match=r"in the overrides \(--set\)"):
        load_settings(parse_overrides([override]))


def test_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sbr.toml").write_text("window = [")
    with pytest.raises(SettingsError, match=r"Settings file .*sbr\.toml is not valid TOML"):
        load_settings()
    (tmp_path / "sbr.toml").write_bytes(b"store = '\xff'")
    with pytest.raises(SettingsError, match=r"Settings file .*sbr\.toml is not valid UTF-8"):
        load_settings()


@pytest.mark.parametrize("text", ["failure", '["failure"]', " failure ,"])
def test_list_of_one_needs_no_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SBR_ALERTS__RECIPIENTS", "a@b.c,d@e.f")
    given = load_settings(parse_overrides([f"alerts.on={text}"])).alerts
    monkeypatch.setenv("SBR_ALERTS__ON", text)
    assert given.on == load_settings().alerts.on == ("failure",)
    assert given.recipients == ("a@b.c", "d@e.f")


def test_layers_are_numbers_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBR_MODEL__LAYERS", "100,50")
    assert load_settings().model.layers == (100, 50)
    assert load_settings({"model.layers": 64}).model.layers == (64,)


def test_overrides_may_be_nested_or_dotted_and_stay_as_they_are() -> None:
    overrides = {"window": {"days": 9}, "window.shortest": 3}
    window = load_settings(overrides).window
    assert (window.days, window.shortest) == (9, 3)
    assert overrides == {"window": {"days": 9}, "window.shortest": 3}


@pytest.mark.parametrize("letter", ["?", "%"])
def test_store_whose_name_mlflow_cannot_hold_is_refused(tmp_path: Path, letter: str) -> None:
    store = f"{tmp_path}/a{letter}b"
    with pytest.raises(SettingsError, match=r"MLflow's database in it can't hold"):
        load_settings({"store": store})
    assert load_settings({"store": store, "mlflow.tracking_uri": "http://mlflow:5000"}).store == store


@pytest.mark.parametrize("name", ["a b", "[a]", "a*", "a'b", 'a"b', "a#b"])
def test_store_may_have_an_odd_name(tmp_path: Path, name: str) -> None:
    assert load_settings({"store": f"{tmp_path}/{name}"}).store == f"{tmp_path}/{name}"
