"""One real Airflow for all tests of this folder: it takes half a minute to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.conftest import SHARED_DATA
from tests.integration.conftest import ROOT, Json
from tests.mailbox import Mailbox, mailbox
from tools.demo_shop import demo_settings
from tools.local_airflow import backfill
from tools.local_airflow.api import midnight
from tools.local_airflow.server import LocalAirflow, inherited_environment
from tools.local_airflow.supervisor import free_port, stop
from tools.wait import wait_for

SERENADE = SHARED_DATA / "bolcom-serenade"
DAYS = [date(2020, 6, 28), date(2020, 6, 29), date(2020, 6, 30)]


@dataclass(frozen=True)
class Platform:
    """A running Airflow whose tasks read bol.com's clicks, where they are there."""

    airflow: LocalAirflow

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command line in a new process, with the settings of the tasks."""
        environment = inherited_environment() | self.airflow.environment()
        done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def sbr(self, *words: str) -> Json:
        """What `sbr WORDS --json` prints."""
        return dict(json.loads(self.command(sys.executable, "-m", "sbr_tasks", *words, "--json").stdout))

    @contextmanager
    def using(self, shop: Path, clicks: Path, *, wait_minutes: int = 0, more: str = "") -> Iterator[None]:
        """Lets tasks work on the store of a shop of `demo_clicks`, with `more` settings: each reads them when it starts."""
        file = Path(self.airflow.settings["SBR_SETTINGS"])
        before = file.read_text(encoding="utf-8")
        file.write_text(demo_settings(clicks, shop / "store", wait_minutes=wait_minutes) + more, encoding="utf-8")
        try:
            yield
        finally:
            file.write_text(before, encoding="utf-8")

    @contextmanager
    def publishing_nothing(self) -> Iterator[None]:
        """No promotion starts `publish_recommendations`, which takes longer than a training where there are many items."""
        dag = "dags/publish_recommendations"
        self.airflow.api.patch(dag, {"is_paused": True})
        try:
            yield
        finally:
            self.airflow.api.patch(dag, {"is_paused": False})

    def trigger(self, dag: str, conf: Json) -> str:
        """Starts a run by hand; returns its id."""
        return str(self.airflow.api.post(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def runs(self, dag: str = backfill.DAG, **query: Any) -> list[Json]:
        """The DAG's runs that fit the query, oldest first."""
        found = self.airflow.api.get(f"dags/{dag}/dagRuns", order_by="run_after", limit=100, **query)
        return list(found["dag_runs"])

    def finished(self, run_id: str, dag: str = backfill.DAG) -> Json:
        """The run, once it is done."""
        path = f"dags/{dag}/dagRuns/{run_id}"
        return wait_for(lambda: run if (run := self.airflow.api.get(path))["state"] not in backfill.UNFINISHED else None)

    def clear_failed(self, run_id: str) -> None:
        """Lets the failed tasks of a run, and what waited for them, run again."""
        self.airflow.api.post(f"dags/{backfill.DAG}/clearTaskInstances", {"dag_run_id": run_id, "dry_run": False})

    def tasks(self, run_id: str) -> dict[str, Json]:
        """The task instances of a run, by task."""
        found = self.airflow.api.get(f"dags/{backfill.DAG}/dagRuns/{run_id}/taskInstances")
        return {task["task_id"]: task for task in found["task_instances"]}

    def returned(self, run_id: str, task_id: str, dag: str = backfill.DAG) -> Any:
        """What a task of a run returned."""
        path = f"dags/{dag}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        value = self.airflow.api.get(path)["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in '{["' else value

    def log(self, run_id: str, task_id: str, attempt: int = 1) -> list[str]:
        """The lines of a task's log."""
        path = f"dags/{backfill.DAG}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        return backfill.task_log(self.airflow.api, path).splitlines()

    def backfill(self, first: date, last: date) -> list[backfill.Failure]:
        """Runs a backfill to its end; returns the tasks that failed."""
        backfill.start(self.airflow.api, first, last, ZoneInfo("UTC"))
        return backfill.follow(self.airflow.api, [first, last], ZoneInfo("UTC"), print)

    def backfill_out_of_order(self, first: date, last: date, *, at_once: int, backwards: bool) -> list[backfill.Failure]:
        """Runs a backfill as the UI offers it beside the order of the days; returns the tasks that failed."""
        backfill.cancel_unfinished(self.airflow.api, run_type="backfill")  # one that is over may still count as active
        span = {"from_date": midnight(first), "to_date": midnight(last)}
        backfill.create(self.airflow.api, {**span, "max_active_runs": at_once, "run_backwards": backwards})
        return backfill.follow(self.airflow.api, [first, last], ZoneInfo("UTC"), print)


@pytest.fixture(scope="session")
def mails() -> Iterator[Mailbox]:
    """What the platform sends, where a test's settings say that it sends anything."""
    with mailbox() as box:
        yield box


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, mails: Mailbox) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("airflow")
    settings = folder / "sbr.toml"
    source = f'path = {json.dumps(str(SERENADE / "[tv]*.txt"))}, format = "gru4rec", wait_minutes = 0, settle_seconds = 0'
    settings.write_text(
        f"""
        store = {json.dumps(str(folder / "store"))}
        source = {{ {source} }}
        window = {{ least_click = 1 }}
        model = {{ n_epochs = 2, batch_size = 32, dropout_p_embed = 0.1, dropout_p_hidden = 0 }}
        """,
        encoding="utf-8",
    )
    users = "admin:admin,op:op,viewer:viewer"
    given = {
        "SBR_SETTINGS": str(settings),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users,
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # no file changes
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",  # a DAG that is parsed again counts at once
        "AIRFLOW_CONN_SMTP_DEFAULT": mails.connection,
    }
    airflow = LocalAirflow(folder, folder / "home", ROOT, free_port(), given)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SBR_")]:
            patch.delenv(name)
        airflow.start(print)
        try:
            backfill.wait_for_dag(airflow.api, since=airflow.began)
            found = Platform(airflow)
            for dag in (backfill.DAG, "store_upkeep"):  # no setting of a test may reach the runs by the clock
                found.finished(wait_for(lambda dag=dag: found.runs(dag, run_type="scheduled"))[0]["dag_run_id"], dag)
            yield found
        finally:
            stop(folder)


@pytest.fixture(scope="session")
def three_days(platform: Platform) -> dict[date, Json]:
    """The runs of a backfill over the last three days of the data, whether they succeeded or not."""
    with platform.publishing_nothing():
        platform.backfill(DAYS[0], DAYS[-1])
    span = {"logical_date_gte": midnight(DAYS[0]), "logical_date_lte": midnight(DAYS[-1])}
    return {datetime.fromisoformat(run["logical_date"]).date(): run for run in platform.runs(run_type="backfill", **span)}
