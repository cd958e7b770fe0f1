"""From a stored window to a champion, with models that are trained for real but tiny."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from sbr_tasks.cli import app
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import AlreadyExistsError, DamagedError, ReasonError, RegistryError, StoreError, TrackingError
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.registry import promotion as promotion_module
from sbr_tasks.registry.gate import COMPARED, Outcome
from sbr_tasks.registry.listing import describe_version, log_rows, model_rows, pin_row, version_differences
from sbr_tasks.registry.log import Decision, Pin, PromotionLog
from sbr_tasks.registry.mlflow_projection import PAGE, MlflowProjection, in_words
from sbr_tasks.registry.promotion import (
    Repaired,
    commit_decision,
    commit_pin,
    commit_rollback,
    commit_unpin,
    project,
    repair_projections,
)
from sbr_tasks.registry.recommend import recommend_items
from sbr_tasks.registry.scoring import Score, score_models
from sbr_tasks.registry.serving import check_serving, publish_serving, served
from sbr_tasks.registry.versions import ModelVersion, UsualEpochs, load_version, train_version, version_files
from sbr_tasks.report.page import publish_page
from sbr_tasks.report.profile.build import profile_window
from sbr_tasks.report.runs import run_rows, run_table
from sbr_tasks.report.words import headline
from sbr_tasks.results import Decided
from sbr_tasks.settings import Settings, parse_overrides
from sbr_tasks.store import FileRecord, NumberedLog, Store, kinds
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.cleanse import TooLong
from sbr_tasks.window.data import read_window
from sbr_tasks.window.record import Window, load_window
from sbr_tasks.wish import Wish, current_user
from sbr_tasks.workspace import Workspace
from tests.mlflow_view import all_shown
from tests.unit.days import Click, at, parquet_settings, write_parquet

pytestmark = pytest.mark.slow

D = date(2020, 6, 6)
N_ITEMS = 12
NO_DATABASE = b"this is no database, but a text that is longer than a header" * 20

Trained = tuple[Path, dict[date, tuple[Window, ModelVersion]]]
Copied = tuple[Store, Settings, Callable[[date], tuple[Window, str]]]


def ring(day: date) -> list[Click]:
    """Sessions that walk around a ring of items."""
    return [(int(f"{day:%m%d}{s:02d}"), (s + step) % N_ITEMS, at(day, 100 * s + step)) for s in range(40) for step in range(4)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A store with the windows and versions of two days, nothing decided yet."""
    folder = tmp_path_factory.mktemp("registry")
    for i in range(6):
        day = D - timedelta(days=i)
        write_parquet(folder / "in" / f"{day}.parquet", ring(day))
    settings = settings_of(folder)
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    found = {}
    for day in (D - timedelta(days=1), D):
        window = window_for_day(store, settings, day)
        found[day] = (window, train_version(store, settings, window))
    profile_window(store, settings, D)  # takes seconds, once for all pages
    return folder, found


def promote(store: Store, settings: Settings, window: Window, name: str, *, run: str, force: str | None = None) -> Decision:
    """The decision on a challenger."""
    wish = Wish(actor=run) if force is None else Wish("force", force, run)
    return commit_decision(store, settings, window, name, wish)[0]


def with_mlflow(settings: Settings, database: Path) -> Settings:
    """The settings with another database of MLflow's."""
    return settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"tracking_uri": f"sqlite:///{database}"})})


def settings_of(folder: Path) -> Settings:
    return parquet_settings(
        folder,
        "window.days=5",
        "window.least_click=1",
        "model.layers=[8]",
        "model.batch_size=16",
        "model.n_sample=8",
        "model.n_epochs=2",
        "gate.min_events=1",
        "gate.min_sessions=1",
    )


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Copied:
    """The trained store, for one test to write to."""
    folder, found = trained
    shutil.copytree(folder / "store", tmp_path / "store")
    settings = settings_of(tmp_path)
    return Store.open(settings), settings, lambda day: (found[day][0], found[day][1].name)


Inject = Callable[..., None]


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Inject:
    """Sets what the version of each day scores, so that outcomes don't hang on what a tiny model learns."""

    def scores(**recalls: float) -> None:
        def score(_store: Store, _settings: Settings, _window: Window, names: list[str]) -> dict[str, Score]:
            values = {name: recalls[f"d{name[8:10]}"] for name in names} | {"popularity": 0.1, "markov": 0.1}
            nothing = FileRecord(key="", size=0, sha256="")
            return {
                name: Score(
                    metrics={"recall_at_20": v, "mrr_at_20": v, "n_events": 99, "n_sessions": 99}, by_length={}, ranks=nothing
                )
                for name, v in values.items()
            }

        def compare(*args: object) -> dict[str, Difference]:
            new, old = (a.metrics for a in args if isinstance(a, Score))
            gains = {metric: new[metric] - old[metric] for metric in COMPARED}
            return {metric: Difference(gain, gain, gain, 0.5, 0.95) for metric, gain in gains.items()}

        monkeypatch.setattr(promotion_module, "score_models", score)
        monkeypatch.setattr(promotion_module, "compare_scores", compare)
        monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)

    return scores


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
    older = of(D - timedelta(days=1))
    promote(store, settings, *older, run="1")
    set_best_epoch(store, older[1], 1)
    version = train_version(store, few, window)
    assert version.inputs.epochs == UsualEpochs(n=1, version=older[1])
    assert (version.best_epoch, len(version.curve)) == (1, 1)
    note = (
        f"The validation day {D - timedelta(days=1)} has too few events to choose the best epoch: 120 of the 121 that "
        f"training.min_validation_events asks for. Trained for 1 epoch, as was best for {older[1]}."
    )
    assert version.epochs_note == note
    assert note in promote(store, settings, window, version.name, run="2").reasons
    assert train_version(store, few, window) == version


def test_few_validation_events_let_the_parent_say_how_many_epochs(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    older = of(D - timedelta(days=1))
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
    before = D - timedelta(days=1)
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


def test_decision_is_unchanged_when_repeated_and_is_shown_in_report_tables_and_lists(
    copied: Copied,
) -> None:
    store, settings, of = copied
    window, name = of(D)
    promotion = promote(store, settings, window, name, run="test")
    assert promotion.outcome in (Outcome.FIRST_CHAMPION, Outcome.BELOW_BASELINE)
    assert promotion.challenger_metrics["n_events"] == 120
    again = promote(store, settings, window, name, run="another")
    assert again == promotion
    page = store.get(publish_page(store, settings, D).key).decode()
    assert name in page
    (row,) = run_rows(store, [D])
    assert (row.clicks, row.window_clicks, row.decision) == (160, 800, promotion.outcome.value)
    assert name[:10] in run_table([row])
    (shown,) = [row for row in model_rows(store) if row.version == name]
    assert shown.outcome == promotion.outcome.value


def test_champion_is_replaced_only_by_a_better_version(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.4)
    assert promote(store, settings, *before, run="1").outcome is Outcome.FIRST_CHAMPION
    kept = promote(store, settings, *after, run="2")
    assert (kept.outcome, kept.opponent, kept.champion) == (Outcome.KEEP_CHAMPION, before[1], before[1])
    assert alias_of(store, settings) == before[1]
    found = recommend_items(store, ["3", "999"], k=5)
    assert (found.model_version, found.unknown, found.is_fallback, len(found.items)) == (before[1], ("999",), False, 5)
    assert set(found.items) <= set(range(N_ITEMS))


def test_champion_of_integer_ids_scores_as_before_on_string_ids(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    older, champion = of(D - timedelta(days=1))
    promote(store, settings, older, champion, run="1", force="a first champion")
    before = score_models(store, settings, of(D)[0], [champion])[champion]
    for i in range(6):
        write_parquet(tmp_path / "in" / f"{i}.parquet", ring(D - timedelta(days=i)))
    as_text = settings.model_copy(update={"source": settings.source.model_copy(update={"id_type": "string"})})
    ingest(store, as_text)
    validate_pending(store, as_text)
    window = window_for_day(store, as_text, D)
    assert read_window(store, window, as_text.zone).test.item_ids.dtype == object
    challenger = train_version(store, as_text, window).name
    decision = promote(store, as_text, window, challenger, run="2")
    assert decision.opponent == champion
    assert decision.opponent_metrics == before.metrics
    assert before.metrics["recall_at_20"] > 0


def test_old_day_never_replaces_a_newer_champion(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.9, d06=0.4)
    promote(store, settings, *after, run="1")
    old = promote(store, settings, *before, run="2")
    assert (old.outcome, old.opponent, old.champion) == (Outcome.WOULD_PROMOTE, None, after[1])
    assert alias_of(store, settings) == after[1]


def test_run_that_lost_the_race_compares_again_with_the_new_champion(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.4)
    create, raced = NumberedLog.create, []

    def create_after_another_run(self: NumberedLog, number: int, body: Mapping[str, Any]) -> None:
        if not raced:
            raced.append(body["outcome"])
            promote(store, settings, *before, run="the other")
        create(self, number, body)

    monkeypatch.setattr(NumberedLog, "create", create_after_another_run)
    lost = promote(store, settings, *after, run="this")
    assert raced == [Outcome.FIRST_CHAMPION]
    assert (lost.number, lost.outcome, lost.champion) == (2, Outcome.KEEP_CHAMPION, before[1])
    with pytest.raises(AlreadyExistsError):
        PromotionLog(store).create(lost)


def test_lost_mlflow_is_made_again_from_the_store(
    copied: Copied,
    inject: Inject,
    tmp_path: Path,
) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *of(D - timedelta(days=1)), run="1")
    promote(store, settings, *of(D), run="2")
    lost = {"tracking_uri": f"sqlite:///{tmp_path}/new.db", "artifact_root": str(tmp_path / "new")}
    settings = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update=lost)})
    found = Repaired(versions=2, log_entries=2, champion=of(D)[1], faults=())
    assert repair_projections(store, settings) == found
    assert repair_projections(store, settings) == found
    assert alias_of(store, settings) == of(D)[1]
    client = MlflowProjection(store, settings)._client
    versions = client.search_model_versions("name = 'gru4rec'")
    assert sorted(v.tags["sbr.version"] for v in versions) == sorted(of(d)[1] for d in (D - timedelta(days=1), D))
    run = client.get_run(next(v.run_id for v in versions if v.tags["sbr.version"] == of(D)[1]))
    assert run.data.params["layers"] == "[8]"
    assert run.data.metrics["test.recall_at_20"] == 0.6
    assert run.data.metrics["test_champion.recall_at_20"] == 0.5
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2


def test_empty_mlflow_is_made_to_show_all_that_the_lost_one_did(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    workspace = Workspace(settings, store)
    inject(d05=0.5, d06=0.6)
    window, newer = of(D)
    seeds = [settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})}) for seed in (7, 8)]
    undecided, forced = (train_version(store, other, window) for other in seeds)
    older = of(D - timedelta(days=1))
    trained = [load_version(store, name) for name in (older[1], newer, undecided.name, forced.name)]
    for version in sorted(trained, key=lambda version: (version.trained_at, version.name)):
        MlflowProjection(store, settings).show_version(version)  # as the runs do, right after a training
    promote(store, settings, window, newer, run="2")
    promote(store, settings, *older, run="1")  # an older day is decided on after a newer one
    promote(store, settings, window, forced.name, run="3", force="to try it")
    workspace.write_report(D, window.fingerprint, forced.name)
    commit_rollback(store, settings, newer, reason="it was wrong", actor="me@here")
    for day, name in ((D - timedelta(days=1), older[1]), (D, newer)):
        workspace.write_report(day, of(day)[0].fingerprint, name)
    workspace.promote_if_better(D, window.fingerprint, undecided.name, Wish("never", actor="by hand"))
    workspace.write_report(D, window.fingerprint, undecided.name, Wish("never", actor="by hand"))
    shown = all_shown(store, settings)
    assert {len(version["metrics"]) > 3 for version in shown["versions"].values()} == {True}
    assert all(PAGE in version["files"] for version in shown["versions"].values())
    empty = {"tracking_uri": f"sqlite:///{tmp_path}/new.db", "artifact_root": str(tmp_path / "new")}
    moved = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update=empty)})
    assert repair_projections(store, moved).faults == ()
    assert all_shown(store, moved) == shown


@pytest.fixture
def no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose folder for temporary files can't be written, as when it is full."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")


@pytest.mark.usefixtures("no_temporary_folder")
def test_run_needs_no_temporary_folder_of_the_system(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    workspace = Workspace(settings, store)
    inject(d06=0.6)
    write_parquet(tmp_path / "in" / "next.parquet", ring(D + timedelta(days=1)))
    ingest(store, settings)
    assert validate_pending(store, settings).accepted == (D + timedelta(days=1),)
    window = of(D)[0]
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": 7})})
    name = train_version(store, other, window).name
    promote(store, settings, window, name, run="x")
    number = workspace.write_report(D, window.fingerprint, name).mlflow_version
    client = MlflowProjection(store, settings)._client
    files = client.list_artifacts(client.get_model_version("gru4rec", number).run_id)
    assert {"lineage.json", "model", PAGE} <= {file.path for file in files}


def test_database_of_mlflow_without_its_driver_is_one_sentence(copied: Copied) -> None:
    store, settings, _ = copied
    uri = "postgresql+pg8000://sbr:hush@127.0.0.1:1/mlflow"
    without = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"tracking_uri": uri})})
    with pytest.raises(TrackingError, match=r"driver of its database isn't installed .*pg8000") as caught:
        MlflowProjection(store, without)
    assert "hush" not in str(caught.value)


def test_full_disk_of_mlflow_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "scratch/a", None, "mlflow/a")
    with pytest.raises(TrackingError, match=r"mlflow/a: no space left on device\. Nothing is lost"), in_words("sqlite:///x"):
        raise full


def test_session_of_unknown_items_gets_the_popular_ones(
    copied: Copied,
) -> None:
    store, _, of = copied
    found = recommend_items(store, ["998"], k=3, name=of(D)[1])
    assert found.is_fallback
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_recommend_without_champion_or_with_a_wrong_id_says_so(
    copied: Copied,
) -> None:
    store, _, of = copied
    with pytest.raises(RegistryError) as caught:
        recommend_items(store, ["1"], k=3)
    assert str(caught.value) == "There is no champion yet. Train one with `sbr retrain --day DAY`."
    with pytest.raises(RegistryError) as caught:
        recommend_items(store, ["sku"], k=3, name=of(D)[1])
    assert str(caught.value) == "Expected non-negative 64-bit integers as item ids, such as 1,2,3; found 'sku'."
    with pytest.raises(RegistryError, match=r"^Expected non-negative 64-bit integers as item ids, .*; found '-5'\.$"):
        recommend_items(store, ["-5"], k=3, name=of(D)[1])


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


def test_unusable_champion_fails_the_run_and_is_replaced_only_if_asked(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    shutil.rmtree(tmp_path / "store" / "models" / before[1])
    with pytest.raises(RegistryError, match=r"^The champion 2020-06-05-\w+ can't be used: .* set gate\.replace_unusable"):
        promote(store, settings, *after, run="2")
    assert len(PromotionLog(store).entries()) == 1
    willing = settings.model_copy(update={"gate": settings.gate.model_copy(update={"replace_unusable": True})})
    replaced = promote(store, willing, *after, run="3")
    assert (replaced.outcome, replaced.champion) == (Outcome.FIRST_CHAMPION, after[1])
    assert alias_of(store, settings) == after[1]


def test_rollback_retires_what_it_leaves_and_serves_the_old_model_under_a_new_number(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    promote(store, settings, *after, run="2")
    assert served(store) == (2, after[1])
    done = commit_rollback(store, settings, before[1], reason="worse in the shop", actor="3")
    assert (done.number, done.before, done.champion) == (3, after[1], before[1])
    assert served(store) == (3, before[1])
    assert alias_of(store, settings) == before[1]
    assert PromotionLog(store).state().retired == {after[1]}
    again = promote(store, settings, *after, run="4")
    assert again.number == 2
    assert PromotionLog(store).state().champion == before[1]
    with pytest.raises(RegistryError, match=r"is retired .* and can't be promoted again"):
        promote(store, settings, *after, run="5", force="please")
    with pytest.raises(ReasonError, match="A rollback needs a reason"):
        commit_rollback(store, settings, before[1], reason=" ", actor="6")
    rows = {row.version: row for row in model_rows(store)}
    assert (rows[after[1]].retired, rows[before[1]].champion) == (True, True)
    assert [row.outcome for row in log_rows(store)] == ["first_champion", "promote", "rollback"]
    assert [row.entry for row in describe_version(store, after[1]).log] == [2, 3]


def test_force_promotes_a_version_that_was_kept_out(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.4)
    promote(store, settings, *before, run="1")
    assert promote(store, settings, *after, run="2").outcome is Outcome.KEEP_CHAMPION
    forced = promote(store, settings, *after, run="3", force="new season")
    assert (forced.number, forced.outcome, forced.champion) == (3, Outcome.FORCED, after[1])
    assert forced.reasons[0] == "Forced regardless of the metrics: new season."
    assert promote(store, settings, *after, run="4", force="again").number == 3
    assert served(store) == (3, after[1])


def test_run_that_is_repeated_forces_once(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.4)
    (window, newer), (earlier, older) = of(D), of(D - timedelta(days=1))
    promote(store, settings, earlier, older, run="1")
    wish = Wish("force", "new season", "by hand")
    forced = commit_decision(store, settings, window, newer, wish)[0]
    commit_rollback(store, settings, older, reason="it was wrong", actor="me@here")
    assert commit_decision(store, settings, window, newer, wish) == (forced, False), "another attempt of the same run"
    assert PromotionLog(store).state().champion == older


def test_run_that_is_not_asked_to_promote_tells_the_verdict_and_writes_none(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    workspace = Workspace(settings, store)
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    window, name = of(D)
    result = workspace.promote_if_better(D, window.fingerprint, name, Wish("never", actor="by hand"))
    assert (result.outcome, result.champion, result.log_entry, result.promoted) == ("not_asked", None, None, False)
    verdict = result.reasons[0].rsplit(" ", 1)[1]
    assert result.reasons[0].startswith("This run only trained and scored the version (promote: never)")
    assert PromotionLog(store).entries() == []
    workspace.write_report(D, window.fingerprint, name, Wish("never", actor="by hand"))
    page = store.get(kinds.UNDECIDED_PAGE.key(day=D, version=name)).decode()
    assert "only trained and scored" in page
    assert "not in the promotion log" in page
    assert not verify_store(store).orphaned.keys, "the page belongs to its version"

    decided = workspace.promote_if_better(D, window.fingerprint, name, Wish(actor="scheduled"))
    assert (decided.outcome, decided.log_entry) == (verdict.removesuffix("."), 1)
    again = workspace.promote_if_better(D, window.fingerprint, name, Wish("never", actor="by hand"))
    assert (again.outcome, again.promoted) == (decided.outcome, False), "what was decided is unchanged"
    workspace.write_report(D, window.fingerprint, name, Wish(actor="by hand"))
    assert b"log entry 1" in store.get(kinds.PAGE.key(day=D, number=1))


def test_page_of_a_run_whose_decision_is_lacking_says_so(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    workspace = Workspace(settings, store)
    inject(d06=0.6)
    window, name = of(D)
    result = workspace.write_report(D, window.fingerprint, name, Wish(actor="scheduled__1"))
    assert (result.outcome, result.log_entry) == ("undecided", 0)
    page = store.get(kinds.UNDECIDED_PAGE.key(day=D, version=name)).decode()
    assert f"Not decided: the promotion log has no decision on {name}." in page
    assert "the task promote_if_better was marked as successful by hand" in page and "verdict: first_champion." in page
    assert "asked not to promote" not in page
    assert PromotionLog(store).entries() == []


def test_only_the_present_champion_is_announced(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    workspace = Workspace(settings, store)
    inject(d05=0.5, d06=0.6)

    def decided(day: date) -> Decided:
        window, name = of(day)
        return workspace.promote_if_better(day, window.fingerprint, name, Wish(actor=f"scheduled__{day}"))

    older, newer = decided(D - timedelta(days=1)), decided(D)
    assert older.promoted and newer.promoted
    returned = newer.model_dump(mode="json")  # as the next task gets it
    assert workspace.champion_event(returned).model_dump(mode="json")["event"] == {
        "model_version": of(D)[1],
        "day": str(D),
        "log_entry": 2,
    }
    assert workspace.champion_event(older).model_dump() == {
        "event": None,
        "why": f"{of(D - timedelta(days=1))[1]} became champion with log entry 1, but is no longer: log entry 2 replaced it.",
    }
    kept = returned | {"promoted": False, "outcome": "keep_champion"}
    assert workspace.champion_event(kept).event is None


@pytest.mark.parametrize("deleted", ["champion", "other"])
@pytest.mark.parametrize("by", ["the next decision", "the training repeated"])
def test_version_deleted_in_mlflow_is_shown_again_whole(copied: Copied, inject: Inject, deleted: str, by: str) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    window, newer = of(D)
    older = of(D - timedelta(days=1))
    promote(store, settings, *older, run="1")
    promote(store, settings, window, newer, run="2")
    commit_rollback(store, settings, older[1], reason="it was wrong", actor="me@here")
    name = older[1] if deleted == "champion" else newer
    client = MlflowProjection(store, settings)._client
    (version,) = client.search_model_versions(f"name = 'gru4rec' and tag.`sbr.version` = '{name}'")
    client.delete_model_version("gru4rec", version.version)
    if by == "the training repeated":
        MlflowProjection(store, settings).show_version(load_version(store, name))
    project(store, settings)
    found = {one.tags["sbr.version"]: one for one in client.search_model_versions("name = 'gru4rec'")}
    assert found.keys() == {older[1], newer}
    tags = found[name].tags
    assert (tags["outcome"], tags["log_entry"]) == (("first_champion", "1") if deleted == "champion" else ("promote", "2"))
    assert tags.get("retired") == (None if deleted == "champion" else "it was wrong")
    assert found[name].description == " ".join(PromotionLog(store).state().decisions[name].reasons)
    assert alias_of(store, settings) == older[1]


@pytest.mark.parametrize("what", ["run", "model", "alias", "moved alias", "experiment"])
def test_what_is_deleted_in_mlflow_is_there_again_after_the_next_run(copied: Copied, inject: Inject, what: str) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    older, newer = of(D - timedelta(days=1)), of(D)
    promote(store, settings, *older, run="1")
    promote(store, settings, *newer, run="2")
    shown, model = all_shown(store, settings), settings.mlflow.model_name
    client = MlflowProjection(store, settings)._client
    numbers = {one.tags["sbr.version"]: one for one in client.search_model_versions(f"name = '{model}'")}
    old = numbers[older[1]]
    if what == "run":
        client.delete_run(old.run_id)
    elif what == "model":
        client.delete_registered_model(model)
    elif what == "alias":
        client.delete_registered_model_alias(model, "champion")
    elif what == "moved alias":
        client.set_registered_model_alias(model, "champion", old.version)
    else:
        client.delete_experiment(client.get_experiment_by_name(settings.mlflow.experiment).experiment_id)
    promote(store, settings, *newer, run="3")
    assert all_shown(store, settings) == shown


def test_session_is_given_item_by_item_and_what_is_unknown_is_said(copied: Copied) -> None:
    store, _, of = copied
    ask = ("recommend", "--model", of(D)[1], "-k", "3", "--set", f"store={store.url}")

    def sbr(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*ask, *words])
        return done.exit_code, done.stdout

    assert sbr("--item", "3", "--item", "4") == sbr("--session", "3,4")
    code, text = sbr("--item", "3", "--item", "999")
    assert (code, text.splitlines()[0]) == (0, f"Item 999 is unknown to {of(D)[1]} and was ignored.")
    assert "No item of the session is known" not in text
    code, text = sbr("--item", "999")
    assert text.splitlines()[1] == "No item of the session is known, so these are the most clicked items, by number of clicks."
    assert text.splitlines()[2].split() == ["rank", "item", "clicks"]
    assert sbr("--item", "3,4")[0] == 1, "an item is taken as it is, commas and blanks included"
    assert sbr()[0] == sbr("--session", "3", "--item", "4")[0] == 2


def test_recommend_names_the_last_decision_where_none_made_a_champion(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.0, d06=0.0)
    for day in (D, D - timedelta(days=1)):
        promote(store, settings, *of(day), run="1")
    with pytest.raises(RegistryError) as caught:
        recommend_items(store, ["1"], k=3)
    day, name = D - timedelta(days=1), of(D - timedelta(days=1))[1]
    assert str(caught.value) == (
        f"There is no champion yet: the last decision, on {name}, was below_baseline (log entry 2). `sbr log` shows why. "
        f"`sbr retrain --day {day} --force REASON` promotes a model whatever it scores."
    )


def test_page_is_that_of_the_runs_own_version(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    workspace = Workspace(settings, store)
    window, name = of(D)
    first = promote(store, settings, window, name, run="scheduled")
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": 7})})
    second = promote(store, settings, window, train_version(store, other, window).name, run="by hand")
    assert (first.number, second.number) == (1, 2)
    assert workspace.write_report(D, window.fingerprint, name).report.endswith("00000001.html")
    assert workspace.write_report(D).report.endswith("00000002.html")


def test_decision_names_the_settings_of_its_run_only(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    window, name = of(D)
    words = ["model.n_epochs=9", "training.seed=42", 'source.path="/in"', " model.n_epochs=2", "store=x", "windows.days=7"]
    workspace = Workspace(settings, store, parse_overrides(words))
    decided = workspace.promote_if_better(D, window.fingerprint, name)
    assert decided.reasons[-1] == "Settings for this run only: model.n_epochs=2, training.seed=42."
    repeated = workspace.promote_if_better(D, window.fingerprint, name)
    assert repeated.reasons == decided.reasons, "a step already decided returns its decision"


@pytest.mark.parametrize("step", ["publish_serving", "show"])
def test_stop_between_the_steps_of_a_promotion_is_brought_level_by_the_next_one(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store, settings, of = copied
    window, name = of(D)
    inject(d06=0.6)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((promotion_module, step) if step == "publish_serving" else (MlflowProjection, step)), stop)
        with pytest.raises(KeyboardInterrupt):
            promote(store, settings, window, name, run="1")
    assert PromotionLog(store).state().champion == name
    assert recommend_items(store, ["3"], k=2).model_version == name
    promotion = promote(store, settings, window, name, run="1")
    assert (promotion.number, promotion.outcome) == (1, Outcome.FIRST_CHAMPION)
    assert (served(store), alias_of(store, settings)) == ((1, name), name)


def test_projections_follow_what_other_runs_commit_meanwhile(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    show = MlflowProjection.show
    raced: list[Decision] = []

    def show_after_another_run(self: MlflowProjection, *args: object, **named: object) -> None:
        if not raced:
            raced.append(None)  # type: ignore[arg-type]
            raced.append(promote(store, settings, *after, run="2"))
        show(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowProjection, "show", show_after_another_run)
    project(store, settings)
    assert raced[1].outcome is Outcome.PROMOTE
    assert (served(store), alias_of(store, settings)) == ((2, after[1]), after[1])


def test_serving_copy_is_a_whole_saved_model_with_its_graph_written_last(
    copied: Copied, inject: Inject, tmp_path: Path
) -> None:
    store, settings, of = copied
    window, name = of(D)
    inject(d06=0.6)
    promote(store, settings, window, name, run="1")
    folder = tmp_path / "store" / "serving/gru4rec" / "1"
    published = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert published == set(load_version(store, name).saved_model)
    others = [file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file() and file.name != "saved_model.pb"]
    assert (folder / "saved_model.pb").stat().st_mtime_ns >= max(others)


def test_versions_differ_in_what_was_changed(copied: Copied) -> None:
    store, _, of = copied
    first, second = of(D - timedelta(days=1))[1], of(D)[1]
    found = version_differences(store, first, second)
    assert found["day"] == ("2020-06-05", "2020-06-06")
    assert "inputs.model.layers" not in found
    assert version_differences(store, first, first) == {}


def test_training_starts_from_the_champion_of_an_earlier_day_and_of_no_other(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    warm = settings.model_copy(update={"training": settings.training.model_copy(update={"warm_start": "parent"})})
    (older, champion), (newer, _) = of(D - timedelta(days=1)), of(D)
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
    warm = settings.model_copy(update={"training": settings.training.model_copy(update={"warm_start": "parent"})})
    promote(store, settings, *of(D - timedelta(days=1)), run="x")
    name, family = train_version(store, warm, of(D)[0]).name, list[str]()
    while name:
        version = load_version(store, name)
        part = load_window(store, version.day, version.window).parts["train"]
        last = pc.max(store.read_table(part.file).column("clicked_at")).as_py()
        assert last.date() < D - timedelta(days=1)
        family.append(name)
        name = version.inputs.parent
    assert len(family) == 2


def test_training_starts_from_scratch_where_the_parent_is_damaged_or_of_another_shape(
    copied: Copied, inject: Inject, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    older, champion = of(D - timedelta(days=1))
    promote(store, settings, older, champion, run="x")
    warm = {"training": settings.training.model_copy(update={"warm_start": "parent"})}
    wider = settings.model_copy(update={**warm, "model": settings.model.model_copy(update={"layers": (9,)})})
    assert train_version(store, wider, of(D)[0]).inputs.parent is None
    assert "has other layers" in caplog.text
    (tmp_path / "store" / load_version(store, champion).optimizer.key).write_bytes(b"damaged")
    assert train_version(store, settings.model_copy(update=warm), of(D)[0]).inputs.parent is None
    assert "can't be used" in caplog.text


def test_unusable_champion_is_left_to_the_gate_by_the_step_that_scores(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    older, champion = of(D - timedelta(days=1))
    promote(store, settings, older, champion, run="x", force="a first champion")
    shutil.rmtree(tmp_path / "store" / "models" / champion)
    window, name = of(D)
    assert champion not in Workspace(settings, store).evaluate_models(D, window.fingerprint, name).scores


@pytest.fixture
def two_promotions(copied: Copied, inject: Inject) -> tuple[Store, Settings, str]:
    """A store in which the version of each day was promoted, and the name of the older one."""
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    for day in (D - timedelta(days=1), D):
        promote(store, settings, *of(day), run="x")
    return store, settings, of(D - timedelta(days=1))[1]


def test_rollback_to_a_version_whose_saved_model_is_damaged_changes_nothing(
    two_promotions: tuple[Store, Settings, str], tmp_path: Path
) -> None:
    store, settings, old = two_promotions
    graph = tmp_path / "store" / load_version(store, old).saved_model["saved_model.pb"].key
    whole = graph.read_bytes()
    graph.write_bytes(whole[:10])
    with pytest.raises(StoreError, match="damaged"):
        commit_rollback(store, settings, old, reason="worse", actor="x")
    assert PromotionLog(store).state().n_entries == 2
    graph.write_bytes(whole)
    assert commit_rollback(store, settings, old, reason="worse", actor="x").number == 3


def test_repair_writes_a_damaged_serving_copy_again(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    promote(store, settings, *of(D - timedelta(days=1)), run="x")
    graph = tmp_path / "store" / "serving/gru4rec" / "1" / "saved_model.pb"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:10])
    repair_projections(store, settings)
    assert graph.read_bytes() == whole


@pytest.fixture
def stopped_rollback(
    two_promotions: tuple[Store, Settings, str], monkeypatch: pytest.MonkeyPatch
) -> tuple[Store, Settings, str]:
    """A store in which a rollback to the older version stopped after its log entry, and the name of that version."""
    store, settings, old = two_promotions
    with monkeypatch.context() as stopped:
        stopped.setattr(promotion_module, "project", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            commit_rollback(store, settings, old, reason="worse", actor="x")
    assert served(store) != (3, old)
    return store, settings, old


def test_rollback_that_was_stopped_after_its_entry_is_completed_by_the_same_again(
    stopped_rollback: tuple[Store, Settings, str],
) -> None:
    store, settings, old = stopped_rollback
    assert commit_rollback(store, settings, old, reason="worse", actor="x").number == 3
    assert served(store) == (3, old)
    assert alias_of(store, settings) == old


def test_version_whose_saved_model_answers_otherwise_is_not_promoted(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    inject(d06=0.6)

    def differs(*_: object) -> None:
        raise RegistryError("The SavedModel answers otherwise.")

    with monkeypatch.context() as patch:
        patch.setattr(promotion_module, "check_serving", differs)
        with pytest.raises(RegistryError, match="answers otherwise"):
            promote(store, settings, *of(D), run="x")
    assert PromotionLog(store).entries() == []
    assert served(store) is None
    assert promote(store, settings, *of(D), run="x").outcome is Outcome.FIRST_CHAMPION


def test_lost_version_is_left_out_of_mlflow_and_named_by_repair(
    two_promotions: tuple[Store, Settings, str], tmp_path: Path
) -> None:
    store, settings, old = two_promotions
    champion = str(PromotionLog(store).state().champion)
    folder = tmp_path / "store" / "models"
    (folder / old).rename(tmp_path / "kept")
    lost = with_mlflow(settings, tmp_path / "new.db")
    found = repair_projections(store, lost)
    assert (found.versions, found.log_entries, found.champion) == (1, 2, champion)
    assert {row.version: row.lost for row in model_rows(store)} == {old: True, champion: False}
    (fault,) = found.faults
    assert fault.startswith(f"{old}: There is no model version '{old}': ")
    assert alias_of(store, lost) == champion
    (tmp_path / "kept").rename(folder / old)
    (folder / champion).rename(tmp_path / "kept")
    shutil.rmtree(tmp_path / "store" / "serving")
    assert [one[: len(champion)] for one in repair_projections(store, lost).faults] == [champion]
    assert alias_of(store, lost) == champion, "MLflow has its own copy"
    assert served(store) is None
    (tmp_path / "kept").rename(folder / champion)
    assert repair_projections(store, lost).faults == ()
    assert served(store) == (2, champion)


def test_mlflow_that_never_saw_the_lost_champion_has_no_alias(
    two_promotions: tuple[Store, Settings, str], tmp_path: Path
) -> None:
    store, settings, _ = two_promotions
    shutil.rmtree(tmp_path / "store" / "models" / str(PromotionLog(store).state().champion))
    lost = with_mlflow(settings, tmp_path / "new.db")
    assert len(repair_projections(store, lost).faults) == 1
    assert alias_of(store, lost) is None


def test_what_somebody_deleted_or_changed_in_mlflow_is_made_again(two_promotions: tuple[Store, Settings, str]) -> None:
    store, settings, old = two_promotions
    model = settings.mlflow.model_name
    client = MlflowProjection(store, settings)._client
    first, second = sorted(client.search_model_versions(f"name = '{model}'"), key=lambda one: int(one.version))
    client.delete_run(first.run_id)
    client.set_model_version_tag(model, second.version, "outcome", "keep_champion")
    client.delete_registered_model_alias(model, "champion")
    client.delete_experiment(client.get_run(second.run_id).info.experiment_id)
    assert repair_projections(store, settings).faults == ()
    shown = {one.version: one for one in client.search_model_versions(f"name = '{model}'")}
    assert shown[second.version].tags["outcome"] == "promote"
    assert shown[first.version].tags["sbr.version"] == old
    for one in shown.values():
        run = client.get_run(one.run_id)
        assert (run.info.lifecycle_stage, run.info.status) == ("active", "FINISHED")
        assert client.get_experiment(run.info.experiment_id).lifecycle_stage == "active"
    assert alias_of(store, settings) == PromotionLog(store).state().champion


@pytest.mark.parametrize("step", ["log_artifacts", "create_model_version", "set_terminated"])
def test_registration_that_was_cut_off_is_completed_with_one_finished_run(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from mlflow import MlflowClient

    store, settings, of = copied
    version = load_version(store, of(D)[1])

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, stop)
        with pytest.raises(KeyboardInterrupt):
            MlflowProjection(store, settings).show_version(version)
    projection = MlflowProjection(store, settings)
    projection.show_version(version)
    client = projection._client
    (experiment,) = client.search_experiments(filter_string=f"name = '{settings.mlflow.experiment}'")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`sbr.version` = '{version.name}'")
    assert run.info.status == "FINISHED"
    (registered,) = client.search_model_versions(f"name = '{settings.mlflow.model_name}'")
    assert registered.run_id == run.info.run_id
    assert {file.path for file in client.list_artifacts(run.info.run_id, "model")} == {
        f"model/{name}" for name in version.files
    }


def test_mlflow_database_that_is_none_is_one_sentence(copied: Copied, tmp_path: Path) -> None:
    store, settings, _ = copied
    (tmp_path / "broken.db").write_bytes(NO_DATABASE)
    broken = with_mlflow(settings, tmp_path / "broken.db")
    with pytest.raises(TrackingError) as caught:
        repair_projections(store, broken)
    (sentence,) = str(caught.value).splitlines()
    assert sentence.startswith(f"MLflow at sqlite:///{tmp_path}/broken.db can't be used: ")
    assert sentence.endswith("repair MLflow or move it away, then run `sbr repair`.")


def test_mlflow_that_writes_to_where_the_store_was_before_is_warned_of(
    copied: Copied, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, settings, _ = copied
    MlflowProjection(store, settings)
    assert "If the store was moved" not in caplog.text
    moved = settings.mlflow.model_copy(update={"artifact_root": str(tmp_path / "elsewhere")})
    MlflowProjection(store, settings.model_copy(update={"mlflow": moved}))
    assert f"but the settings say {tmp_path}/elsewhere. If the store was moved" in caplog.text


def test_shop_gets_the_champion_even_if_mlflow_is_out_of_reach(
    two_promotions: tuple[Store, Settings, str], tmp_path: Path
) -> None:
    store, settings, old = two_promotions
    (tmp_path / "broken.db").write_bytes(NO_DATABASE)
    broken = with_mlflow(settings, tmp_path / "broken.db")
    with pytest.raises(TrackingError, match=rf"^The decision was recorded \(log entry 3, champion {old}\), but"):
        commit_rollback(store, broken, old, reason="worse", actor="x")
    assert served(store) == (3, old)
    shutil.rmtree(tmp_path / "store" / "serving")
    with pytest.raises(TrackingError):
        repair_projections(store, broken)
    assert served(store) == (3, old)


@pytest.mark.parametrize("secret", ["u:s3cret@", "s3cret@"])
def test_secret_of_the_tracking_uri_is_not_shown(copied: Copied, caplog: pytest.LogCaptureFixture, secret: str) -> None:
    from mlflow.exceptions import MlflowException

    uri = f"http://{secret}127.0.0.1:9"
    with pytest.raises(TrackingError) as caught, in_words(uri):
        raise MlflowException(f"API request to {uri}/api failed")
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__} {caplog.text}"
    assert caught.value.__suppress_context__


def test_promotion_that_can_not_be_served_says_that_it_was_recorded(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    inject(d06=0.6)

    def full(*_: object) -> None:
        raise StoreError("No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(promotion_module, "publish_serving", full)
        with pytest.raises(
            StoreError,
            match=r"^The decision was recorded \(log entry 1, .* left on device\. Retry, or run `sbr",
        ):
            promote(store, settings, *of(D), run="x")
    assert promote(store, settings, *of(D), run="x").number == 1
    assert served(store) == (1, of(D)[1])


def test_damaged_record_of_the_serving_copy_is_written_again_by_the_next_run(
    copied: Copied, inject: Inject, tmp_path: Path
) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    promote(store, settings, *of(D), run="x")
    (tmp_path / "store" / "serving" / "published" / "00000001.json").write_text("")
    promote(store, settings, *of(D), run="x")
    assert served(store) == (1, of(D)[1])


def test_serving_copy_of_another_version_is_replaced_whole(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    promote(store, settings, *of(D), run="x")
    folder = tmp_path / "store" / "serving/gru4rec" / "1"
    (folder / "variables" / "variables.data-00001-of-00002").write_bytes(b"of another version")
    repair_projections(store, settings)
    published = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert published == set(load_version(store, of(D)[1]).saved_model)


def test_rollback_halfway_is_completed_before_another_one_to_the_same_version_is_refused(
    stopped_rollback: tuple[Store, Settings, str],
) -> None:
    store, settings, old = stopped_rollback
    with pytest.raises(RegistryError, match="is already the champion"):
        commit_rollback(store, settings, old, reason="for another reason", actor="x")
    assert served(store) == (3, old)
    assert alias_of(store, settings) == old


def test_damage_of_the_challenger_is_not_put_down_to_the_champion(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    promote(store, settings, *of(D - timedelta(days=1)), run="x", force="a first champion")
    caplog.clear()
    file = next(iter(load_version(store, of(D)[1]).files.values())).key
    (tmp_path / "store" / file).write_bytes(b"")
    with pytest.raises(DamagedError, match=f"models/{of(D)[1]}/"):
        promote(store, settings, *of(D), run="x")
    assert "can't be used" not in caplog.text


def test_two_that_force_the_same_version_at_once_promote_it_once(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    create, raced = NumberedLog.create, list[tuple[Decision, bool]]()

    def create_after_another(self: NumberedLog, number: int, body: Mapping[str, Any]) -> None:
        if number == 1 and body["reasons"][0].endswith("two."):
            raced.append(commit_decision(store, settings, *of(D), Wish("force", "one")))
        create(self, number, body)

    monkeypatch.setattr(NumberedLog, "create", create_after_another)
    second = commit_decision(store, settings, *of(D), Wish("force", "two"))
    ((first, is_new),) = raced
    assert is_new
    assert second == (first, False)


def test_lost_window_hides_only_its_clicks_from_the_runs(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    promote(store, settings, *of(D), run="x")
    shutil.rmtree(tmp_path / "store" / "windows")
    (row,) = run_rows(store, [D])
    assert (row.window_clicks, row.decision) == (None, "first_champion")


def test_damaged_evaluation_is_made_again(copied: Copied, tmp_path: Path) -> None:
    store, settings, of = copied
    window, name = of(D)
    first = score_models(store, settings, window, [name])
    (record,) = (tmp_path / "store" / "evaluations").rglob(f"{name}.json")
    record.write_text("{")
    assert score_models(store, settings, window, [name]) == first
    record.write_text("{}")
    assert score_models(store, settings, window, [name]) == first
    (tmp_path / "store" / first[name].ranks.key).write_bytes(b"PAR1")
    assert score_models(store, settings, window, [name]) == first
    assert store.read(first[name].ranks)[:4] == b"PAR1"


@pytest.mark.parametrize("name", ["", "../x", "2020-06-06", "2020-06-06-0123456789"])
def test_name_that_no_version_can_have_is_refused(copied: Copied, name: str) -> None:
    store, settings, _ = copied
    with pytest.raises(RegistryError, match=r"^There is no model version '.*': expected a name such as"):
        commit_rollback(store, settings, name, reason="worse", actor="x")


@pytest.mark.parametrize("name", ["../../outside", "/outside", "a/../../outside", "out\x1bside"])
def test_names_in_a_manifest_lead_to_no_file_outside_its_folder(copied: Copied, tmp_path: Path, name: str) -> None:
    store, settings, of = copied
    window, version = of(D)[0], load_version(store, of(D)[1])
    graph = version.saved_model["saved_model.pb"]
    hostile = version.model_copy(update={"saved_model": {name: graph}})
    before = set(tmp_path.rglob("*outside*"))
    with pytest.raises(DamagedError, match="which leads elsewhere"):
        check_serving(store, settings, hostile, window)
    with pytest.raises(DamagedError, match="which leads elsewhere"):
        publish_serving(store, 1, hostile)
    assert set(tmp_path.rglob("*outside*")) == before


def test_damaged_manifest_is_named(copied: Copied, tmp_path: Path) -> None:
    store, _, of = copied
    (tmp_path / "store" / "models" / of(D)[1] / "manifest.json").write_text("[")
    with pytest.raises(DamagedError, match=r"manifest\.json is damaged: expected a JSON object \("):
        load_version(store, of(D)[1])
    assert len(model_rows(store)) == 2
    (tmp_path / "store" / "models" / of(D)[1] / "manifest.json").write_text('{"window": "x"}')
    with pytest.raises(DamagedError, match=r"manifest\.json is damaged: expected a JSON object \(without a checksum\)"):
        load_version(store, of(D)[1])


def test_reason_that_is_blank_is_refused_before_anything_is_done(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    with pytest.raises(ReasonError, match=r"^A forced promotion needs a reason, .* found none\. "):
        promote(store, settings, *of(D), run="x", force=" ")
    with pytest.raises(ReasonError, match="forced promotion needs a reason"):
        Workspace(settings, store).retrain(D, Wish("force", ""))
    assert PromotionLog(store).entries() == []


def test_step_that_is_repeated_tells_the_champion_of_now_and_promotes_nothing_twice(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    workspace = Workspace(settings, store)
    (older, old), (newer, new) = of(D - timedelta(days=1)), of(D)

    def announced(window: Window, name: str, run: str | None = None) -> tuple[object, object]:
        found = workspace.promote_if_better(window.day, window.fingerprint, name, Wish(actor=run))
        return found.promoted, found.champion

    assert announced(older, old) == (True, old)
    assert announced(older, old) == (False, old)
    assert announced(newer, new, run="scheduled") == (True, new)
    assert announced(newer, new, run="scheduled") == (True, new), "another attempt of the same run tells the same"
    assert announced(newer, new, run="by hand") == (False, new)
    commit_rollback(store, settings, old, reason="worse", actor="x")
    assert announced(newer, new, run="scheduled") == (False, old)
    assert PromotionLog(store).entries()[0].actor == current_user()
    (row,) = run_rows(store, [D])
    assert row.is_retired
    assert "Promoted, retired" in " ".join(run_table([row]).split())


def test_scores_by_length_of_the_session_are_in_the_log_and_on_the_page(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    for day in (D - timedelta(days=1), D):
        promotion = promote(store, settings, *of(day), run="x", force="to have two")
    assert {
        name: {length: found["n_events"] for length, found in kept.items()} for name, kept in promotion.by_length.items()
    } == {
        promotion.version: {"3-5": 120},
        promotion.opponent: {"3-5": 120},
    }
    page = store.get(publish_page(store, settings, D).key).decode()
    recall = promotion.by_length[promotion.version]["3-5"]["recall_at_20"]
    assert f'<th scope="row">3-5</th><td>120</td><td>{recall:.4f}</td>' in page


def test_page_shows_the_clicks_and_says_when_they_were_replaced(
    copied: Copied, inject: Inject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    window, name = of(D)
    inject(d06=0.4)
    promote(store, settings, window, name, run="1")
    page = store.get(publish_page(store, settings, D).key).decode()
    assert page.count("<svg") == 2 + 3 + 7  # scores, the learning curve, clicks
    assert "<dt>99.9% of sessions have at most</dt><dd>4 clicks</dd>" in page
    assert "Stale" not in page
    assert "before cleansing: " not in page

    write_parquet(tmp_path / "in" / "late.parquet", [*ring(D), (1, 1, at(D, 80_000))])
    ingest(store, settings, days=[D])
    validate_pending(store, settings)
    page = store.get(publish_page(store, settings, D).key).decode()
    assert f"Stale: the clicks of {D} have changed since this version was trained." in page
    assert "<dt>clicks</dt><dd>800</dd>" in page  # still those that the model was trained on

    rules = window.inputs.window.model_copy(update={"longest": 3, "longest_action": "cut"})
    inputs = window.inputs.model_copy(update={"window": rules})
    cleansing = window.cleansing.model_copy(update={"too_long": TooLong(sessions=1200, clicks_lost=3400)})
    limited = window.model_copy(update={"inputs": inputs, "cleansing": cleansing})
    monkeypatch.setattr("sbr_tasks.report.stored.window_record", lambda *_: limited)
    page = store.get(publish_page(store, settings, D).key).decode()
    assert "1,200 sessions of more than 3 clicks were cut to their first 3 clicks: 3,400 clicks removed." in page


def test_page_of_a_run_whose_clicks_are_gone_is_written_all_the_same(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d06=0.4)
    promote(store, settings, *of(D), run="1")
    for folder in ("clicks", "profiles"):
        shutil.rmtree(tmp_path / "store" / folder)
    page = store.get(publish_page(store, settings, D).key).decode()
    assert "The clicks of this window were removed, so there is no data profile." in page


def alias_of(store: Store, settings: Settings) -> str | None:
    return MlflowProjection(store, settings).champion()


def test_pinned_champion_stays_until_it_is_unpinned(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    pinned = commit_pin(store, reason=" the sale. ", actor="ann@shop")
    assert isinstance(pinned, Pin)
    assert (pinned.number, pinned.version, pinned.reason) == (2, before[1], "the sale.")
    would = promote(store, settings, *after, run="2")
    assert (would.outcome, would.champion) == (Outcome.WOULD_PROMOTE, before[1])
    assert would.reasons[-1] == ("The champion stays: it is pinned (log entry 2, ann@shop: the sale).")
    assert alias_of(store, settings) == before[1]
    assert headline(would).endswith("but the champion stays because it is pinned.")
    ended = commit_unpin(store, actor="bob@shop")
    assert (ended.number, ended.is_on) == (4, False)
    assert promote(store, settings, *after, run="3") == would, "a step that was decided returns its decision"
    assert promote(store, settings, *after, run="4", force="unpinned").champion == after[1]
    assert [row.outcome for row in log_rows(store)] == ["first_champion", "pin", "would_promote", "unpin", "forced"]
    assert [(row.before, row.champion) for row in log_rows(store)][1] == (before[1], before[1])
    assert verify_store(store).faults == ()


def test_decision_that_a_pin_overtakes_is_made_again(copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *of(D - timedelta(days=1)), run="1")
    create, pinned = NumberedLog.create, []

    def create_after_a_pin(self: NumberedLog, number: int, body: Mapping[str, Any]) -> None:
        if not pinned and body["kind"] == "decision":
            pinned.append(body["outcome"])
            commit_pin(store, reason="the sale", actor="ann")
        create(self, number, body)

    monkeypatch.setattr(NumberedLog, "create", create_after_a_pin)
    assert promote(store, settings, *of(D), run="2").outcome is Outcome.WOULD_PROMOTE
    assert pinned == [Outcome.PROMOTE]


def test_pin_is_refused_without_a_champion_a_reason_or_where_it_is_pinned(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    with pytest.raises(RegistryError, match="There is no champion to pin yet"):
        commit_pin(store, reason="the sale", actor="ann")
    promote(store, settings, *of(D - timedelta(days=1)), run="1")
    with pytest.raises(ReasonError, match="A pin needs a reason"):
        commit_pin(store, reason=" ", actor="ann")
    with pytest.raises(RegistryError, match="isn't pinned, so there is nothing to unpin"):
        commit_unpin(store, actor="ann")
    first = commit_pin(store, reason="the sale", actor="ann")
    assert commit_pin(store, reason="the sale", actor="bob") == first
    with pytest.raises(RegistryError, match=r"is already pinned \(log entry 2, ann: the sale\)\. Run `sbr unpin` first"):
        commit_pin(store, reason="Christmas", actor="bob")
    assert len(PromotionLog(store).entries()) == 2


def test_rollback_that_pins_holds_the_earlier_champion(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    promote(store, settings, *after, run="2")
    done = commit_rollback(store, settings, before[1], reason="sold out", actor="ann", pin=True)
    assert commit_rollback(store, settings, before[1], reason="sold out", actor="ann", pin=True) == done
    seed = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": 7})})
    better = train_version(store, seed, after[0])
    assert promote(store, settings, after[0], better.name, run="3").outcome is Outcome.WOULD_PROMOTE
    assert PromotionLog(store).state().champion == before[1]
    commit_unpin(store, actor="ann", reason="restocked")
    assert log_rows(store)[-1].reasons == ("restocked",)


def test_pin_outlasts_a_rollback_and_names_the_champion_of_now(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    promote(store, settings, *after, run="2")
    pinned = commit_pin(store, reason="the sale", actor="ann")
    commit_rollback(store, settings, before[1], reason="sold out", actor="bob")
    row = pin_row(store)
    assert row is not None
    assert (row.entry, row.version, row.actor) == (pinned.number, before[1], "ann")
    again = Workspace(settings, store).pin("the sale")
    assert (again.model_version, again.log_entry) == (before[1], pinned.number)
    commit_unpin(store, actor="ann")
    assert pin_row(store) is None


def test_pin_is_shown_by_the_commands(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *of(D - timedelta(days=1)), run="1")
    promote(store, settings, *of(D), run="2")

    def sbr(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--set", f"store={store.url}"])
        assert done.exit_code == 0, done.output
        return done.stdout

    older, newer = of(D - timedelta(days=1))[1], of(D)[1]
    assert "was pinned at" not in sbr("models")
    assert json.loads(sbr("pin", "--reason", "the sale", "--json"))["model_version"] == newer
    assert f"{newer}  pin  ({newer} -> {newer}, " in sbr("log")
    assert "champion, pinned" in sbr("models") and f"{newer} was pinned at" in sbr("models")
    listed = json.loads(sbr("models", "--json"))
    assert listed["pin"]["reasons"] == ["the sale"]
    assert {row["version"]: row["pinned"] for row in listed["models"]} == {older: False, newer: True}
    assert json.loads(sbr("unpin", "--json"))["pinned"] is False
    assert "unpin" in sbr("log")
    assert "`sbr pin --reason ...` keeps it until `sbr unpin`" in sbr("rollback", "--to", older, "--reason", "worse")
    assert json.loads(sbr("models", "--json"))["pin"] is None


def test_rollback_command_can_pin(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *of(D - timedelta(days=1)), run="1")
    promote(store, settings, *of(D), run="2")
    back = ("rollback", "--to", of(D - timedelta(days=1))[1], "--reason", "worse", "--pin", "--set", f"store={store.url}")
    done = CliRunner().invoke(app, back)
    assert "pinned: True" in done.stdout and "sbr pin" not in done.stdout
    assert PromotionLog(store).state().pin is not None
    assert log_rows(store)[-1].reasons == ("worse", "The champion was pinned.")
