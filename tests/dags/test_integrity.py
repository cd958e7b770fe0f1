"""What must hold for every DAG file."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pendulum
import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk import Context, CronDataIntervalTimetable
from airflow.sdk.execution_time.context import set_current_context
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables import interval as timetables
from airflow.timetables.base import DataInterval, TimeRestriction

from sbr_tasks.airflow import alerts
from sbr_tasks.airflow.parameters import FIELDS
from sbr_tasks.airflow.pools import POOLS
from sbr_tasks.airflow.retries import RetryTransientErrors
from sbr_tasks.days import day_interval_us, from_us, resolve_day
from sbr_tasks.errors import StepError
from sbr_tasks.results import PublishedItems
from sbr_tasks.settings import load_settings
from sbr_tasks.workspace import Workspace
from tests.airflow_library import clear_environment

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"

DAG_FILES = {
    "champion.py": ["pin_champion", "rollback_champion"],
    "daily_retrain.py": ["daily_retrain"],
    "publish_recommendations.py": ["publish_recommendations"],
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


def parse() -> BundleDagBag:
    """Parses the DAG folder, as Airflow's dag-processor does."""
    return BundleDagBag(dag_folder=str(DAGS), bundle_path=DAGS, load_op_links=False)


@pytest.fixture(scope="module")
def bag() -> BundleDagBag:
    """The DAGs under the default settings."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clear_environment(monkeypatch)
        return parse()


def tasks_of(bag: BundleDagBag) -> dict[str, Any]:
    """The tasks of all DAGs."""
    return {task.task_id: task for dag in bag.dags.values() for task in dag.tasks}


def test_dag_folder_parses(bag: BundleDagBag) -> None:
    assert bag.import_errors == {}
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)


def test_every_dag_file_is_listed_and_nothing_else_is_there(bag: BundleDagBag) -> None:
    assert {file.name for file in DAGS.iterdir() if file.name != "__pycache__"} == set(DAG_FILES)
    found: dict[str, list[str]] = {}
    for dag_id in sorted(bag.dags):
        found.setdefault(Path(bag.dags[dag_id].fileloc).name, []).append(dag_id)
    assert found == DAG_FILES


def test_parsing_imports_nothing_heavy(tmp_path: Path) -> None:
    program = f"import runpy, sys; [runpy.run_path(file) for file in sys.argv[1:]]; print({TOO_HEAVY} & set(sys.modules))"
    command = [sys.executable, "-c", program, *map(str, DAGS.glob("*.py"))]
    environment = {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["set()"], 0), done.stderr


def test_tasks_are_the_steps_in_their_order(bag: BundleDagBag) -> None:
    order = {dag_id: [task.task_id for task in dag.topological_sort()] for dag_id, dag in bag.dags.items()}
    assert order["daily_retrain"] == TASKS
    assert order["store_upkeep"] == ["check_store", "clear_store"]  # a damaged store isn't touched


def test_every_dag_explains_itself_and_starts_before_any_data(bag: BundleDagBag) -> None:
    for dag in bag.dags.values():
        assert dag.doc_md is not None
        assert dag.doc_md.startswith("### ")
        assert "When a task fails" in dag.doc_md
        assert dag.tags
        assert dag.start_date is not None
        assert dag.start_date.isoformat().startswith("1995-01-01")
        assert dag.catchup is False
    assert {dag_id: sorted(dag.params) for dag_id, dag in bag.dags.items()} == PARAMS


def test_every_task_has_owner_doc_retries_timeout_and_alerts(bag: BundleDagBag) -> None:
    for task_id, task in tasks_of(bag).items():
        assert task.owner == "recommendations", task_id
        assert task.doc_md, task_id
        assert task.retries >= 1, task_id
        assert task.retry_delay <= timedelta(minutes=1), task_id
        assert task.retry_exponential_backoff == 2, task_id
        assert timedelta(0) < task.execution_timeout <= timedelta(hours=12), task_id
        assert isinstance(task.retry_policy, RetryTransientErrors), task_id
        assert task.depends_on_past is False, task_id
        assert task.on_failure_callback == [alerts.on_failure], task_id
        assert task.on_success_callback == [alerts.on_success], task_id


def test_daily_tasks_are_in_groups(bag: BundleDagBag) -> None:
    groups: dict[str | None, list[str]] = {}
    for task in bag.dags["daily_retrain"].topological_sort():
        groups.setdefault(task.task_group.group_id if task.task_group else None, []).append(task.task_id)
    assert groups == {
        None: ["resolve_day"],
        "clicks": ["ingest_clicks", "validate_clicks"],
        "model": ["build_window", "train_gru4rec", "evaluate_models"],
        "decision": ["promote_if_better", "announce_champion", "write_report"],
    }


def test_tasks_are_in_pools_that_set_up_creates(bag: BundleDagBag) -> None:
    pools = {task_id: task.pool for task_id, task in tasks_of(bag).items() if task.pool != "default_pool"}
    assert pools == {"train_gru4rec": "training", "promote_if_better": "promotion", "roll_back": "promotion"}
    assert set(pools.values()) == {pool.name for pool in POOLS}


def test_task_pages_link_to_what_they_wrote(bag: BundleDagBag) -> None:
    links = {task_id: [link.name for link in task.operator_extra_links] for task_id, task in tasks_of(bag).items()}
    assert {task_id: names for task_id, names in links.items() if names} == {
        "validate_clicks": ["Data Docs of the day"],
        "train_gru4rec": ["Report of the run", "MLflow version"],
        "evaluate_models": ["Report of the run"],
        "promote_if_better": ["Report of the run"],
        "write_report": ["Report of the run", "Data Docs of the day", "MLflow version"],
    }


def test_intervals_are_the_shops_days_where_the_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBR_TIMEZONE", "Europe/Amsterdam")
    zone = load_settings().zone
    declared = parse().dags["daily_retrain"].timetable
    assert isinstance(declared, CronDataIntervalTimetable)
    timetable = timetables.CronDataIntervalTimetable(declared.expression, timezone=declared.timezone)
    hours = {}
    for first in (date(2026, 3, 28), date(2026, 10, 24)):
        interval: DataInterval | None = None
        restriction = TimeRestriction(pendulum.datetime(first.year, first.month, first.day, tz=str(zone)), None, True)
        for expected in (first + timedelta(days=i) for i in range(3)):
            info = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)
            assert info is not None
            interval = info.data_interval
            assert interval is not None
            assert resolve_day(day=None, run_type="scheduled", interval_start=interval.start, zone=zone) == expected
            assert tuple(map(from_us, day_interval_us(expected, zone))) == (interval.start, interval.end)
            hours[str(expected)] = (interval.end - interval.start).total_seconds() / 3600
    assert hours == {
        "2026-03-28": 24, "2026-03-29": 23, "2026-03-30": 24, "2026-10-24": 24, "2026-10-25": 25, "2026-10-26": 24,
    }  # fmt: skip


def test_window_is_built_on_the_spark_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBR_WINDOW__ENGINE", "spark")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", "spark://shop:7077")
    monkeypatch.setattr(
        Workspace, "build_window", lambda self, day: PublishedItems(model_version=day, file=json.dumps(self.overrides))
    )
    task = SimpleNamespace(dag_id="daily_retrain", task_id="build_window")
    context = {"ti": task, "run_id": "r", "params": {"n_epochs": 3}}
    build_window = tasks_of(parse())["build_window"].python_callable
    with set_current_context(cast("Context", context)):
        result = build_window({"day": "2020-06-30"})
    assert result["model_version"] == "2020-06-30"
    assert json.loads(result["file"]) == {"window.spark_master": "spark://shop:7077", "model.n_epochs": 3}


@pytest.mark.parametrize(
    ("task", "earlier"),
    [
        ("ingest_clicks", "resolve_day"),
        ("validate_clicks", "ingest_clicks"),
        ("build_window", "validate_clicks"),
        ("train_gru4rec", "build_window"),
        ("evaluate_models", "train_gru4rec"),
        ("promote_if_better", "train_gru4rec"),
        ("announce_champion", "promote_if_better"),
        ("write_report", "train_gru4rec"),
    ],
)
def test_task_after_one_that_was_marked_by_hand_names_it(bag: BundleDagBag, task: str, earlier: str) -> None:
    context = {"params": {"promote": "gate"}, "run_id": "r", "dag_run": SimpleNamespace(run_type="scheduled")}
    with (
        set_current_context(cast("Context", context)),
        pytest.raises(StepError, match=f"The task {earlier} has no result, .* Clear {earlier} and the tasks after it"),
    ):
        tasks_of(bag)[task].python_callable(None)


def test_daily_runs_have_a_deadline_if_the_alert_is_on(bag: BundleDagBag, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(dag.deadline for dag in bag.dags.values())
    monkeypatch.setenv("SBR_ALERTS__ON", '["deadline"]')
    monkeypatch.setenv("SBR_ALERTS__RECIPIENTS", '["ops@shop.test"]')
    monkeypatch.setenv("SBR_ALERTS__DEADLINE_HOURS", "2.5")
    deadlines = {dag_id: dag.deadline for dag_id, dag in parse().dags.items() if dag.deadline}
    ((deadline,),) = deadlines.values()
    assert list(deadlines) == ["daily_retrain"]
    assert type(deadline.reference).__name__ == "DagRunQueuedAtDeadline"
    assert deadline.interval == timedelta(hours=2.5)
    assert deadline.callback.path == "sbr_tasks.airflow.alerts.on_deadline"


@pytest.mark.parametrize("notifier", ["airflow.providers.smtp.notifications.smtp.SmtpNotifer", "no.such.Notifier"])
def test_misspelt_notifier_is_an_import_error_if_alerts_are_on(notifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBR_ALERTS__NOTIFIER", notifier)
    assert parse().import_errors == {}
    monkeypatch.setenv("SBR_ALERTS__ON", '["failure"]')
    ((file, error),) = parse().import_errors.items()
    assert Path(file).name == "daily_retrain.py"
    assert f"Setting 'alerts.notifier' is {notifier!r}: expected the dotted path of a notifier class" in error
