"""Training a version: its inputs, its epochs, its parent, and what its record holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import DamagedError, RegistryError, StoreError
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
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


def test_versions_without_an_earlier_decision_choose_by_their_own_validation(trained: Trained) -> None:
    _, found = trained
    for day, (_, version) in found.items():
        assert version.inputs.choice is None
        assert (version.choice.day, version.choice.version, version.note) == (day, version.name, None)
        recalls = [epoch.validation_recall_at_20 for epoch in version.curve]
        assert version.choice.n_epochs == 1 + recalls.index(max(recalls))
        assert version.choice.mixture is not None
        assert version.choice.mixture.n_events == 120


def test_choice_is_used_again_on_the_next_day(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    older = of(BEFORE)
    promote(store, settings, *older, run="1")
    choice = set_choice(store, older[1], n_epochs=1)
    version = train_version(store, settings, of(D)[0])
    assert version.inputs.choice == version.choice == choice
    assert (choice.day, choice.version) == (BEFORE, older[1])
    assert [epoch.validation_recall_at_20 for epoch in version.curve] == [None], "nothing is validated"
    assert version.note is None
    assert version.name != of(D)[1]
    assert train_version(store, settings, of(D)[0]) == version


@pytest.mark.parametrize(("age", "is_used"), [(2, True), (3, False)])
def test_choice_is_made_anew_after_choose_every_days(copied: Copied, inject: Inject, age: int, is_used: bool) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    older = of(BEFORE)
    promote(store, settings, *older, run="1")
    earlier = set_choice(store, older[1], day=D - timedelta(days=age), version="2020-06-03-00000000")
    assert settings.training.choose_every == 3
    version = train_version(store, settings, of(D)[0])
    assert version.inputs.choice == (earlier if is_used else None)
    assert version.choice.day == (earlier.day if is_used else D)


@pytest.mark.parametrize("changed", ["model", "training"])
def test_other_settings_choose_anew(copied: Copied, inject: Inject, changed: str) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    promote(store, settings, *of(BEFORE), run="1")
    other = with_training(settings, seed=7) if changed == "training" else with_model(settings, learning_rate=0.2)
    version = train_version(store, other, of(D)[0])
    assert version.inputs.choice is None
    assert (version.choice.day, version.choice.version) == (D, version.name)


def test_warm_start_uses_the_choice_of_a_warm_start_only(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    warm = with_training(settings, warm_start="parent", warm_epochs=2)
    scratch = train_version(store, warm, of(BEFORE)[0])
    promote(store, warm, of(BEFORE)[0], scratch.name, run="1")
    child = train_version(store, warm, of(D)[0])
    assert (child.inputs.parent, child.inputs.choice) == (scratch.name, None)
    assert child.choice.day == D
    promote(store, warm, of(D)[0], child.name, run="2")
    next_day = D + timedelta(days=1)
    write_parquet(tmp_path / "in" / "next.parquet", ring(next_day))
    ingest(store, settings)
    validate_pending(store, settings)
    grandchild = train_version(store, warm, window_for_day(store, warm, next_day))
    assert (grandchild.inputs.parent, grandchild.inputs.choice) == (child.name, child.choice)


def test_few_validation_events_let_the_last_version_choose_however_old(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    few = with_few_validation_events(settings)
    inject(d05=0.5, d06=0.6)
    window = of(D)[0]
    alone = train_version(store, few, window)
    assert alone.inputs.choice == alone.choice == Choice(day=None, version=None, n_epochs=2, mixture=None)
    assert len(alone.curve) == 2
    assert "covisits.npz" not in alone.files
    assert str(alone.note).endswith(". Trained for 2 epochs, the maximum.")
    older = of(BEFORE)
    promote(store, settings, *older, run="1")
    choice = set_choice(store, older[1], n_epochs=1, day=D - timedelta(days=99))
    version = train_version(store, few, window)
    assert version.inputs.choice == version.choice == choice
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
        assert version.inputs.choice == choice.model_copy(update={"n_epochs": n})
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
    assert version.choice.version == mixed.name, "the number of epochs is that of the other"


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
    assert version.choice == Choice(day=None, version=None, n_epochs=2, mixture=None)
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
