"""Many processes promote at once: each decision is against the champion of that moment, and none is lost or doubled."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.registry.log import Decision, Entry, PromotionLog
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.scoring import BASELINES
from sbr_tasks.registry.serving import served
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.store import Store

from . import promotion_worker
from .history import assert_explained, assert_projections_follow
from .promotion_worker import FIRST_DAY, differences, metrics_of, write_version


@dataclass(frozen=True)
class Crowd:
    """Processes that decide at the same time, and how often they do."""

    pool: ProcessPoolExecutor
    processes: int
    rounds: int


@pytest.fixture(
    scope="module", params=[(4, 3), pytest.param((8, 20), marks=pytest.mark.long)], ids=lambda size: "x".join(map(str, size))
)
def crowd(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    processes, rounds = request.param
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, initializer=promotion_worker.start, initargs=(barrier,)) as pool:
        yield Crowd(pool, processes, rounds)
        barrier.abort()  # nobody waits for a process that failed


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    mlflow = {"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}", "artifact_root": str(tmp_path / "artifacts")}
    place: dict[str, Any] = {"store": str(tmp_path / "store")}
    if request.param == "s3":
        options: dict[str, str] = request.getfixturevalue("s3_options")
        place = {"store": f"s3://clicks/{tmp_path.name}", "store_options": options}
    return load_settings({**place, "mlflow": mlflow})


def test_promotions_at_once_are_each_decided_against_the_champion_that_stood(crowd: Crowd, settings: Settings) -> None:
    store, draw = Store.open(settings), random.Random(3)
    decided: set[str] = set()
    for turn in range(crowd.rounds):
        days = [FIRST_DAY + timedelta(days=turn + draw.randrange(4)) for _ in range(crowd.processes)]
        names = [f"{day}-{turn:02d}{process:06d}" for process, day in enumerate(days)]
        for name in names:
            write_version(store, name)
        list(crowd.pool.map(promotion_worker.decide, [settings] * crowd.processes, names, timeout=promotion_worker.WAIT_S))
        entries = PromotionLog(store).entries()
        assert {entry.version for entry in entries[len(decided) :]} == set(names)
        decided |= set(names)
        assert len(entries) == len(decided)
        assert_projections_follow(store, settings)
    assert_explained(entries, settings)
    for entry in entries:
        _assert_scores_are_the_injected_ones(entry)
    number, version = served(store) or (0, "")
    assert store.get(f"serving/gru4rec/{number}/saved_model.pb").decode() == f"graph of {version}"
    assert len({entry.champion for entry in entries} - {None}) > 1
    shown = MlflowProjection(store, settings)._client.search_model_versions("name = 'gru4rec'", max_results=1000)
    assert sorted(version.tags["sbr.version"] for version in shown) == sorted(decided)
    assert {version.tags["sbr.version"]: version.tags["log_entry"] for version in shown} == {
        entry.version: str(entry.number) for entry in entries
    }


def _assert_scores_are_the_injected_ones(entry: Entry) -> None:
    assert isinstance(entry, Decision)
    name, opponent = entry.version, entry.opponent
    new, old = metrics_of(name, name), metrics_of(opponent, name) if opponent else None
    assert (entry.challenger_metrics, entry.opponent_metrics) == (new, old)
    assert entry.baselines == {baseline: metrics_of(baseline, name) for baseline in BASELINES}
    assert entry.differences == ({metric: found.as_dict() for metric, found in differences(new, old).items()} if old else {})
    assert entry.actor == f"run of {name}"
