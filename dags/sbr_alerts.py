"""Alerts people to failures, promotions, streaks of rejections, quarantines and late runs, as the settings `alerts` say.

All tasks have the callbacks, which read the settings when they are called: without `alerts.on` nothing is sent. What
goes wrong while an alert is sent is a line in the log: the task has ended by then, and keeps its result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import DeadlineAlert, DeadlineReference, SyncCallback

from sbr_tasks.report.notifier import notifier_of
from sbr_tasks.settings import SMTP_NOTIFIER, AlertSettings, Settings, load_settings

if TYPE_CHECKING:
    from sbr_tasks.report.alerts import Alert
    from sbr_tasks.report.due import Ended

logger = logging.getLogger(__name__)

MAIL = {"subject": "{{ alert.subject }}", "html_content": "{{ alert.html }}"}


def on_failure(context: dict[str, Any]) -> None:
    """Of a task that isn't tried again."""

    def due(settings: Settings) -> list[Alert]:
        from sbr_tasks.report.due import due_after_failure

        return due_after_failure(settings, _ended(context))

    _tell(context, due)


def on_success(context: dict[str, Any]) -> None:
    """Of a task that may have something to report: a decision, a rollback, days put into quarantine."""

    def due(settings: Settings) -> list[Alert]:
        from sbr_tasks.report.due import due_after_success

        return due_after_success(settings, _ended(context))

    _tell(context, due)


def on_deadline(context: dict[str, Any]) -> None:
    """Of a run that isn't done in time."""

    def due(settings: Settings) -> list[Alert]:
        from airflow.sdk.configuration import conf

        from sbr_tasks.report.due import due_at_deadline

        run = context["dag_run"]
        page = f"/dags/{run['dag_id']}/runs/{quote(run['dag_run_id'])}"
        link = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/") + page
        return due_at_deadline(settings, run, context["deadline"]["deadline_time"], link=link)

    _tell(context, due)


def deadline(settings: Settings) -> DeadlineAlert | None:
    """When a run is late; None where nobody wants to know.

    Counted from when the run was queued, because a run by hand may have no logical date, without which Airflow fails to create
    it. The executor runs the callback, because `make run` and other small Airflows have no triggerer.
    """
    if "deadline" not in settings.alerts.on:
        return None
    interval = timedelta(hours=settings.alerts.deadline_hours)
    return DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, interval, SyncCallback(on_deadline))


ALERTS: dict[str, Any] = {"on_failure_callback": on_failure, "on_success_callback": on_success}
"""Arguments of every task."""


def _tell(context: dict[str, Any], due: Callable[[Settings], list[Alert]]) -> None:
    try:
        settings = load_settings()
        for alert in due(settings) if settings.alerts.on else ():
            _send(alert, settings.alerts, context)
            logger.info("Alert sent: %s", alert.subject)
    except Exception as error:  # noqa: BLE001 - whatever a notifier raises, the task has ended and keeps its result
        sentence = (
            "An alert could not be sent (%s: %s); the task keeps its result. Check the settings `alerts` and the Airflow "
            "connection of the notifier (smtp_default for mails)."
        )
        logger.warning(sentence, type(error).__name__, error)


def _send(alert: Alert, settings: AlertSettings, context: dict[str, Any]) -> None:
    """Hands a message to the notifier, whose templated arguments know it as `alert`."""
    defaults = MAIL | {"to": list(settings.recipients)} if settings.notifier == SMTP_NOTIFIER else {}
    notifier = notifier_of(settings)(**(defaults | settings.arguments))
    # Without the DAG, templates are filled in a sandbox.
    notifier({name: value for name, value in context.items() if name != "dag"} | {"alert": alert})


def _ended(context: dict[str, Any]) -> Ended:
    from sbr_tasks.report.due import Ended

    ti, run = context["ti"], context.get("dag_run")
    began = run.start_date if run else None
    return Ended(ti.dag_id, ti.task_id, ti.run_id, began, ti.try_number, ti.log_url, context.get("exception"))
