"""The callbacks that tell people, called as Airflow calls them, and a mail server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.store import Store
from tests.mailbox import Mailbox, body_of, mailbox, smtp_connection

ROOT = Path(__file__).resolve().parents[2]
ALL = '["failure", "promotion", "streak", "quarantine", "deadline"]'

WORKER = """
import io, json, logging, os, sys
from datetime import UTC, datetime
from types import SimpleNamespace

import sbr_alerts
from sbr_dag_parts import DEFAULT_ARGS
from sbr_tasks.errors import DayError

inherited = dict(os.environ)
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.clear()
    os.environ.update(inherited | asked["environment"])
    ti = {"dag_id": "daily_retrain", "task_id": asked["task"], "run_id": "scheduled__1", "try_number": 1}
    run = SimpleNamespace(start_date=datetime(2020, 6, 11, tzinfo=UTC))
    context = {"ti": SimpleNamespace(**ti, log_url="http://airflow.test/ti"), "dag_run": run, "dag": object()}
    if asked["error"]:
        context["exception"] = DayError(asked["error"])
    if asked["callback"] == "on_deadline":
        run = {"dag_id": "daily_retrain", "dag_run_id": "scheduled__1+00:00", "run_type": "scheduled", "state": "running"}
        late = {"deadline_time": "2020-06-11T06:00:00Z"}
        context = {"dag_run": run | {"queued_at": "2020-06-11T00:00:00Z"}, "deadline": late}
    logging.basicConfig(stream=(log := io.StringIO()), level=logging.INFO, format="%(message)s", force=True)
    call = DEFAULT_ARGS.get(f"{asked['callback']}_callback") or getattr(sbr_alerts, asked["callback"])
    assert call(context) is None
    print("LOG" + json.dumps(log.getvalue()), flush=True)
"""

DEADLINES = """
import json, sys
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], load_op_links=False)
assert not bag.import_errors, bag.import_errors
found = {name: [[type(one.reference).__name__, one.interval.total_seconds(), type(one.callback).__name__, one.callback.path]
                for one in dag.deadline or ()] for name, dag in bag.dags.items()}
for dag in bag.dags.values():
    DagSerialization.to_dict(dag)
print("FACTS" + json.dumps(found))
"""

SHOUT = """
from airflow.sdk import BaseNotifier

class Shout(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, *, place, text):
        super().__init__()
        self.place, self.text = place, text

    def notify(self, context):
        open(self.place, "w").write(self.text)
"""


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def environment_of(folder: Path) -> dict[str, str]:
    """That of a process with the settings of one test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SBR_"))}
    path = os.pathsep.join([str(ROOT / "dags"), str(folder)])
    return inherited | {"AIRFLOW_HOME": str(folder / "home"), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


Call = Callable[..., str]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that calls callbacks, as a worker does: it takes seconds to import Airflow."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "shouting.py").write_text(SHOUT)
    command = [sys.executable, "-c", WORKER]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment_of(folder), cwd=ROOT, **pipes) as process:
        yield process, folder
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def call(worker: tuple[subprocess.Popen[str], Path], tmp_path: Path) -> Call:
    """Calls a callback; returns what was logged meanwhile."""
    process, _ = worker

    def ask(callback: str, task: str = "", error: str = "", **environment: str) -> str:
        environment = {"SBR_STORE": str(tmp_path / "store")} | environment
        question = {"callback": callback, "task": task, "error": error, "environment": environment}
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("LOG"):
                return str(json.loads(line.removeprefix("LOG")))
        raise AssertionError(f"the worker ended with {process.wait()}")

    return ask


def to(box: Mailbox, on: str = ALL) -> dict[str, str]:
    return {
        "AIRFLOW_CONN_SMTP_DEFAULT": box.connection,
        "SBR_ALERTS__ON": on,
        "SBR_ALERTS__RECIPIENTS": '["ops@shop.test", "ml@shop.test"]',
    }


def test_failed_task_sends_a_mail_with_reason_and_link(call: Call, box: Mailbox) -> None:
    call("on_failure", "build_window", "Too few days {{ ti.log_url }} & <b>", **to(box))
    (mail,) = box.mails
    assert mail["subject"] == "daily_retrain: build_window failed: Too few days {{ ti.log_url }} & <b>"
    assert mail["to"] == "ops@shop.test, ml@shop.test"
    assert mail["from"] == "airflow@shop.test"
    body = body_of(mail)
    assert "Too few days {{ ti.log_url }} &amp; &lt;b&gt;" in body
    assert '<a href="http://airflow.test/ti">' in body


def test_promotion_sends_a_mail_with_the_numbers(call: Call, box: Mailbox, store: Store) -> None:
    scores = {"recall_at_20": 0.3125, "mrr_at_20": 0.125, "n_events": 2048}
    version = "2020-06-10-1a2b3c4d"
    entry = Decision(
        number=1,
        as_of=date(2020, 6, 10),
        outcome=Outcome.FIRST_CHAMPION,
        reasons=("There is no champion to compare with yet.",),
        opponent=None,
        before=None,
        champion=version,
        challenger_metrics=scores,
        opponent_metrics=None,
        differences={},
        baselines={},
        version=version,
        window="w",
        run="scheduled__1",
        at="2020-06-11T00:00:00+00:00",
    )
    PromotionLog(store).create(entry)
    call("on_success", "promote_if_better", **to(box))
    call("on_success", "write_report", **to(box))
    (mail,) = box.mails
    assert mail["subject"].startswith("Promoted: 2020-06-10-1a2b3c4d is champion")
    body = body_of(mail)
    assert all(number in body for number in ("0.3125", "0.1250", "2,048"))
    assert store.where(entry.page) in body


def test_late_run_sends_a_mail_with_a_link_to_the_run(call: Call, box: Mailbox) -> None:
    call("on_deadline", AIRFLOW__API__BASE_URL="http://airflow.test/", **to(box))
    (mail,) = box.mails
    assert mail["subject"] == "daily_retrain: scheduled__1+00:00 is late and still running"
    assert "http://airflow.test/dags/daily_retrain/runs/scheduled__1%2B00%3A00" in body_of(mail)


def test_nobody_is_told_unless_it_was_asked_for(call: Call, box: Mailbox) -> None:
    call("on_failure", "build_window", "bad", AIRFLOW_CONN_SMTP_DEFAULT=box.connection)
    call("on_failure", "build_window", "bad", **to(box, on='["promotion"]'))
    call("on_deadline", **to(box, on='["failure"]'))
    assert box.mails == []


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"AIRFLOW_CONN_SMTP_DEFAULT": smtp_connection(port=1)}, "ConnectionRefusedError"),
        ({"SBR_ALERTS__NOTIFIER": "no.such.Notifier"}, "SettingsError"),
        ({"SBR_ALERTS__ARGUMENTS": '{"colour": "red"}'}, "TypeError"),
        ({"SBR_ALERTS__ON": '["fire"]'}, "SettingsError"),
    ],
)
def test_notifier_that_fails_is_a_sentence_in_the_log(
    call: Call, box: Mailbox, environment: dict[str, str], reason: str
) -> None:
    logged = call("on_failure", "build_window", "bad", **(to(box) | environment))
    assert f"An alert could not be sent ({reason}: " in logged
    assert "result isn't affected" in logged
    assert "Traceback" not in logged
    assert box.mails == []


def test_another_notifier_is_given_by_its_path_and_arguments(call: Call, tmp_path: Path) -> None:
    arguments = {"place": str(tmp_path / "said"), "text": "*{{ alert.subject }}*\n{{ alert.text }}"}
    environment = {
        "SBR_ALERTS__ON": ALL,
        "SBR_ALERTS__NOTIFIER": "shouting.Shout",
        "SBR_ALERTS__ARGUMENTS": json.dumps(arguments),
    }
    call("on_failure", "train_gru4rec", "The loss is not finite.", **environment)
    said = (tmp_path / "said").read_text()
    assert said.startswith(
        "*daily_retrain: train_gru4rec failed: The loss is not finite.*\nTask train_gru4rec of daily_retrain failed."
    )
    assert said.endswith("http://airflow.test/ti")


def test_runs_have_a_deadline_where_somebody_wants_to_know(tmp_path: Path) -> None:
    on = {"SBR_ALERTS__ON": ALL, "SBR_ALERTS__RECIPIENTS": '["a@b"]', "SBR_ALERTS__DEADLINE_HOURS": "2.5"}
    found = deadlines(tmp_path, **on)
    assert found.pop("daily_retrain") == [["DagRunQueuedAtDeadline", 9000, "SyncCallback", "sbr_alerts.on_deadline"]]
    assert not any(found.values())


@pytest.mark.parametrize("notifier", ["airflow.providers.smtp.notifications.smtp.SmtpNotifer", "no.such.Notifier"])
def test_misspelt_notifier_is_an_error_of_the_dag(tmp_path: Path, notifier: str) -> None:
    environment = environment_of(tmp_path) | {"SBR_ALERTS__NOTIFIER": notifier}
    command = [sys.executable, "-c", "import runpy; runpy.run_path('dags/daily_retrain.py')"]
    environment["PYTHONPATH"] = str(ROOT / "dags")

    def parse(on: str) -> subprocess.CompletedProcess[str]:
        given = environment | {"SBR_ALERTS__ON": on}
        return subprocess.run(command, env=given, cwd=ROOT, capture_output=True, text=True, check=False)

    assert f"Setting 'alerts.notifier' is {notifier!r}: expected the dotted path of a notifier class" in parse("failure").stderr
    assert parse("").returncode == 0


def test_runs_have_no_deadline_where_nobody_wants_to_know(tmp_path: Path) -> None:
    assert not any(deadlines(tmp_path, SBR_ALERTS__ON="[]").values())


def deadlines(folder: Path, **environment: str) -> dict[str, list[list[Any]]]:
    """The deadlines of all DAGs, found out in a new process."""
    command = [sys.executable, "-c", DEADLINES, str(ROOT / "dags")]
    environment = environment_of(folder) | environment
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.split("FACTS", 1)[1]))
