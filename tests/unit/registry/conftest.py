"""A store with the versions of two days, trained for real but tiny, for the tests of the registry."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.registry import promotion as promotion_module
from sbr_tasks.registry.gate import COMPARED
from sbr_tasks.registry.promotion import commit_rollback
from sbr_tasks.registry.scoring import BASELINES, Score
from sbr_tasks.registry.serving import served
from sbr_tasks.registry.versions import train_version
from sbr_tasks.report.profile.build import profile_window
from sbr_tasks.settings import Settings
from sbr_tasks.store import FileRecord, Store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.record import Window
from tests.unit.days import write_parquet
from tests.unit.registry.two_days import (
    BEFORE,
    Copied,
    D,
    Inject,
    Promoted,
    Trained,
    promote,
    ring,
    settings_of,
)


@pytest.fixture(scope="session")
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
    for day in (BEFORE, D):
        window = window_for_day(store, settings, day)
        found[day] = (window, train_version(store, settings, window))
    profile_window(store, settings, D)  # takes seconds, once for all pages
    return folder, found


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Copied:
    """The trained store, for one test to write to."""
    folder, found = trained
    shutil.copytree(folder / "store", tmp_path / "store")
    settings = settings_of(tmp_path)
    return Store.open(settings), settings, lambda day: (found[day][0], found[day][1].name)


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Inject:
    """Sets what the version of each day scores, so that outcomes don't hang on what a tiny model learns."""

    def scores(**recalls: float) -> None:
        def score(_store: Store, _settings: Settings, _window: Window, names: list[str]) -> dict[str, Score]:
            values = {name: recalls[f"d{name[8:10]}"] for name in names} | dict.fromkeys(BASELINES, 0.1)
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


@pytest.fixture
def two_promotions(copied: Copied, inject: Inject) -> Promoted:
    """A store in which the version of each day was promoted, and the name of the older one."""
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    for day in (BEFORE, D):
        promote(store, settings, *of(day), run="x")
    return store, settings, of(BEFORE)[1]


@pytest.fixture
def stopped_rollback(two_promotions: Promoted, monkeypatch: pytest.MonkeyPatch) -> Promoted:
    """A store in which a rollback to the older version stopped after its log entry, and the name of that version."""
    store, settings, old = two_promotions
    with monkeypatch.context() as stopped:
        stopped.setattr(promotion_module, "project", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            commit_rollback(store, settings, old, reason="worse", actor="x")
    assert served(store) != (3, old)
    return store, settings, old
