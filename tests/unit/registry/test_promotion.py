"""From a stored window to a champion, with models that are trained for real but tiny."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from sbr_tasks.errors import AlreadyExistsError, RegistryError, StoreError
from sbr_tasks.registry import promotion as promotion_module
from sbr_tasks.registry.gate import Metrics, Outcome
from sbr_tasks.registry.listing import model_rows
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.mlflow_projection import ALIAS, MlflowProjection
from sbr_tasks.registry.promotion import promote_if_better, repair
from sbr_tasks.registry.recommend import recommend
from sbr_tasks.registry.versions import ModelVersion, load_version, train_version, version_files
from sbr_tasks.report.page import write_report
from sbr_tasks.report.runs import run_rows, run_table
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.window.build import Window, build_window
from tests.unit.days import Click, at, parquet_settings, write_parquet

D = date(2020, 6, 6)
N_ITEMS = 12

Trained = tuple[Path, dict[date, tuple[Window, ModelVersion]]]
Copied = tuple[Store, Settings, Callable[[date], tuple[Window, str]]]


def ring(day: date) -> list[Click]:
    """Sessions that walk around a ring of items."""
    return [(int(f"{day:%m%d}{s:02d}"), (s + step) % N_ITEMS, at(day, 100 * s + step)) for s in range(40) for step in range(4)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A store with the windows and versions of two days, nothing decided yet."""
    from sbr_tasks.clicks.ingest import ingest
    from sbr_tasks.validation.checkpoint import validate_pending

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
        window = build_window(store, settings, day)
        found[day] = (window, train_version(store, settings, window))
    return folder, found


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
    )


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Copied:
    """The trained store, for one test to write to."""
    folder, found = trained
    shutil.copytree(folder / "store", tmp_path / "store")
    settings = settings_of(tmp_path)
    return Store.open(settings), settings, lambda day: (found[day][0], found[day][1].name)


def fixed_scores(**recalls: float) -> Callable[..., dict[str, Metrics]]:
    """Scores by version day, so that outcomes don't hang on what a tiny model learns."""

    def score(_store: Store, _settings: Settings, _window: Window, names: list[str]) -> dict[str, Metrics]:
        scores = {name: recalls[f"d{name[8:10]}"] for name in names} | {"popularity": 0.1, "markov": 0.1}
        return {name: {"recall_at_20": r, "mrr_at_20": r, "n_events": 9} for name, r in scores.items()}

    return score


def test_same_inputs_give_the_same_version_without_training_again(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, found = trained
    window, version = found[D]
    monkeypatch.setattr("sbr_tasks.gru4rec.training.train", None)
    assert train_version(Store(str(folder / "store")), settings_of(folder), window) == version


def test_version_explains_itself(trained: Trained) -> None:
    _, found = trained
    window, version = found[D]
    manifest = version.manifest
    assert manifest["lineage"]["revisions"] == window.manifest["inputs"]["revisions"]
    assert manifest["inputs"]["model"]["layers"] == [8]
    assert manifest["inputs"]["training"]["seed"] == 42
    assert [epoch["number"] for epoch in manifest["curve"]] == [1, 2]
    assert set(manifest["lineage"]["packages"]) >= {"tensorflow", "numpy", "sbr-tasks"}


def test_challenger_is_promoted_recommends_and_is_shown_everywhere(
    copied: Copied,
) -> None:
    store, settings, of = copied
    window, name = of(D)
    promotion = promote_if_better(store, settings, window, name, run="test")
    assert promotion.outcome in (Outcome.BOOTSTRAP, Outcome.BELOW_BASELINE)
    assert promotion.challenger_metrics["n_events"] == 120
    again = promote_if_better(store, settings, window, name, run="another")
    assert again == promotion
    page = store.get(write_report(store, settings, D)).decode()
    assert name in page
    (row,) = run_rows(store, [D])
    assert (row.clicks, row.window_clicks, row.decision) == (160, 800, promotion.outcome.value)
    assert name[:10] in run_table([row])
    (shown,) = [row for row in model_rows(store) if row["version"] == name]
    assert shown["outcome"] == promotion.outcome.value


def test_champion_is_replaced_only_by_a_better_version(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    monkeypatch.setattr(promotion_module, "score_models", fixed_scores(d05=0.5, d06=0.4))
    assert promote_if_better(store, settings, *before, run="1").outcome is Outcome.BOOTSTRAP
    kept = promote_if_better(store, settings, *after, run="2")
    assert (kept.outcome, kept.opponent, kept.champion) == (Outcome.KEEP_CHAMPION, before[1], before[1])
    assert alias_of(store, settings) == before[1]
    found = recommend(store, ["3", "999"], k=5)
    assert (found.model_version, found.unknown, found.is_fallback, len(found.items)) == (before[1], ["999"], False, 5)
    assert set(found.items) <= set(range(N_ITEMS))


def test_old_day_never_replaces_a_newer_champion(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    monkeypatch.setattr(promotion_module, "score_models", fixed_scores(d05=0.9, d06=0.4))
    promote_if_better(store, settings, *after, run="1")
    old = promote_if_better(store, settings, *before, run="2")
    assert (old.outcome, old.opponent, old.champion) == (Outcome.WOULD_PROMOTE, None, after[1])
    assert alias_of(store, settings) == after[1]


def test_run_that_lost_the_race_compares_again_with_the_new_champion(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    store, settings, of = copied
    before, after = of(D - timedelta(days=1)), of(D)
    monkeypatch.setattr(promotion_module, "score_models", fixed_scores(d05=0.5, d06=0.4))
    create = PromotionLog.create
    raced = []

    def create_after_another_run(self: PromotionLog, promotion: object) -> None:
        if not raced:
            raced.append(promotion)
            promote_if_better(store, settings, *before, run="the other")
        create(self, promotion)  # type: ignore[arg-type]

    monkeypatch.setattr(PromotionLog, "create", create_after_another_run)
    lost = promote_if_better(store, settings, *after, run="this")
    assert raced[0].outcome is Outcome.BOOTSTRAP  # type: ignore[attr-defined]
    assert (lost.number, lost.outcome, lost.champion) == (2, Outcome.KEEP_CHAMPION, before[1])
    with pytest.raises(AlreadyExistsError):
        create(PromotionLog(store), lost)


def test_lost_mlflow_is_made_again_from_the_store(
    copied: Copied,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "score_models", fixed_scores(d05=0.5, d06=0.6))
    promote_if_better(store, settings, *of(D - timedelta(days=1)), run="1")
    promote_if_better(store, settings, *of(D), run="2")
    lost = {"tracking_uri": f"sqlite:///{tmp_path}/new.db", "artifact_root": str(tmp_path / "new")}
    settings = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update=lost)})
    assert repair(store, settings) == {"versions": 2, "decisions": 2}
    assert repair(store, settings) == {"versions": 2, "decisions": 2}
    assert alias_of(store, settings) == of(D)[1]
    client = MlflowProjection(store, settings)._client
    versions = client.search_model_versions("name = 'gru4rec'")
    assert sorted(v.tags["sbr.version"] for v in versions) == sorted(of(d)[1] for d in (D - timedelta(days=1), D))
    run = client.get_run(next(v.run_id for v in versions if v.tags["sbr.version"] == of(D)[1]))
    assert run.data.params["layers"] == "[8]"
    assert run.data.metrics["test.recall_at_20"] == 0.6
    assert run.data.metrics["test_champion.recall_at_20"] == 0.5
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2


def test_session_of_unknown_items_gets_the_popular_ones(
    copied: Copied,
) -> None:
    store, _, of = copied
    found = recommend(store, ["998"], k=3, name=of(D)[1])
    assert found.is_fallback
    assert found.scores == sorted(found.scores, reverse=True)


def test_recommend_without_champion_or_with_a_wrong_id_says_so(
    copied: Copied,
) -> None:
    store, _, of = copied
    with pytest.raises(RegistryError) as caught:
        recommend(store, ["1"], k=3)
    assert str(caught.value) == "There is no champion yet. Train one with `sbr retrain --as-of DAY`."
    with pytest.raises(RegistryError) as caught:
        recommend(store, ["sku"], k=3, name=of(D)[1])
    assert str(caught.value) == "Expected integer item ids, such as --session 1,2,3; found 'sku'."


def test_unknown_version_and_damaged_files_are_named(
    copied: Copied,
) -> None:
    store, _, of = copied
    with pytest.raises(RegistryError, match=r"There is no model version 'v9'\. The newest ones are: 2020-06-05-"):
        load_version(store, "v9")
    version = load_version(store, of(D)[1])
    store.publish(next(iter(version.manifest["files"].values()))["key"], b"broken")
    with pytest.raises(StoreError, match="is damaged"):
        version_files(store, version)


def alias_of(store: Store, settings: Settings) -> str:
    client = MlflowProjection(store, settings)._client
    return str(client.get_model_version_by_alias("gru4rec", ALIAS).tags["sbr.version"])
