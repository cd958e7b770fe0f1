"""Which messages are due when a task has ended or a run is late, by the records and the settings `alerts`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.registry.log import Decision, PromotionLog, Rollback
from sbr_tasks.report.alerts import (
    Alert,
    failure_alert,
    late_alert,
    promotion_alert,
    quarantine_alert,
    rollback_alert,
    streak_alert,
)
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Store
from sbr_tasks.validation.quarantine import quarantine_rows


@dataclass(frozen=True)
class Ended:
    """A task that has ended.

    Attributes:
        dag: Its DAG.
        task: Its name, with that of its group before a dot if it has one.
        run: The run's id.
        began: When the run began; None where that isn't known.
        attempt: How many times the task was tried.
        link: The task's page.
        error: Why it failed; None where it succeeded, or was killed.
    """

    dag: str
    task: str
    run: str
    began: datetime | None
    attempt: int
    link: str
    error: BaseException | str | None = None

    @property
    def name(self) -> str:
        """The task's name without that of its group."""
        return self.task.rsplit(".", 1)[-1]


def due_after_failure(settings: Settings, ended: Ended) -> list[Alert]:
    """An alert that it failed; or, where it put days into quarantine, one alert on these that gives the failure too."""
    quarantined = _quarantined(settings, ended) if ended.name == "validate_clicks" else []
    if quarantined or "failure" not in settings.alerts.on:
        return quarantined
    names = {"dag": ended.dag, "task": ended.task, "run": ended.run, "link": ended.link}
    return [failure_alert(**names, attempt=ended.attempt, error=ended.error)]


def due_after_success(settings: Settings, ended: Ended) -> list[Alert]:
    """What a task did that is worth an alert: nothing for most tasks."""
    return AFTER_SUCCESS[ended.name](settings, ended) if settings.alerts.on and ended.name in AFTER_SUCCESS else []


def due_at_deadline(settings: Settings, run: Json, deadline: datetime | str, *, link: str) -> list[Alert]:
    """An alert that a run is late, except in a backfill, whose runs wait for each other.

    Args:
        settings: Say whether the alert is on.
        run: As Airflow's API describes it.
        deadline: When it should have been done.
        link: The run's page.
    """
    if "deadline" not in settings.alerts.on or run["run_type"] == "backfill":
        return []
    names = {"dag": run["dag_id"], "run": run["dag_run_id"], "state": run["state"], "queued_at": str(run["queued_at"])}
    return [late_alert(**names, deadline=deadline, link=link)]


def _decided(settings: Settings, ended: Ended) -> list[Alert]:
    """The decision that this run made; none for a run that returned an earlier decision."""
    store = Store.open(settings)
    entries = PromotionLog(store).entries()
    own = [entry for entry in entries if isinstance(entry, Decision) and entry.actor == ended.run]
    if not own:
        return []
    page = store.where(own[-1].page)
    if own[-1].outcome.moves_champion:
        return [promotion_alert(own[-1], page=page, link=ended.link)] if "promotion" in settings.alerts.on else []
    streak = streak_alert(entries, own[-1], days=settings.alerts.streak_days, page=page, link=ended.link)
    return [streak] if streak and "streak" in settings.alerts.on else []


def _rolled_back(settings: Settings, ended: Ended) -> list[Alert]:
    entries = PromotionLog(Store.open(settings)).entries() if "promotion" in settings.alerts.on else []
    own = [entry for entry in entries if isinstance(entry, Rollback) and entry.actor == ended.run]
    return [rollback_alert(own[-1], link=ended.link)] if own else []


def _quarantined(settings: Settings, ended: Ended) -> list[Alert]:
    """The days in quarantine that were decided on since the run began: in any attempt of the task."""
    if "quarantine" not in settings.alerts.on or ended.began is None:
        return []
    store = Store.open(settings)
    new = ClickCatalog(store).validated_since(ended.began)
    days = [row for row in quarantine_rows(store) if row.day in new]
    return [quarantine_alert(days, failure=ended.error, link=ended.link)] if days else []


AFTER_SUCCESS: dict[str, Callable[[Settings, Ended], list[Alert]]] = {
    "promote_if_better": _decided,
    "roll_back": _rolled_back,
    "validate_clicks": _quarantined,
}
"""What is due, by the name of the task that succeeded."""
