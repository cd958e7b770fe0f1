"""The stack starts from nothing and does a day: Celery workers on PostgreSQL and Redis, MLflow behind a server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.store import Store
from tests.integration.history import contents_of, entries_of
from tools.local_stack.running import RunningStack

from .conftest import DAY


def test_all_services_are_healthy(running: RunningStack) -> None:
    stack = running.stack
    checked = {name for name, service in stack.services.items() if service.check}
    assert checked == set(stack.services) - {"init"}
    assert [name for name in sorted(checked) if not stack.is_healthy(name)] == []
    health = running.api("admin").get("monitor/health", login=False)
    assert {part: state["status"] for part, state in health.items()} == dict.fromkeys(
        ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
    )


def test_every_task_succeeds_and_training_has_a_worker_of_its_own(running: RunningStack, daily_run: str) -> None:
    tasks = running.tasks(daily_run)
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(tasks, "success")
    assert {name: task["queue"] for name, task in tasks.items() if task["queue"] != "default"} == {"train_gru4rec": "training"}


def test_the_champion_is_the_one_that_the_commands_give_without_airflow(
    running: RunningStack, daily_run: str, without_airflow: Callable[[date], Path]
) -> None:
    del daily_run
    [first, *_] = PromotionLog(Store.open(running.settings())).entries()
    [undisturbed, *_] = entries_of(without_airflow(DAY))
    assert contents_of([first]) == contents_of([undisturbed])
    assert first.champion
