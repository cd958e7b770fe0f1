"""Callbacks that send alerts on failures, promotions, streaks without a promotion, quarantines and late runs.

All tasks have the callbacks, which read the settings when they are called: without `alerts.on` nothing is sent. An alert that
can't be sent is a warning in the log, because the task has ended by then and its result is final.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import DeadlineAlert, DeadlineReference, SyncCallback

from sbr_tasks.airflow.notifier import notifier_class, send
from sbr_tasks.settings import Settings, load_settings

if TYPE_CHECKING:
    from sbr_tasks.report.alerts import Alert
    from sbr_tasks.report.due import Ended

logger = logging.getLogger(__name__)


def on_failure(context: Mapping[str, Any]) -> None:
    """Sends what is due after a task that won't be retried."""

    def due(settings: Settings) -> list[Alert]:
        from sbr_tasks.report.due import due_after_failure

        return due_after_failure(settings, _ended(context))

    _send_due(context, due)


def on_success(context: Mapping[str, Any]) -> None:
    """Sends what is due after a decision, a rollback, or days put into quarantine."""

    def due(settings: Settings) -> list[Alert]:
        from sbr_tasks.report.due import due_after_success

        return due_after_success(settings, _ended(context))

    _send_due(context, due)


def on_deadline(context: Mapping[str, Any]) -> None:
    """Sends what is due for a run that misses its deadline."""

    def due(settings: Settings) -> list[Alert]:
        from airflow.sdk.configuration import conf

        from sbr_tasks.report.due import due_at_deadline

        run = context["dag_run"]
        page = f"/dags/{run['dag_id']}/runs/{quote(run['dag_run_id'])}"
        link = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/") + page
        return due_at_deadline(settings, run, context["deadline"]["deadline_time"], link=link)

    _send_due(context, due)


def require_notifier(settings: Settings) -> None:
    """Makes a misspelt notifier an import error of the DAG now, rather than a surprise when a run fails.

    Raises:
        SettingsError: Alerts are on, and there is no such notifier.
    """
    if settings.alerts.on:
        notifier_class(settings.alerts)


def deadline(settings: Settings) -> DeadlineAlert | None:
    """When a run is late; None if the alert `deadline` is off.

    Counted from when the run was queued, because a run by hand may have no logical date, without which Airflow fails to create
    it. The executor runs the callback, because `make run` and other small Airflows have no triggerer.
    """
    if "deadline" not in settings.alerts.on:
        return None
    interval = timedelta(hours=settings.alerts.deadline_hours)
    return DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, interval, SyncCallback(on_deadline))


def _send_due(context: Mapping[str, Any], due: Callable[[Settings], list[Alert]]) -> None:
    try:
        settings = load_settings()
        for alert in due(settings) if settings.alerts.on else ():
            send(alert, settings.alerts, context)
            logger.info("Alert sent: %s", alert.subject)
    except Exception as error:  # noqa: BLE001 - whatever a notifier raises, the task has ended and its result is final
        sentence = (
            "An alert could not be sent (%s: %s). The task's result isn't affected. Check the `alerts` settings and the "
            "notifier's Airflow connection (smtp_default for mails)."
        )
        logger.warning(sentence, type(error).__name__, error)


def _ended(context: Mapping[str, Any]) -> Ended:
    from sbr_tasks.report.due import Ended

    ti, run = context["ti"], context.get("dag_run")
    began = run.start_date if run else None
    return Ended(ti.dag_id, ti.task_id, ti.run_id, began, ti.try_number, ti.log_url, context.get("exception"))
