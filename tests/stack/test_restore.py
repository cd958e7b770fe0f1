"""A stack whose store is a bucket does a day, is backed up, lost, restored and cleared, as docs/store.md says."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.registry.listing import log_rows, model_rows
from sbr_tasks.registry.recommend import recommend_items
from sbr_tasks.report.runs import run_rows
from sbr_tasks.store import Store
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.upkeep.copy import copy_objects
from tests.integration.history import assert_projections_follow
from tests.mlflow_view import all_shown
from tools.local_stack.runner import Stack
from tools.local_stack.running import DAG, EXTRA, RunningStack, create_user, wait_for_the_dag

from .conftest import DAY, new_stack

pytestmark = pytest.mark.long
DATABASES, VOLUMES = ("airflow", "mlflow"), ("mlflow", "logs")


@pytest.fixture
def in_a_bucket(tmp_path: Path, s3_options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningStack]:
    """A stack on which nothing was done yet; its store is a bucket, by the variables of `.env` alone."""
    options = {name: value for name, value in s3_options.items() if "key" not in name}
    # The server takes any keys.
    keys = {name: secrets.token_hex(20) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    place = {"store": "s3://clicks/stack", "store_options": options}
    more = {"SBR_STORE": place["store"], "SBR_STORE_OPTIONS": json.dumps(options), **keys}
    found = new_stack(tmp_path, more, place)
    found = replace(found, secrets=found.secrets | keys)
    found.stack.start()
    yield found
    found.stack.stop()


def history(running: RunningStack, run_id: str) -> dict[str, Any]:
    """What Airflow, MLflow and the store say of what was done."""
    settings, api = running.settings(), running.api("viewer")
    store = Store.open(settings)
    run = api.get(f"dags/{DAG}/dagRuns/{run_id}")
    tasks = {
        name: {key: task[key] for key in ("state", "try_number", "start_date", "end_date", "hostname")}
        for name, task in running.tasks(run_id).items()
    }
    return {
        "run": {key: run[key] for key in ("state", "conf", "start_date", "end_date", "run_type")},
        "tasks": tasks,
        "log of the training": [line for line in running.log_of(run_id, "train_gru4rec", 1).splitlines() if "Done: " in line],
        "pools": {pool["name"]: pool["slots"] for pool in running.api("admin").get("pools")["pools"]},
        "mlflow": all_shown(store, settings),
        "store": history_of_the_store(running),
    }


def history_of_the_store(running: RunningStack) -> dict[str, Any]:
    """What the store alone says of what was done."""
    store = Store.open(running.settings())
    return {
        "promotions": log_rows(store),
        "models": model_rows(store),
        "runs": run_rows(store),
        "recommended": recommend_items(store, recommend_items(store, ["0"], k=1).items, k=20),
    }


def test_what_was_lost_is_restored_and_continues_without_airflows_old_runs(in_a_bucket: RunningStack, tmp_path: Path) -> None:
    first, stack = in_a_bucket, in_a_bucket.stack
    create_user(first, "viewer", json.loads(first.passwords.read_text("utf-8"))["viewer"], role="Viewer")
    wait_for_the_dag(first)
    run_id = first.retrain("admin", DAY)
    assert first.finished(run_id)["state"] == "success"
    assert list(stack.volume("store").iterdir()) == []
    before = history(first, run_id)
    assert before["log of the training"]
    assert before["mlflow"]["aliases"]
    assert first.leaks() == []

    backup = tmp_path / "backup"
    backup.mkdir()
    for database in DATABASES:
        dump = stack.postgres_command("pg_dump", "--format=custom", database)
        (backup / f"{database}.dump").write_bytes(dump)
    store = Store.open(first.settings())
    copy_objects(store, Store(str(backup / "store")))
    for volume in VOLUMES:
        shutil.copytree(stack.volume(volume), backup / volume, symlinks=True)

    stack.stop()
    shutil.rmtree(tmp_path / "volumes")
    shutil.rmtree(tmp_path / "containers")
    for key in store.keys(""):
        store.delete(key)

    again = Stack(tmp_path, stack.variables, EXTRA)
    second = replace(first, stack=again)
    try:
        for volume in VOLUMES:
            shutil.copytree(backup / volume, again.volume(volume), symlinks=True)
        copy_objects(Store(str(backup / "store")), store)
        again.start(("postgres", "redis", "init"))
        for database in DATABASES:
            with (backup / f"{database}.dump").open("rb") as dump:
                words = ("--clean", "--if-exists", "--create", "--exit-on-error", "--dbname=postgres")
                again.postgres_command("pg_restore", *words, stdin=dump)
        restored_at = datetime.now(UTC)
        again.start()
        second = replace(second, url=f"http://localhost:{again.port('api-server', 8080)}")
        assert history(second, run_id) == before
        settings = second.settings()
        assert verify_store(Store.open(settings)).faults == ()
        assert_projections_follow(Store.open(settings), settings)

        wait_for_the_dag(second)
        words = ("--clean-before-timestamp", restored_at.isoformat(), "--skip-archive", "--yes", "--error-on-cleanup-failure")
        again.run("scheduler", "airflow", "db", "clean", *words)
        assert second.api("viewer").get(f"dags/{DAG}/dagRuns")["dag_runs"] == []
        assert history_of_the_store(second) == before["store"]

        repeated = second.retrain("admin", DAY)
        assert second.finished(repeated)["state"] == "success"
        assert log_rows(Store.open(settings)) == before["store"]["promotions"]
    finally:
        again.stop()
