"""Kills one service after another in the middle of a run: each run ends as if nobody had, and nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from local_airflow.backfill import Failure, task_log

from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.versions import load_version
from sbr_tasks.store import Store
from tests.integration.conftest import wait_for
from tests.integration.history import assert_explained, assert_projections_follow, store_of

from .running import DAG, RunningStack

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("daily_run")]
TRAIN, PROMOTE = "train_gru4rec", "promote_if_better"


def wait_until_running(running: RunningStack, run_id: str, task: str) -> None:
    wait_for(lambda: running.tasks(run_id)[task]["state"] == "running")


def wait_for_a_checkpoint(running: RunningStack) -> None:
    folder = running.stack.volume("store") / "checkpoints"
    wait_for(lambda: list(folder.glob("*.npz")), every_s=0.01)


def assert_as_if_undisturbed(running: RunningStack, run_id: str, day: date, retrain: Callable[[date], Path]) -> None:
    """The run succeeded, with the weights of an undisturbed one and one decision; MLflow and the serving copy follow it."""
    assert running.finished(run_id)["state"] == "success"
    settings = running.settings()
    store, plain = Store.open(settings), store_of(retrain(day))
    entries = PromotionLog(store).entries()
    [decision] = [entry for entry in entries if getattr(entry, "as_of", None) == day]
    [undisturbed] = PromotionLog(plain).entries()
    assert decision.version == undisturbed.version
    assert decision.challenger_metrics == undisturbed.challenger_metrics
    files = [load_version(where, decision.version).manifest["files"] for where in (store, plain)]
    assert files[0] == files[1]
    assert_explained(entries, settings)
    assert_projections_follow(store, settings)
    assert running.leaks() == []  # nor did what was said of the fault hold a secret


def test_a_worker_killed_in_training_is_replaced_and_training_goes_on(
    running: RunningStack, without_airflow: Callable[[date], Path]
) -> None:
    day = date(2014, 9, 22)
    run_id = running.retrain("op", day)
    wait_for_a_checkpoint(running)
    running.stack.kill("training-worker")
    assert_as_if_undisturbed(running, run_id, day, without_airflow)
    assert running.tasks(run_id)[TRAIN]["try_number"] == 2
    log = task_log(running.api("admin"), Failure(TRAIN, f"dags/{DAG}/dagRuns/{run_id}/taskInstances/{TRAIN}/logs/2"))
    assert "Going on after epoch" in log


def test_a_killed_scheduler_is_replaced_and_its_tasks_are_not_done_twice(
    running: RunningStack, without_airflow: Callable[[date], Path]
) -> None:
    day = date(2014, 9, 23)
    run_id = running.retrain("op", day)
    wait_until_running(running, run_id, TRAIN)
    running.stack.kill("scheduler")
    assert_as_if_undisturbed(running, run_id, day, without_airflow)
    assert running.tasks(run_id)[TRAIN]["try_number"] == 1


@pytest.mark.parametrize(("service", "day"), [("redis", date(2014, 9, 24)), ("postgres", date(2014, 9, 25))])
def test_nothing_is_lost_when_what_all_depend_on_is_killed(
    running: RunningStack, without_airflow: Callable[[date], Path], service: str, day: date
) -> None:
    run_id = running.retrain("op", day)
    wait_until_running(running, run_id, TRAIN)
    running.stack.kill(service)
    assert_as_if_undisturbed(running, run_id, day, without_airflow)


def test_a_promotion_waits_for_mlflow(running: RunningStack, without_airflow: Callable[[date], Path]) -> None:
    day = date(2014, 9, 30)
    run_id = running.retrain("op", day)
    wait_until_running(running, run_id, "evaluate_models")
    running.stack.kill("mlflow", keep_down=True)
    wait_until_running(running, run_id, PROMOTE)
    wait_for(
        lambda: any(getattr(entry, "as_of", None) == day for entry in PromotionLog(Store.open(running.settings())).entries())
    )
    running.stack.launch("mlflow")
    assert_as_if_undisturbed(running, run_id, day, without_airflow)
