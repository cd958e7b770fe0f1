"""Training a version: its inputs, its epochs, its parent, and what its record holds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest
from sbr_tasks.validation.checkpoint import validate_pending

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import DamagedError, RegistryError, StoreError
from sbr_tasks.registry.listing import model_rows, version_differences
from sbr_tasks.registry.versions import UsualEpochs, load_version, train_version, version_files
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.record import load_window
from tests.unit.days import write_parquet
from tests.unit.registry.two_days import (
    BEFORE,
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
    few = settings.training.model_copy(update={"min_validation_events": 121, **training})
    return settings.model_copy(update={"training": few})


def set_best_epoch(store: Store, name: str, best: int) -> None:
    version = load_version(store, name).model_copy(update={"best_epoch": best})
    store.replace_record(f"models/{name}/manifest.json", version.as_dict())


def test_few_validation_events_let_the_last_version_say_how_many_epochs(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    few = with_few_validation_events(settings)
    inject(d05=0.5, d06=0.6)
    window = of(D)[0]
    alone = train_version(store, few, window)
    assert (alone.inputs.epochs, len(alone.curve)) == (UsualEpochs(n=2, version=None), 2)
    assert alone.epochs_note.endswith(". Trained for 2 epochs, the maximum.")
    older = of(BEFORE)
    promote(store, settings, *older, run="1")
    set_best_epoch(store, older[1], 1)
    version = train_version(store, few, window)
    assert version.inputs.epochs == UsualEpochs(n=1, version=older[1])
    assert (version.best_epoch, len(version.curve)) == (1, 1)
    note = version.epochs_note
    assert [part for part in (str(BEFORE), "120 of the 121", "1 epoch", older[1]) if part not in note] == []
    assert note in promote(store, settings, window, version.name, run="2").reasons
    assert train_version(store, few, window) == version


def test_few_validation_events_let_the_parent_say_how_many_epochs(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    older = of(BEFORE)
    promote(store, settings, *older, run="1")
    for best, n in ((2, 2), (5, 3)):
        set_best_epoch(store, older[1], best)
        warm = with_few_validation_events(settings, warm_start="parent", warm_epochs=3)
        version = train_version(store, warm, of(D)[0])
        assert version.inputs.epochs == UsualEpochs(n=n, version=older[1])
        assert len(version.curve) == n


def test_events_with_unknown_targets_choose_no_epoch(tmp_path: Path) -> None:
    """On the validation day all sessions but one are on items that the training days don't have."""
    clicks = {D - timedelta(days=i): ring(D - timedelta(days=i)) for i in range(5)}
    before = BEFORE
    clicks[before] = [
        *clicks[before][:4],
        *((session, 100 + int(str(item)), time) for session, item, time in clicks[before][4:]),
    ]
    for day, of_day in clicks.items():
        write_parquet(tmp_path / "in" / f"{day}.parquet", of_day)
    settings = settings_of(tmp_path)
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    version = train_version(store, settings, window_for_day(store, settings, D))
    assert version.inputs.epochs == UsualEpochs(n=2, version=None)
    assert ": 3 of the 100 that " in version.epochs_note
    assert ", not counting 117 whose target is no item of the training days." in version.epochs_note


def test_enough_validation_events_choose_the_epoch(trained: Trained) -> None:
    _, found = trained
    assert found[D][1].inputs.epochs is None
    assert found[D][1].epochs_note is None


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


def test_what_a_model_and_its_ancestors_were_trained_on_ends_before_its_validation_day(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    warm = with_training(settings, warm_start="parent")
    promote(store, settings, *of(BEFORE), run="x")
    name, family = train_version(store, warm, of(D)[0]).name, list[str]()
    while name:
        version = load_version(store, name)
        part = load_window(store, version.day, version.window).parts["train"]
        last = pc.max(store.read_table(part.file).column("clicked_at")).as_py()
        assert last.date() < BEFORE
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
