"""Kills one service after another in the middle of a run: each run ends as if nobody had, and nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.registry.versions import load_version
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.upkeep.check import verify_store
from tests.integration.history import assert_explained, assert_projections_follow, contents_of, store_of
from tests.mlflow_view import all_shown
from tools.local_stack.running import RunningStack
from tools.wait import wait_for

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("daily_run")]
TRAIN = "train_gru4rec"


def wait_until_running(running: RunningStack, run_id: str, task: str) -> None:
    wait_for(lambda: running.tasks(run_id)[task]["state"] == "running")


def wait_for_a_checkpoint(running: RunningStack) -> None:
    folder = running.stack.volume("store") / "checkpoints"
    wait_for(lambda: list(folder.glob("*.npz")), every_s=0.01)


def assert_as_if_undisturbed(running: RunningStack, run_id: str, day: date, retrain: Callable[[date], Path]) -> None:
    """The run came to what an undisturbed one comes to after the same days: the decision with all that it rests on."""
    decision, undisturbed = decided_on_the_same_model(running, run_id, day, retrain)
    # The number in the log isn't that of the other shop, where the week of the backfill wasn't done.
    assert contents_of([replace(decision, number=undisturbed.number)]) == contents_of([undisturbed])


def decided_on_the_same_model(
    running: RunningStack, run_id: str, day: date, retrain: Callable[[date], Path]
) -> tuple[Decision, Decision]:
    """The one decision of the run on the day and that of `retrain`.

    Asserts that the run succeeded with the same weights and scores, that nothing is lost or doubled in the store or MLflow,
    and that MLflow and the serving copy follow the log.
    """
    assert running.finished(run_id)["state"] == "success"
    settings = running.settings()
    store, plain = Store.open(settings), store_of(retrain(day))
    entries = PromotionLog(store).entries()
    [decision] = decisions_on(day, store)
    [undisturbed] = decisions_on(day, plain)
    assert decision.version == undisturbed.version
    assert decision.challenger_metrics == undisturbed.challenger_metrics
    files = [load_version(where, decision.version).files for where in (store, plain)]
    assert files[0] == files[1]
    assert_explained(entries, settings, store)
    assert_projections_follow(store, settings)
    assert verify_store(store).faults == ()
    assert_each_version_once_in_mlflow(store, settings)
    assert running.leaks() == []  # nor did what was said of the fault hold a secret
    return decision, undisturbed


def decisions_on(day: date, store: Store) -> list[Decision]:
    return [entry for entry in PromotionLog(store).entries() if isinstance(entry, Decision) and entry.day == day]


def assert_each_version_once_in_mlflow(store: Store, settings: Settings) -> None:
    shown = [version["run"] for version in all_shown(store, settings)["versions"].values()]
    assert sorted(shown) == sorted({entry.version for entry in PromotionLog(store).entries()})


def test_a_worker_killed_in_training_is_replaced_and_training_resumes(
    running: RunningStack, without_airflow: Callable[[date], Path]
) -> None:
    day = date(2014, 9, 22)
    run_id = running.retrain("op", day)
    wait_for_a_checkpoint(running)
    running.stack.kill("training-worker")
    assert_as_if_undisturbed(running, run_id, day, without_airflow)
    assert running.tasks(run_id)[TRAIN]["try_number"] == 2
    assert "Resuming from the checkpoint after epoch" in running.log_of(run_id, TRAIN, 2)


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
    running.stack.kill(service, keep_down=True)
    assert not running.stack.is_healthy(service)
    running.stack.launch(service)
    assert_as_if_undisturbed(running, run_id, day, without_airflow)


@pytest.mark.parametrize(("is_down_before", "day"), [(False, date(2014, 9, 28)), (True, date(2014, 9, 30))])
def test_a_promotion_waits_for_mlflow(
    running: RunningStack, without_airflow: Callable[[date], Path], is_down_before: bool, day: date
) -> None:
    store = Store.open(running.settings())
    run_id = running.retrain("op", day)
    if is_down_before:
        wait_until_running(running, run_id, "evaluate_models")
        running.stack.kill("mlflow", keep_down=True)
    [decision] = wait_for(lambda: decisions_on(day, store), every_s=0.01)
    running.stack.kill("mlflow", keep_down=True)
    assert decision.outcome.moves_champion
    assert not running.stack.is_healthy("mlflow")
    running.stack.launch("mlflow")
    assert_as_if_undisturbed(running, run_id, day, without_airflow)
