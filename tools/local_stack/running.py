"""A running production stack: how it is built from settings and clicks, its users, and requests to it."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

from sbr_tasks.settings import Settings, load_settings
from tools.local_airflow.api import Api, ApiError
from tools.local_airflow.backfill import UNFINISHED, task_log
from tools.local_airflow.supervisor import free_port
from tools.stack_secrets import new_secrets
from tools.wait import wait_for

from .leaks import files_below, leaks, rows_of
from .runner import Stack

DAG = "daily_retrain"
USERS = {"nobody": "Public", "viewer": "Viewer", "op": "Op", "admin": "Admin"}
"""The stack's users, with the role of each."""
EXTRA = {
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # no file changes
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # past clicks: no runs by the clock
}

Json = dict[str, Any]


@dataclass(frozen=True)
class RunningStack:
    """The stack, its secrets, and the passwords of its `USERS`."""

    stack: Stack
    url: str
    secrets: dict[str, str]
    passwords: Path
    clicks: Path
    store: dict[str, Any]

    def settings(self) -> Settings:
        """The settings of the stack's tasks, as they are from outside."""
        return load_settings({**self.store, "mlflow": self._mlflow}, cwd=self.stack.folder / "settings")

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the settings' file doesn't say to those outside, as `sbr --set` takes it."""
        return f"store={self.store['store']}", *(f"mlflow.{name}={value}" for name, value in self._mlflow.items())

    @property
    def _mlflow(self) -> dict[str, str]:
        tracking = f"http://127.0.0.1:{self.stack.port('mlflow', 5000)}"
        return {"tracking_uri": tracking, "artifact_root": "mlflow-artifacts:///sbr"}

    def api(self, user: str) -> Api:
        """Airflow's API, for a user who logs in."""
        return Api(self.url, self.passwords, user)

    def token(self, user: str) -> str:
        """The headers that a logged-in user sends with each request."""
        api = self.api(user)
        return str(api.post("/auth/token", {"username": user, "password": api.password()})["access_token"])

    def status(self, path: str, token: str | None = None) -> int:
        """The HTTP status of GET `path`, without following where it leads."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
        try:
            with opener.open(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def page(self, path: str, token: str) -> str:
        """The response to GET `path` for a user."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return str(answer.read().decode())

    def leaks(self) -> list[tuple[str, str]]:
        """(name, where) of each secret found in something that the stack wrote until now."""
        folders = [self.stack.folder, self.stack.volume("postgres")]
        return leaks(self.secrets, chain(files_below(folders, without=frozenset({self.passwords})), self.rows()))

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """All that the databases hold, as text."""
        return rows_of("127.0.0.1", self.stack.port("postgres", 5432), self.secrets["POSTGRES_PASSWORD"])

    def retrain(self, user: str, day: date) -> str:
        """Triggers the daily run of a day by hand; returns the run's id."""
        body = {"logical_date": None, "conf": {"day": str(day)}}
        return str(self.api(user).post(f"dags/{DAG}/dagRuns", body)["dag_run_id"])

    def finished(self, run_id: str, dag: str = DAG) -> Json:
        """The run, once it is done. Meanwhile the API, or what it needs, may be down."""
        api = self.api("admin")

        def look() -> Json | None:
            try:
                run = api.get(f"dags/{dag}/dagRuns/{run_id}", attempts=1)
            except ApiError:
                return None
            return run if run["state"] not in UNFINISHED else None

        return dict(wait_for(look))

    def tasks(self, run_id: str, dag: str = DAG) -> dict[str, Json]:
        """The task instances of a run, by task."""
        instances = self.api("admin").get(f"dags/{dag}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in instances}

    def log_of(self, run_id: str, task: str, attempt: int) -> str:
        """The log of one attempt of a task, from 1, as plain lines."""
        return task_log(self.api("admin"), f"dags/{DAG}/dagRuns/{run_id}/taskInstances/{task}/logs/{attempt}")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """No redirect is followed."""
        del args, kwargs


def prepared(
    folder: Path,
    clicks: Path,
    settings_text: str,
    more: Mapping[str, str] | None = None,
    store: Mapping[str, Any] | None = None,
) -> RunningStack:
    """The stack as `.env` and two folders describe it, with secrets of its own; it isn't started yet.

    Args:
        folder: Where it writes everything except PostgreSQL's files.
        clicks: The folder of the source.
        settings_text: What `sbr.toml` holds.
        more: What else `.env` holds.
        store: The store and its options as they are from outside, where it isn't the volume.
    """
    settings = folder / "settings" / "sbr.toml"
    settings.parent.mkdir()
    settings.write_text(settings_text, encoding="utf-8")
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
        "CLICKS_FOLDER": str(clicks),
        "SBR_SETTINGS": "/srv/sbr/settings/sbr.toml",
        "SETTINGS_FOLDER": str(settings.parent),
    }
    stack = Stack(folder, variables | dict(more or {}), EXTRA)
    passwords = {"admin": made["AIRFLOW_ADMIN_PASSWORD"]} | {
        name: secrets.token_urlsafe(16) for name in USERS if name != "admin"
    }
    file = folder / "passwords.json"
    file.write_text(json.dumps(passwords), encoding="utf-8")
    where = dict(store or {"store": str(stack.volume("store"))})
    return RunningStack(stack, f"http://localhost:{stack.port('api-server', 8080)}", made | planted, file, clicks, where)


@contextmanager
def started(stack: RunningStack) -> Iterator[RunningStack]:
    """Runs it with its users, until the block ends."""
    stack.stack.start()
    try:
        create_users(stack)
        wait_for_the_dag(stack)
        yield stack
    finally:
        stack.stack.stop()


def wait_for_the_dag(running: RunningStack) -> None:
    """Waits until Airflow has read the daily run."""
    wait_for(lambda: any(dag["dag_id"] == DAG for dag in running.api("admin").get("dags")["dags"]))


def create_users(running: RunningStack) -> None:
    """Creates all `USERS` but the admin, whom `init` created."""
    passwords = json.loads(running.passwords.read_text(encoding="utf-8"))
    for name in USERS.keys() - {"admin"}:
        create_user(running, name, passwords[name], role=USERS[name])


def create_user(running: RunningStack, name: str, password: str, *, role: str) -> None:
    """Creates a user as an admin does, by the API of Airflow's user management."""
    api = running.api("admin")
    body = {"username": name, "password": password, "email": f"{name}@localhost", "first_name": name, "last_name": name}
    api.post("/auth/fab/v1/users", body | {"roles": [{"name": role}]})
