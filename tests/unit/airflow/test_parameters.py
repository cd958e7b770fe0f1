"""What the trigger form's parameters become, and what of them is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sbr_tasks.airflow.parameters import FIELDS, RunRequest, read_form, schema_of
from sbr_tasks.errors import ReasonError, SettingsError
from sbr_tasks.settings import load_settings
from sbr_tasks.wish import Wish


@pytest.fixture(autouse=True)
def no_settings_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for settings, and the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_empty_form_asks_for_nothing() -> None:
    assert read_form({"day": "2020-06-30", "promote": "gate", "reason": None, **dict.fromkeys(FIELDS)}) == RunRequest(
        {}, Wish()
    )
    assert read_form({}) == RunRequest({}, Wish())


def test_fields_become_settings_of_the_run() -> None:
    request = read_form(
        {"n_epochs": 3, "batch_size": 32, "learning_rate": 0.05, "loss": "bpr-max", "seed": 7, "window_days": 5}
    )
    settings = load_settings(request.overrides)
    model = settings.model
    assert (model.n_epochs, model.batch_size, model.learning_rate, model.loss) == (3, 32, 0.05, "bpr-max")
    assert (settings.training.seed, settings.window.days) == (7, 5)


def test_every_field_overrides_a_setting_that_exists() -> None:
    values: dict[str, Any] = {"loss": "bpr-max", "warm_start": "parent", "learning_rate": 0.5}
    for name, field in FIELDS.items():
        section, leaf = field.setting.split(".")
        settings = load_settings(read_form({name: values.get(name, 5)}).overrides)
        assert getattr(getattr(settings, section), leaf) == values.get(name, 5), name


def test_epochs_also_bound_a_training_that_starts_from_a_parent(no_settings_of_the_checkout: Path) -> None:
    assert read_form({"n_epochs": 2}).overrides == {"model.n_epochs": 2}
    assert load_settings(read_form({"n_epochs": 2, "warm_start": "parent"}).overrides).training.warm_epochs == 2
    (no_settings_of_the_checkout / "sbr.toml").write_text('[training]\nwarm_start = "parent"\n', encoding="utf-8")
    assert load_settings(read_form({"n_epochs": 2}).overrides).training.warm_epochs == 2
    assert read_form({"n_epochs": 2, "warm_start": "off"}).overrides == {"model.n_epochs": 2, "training.warm_start": "off"}


def test_force_carries_its_reason() -> None:
    request = read_form({"promote": "force", "reason": " new season "}, run="manual__1")
    assert request == RunRequest({}, Wish("force", "new season", "manual__1"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"promote": "force"}, "A forced promotion needs a reason"),
        ({"promote": "force", "reason": "  "}, "A forced promotion needs a reason"),
        ({"promote": "never", "reason": "x"}, "is for a forced promotion, but promote is 'never'"),
        ({"promote": "maybe"}, "Expected promote to be one of gate, never, force; found 'maybe'"),
        ({"n_epoch": 3}, "Unknown parameter 'n_epoch': expected day, promote, reason, n_epochs"),
        ({"n_epochs": 0}, "Setting 'model.n_epochs' in the overrides"),
        ({"window_days": 2}, "Setting 'window.days' in the overrides"),
    ],
)
def test_what_can_not_be_is_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises((SettingsError, ReasonError)) as caught:
        read_form(given)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("n_epochs", [None, 1, 100], [0, 101, 1.5, "3"]),
        ("batch_size", [None, 1, 4096], [0, 5000]),
        ("learning_rate", [None, 0.05, 1], [0, -1, 2, "fast"]),
        ("loss", [None, "bpr-max"], ["hinge", ""]),
        ("seed", [None, 0], [-1, 10**6]),
        ("warm_start", [None, "off"], ["on"]),
        ("window_days", [None, 3, 30], [2, 400]),
    ],
)
def test_form_takes_what_the_settings_take_within_bounds(name: str, good: list[Any], bad: list[Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema_of(name))
    assert [value for value in good if not validator.is_valid(value)] == []
    assert [value for value in bad if validator.is_valid(value)] == []
    for value in good:
        read_form({name: value})
