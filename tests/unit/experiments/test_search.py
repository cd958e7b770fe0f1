from __future__ import annotations

import fcntl
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.records import window_record_of
from sbr_tasks.errors import EvaluationError, SettingsError, TrainingError
from sbr_tasks.evaluation.ranking import Evaluation
from sbr_tasks.experiments import search as search_module
from sbr_tasks.experiments.search import Search, changes, search, search_table, write_settings
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.settings import ModelSettings, load_settings
from sbr_tasks.window.data import WindowData
from sbr_tasks.window.sessions import ItemIndex, Sessions

pytestmark = pytest.mark.slow

WINDOW = window_record_of(date(2020, 6, 30))
START = ModelSettings(n_epochs=3, layers=(100,), learning_rate=0.2, readout="plain")

Curve = Callable[[ModelSettings], list[float]]


def sessions(n_targets: int = 3) -> Sessions:
    return Sessions.of_ids(np.array([0, 3]), np.array([7, 8, 9]), is_target=np.arange(3) >= 3 - n_targets)


DATA = WindowData(lambda _: sessions(), lambda: ItemIndex(np.array([7, 8, 9]), np.array([1, 1, 1])))


@pytest.fixture
def learns(monkeypatch: pytest.MonkeyPatch) -> Callable[[Curve], list[ModelSettings]]:
    """Puts curves of validation Recall@20 in place of training; returns the settings that were trained."""

    def use(curve_of: Curve) -> list[ModelSettings]:
        tried: list[ModelSettings] = []

        def train(*data: Any, on_epoch: Callable[[Epoch], None]) -> SimpleNamespace:
            *_, settings = data
            tried.append(settings.model)
            curve = [Epoch(i + 1, 1.0, r, r / 4, 1.0, 1.0) for i, r in enumerate(curve_of(settings.model))]
            for epoch in curve:
                on_epoch(epoch)
            best = 1 + int(np.argmax([epoch.validation_recall_at_20 for epoch in curve]))
            return SimpleNamespace(weights=None, curve=curve, best_epoch=best)

        monkeypatch.setattr(search_module, "train_shown", train)
        return tried

    return use


def near_a_tenth(model: ModelSettings) -> list[float]:
    return [0.2, 0.5 - abs(model.learning_rate - 0.1), 0.1]


def run(tmp_path: Path, n_trials: int, *, minutes: float = 5, model: ModelSettings = START, data: WindowData = DATA) -> Search:
    settings = load_settings({}).model_copy(update={"model": model})
    return search(data, WINDOW, settings, journal=tmp_path / "trials", minutes=minutes, n_trials=n_trials)


def test_present_setting_comes_first_and_the_best_of_all_wins(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    tried = learns(near_a_tenth)
    found = run(tmp_path, 15)
    assert tried[0] == START
    assert len(tried) == found.n_trials == 15
    assert (found.start.is_start, found.start.model, found.start.recall_at_20) == (True, START, pytest.approx(0.4))
    assert found.best.model in tried
    assert found.best.recall_at_20 == max(one.recall_at_20 for one in found.scored) > 0.45
    assert found.best.mrr_at_20 == found.best.recall_at_20 / 4
    assert [one.value for one in found.scored] == sorted((one.value for one in found.scored), reverse=True)


def test_settings_lie_on_the_published_ranges_and_the_rest_stays(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    start = ModelSettings(n_epochs=3, loss="bpr-max", n_sample=512, readout="plain")
    tried = learns(near_a_tenth)
    settings = load_settings({}).model_copy(update={"model": start})
    search(DATA, WINDOW, settings, journal=tmp_path / "trials", minutes=5, n_trials=20, max_units=130)
    assert {model.layers for model in tried[1:]} <= {(64,), (96,), (128,)}
    assert all(model.batch_size in range(32, 257, 16) for model in tried[1:])
    assert all(0 <= model.bpreg <= 2 and model.elu_param in (0, 0.5, 1) for model in tried[1:])
    assert all(round(model.learning_rate / 0.005, 6) % 1 == 0 for model in tried[1:])
    assert {(model.loss, model.n_sample, model.n_epochs) for model in tried} == {("bpr-max", 512, 3)}


def test_search_resumes_where_it_stopped(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    tried = learns(near_a_tenth)
    first = run(tmp_path, 5)
    again = run(tmp_path, 9)
    assert len(tried) == 9
    assert tried.count(START) == 1
    assert set(first.scored) <= set(again.scored)
    assert run(tmp_path, 9) == again
    assert len(tried) == 9


def test_other_settings_start_a_search_of_their_own(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    tried = learns(near_a_tenth)
    run(tmp_path, 3)
    assert run(tmp_path, 3, model=ModelSettings(n_epochs=4, readout="plain")).n_trials == 3
    assert len(tried) == 6


def test_killed_trial_is_left_behind_and_the_start_is_tried_again(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    def killed(_: ModelSettings) -> list[float]:
        raise SystemExit

    learns(killed)
    with pytest.raises(SystemExit):
        run(tmp_path, 3)
    tried = learns(near_a_tenth)
    assert run(tmp_path, 3).n_trials == 3
    assert tried[0] == START


def test_hopeless_and_diverging_settings_are_given_up(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    def mostly_bad(model: ModelSettings) -> list[float]:
        if model.momentum > 0.8:
            raise TrainingError("diverged")
        return [0.4, 0.4, 0.4] if model == START else [0.01, 0.01, model.learning_rate]

    learns(mostly_bad)
    found = run(tmp_path, 30)
    assert found.best.is_start
    assert found.n_pruned > 0
    assert found.n_trials == 30 == len(found.scored) + found.n_pruned


def test_start_that_diverges_says_so(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    def diverges(_: ModelSettings) -> list[float]:
        raise TrainingError("Training diverged.")

    learns(diverges)
    with pytest.raises(TrainingError):
        run(tmp_path, 3)


def test_start_is_scored_even_if_there_is_no_time(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    tried = learns(near_a_tenth)
    found = run(tmp_path, 3, minutes=0)
    assert (found.n_trials, found.best, tried) == (1, found.start, [START])


def test_day_without_validation_events_is_refused(tmp_path: Path) -> None:
    first_click_only = WindowData(
        lambda _: Sessions.of_ids(np.array([0, 3]), np.array([7, 8, 9]), is_target=np.arange(3) == 0), lambda: DATA.index
    )
    with pytest.raises(EvaluationError, match=r"from 2020-06-29 to 2020-06-29, found none, so no setting can be judged"):
        run(tmp_path, 3, data=first_click_only)


def test_second_search_on_the_same_journal_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "trials").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(EvaluationError, match="Another search is using"):
            run(tmp_path, 3)


def test_table_shows_what_differs_and_the_present_setting(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    learns(near_a_tenth)
    found = run(tmp_path, 12)
    lines = search_table(found, n_rows=3).splitlines()
    assert lines[-1].split()[0] == "current"
    assert lines[-1].split()[-1] == "+0.0%"
    assert f"learning_rate {found.best.model.learning_rate:g}" in " ".join(" ".join(lines[2:]).split())
    assert changes(START, START) == {}


def test_settings_file_keeps_all_but_the_model(tmp_path: Path) -> None:
    base = tmp_path / "sbr.toml"
    base.write_text('store = "here"  # our place\n\n[model]\nlayers = [50]\nn_epochs = 4\n\n[gate]\nmin_events = 7\n')
    best = ModelSettings(layers=(128,), n_epochs=4, learning_rate=0.055, elu_param=0.5)
    write_settings(tmp_path / "tuned.toml", best, base=base, comment="why")
    text = (tmp_path / "tuned.toml").read_text()
    assert "# our place" in text
    assert tomllib.loads(text) == {
        "store": "here",
        "model": {"layers": [128], "n_epochs": 4, "learning_rate": 0.055},
        "gate": {"min_events": 7},
    }


def test_settings_file_is_in_force_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = ModelSettings(layers=(128,), loss="bpr-max", bpreg=0.35, momentum=0.45)
    write_settings(tmp_path / "tuned.toml", best, base=None, comment="why")
    monkeypatch.setenv("SBR_SETTINGS", str(tmp_path / "tuned.toml"))
    assert load_settings().model == best


def test_settings_file_elsewhere_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "sbr.toml"
    base.write_text("")
    with pytest.raises(SettingsError, match=r"^Expected --out in .*, where sbr\.toml is, found "):
        write_settings(tmp_path / "other" / "tuned.toml", ModelSettings(), base=base, comment="why")


def test_published_settings_are_tried_next_also_after_a_kill_and_then_every_second_trial_is_near_the_best(
    tmp_path: Path, learns: Callable[[Curve], Any]
) -> None:
    def killed_at_the_third(model: ModelSettings) -> list[float]:
        if model.batch_size == 48:
            raise SystemExit
        return near_a_tenth(model)

    learns(killed_at_the_third)
    with pytest.raises(SystemExit):
        run(tmp_path, 4)
    tried = learns(near_a_tenth)
    run(tmp_path, 5)
    assert [model.batch_size for model in tried[:2]] == [48, 240]
    best = run(tmp_path, 5).best.model
    run(tmp_path, 6)
    moved = changes(best, tried[-1])
    assert len(moved) == 2


def test_nothing_is_given_up_before_its_fourth_epoch(tmp_path: Path, learns: Callable[[Curve], Any]) -> None:
    seen: list[int] = []

    def hopeless_after_the_start(model: ModelSettings) -> list[float]:
        seen.append(0)
        return [0.5 / len(seen)] * 6

    learns(hopeless_after_the_start)
    found = run(tmp_path, 12)
    assert found.n_pruned > 0
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "trials")))
    (study,) = optuna.get_all_study_names(storage)
    pruned = [t for t in optuna.load_study(study_name=study, storage=storage).trials if t.state.name == "PRUNED"]
    assert {max(trial.intermediate_values) for trial in pruned} == {4}


def test_setting_that_the_end_of_the_time_cuts_off_is_not_counted_as_given_up(
    tmp_path: Path, learns: Callable[[Curve], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(search_module, "monotonic", lambda: now[0])

    def over_at_the_third(model: ModelSettings) -> list[float]:
        now[0] = 1000.0 if len(tried) == 3 else now[0]
        return near_a_tenth(model)

    tried = learns(over_at_the_third)
    found = run(tmp_path, 9)
    assert len(tried) == 3
    assert (found.n_trials, found.n_pruned) == (2, 0)
    now[0] = 0.0
    tried = learns(near_a_tenth)
    assert run(tmp_path, 3).n_trials == 3


def test_readout_is_part_of_what_is_scored(
    tmp_path: Path, learns: Callable[[Curve], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The curve is that of plain GRU4Rec; the value is that of the mixture."""
    learns(near_a_tenth)
    ranked = Evaluation(np.array([1, 30, 4, 30]), np.arange(4))
    monkeypatch.setattr(search_module, "GRU4RecScorer", lambda weights: weights)
    monkeypatch.setattr(search_module, "cross_fitted", lambda *_, **__: ranked)
    start = run(tmp_path, 1, model=START.model_copy(update={"readout": "mixture"})).start
    assert (start.recall_at_20, start.mrr_at_20) == (0.5, pytest.approx((1 + 1 / 4) / 4))
