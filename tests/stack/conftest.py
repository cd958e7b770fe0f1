"""One production stack for all tests of this folder: it takes a minute or two to start."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from local_airflow.api import Api, ApiError  # noqa: E402
from local_airflow.backfill import UNFINISHED  # noqa: E402
from local_airflow.server import free_port  # noqa: E402
from stack_secrets import new_secrets  # noqa: E402

from sbr_tasks.settings import Settings, load_settings  # noqa: E402
from tests.integration.conftest import wait_for  # noqa: E402
from tests.integration.shops import demo_settings, new_shop, run_days  # noqa: E402

from .runner import Stack, missing_programs  # noqa: E402

DAG = "daily_retrain"
DAY = date(2014, 9, 20)
DEMO_WORDS = ["demo-clicks", "--days", "20", "--sessions-per-day", "300"]

EXTRA = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # past clicks: no runs by the clock
}

Json = dict[str, Any]


@dataclass(frozen=True)
class RunningStack:
    """The stack, its secrets, and its users, each with the role of its name."""

    stack: Stack
    url: str
    secrets: dict[str, str]
    passwords: Path
    clicks: Path
    store: dict[str, Any]

    def settings(self) -> Settings:
        """The settings of the stack's tasks, as they are from outside."""
        tracking = f"http://127.0.0.1:{self.stack.port('mlflow', 5000)}"
        mlflow = {"tracking_uri": tracking, "artifact_root": "mlflow-artifacts:///sbr"}
        return load_settings({**self.store, "mlflow": mlflow}, cwd=self.stack.folder / "settings")

    def api(self, user: str) -> Api:
        """Airflow's API, for a user who logs in."""
        return Api(self.url, self.passwords, user)

    def status(self, path: str, token: str | None = None) -> int:
        """The HTTP status of GET `path`, without following where it leads."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
        try:
            with opener.open(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def retrain(self, user: str, day: date) -> str:
        """Triggers the daily run of a day by hand; returns the run's id."""
        body = {"logical_date": None, "conf": {"day": str(day)}}
        return str(self.api(user).post(f"dags/{DAG}/dagRuns", body)["dag_run_id"])

    def finished(self, run_id: str) -> Json:
        """The run, once it is done. Meanwhile the API, or what it needs, may be down."""
        api = self.api("admin")

        def look() -> Json | None:
            try:
                run = api.get(f"dags/{DAG}/dagRuns/{run_id}", attempts=1)
            except ApiError:
                return None
            return run if run["state"] not in UNFINISHED else None

        return dict(wait_for(look))

    def tasks(self, run_id: str) -> dict[str, Json]:
        """The task instances of a run, by task."""
        found = self.api("admin").get(f"dags/{DAG}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """No redirect is followed."""
        del args, kwargs


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The stack as `.env` and two folders describe it; tests that use it are skipped without PostgreSQL, which CI forbids."""
    found = new_stack(tmp_path_factory.mktemp("stack"))
    found.stack.start()
    try:
        for name in ("op", "viewer"):
            create_user(found, name, json.loads(found.passwords.read_text("utf-8"))[name], role=name.title())
        wait_for_the_dag(found)
        yield found
    finally:
        found.stack.stop()


def new_stack(folder: Path, more: Mapping[str, str] | None = None, store: Mapping[str, Any] | None = None) -> RunningStack:
    """A stack that isn't started yet, in an empty folder, with clicks, settings and secrets of its own.

    Args:
        folder: Holds all of it.
        more: What else `.env` holds.
        store: The store and its options as they are from outside, where it isn't the volume.
    """
    if missing := missing_programs():
        pytest.skip(f"no {' and no '.join(missing)} on this machine (install Debian's postgresql, redis-server, curl)")
    clicks = folder / "clicks" / "clicks.dat"
    clicks.parent.mkdir()
    run_sbr(*DEMO_WORDS, "--out", str(clicks))
    settings = folder / "settings" / "sbr.toml"
    settings.parent.mkdir()
    settings.write_text(demo_settings(clicks, "store"), encoding="utf-8")
    planted = {"smtp": secrets.token_urlsafe(24), "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24)}
    made = new_secrets()
    port = free_port()
    variables = made | {
        "AIRFLOW_CONNECTIONS": json.dumps({"smtp_default": f"smtp://shop:{planted['smtp']}@mail.example:587"}),
        "AIRFLOW_PORT": str(port),
        "AIRFLOW_URL": f"http://localhost:{port}",
        "API_SERVER_WORKERS": "1",
        "HEARTBEAT_TIMEOUT_S": "45",
        "AWS_SECRET_ACCESS_KEY": planted["AWS_SECRET_ACCESS_KEY"],
        "CLICKS_FOLDER": str(clicks.parent),
        "SBR_SETTINGS": "/srv/sbr/settings/sbr.toml",
        "SETTINGS_FOLDER": str(settings.parent),
    }
    stack = Stack(folder, variables | dict(more or {}), EXTRA)
    passwords = {"admin": made["AIRFLOW_ADMIN_PASSWORD"]} | {name: secrets.token_urlsafe(16) for name in ("op", "viewer")}
    file = folder / "passwords.json"
    file.write_text(json.dumps(passwords), encoding="utf-8")
    where = dict(store or {"store": str(stack.volume("store"))})
    return RunningStack(stack, f"http://localhost:{stack.port('api-server', 8080)}", made | planted, file, clicks, where)


def wait_for_the_dag(running: RunningStack) -> None:
    """Waits until Airflow has read the daily run."""
    wait_for(lambda: any(dag["dag_id"] == DAG for dag in running.api("admin").get("dags")["dags"]))


@pytest.fixture(scope="package")
def daily_run(running: RunningStack) -> str:
    """The id of a daily run that an operator triggered, and that is done."""
    run_id = running.retrain("op", DAY)
    running.finished(run_id)
    return run_id


@pytest.fixture(scope="package")
def without_airflow(running: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Callable[[date], Path]:
    """Does a day by `sbr retrain` on the same clicks, in a shop of its own."""

    def retrain(day: date) -> Path:
        return run_days(new_shop(tmp_path_factory.mktemp("plain") / "shop", running.clicks), retrain=[day])

    return retrain


def create_user(running: RunningStack, name: str, password: str, *, role: str) -> None:
    """Creates a user as an admin does, by the API of Airflow's user management."""
    api = running.api("admin")
    body = {"username": name, "password": password, "email": f"{name}@localhost", "first_name": name, "last_name": name}
    api.post("/auth/fab/v1/users", body | {"roles": [{"name": role}]})


def run_sbr(*words: str) -> None:
    """Runs `sbr WORDS`, without settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SBR_")}
    done = subprocess.run(
        [sys.executable, "-m", "sbr_tasks.cli", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
