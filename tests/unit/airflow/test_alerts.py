"""The callbacks that send alerts, called as Airflow calls them, with a mail server on this machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sbr_tasks.airflow import alerts
from sbr_tasks.errors import DayError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import PromotionLog, fold
from sbr_tasks.store import Store
from tests.mailbox import Mailbox, body_of, mailbox, smtp_connection
from tests.unit.entries import decision_after

ALL = '["failure", "promotion", "streak", "quarantine", "deadline"]'

SHOUT = """
from airflow.sdk import BaseNotifier
from tests.unit.entries import decision_after

class Shout(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, *, place, text):
        super().__init__()
        self.place, self.text = place, text

    def notify(self, context):
        open(self.place, "w").write(self.text)
"""

LATE = {
    "dag_run": {
        "dag_id": "daily_retrain",
        "dag_run_id": "scheduled__1+00:00",
        "run_type": "scheduled",
        "state": "running",
        "queued_at": "2020-06-11T00:00:00Z",
    },
    "deadline": {"deadline_time": "2020-06-11T06:00:00Z"},
}
"""The context in which Airflow calls `on_deadline`."""

Call = Callable[..., str]


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Call:
    """Calls a callback in some environment; returns what it logged."""
    caplog.set_level(logging.INFO)

    def call(callback: Callable[[Any], None], context: dict[str, Any], **environment: str) -> str:
        for name, value in ({"SBR_STORE": str(tmp_path / "store")} | environment).items():
            monkeypatch.setenv(name, value)
        caplog.clear()
        callback(context)
        return caplog.text

    return call


def ended(task: str, error: str = "") -> dict[str, Any]:
    """The context in which Airflow calls the callbacks of a task."""
    names = {"dag_id": "daily_retrain", "task_id": task, "run_id": "scheduled__1", "try_number": 1}
    run = SimpleNamespace(start_date=datetime(2020, 6, 11, tzinfo=UTC))
    context = {"ti": SimpleNamespace(**names, log_url="http://airflow.test/ti"), "dag_run": run, "dag": object()}
    return context | ({"exception": DayError(error)} if error else {})


def to(box: Mailbox, on: str = ALL) -> dict[str, str]:
    return {
        "AIRFLOW_CONN_SMTP_DEFAULT": box.connection,
        "SBR_ALERTS__ON": on,
        "SBR_ALERTS__RECIPIENTS": '["ops@shop.test", "ml@shop.test"]',
    }


def test_failed_task_sends_a_mail_with_reason_and_link(call: Call, box: Mailbox) -> None:
    call(alerts.on_failure, ended("build_window", "Too few days {{ ti.log_url }} & <b>"), **to(box))
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
    given = {"challenger_metrics": scores, "actor": "scheduled__1"}
    entry = decision_after(fold([]), version, date(2020, 6, 10), Outcome.FIRST_CHAMPION, **given)
    PromotionLog(store).create(entry)
    call(alerts.on_success, ended("promote_if_better"), **to(box))
    call(alerts.on_success, ended("write_report"), **to(box))
    (mail,) = box.mails
    assert mail["subject"].startswith("Promoted: 2020-06-10-1a2b3c4d is champion")
    body = body_of(mail)
    assert all(number in body for number in ("0.3125", "0.1250", "2,048"))
    assert store.where(entry.page) in body


def test_late_run_sends_a_mail_with_a_link_to_the_run(call: Call, box: Mailbox) -> None:
    call(alerts.on_deadline, LATE, AIRFLOW__API__BASE_URL="http://airflow.test/", **to(box))
    (mail,) = box.mails
    assert mail["subject"] == "daily_retrain: scheduled__1+00:00 is late and still running"
    assert "http://airflow.test/dags/daily_retrain/runs/scheduled__1%2B00%3A00" in body_of(mail)


def test_nothing_is_sent_unless_the_settings_ask_for_it(call: Call, box: Mailbox) -> None:
    call(alerts.on_failure, ended("build_window", "bad"), AIRFLOW_CONN_SMTP_DEFAULT=box.connection)
    call(alerts.on_failure, ended("build_window", "bad"), **to(box, on='["promotion"]'))
    call(alerts.on_deadline, LATE, **to(box, on='["failure"]'))
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
    logged = call(alerts.on_failure, ended("build_window", "bad"), **(to(box) | environment))
    assert f"An alert could not be sent ({reason}: " in logged
    assert "result isn't affected" in logged
    assert "Traceback" not in logged
    assert box.mails == []


def test_another_notifier_is_given_by_its_path_and_arguments(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shouting.py").write_text(SHOUT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    arguments = {"place": str(tmp_path / "said"), "text": "*{{ alert.subject }}*\n{{ alert.text }}"}
    environment = {
        "SBR_ALERTS__ON": ALL,
        "SBR_ALERTS__NOTIFIER": "shouting.Shout",
        "SBR_ALERTS__ARGUMENTS": json.dumps(arguments),
    }
    call(alerts.on_failure, ended("train_gru4rec", "The loss is not finite."), **environment)
    said = (tmp_path / "said").read_text()
    assert said.startswith(
        "*daily_retrain: train_gru4rec failed: The loss is not finite.*\nTask train_gru4rec of daily_retrain failed."
    )
    assert said.endswith("http://airflow.test/ti")
