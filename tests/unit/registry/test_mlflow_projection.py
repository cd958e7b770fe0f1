"""MLflow shows what the store holds, after whatever happened to it."""

from __future__ import annotations

import errno
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import TrackingError
from sbr_tasks.registry.listing import model_rows
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.mlflow_projection import PAGE, MlflowProjection, in_words
from sbr_tasks.registry.promotion import Repaired, commit_rollback, project, repair_projections
from sbr_tasks.registry.serving import served
from sbr_tasks.registry.versions import load_version, train_version
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.wish import Wish
from sbr_tasks.workspace import Workspace
from tests.mlflow_view import all_shown
from tests.unit.days import write_parquet
from tests.unit.registry.two_days import (
    BEFORE,
    NO_DATABASE,
    Copied,
    D,
    Inject,
    Promoted,
    alias_of,
    promote,
    ring,
    with_mlflow,
    with_training,
)

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("two_promotions")
def test_lost_mlflow_is_made_again_from_the_store(copied: Copied, tmp_path: Path) -> None:
    store, settings, of = copied
    lost = {"tracking_uri": f"sqlite:///{tmp_path}/new.db", "artifact_root": str(tmp_path / "new")}
    settings = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update=lost)})
    found = Repaired(versions=2, log_entries=2, champion=of(D)[1], faults=())
    assert repair_projections(store, settings) == found
    assert repair_projections(store, settings) == found
    assert alias_of(store, settings) == of(D)[1]
    client = MlflowProjection(store, settings)._client
    versions = client.search_model_versions("name = 'gru4rec'")
    assert sorted(v.tags["sbr.version"] for v in versions) == sorted(of(d)[1] for d in (BEFORE, D))
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
    seeds = [with_training(settings, seed=seed) for seed in (7, 8)]
    undecided, forced = (train_version(store, other, window) for other in seeds)
    older = of(BEFORE)
    trained = [load_version(store, name) for name in (older[1], newer, undecided.name, forced.name)]
    for version in sorted(trained, key=lambda version: (version.trained_at, version.name)):
        MlflowProjection(store, settings).show_version(version)  # as the runs do, right after a training
    promote(store, settings, window, newer, run="2")
    promote(store, settings, *older, run="1")  # an older day is decided on after a newer one
    promote(store, settings, window, forced.name, run="3", force="to try it")
    workspace.write_report(D, window.fingerprint, forced.name)
    commit_rollback(store, settings, newer, reason="it was wrong", actor="me@here")
    for day, name in ((BEFORE, older[1]), (D, newer)):
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
    other = with_training(settings, seed=7)
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


@pytest.mark.parametrize("deleted", ["champion", "other"])
@pytest.mark.parametrize("by", ["the next decision", "the training repeated"])
def test_version_deleted_in_mlflow_is_shown_again_whole(copied: Copied, inject: Inject, deleted: str, by: str) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    window, newer = of(D)
    older = of(BEFORE)
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
@pytest.mark.usefixtures("two_promotions")
def test_what_is_deleted_in_mlflow_is_there_again_after_the_next_run(copied: Copied, what: str) -> None:
    store, settings, of = copied
    older, newer = of(BEFORE), of(D)
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


def test_lost_version_is_left_out_of_mlflow_and_named_by_repair(two_promotions: Promoted, tmp_path: Path) -> None:
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


def test_mlflow_that_never_saw_the_lost_champion_has_no_alias(two_promotions: Promoted, tmp_path: Path) -> None:
    store, settings, _ = two_promotions
    shutil.rmtree(tmp_path / "store" / "models" / str(PromotionLog(store).state().champion))
    lost = with_mlflow(settings, tmp_path / "new.db")
    assert len(repair_projections(store, lost).faults) == 1
    assert alias_of(store, lost) is None


def test_what_somebody_deleted_or_changed_in_mlflow_is_made_again(two_promotions: Promoted) -> None:
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


def test_shop_gets_the_champion_even_if_mlflow_is_out_of_reach(two_promotions: Promoted, tmp_path: Path) -> None:
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
