"""Training a version: its inputs, its epochs, its parent, and what its record holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import DamagedError, RegistryError, StoreError
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.registry import versions as versions_module
from sbr_tasks.registry.listing import model_rows, version_differences
from sbr_tasks.registry.versions import (
    Choice,
    ModelVersion,
    StoreCheckpoints,
    checkpoint_keys,
    load_model,
    load_version,
    train_version,
    version_files,
)
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.data import read_window
from sbr_tasks.window.record import load_window
from tests.unit.days import Click, write_parquet
from tests.unit.registry.two_days import (
    BEFORE,
    N_ITEMS,
    Copied,
    D,
    Inject,
    Trained,
    promote,
    ring,
    settings_of,
    with_training,
)

pytestmark = pytest.mark.slow


def test_same_inputs_give_the_same_version_without_training_again(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, found = trained
    window, version = found[D]
    monkeypatch.setattr("sbr_tasks.gru4rec.progress.train", None)
    assert train_version(Store(str(folder / "store")), settings_of(folder), window) == version


def with_few_validation_events(settings: Settings, **training: object) -> Settings:
    """The settings under which the 120 validation events of each day are too few."""
    return with_training(settings, min_validation_events=121, **training)


def with_model(settings: Settings, **changes: object) -> Settings:
    """The settings with other ones of the model."""
    return settings.model_copy(update={"model": settings.model.model_copy(update=changes)})


def set_choice(store: Store, name: str, **changes: object) -> Choice:
    """Changes what a stored version says of its choice."""
    version = load_version(store, name)
    choice = version.choice.model_copy(update=changes)
    store.replace_record(f"models/{name}/manifest.json", version.model_copy(update={"choice": choice}).as_dict())
    return choice


def hashes_of(version: ModelVersion) -> dict[str, str]:
    """The hashes of the files that training makes, by name."""
    return {name: record.sha256 for name, record in {**version.files, "optimizer": version.optimizer}.items()}


def test_version_chooses_by_its_validation_day(trained: Trained) -> None:
    _, found = trained
    for day, (_, version) in found.items():
        assert version.inputs.choice is not None
        assert (version.inputs.fallback, version.choice.day, version.note) == (None, day - timedelta(days=1), None)
        recalls = [epoch.validation_recall_at_20 for epoch in version.curve]
        assert version.choice.n_epochs == 1 + recalls.index(max(recalls))
        assert version.choice.mixture is not None
        assert version.choice.mixture.n_events == 120


def test_runs_of_consecutive_days_choose_once_and_alike_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [D + timedelta(days=i) for i in range(-14, 2)]
    store, settings = shop_of(tmp_path, {day: ring(day) for day in days})
    window = settings.window.model_copy(update={"days": 14})
    settings = with_training(settings.model_copy(update={"window": window}), choose_every=2)
    pair = [D, D + timedelta(days=1)]
    assert D.toordinal() % 2 == 0
    n_chosen, choose = 0, versions_module._choose

    def count(*args: Any) -> Any:
        nonlocal n_chosen
        n_chosen += 1
        return choose(*args)

    monkeypatch.setattr(versions_module, "_choose", count)
    made = []
    for order in (pair, pair[::-1]):
        versions = {day: train_version(store, settings, window_for_day(store, settings, day)) for day in order}
        made.append([(versions[day].name, versions[day].choice, hashes_of(versions[day])) for day in pair])
        assert {version.choice.day for version in versions.values()} == {BEFORE}
        assert all(version.curve[0].validation_recall_at_20 is not None for version in versions.values())
        for version in versions.values():
            store.delete(f"models/{version.name}/manifest.json")
    assert n_chosen == 2
    assert made[0] == made[1]


@pytest.mark.parametrize("changed", ["model", "training"])
def test_other_settings_choose_for_themselves(copied: Copied, changed: str) -> None:
    store, settings, of = copied
    other = with_training(settings, seed=7) if changed == "training" else with_model(settings, learning_rate=0.2)
    version, usual = train_version(store, other, of(D)[0]), load_version(store, of(D)[1])
    assert None is not version.inputs.choice != usual.inputs.choice


def test_warm_start_chooses_for_itself(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *of(BEFORE), run="1")
    child = train_version(store, with_training(settings, warm_start="parent", warm_epochs=1), of(D)[0])
    assert (child.inputs.parent, child.choice.day, child.choice.n_epochs) == (of(BEFORE)[1], BEFORE, 1)


def test_few_validation_events_let_the_last_version_choose_however_old(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    few = with_few_validation_events(settings)
    inject(d05=0.5, d06=0.6)
    window = of(D)[0]
    alone = train_version(store, few, window)
    assert alone.inputs.fallback == alone.choice == Choice(day=None, n_epochs=2, mixture=None)
    assert alone.inputs.choice is None
    assert len(alone.curve) == 2
    assert "covisits.npz" not in alone.files
    assert str(alone.note).endswith(". Trained for 2 epochs, the maximum.")
    older = of(BEFORE)
    promote(store, settings, *older, run="1")
    choice = set_choice(store, older[1], n_epochs=1, day=D - timedelta(days=99))
    version = train_version(store, few, window)
    assert version.inputs.fallback == version.choice == choice
    assert choice.mixture is not None
    assert len(version.curve) == 1
    note = str(version.note)
    assert [part for part in (str(BEFORE), "120 of the 121", "1 epoch", older[1]) if part not in note] == []
    assert note in promote(store, settings, window, version.name, run="2").reasons
    assert train_version(store, few, window) == version


def test_few_validation_events_let_the_parent_choose_within_the_epochs_of_a_warm_start(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    older = of(BEFORE)
    promote(store, settings, *older, run="1")
    for chosen, n in ((2, 2), (5, 3)):
        choice = set_choice(store, older[1], n_epochs=chosen)
        warm = with_few_validation_events(settings, warm_start="parent", warm_epochs=3)
        version = train_version(store, warm, of(D)[0])
        assert version.inputs.fallback == choice.model_copy(update={"n_epochs": n})
        assert len(version.curve) == n


def test_plain_models_take_no_read_out_from_others(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    promote(store, settings, *of(BEFORE), run="1")
    mixed = load_version(store, of(BEFORE)[1])
    assert mixed.choice.mixture is not None
    assert "covisits.npz" in mixed.files
    plain = with_model(settings, readout="plain")
    for chosen in (plain, with_few_validation_events(plain)):
        version = train_version(store, chosen, of(D)[0])
        assert version.choice.mixture is None
        assert "covisits.npz" not in version.files
        assert isinstance(load_model(store, version).scorer(), GRU4RecScorer)
    assert version.choice.day == mixed.choice.day, "the number of epochs is that of the other"


def shop_of(folder: Path, clicks: Mapping[date, Sequence[Click]]) -> tuple[Store, Settings]:
    """A store with days of clicks, validated."""
    for day, of_day in clicks.items():
        write_parquet(folder / "in" / f"{day}.parquet", of_day)
    settings = settings_of(folder)
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    return store, settings


def moved(clicks: Sequence[Click], by: int) -> list[Click]:
    """Clicks on other items."""
    return [(session, by + int(str(item)), time) for session, item, time in clicks]


def test_events_with_unknown_targets_choose_no_epoch(tmp_path: Path) -> None:
    """On the validation day all sessions but one are on items that the training days don't have."""
    clicks = {D - timedelta(days=i): ring(D - timedelta(days=i)) for i in range(5)}
    clicks[BEFORE] = [*clicks[BEFORE][:4], *moved(clicks[BEFORE][4:], 100)]
    store, settings = shop_of(tmp_path, clicks)
    version = train_version(store, settings, window_for_day(store, settings, D))
    assert version.choice == Choice(day=None, n_epochs=2, mixture=None)
    assert ": 3 of the 100 that " in str(version.note)
    assert ", not counting 117 whose target is no item of the training days." in str(version.note)


def test_version_knows_the_items_of_the_validation_day_and_none_of_the_test_day(tmp_path: Path) -> None:
    clicks = {D - timedelta(days=i): ring(D - timedelta(days=i)) for i in range(5)}
    clicks[BEFORE] += moved([click for click in ring(BEFORE) if int(str(click[0])) % 2], 100)
    clicks[D] += moved(ring(D), 200)
    store, settings = shop_of(tmp_path, clicks)
    window = window_for_day(store, settings, D)
    version = train_version(store, settings, window)
    assert version.note is None
    data, model = read_window(store, window, settings.zone), load_model(store, version)
    assert model.index.ids.tolist() == data.refit_index.ids.tolist()
    assert model.index.support.tolist() == data.refit_index.support.tolist()
    assert set(model.index.ids.tolist()) == {*range(N_ITEMS), *range(100, 100 + N_ITEMS)}
    assert version.n_items == 2 * N_ITEMS > len(data.index)
    assert version.n_events == data.refit.n_clicks - data.refit.n_sessions
    assert model.covisits is not None
    assert len(model.covisits.neighbours) == 2 * N_ITEMS


@pytest.mark.parametrize("training", ["the one that chooses", "the one that is kept"])
def test_interrupted_training_resumes_in_either_of_the_two(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, training: str
) -> None:
    store, settings, of = copied
    undisturbed = load_version(store, of(D)[1])
    store.delete(f"models/{undisturbed.name}/manifest.json")
    keys = checkpoint_keys(undisturbed.fingerprint)
    n_epochs = undisturbed.choice.n_epochs
    key, n_left = (keys[0], 1 + n_epochs) if training == "the one that chooses" else (keys[1], n_epochs - 1)
    save, n_saved = StoreCheckpoints.save, 0

    def save_and_stop(self: StoreCheckpoints, data: bytes) -> None:
        save(self, data)
        if store.exists(key):
            raise KeyboardInterrupt

    def save_and_count(self: StoreCheckpoints, data: bytes) -> None:
        nonlocal n_saved
        n_saved += 1
        save(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(StoreCheckpoints, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_version(store, settings, of(D)[0])
    assert store.exists(key)
    monkeypatch.setattr(StoreCheckpoints, "save", save_and_count)
    resumed = train_version(store, settings, of(D)[0])
    assert n_saved == n_left, "only what was left of both trainings is trained"
    assert (resumed.name, resumed.choice) == (undisturbed.name, undisturbed.choice)
    assert hashes_of(resumed) == hashes_of(undisturbed)
    assert [epoch.loss for epoch in resumed.curve] == [epoch.loss for epoch in undisturbed.curve]
    assert not any(store.exists(unfinished) for unfinished in keys)


def test_version_explains_itself(trained: Trained) -> None:
    _, found = trained
    window, version = found[D]
    assert version.lineage.revisions == window.inputs.revisions
    assert version.inputs.model.layers == (8,)
    assert version.inputs.training.seed == 42
    assert [epoch.number for epoch in version.curve] == [1, 2]
    assert set(version.lineage.packages) >= {"tensorflow", "numpy", "sbr-tasks"}


def test_unknown_version_and_damaged_files_are_named(
    copied: Copied,
) -> None:
    store, _, of = copied
    with pytest.raises(RegistryError, match=r"There is no model version 'v9': expected a name such as "):
        load_version(store, "v9")
    with pytest.raises(RegistryError, match=r"manifest\.json is missing\. If it was lost, restore models/2020-06-06-00000000/"):
        load_version(store, "2020-06-06-00000000")
    version = load_version(store, of(D)[1])
    store.replace(next(iter(version.files.values())).key, b"broken")
    with pytest.raises(StoreError, match="is damaged"):
        version_files(store, version)


def test_damaged_manifest_is_named(copied: Copied, tmp_path: Path) -> None:
    store, _, of = copied
    (tmp_path / "store" / "models" / of(D)[1] / "manifest.json").write_text("[")
    with pytest.raises(DamagedError, match=r"manifest\.json is damaged: expected a JSON object \("):
        load_version(store, of(D)[1])
    assert len(model_rows(store)) == 2
    (tmp_path / "store" / "models" / of(D)[1] / "manifest.json").write_text('{"window": "x"}')
    with pytest.raises(DamagedError, match=r"manifest\.json is damaged: expected a JSON object \(without a checksum\)"):
        load_version(store, of(D)[1])


def test_versions_differ_in_what_was_changed(copied: Copied) -> None:
    store, _, of = copied
    first, second = of(BEFORE)[1], of(D)[1]
    found = version_differences(store, first, second)
    assert found["day"] == ("2020-06-05", "2020-06-06")
    assert "inputs.model.layers" not in found
    assert version_differences(store, first, first) == {}


def test_training_starts_from_the_champion_of_an_earlier_day_and_of_no_other(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    warm = with_training(settings, warm_start="parent")
    (older, champion), (newer, _) = of(BEFORE), of(D)
    assert train_version(store, warm, newer).inputs.parent is None, "there is no champion yet"
    promote(store, settings, older, champion, run="x")
    child = train_version(store, warm, newer)
    assert child.inputs.parent == champion
    assert train_version(store, warm, newer) == child
    promote(store, warm, newer, child.name, run="x")
    assert train_version(store, warm, newer) == child, "the champion of the same day is no parent"
    assert train_version(store, warm, older).inputs.parent is None


def test_what_a_model_and_its_ancestors_were_trained_on_ends_before_its_test_day(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    warm = with_training(settings, warm_start="parent")
    promote(store, settings, *of(BEFORE), run="x")
    name, family = train_version(store, warm, of(D)[0]).name, list[str]()
    while name:
        version = load_version(store, name)
        part = load_window(store, version.day, version.window).parts["refit"]
        last = pc.max(store.read_table(part.file).column("clicked_at")).as_py()
        assert last.date() == version.day - timedelta(days=1)
        family.append(name)
        name = version.inputs.parent
    assert len(family) == 2


def test_training_starts_from_scratch_where_the_parent_is_damaged_or_of_another_shape(
    copied: Copied, inject: Inject, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    older, champion = of(BEFORE)
    promote(store, settings, older, champion, run="x")
    warm = {"training": settings.training.model_copy(update={"warm_start": "parent"})}
    wider = settings.model_copy(update={**warm, "model": settings.model.model_copy(update={"layers": (9,)})})
    assert train_version(store, wider, of(D)[0]).inputs.parent is None
    assert "has other layers" in caplog.text
    (tmp_path / "store" / load_version(store, champion).optimizer.key).write_bytes(b"damaged")
    assert train_version(store, settings.model_copy(update=warm), of(D)[0]).inputs.parent is None
    assert "can't be used" in caplog.text
