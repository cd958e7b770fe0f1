"""What must hold for every DAG file, found out in a fresh process as Airflow's dag-processor would."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.trigger import FIELDS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from local_airflow.pools import POOLS  # noqa: E402

DAG_FILES = {
    "daily_retrain.py": ["daily_retrain"],
    "pin_champion.py": ["pin_champion"],
    "publish_recommendations.py": ["publish_recommendations"],
    "rollback_champion.py": ["rollback_champion"],
    "sbr_alerts.py": [],
    "sbr_dag_parts.py": [],
    "sbr_run_parts.py": [],
    "sbr_task_links.py": [],
    "store_upkeep.py": ["store_upkeep"],
}
PARAMS = {
    "daily_retrain": sorted(["day", "promote", "reason", *FIELDS]),
    "pin_champion": ["action", "reason"],
    "publish_recommendations": [],
    "rollback_champion": ["pin", "reason", "to"],
    "store_upkeep": ["keep_days"],
}
TASKS = [
    "resolve_day",
    "ingest_clicks",
    "validate_clicks",
    "build_window",
    "train_gru4rec",
    "evaluate_models",
    "promote_if_better",
    "announce_champion",
    "write_report",
]
TOO_HEAVY = {"tensorflow", "keras", "mlflow", "great_expectations", "pandas", "pyspark"}

PARSE = """
import json, sys, time
from airflow.dag_processing.dagbag import BundleDagBag
import airflow.sdk
from airflow.sdk import CronDataIntervalTimetable, Param, RetryPolicy, dag, get_current_context, task
from airflow.providers.standard.operators.python import PythonOperator

before, began = set(sys.modules), time.process_time()
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], load_op_links=False)
took = time.process_time() - began
seconds = lambda delta: delta.total_seconds() if delta else None
task_facts = lambda t: {
    "owner": t.owner, "retries": t.retries, "doc": t.doc_md, "retry_delay_s": seconds(t.retry_delay),
    "timeout_s": seconds(t.execution_timeout), "depends_on_past": t.depends_on_past,
    "retry_policy": type(t.retry_policy).__name__, "pool": t.pool, "backoff": t.retry_exponential_backoff,
    "group": t.task_group.group_id if t.task_group else None, "links": [link.name for link in t.operator_extra_links],
}
dag_facts = lambda d: {
    "file": d.fileloc, "tags": sorted(d.tags), "doc": d.doc_md, "start": d.start_date.isoformat(), "catchup": d.catchup,
    "timetable": type(d.timetable).__name__, "params": sorted(d.params), "order": [t.task_id for t in d.topological_sort()],
    "tasks": {t.task_id: task_facts(t) for t in d.tasks},
}
from sbr_tasks import errors
policy = bag.dags["daily_retrain"].get_task("ingest_clicks").retry_policy
family = [found for found in vars(errors).values() if isinstance(found, type)]
decisions = {error.__name__: policy.evaluate(error("why"), 1, 3) for error in [*family, OSError, MemoryError]}
print("FACTS" + json.dumps({
    "errors": bag.import_errors, "took_s": took,
    "new_modules": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
    "decisions": {name: [decision.action.value, decision.reason] for name, decision in decisions.items()},
    "dags": {dag_id: dag_facts(found) for dag_id, found in bag.dags.items()},
}))
"""


CLOCKS_CHANGE = """
import json
from datetime import date, timedelta
import pendulum
from airflow.timetables.base import TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable
from sbr_tasks.days import day_interval_us, from_us, resolve_as_of
from sbr_tasks.settings import load_settings

import daily_retrain
found, zone = [], load_settings().zone
declared = daily_retrain.daily_retrain().timetable
timetable = CronDataIntervalTimetable(declared.expression, timezone=declared.timezone)
for first in (date(2026, 3, 28), date(2026, 10, 24)):
    interval = None
    restriction = TimeRestriction(pendulum.datetime(first.year, first.month, first.day, tz=str(zone)), None, True)
    for i in range(3):
        interval = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction).data_interval
        day = resolve_as_of(day=None, run_type="scheduled", interval_start=interval.start, zone=zone)
        start, end = map(from_us, day_interval_us(first + timedelta(days=i), zone))
        hours = (interval.end - interval.start).total_seconds() / 3600
        found.append([str(day), hours, start == interval.start, end == interval.end])
print("FACTS" + json.dumps(found))
"""


def test_intervals_are_the_shops_days_where_the_clocks_change(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SBR_"))}
    environment |= {"AIRFLOW_HOME": str(tmp_path), "SBR_TIMEZONE": "Europe/Amsterdam", "PYTHONPATH": str(ROOT / "dags")}
    command = [sys.executable, "-c", CLOCKS_CHANGE]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    hours = {"2026-03-28": 24, "2026-03-29": 23, "2026-03-30": 24, "2026-10-24": 24, "2026-10-25": 25, "2026-10-26": 24}
    assert json.loads(done.stdout.split("FACTS", 1)[1]) == [[day, n, True, True] for day, n in hours.items()]


SPARK_MASTERS = """
import json, os, sys
from types import SimpleNamespace
import daily_retrain, sbr_run_parts
from sbr_dag_parts import spark_overrides
from sbr_tasks.results import PublishedItems
from sbr_tasks.settings import WindowSettings
from sbr_tasks.workspace import Workspace

def found(settings, connection):
    os.environ.pop("AIRFLOW_CONN_SPARK_DEFAULT", None)
    if connection:
        os.environ["AIRFLOW_CONN_SPARK_DEFAULT"] = connection
    return spark_overrides(WindowSettings(**settings))

cases = [found(settings, connection) for settings, connection in json.loads(sys.argv[1])]
os.environ["AIRFLOW_CONN_SPARK_DEFAULT"] = "spark://shop:7077"
Workspace.build_window = lambda self, day: PublishedItems(model_version=day, file=json.dumps(self.overrides))
task = SimpleNamespace(dag_id="daily_retrain", task_id="build_window")
sbr_run_parts.get_current_context = lambda: {"ti": task, "run_id": "r", "params": {"n_epochs": 3}}
build_window = daily_retrain.daily_retrain().get_task("build_window").python_callable
print("FACTS" + json.dumps([cases, build_window({"day": "2020-06-30"})]))
"""


def test_connection_says_where_spark_works_unless_the_settings_do(tmp_path: Path) -> None:
    on_spark = {"engine": "spark"}
    cases: list[tuple[dict[str, str], str | None, str | None]] = [
        ({}, "spark://shop:7077", None),
        (on_spark, None, None),
        (on_spark | {"spark_master": "local[2]"}, "spark://shop:7077", None),
        (on_spark, "spark://shop:7077", "spark://shop:7077"),
        (on_spark, '{"conn_type": "spark", "host": "spark://shop", "port": 7077}', "spark://shop:7077"),
        (
            on_spark,
            '{"conn_type": "spark", "host": "k8s://https://shop", "port": 6443}',
            "k8s://https://shop:6443",
        ),
        (on_spark, '{"conn_type": "spark", "host": "yarn"}', "yarn"),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SBR_"))}
    environment |= {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "dags"), "SBR_WINDOW__ENGINE": "spark"}
    command = [sys.executable, "-c", SPARK_MASTERS, json.dumps([case[:2] for case in cases])]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, given_to_step = json.loads(done.stdout.split("FACTS", 1)[1])
    assert found == [{"window.spark_master": master} if master else {} for _, _, master in cases]
    assert given_to_step["model_version"] == "2020-06-30"
    assert json.loads(given_to_step["file"]) == {"window.spark_master": "spark://shop:7077", "model.n_epochs": 3}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the DAG folder contains, and what it took to parse it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SBR_"))}
    environment["AIRFLOW_HOME"] = str(tmp_path_factory.mktemp("home"))
    command = [sys.executable, "-c", PARSE, str(ROOT / "dags")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.split("FACTS", 1)[1]))


def test_dag_folder_parses(facts: dict[str, Any]) -> None:
    assert facts["errors"] == {}


def test_every_dag_file_is_listed(facts: dict[str, Any]) -> None:
    assert {file.name for file in (ROOT / "dags").rglob("*.py")} == set(DAG_FILES)
    assert {dag_id: Path(found["file"]).name for dag_id, found in facts["dags"].items()} == {
        dag_id: file for file, dag_ids in DAG_FILES.items() for dag_id in dag_ids
    }


def test_parsing_imports_nothing_heavy(facts: dict[str, Any]) -> None:
    assert TOO_HEAVY.isdisjoint(facts["new_modules"])


def test_parsing_takes_under_a_second_beyond_airflows_own(facts: dict[str, Any]) -> None:
    assert facts["took_s"] < 1  # of processor time: a busy machine doesn't count


def test_dag_files_are_only_wiring() -> None:
    for file in (ROOT / "dags").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        shown = (ast.get_docstring(ast.parse(text), clean=False) or "").splitlines()  # a DAG's page, which is no wiring
        assert len(text.splitlines()) - len(shown) < 120, file.name


def test_tasks_are_the_steps_in_their_order(facts: dict[str, Any]) -> None:
    assert facts["dags"]["daily_retrain"]["order"] == TASKS
    assert facts["dags"]["store_upkeep"]["order"] == ["check_store", "clear_store"]  # a damaged store isn't touched


def test_every_dag_explains_itself_and_starts_before_any_data(facts: dict[str, Any]) -> None:
    for found in facts["dags"].values():
        assert "When a task fails" in found["doc"]
        assert found["tags"]
        assert found["start"].startswith("1995-01-01")
        assert found["catchup"] is False
    assert facts["dags"]["daily_retrain"]["timetable"] == "CronDataIntervalTimetable"
    assert {dag_id: found["params"] for dag_id, found in facts["dags"].items()} == PARAMS


def test_every_task_has_owner_doc_retries_and_timeout(facts: dict[str, Any]) -> None:
    for found in facts["dags"].values():
        for task_id, task in found["tasks"].items():
            assert task["owner"] not in ("", "airflow"), task_id
            assert task["doc"], task_id
            assert task["retries"] >= 1, task_id
            assert task["retry_delay_s"] <= 60, task_id
            assert 0 < task["timeout_s"] <= 12 * 3600, task_id
            assert task["retry_policy"] == "RetryWhatMayMend", task_id
            assert task["depends_on_past"] is False, task_id


def test_retries_wait_longer_each_time(facts: dict[str, Any]) -> None:
    assert all(task["backoff"] == 2 for found in facts["dags"].values() for task in found["tasks"].values())


def test_tasks_stand_in_groups_and_pools_that_set_up_creates(facts: dict[str, Any]) -> None:
    tasks = facts["dags"]["daily_retrain"]["tasks"]
    groups: dict[str, list[str]] = {}
    for task_id in TASKS:
        groups.setdefault(tasks[task_id]["group"] or "", []).append(task_id)
    assert groups == {
        "": ["resolve_day"],
        "clicks": ["ingest_clicks", "validate_clicks"],
        "model": ["build_window", "train_gru4rec", "evaluate_models"],
        "decision": ["promote_if_better", "announce_champion", "write_report"],
    }
    every_task = {task_id: task for found in facts["dags"].values() for task_id, task in found["tasks"].items()}
    pools = {task_id: task["pool"] for task_id, task in every_task.items() if task["pool"] != "default_pool"}
    assert pools == {"train_gru4rec": "training", "promote_if_better": "promotion", "roll_back": "promotion"}
    assert set(pools.values()) == {pool.name for pool in POOLS}


def test_task_pages_link_to_what_they_wrote(facts: dict[str, Any]) -> None:
    tasks = facts["dags"]["daily_retrain"]["tasks"]
    assert {task_id: task["links"] for task_id, task in tasks.items() if task["links"]} == {
        "validate_clicks": ["Data Docs of the day"],
        "train_gru4rec": ["Version on the Models page", "MLflow version"],
        "evaluate_models": ["Report of the run"],
        "promote_if_better": ["Report of the run", "Version on the Models page"],
        "write_report": ["Report of the run", "Version on the Models page", "Data Docs of the day", "MLflow version"],
    }


def test_only_what_a_repeat_may_mend_is_retried(facts: dict[str, Any]) -> None:
    retried = {name for name, (action, _) in facts["decisions"].items() if action == "default"}
    assert retried == {"StoreError", "AlreadyExistsError", "TrackingError", "SparkError", "OSError", "MemoryError"}
    assert facts["decisions"]["DamagedError"] == ["fail", "why"]
    assert facts["decisions"]["DayError"] == ["fail", "why"]


MARKED = """
import json
from types import SimpleNamespace
import daily_retrain, sbr_run_parts
from sbr_tasks.errors import SbrError

context = {"params": {"promote": "gate"}, "run_id": "r", "ti": SimpleNamespace(dag_id="d", task_id="t"), "outlet_events": {},
           "dag_run": SimpleNamespace(run_type="scheduled")}
daily_retrain.get_current_context = sbr_run_parts.get_current_context = lambda: context
dag, found = daily_retrain.daily_retrain(), {}
policy = dag.get_task("train_gru4rec").retry_policy
for task in dag.tasks:
    if task.task_id == "resolve_day":
        continue
    names = list(task.python_callable.__code__.co_varnames[: task.python_callable.__code__.co_argcount])
    try:
        task.python_callable(*[None] * len(names))
    except SbrError as error:
        found[task.task_id] = [str(error), policy.evaluate(error, 1, 3).action.value]
print("FACTS" + json.dumps(found))
"""


def test_task_after_one_that_was_marked_by_hand_fails_at_once_with_a_sentence(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SBR_"))}
    environment |= {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": f"{ROOT / 'dags'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", MARKED], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    marked = {
        "ingest_clicks": "resolve_day",
        "validate_clicks": "ingest_clicks",
        "build_window": "validate_clicks",
        "train_gru4rec": "build_window",
        "evaluate_models": "train_gru4rec",
        "promote_if_better": "train_gru4rec",
        "announce_champion": "promote_if_better",
        "write_report": "train_gru4rec",
    }
    assert json.loads(done.stdout.split("FACTS", 1)[1]) == {
        task: [
            f"The task {earlier} has no result, which this task needs: {earlier} was marked as successful by hand, "
            f"or its result was deleted. Clear {earlier} and the tasks after it.",
            "fail",
        ]
        for task, earlier in marked.items()
    }


def test_plugins_are_light() -> None:
    for file in (ROOT / "plugins").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert not any(f"import {name}" in text or f"from {name}" in text for name in TOO_HEAVY), file.name
