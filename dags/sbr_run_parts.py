"""What tasks share around their step: progress as metrics, a summary, and the trigger form of `daily_retrain`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, get_current_context
from airflow.sdk.observability import stats

from sbr_tasks.days import resolve_as_of
from sbr_tasks.errors import StepError
from sbr_tasks.progress import watched_by
from sbr_tasks.settings import load_settings
from sbr_tasks.summary import in_one_line
from sbr_tasks.trigger import FIELDS, Asked, read_form, schema_of

if TYPE_CHECKING:
    from sbr_tasks.results import Result
    from sbr_tasks.workspace import Workspace

logger = logging.getLogger(__name__)

_DAY = "Day to retrain for. Required for a single run (the logical date above is ignored); leave empty in a backfill."
_PROMOTE = (
    "If better: the gate compares it with the champion. Never: only train, score and report. Force: regardless of the metrics, "
    "unless the champion is from a newer day or pinned."
)
_REASON = "Reason for a forced promotion (kept in the promotion log). Required with Force, otherwise leave empty."
_LABELS = {"gate": "If better", "never": "Never", "force": "Force, with a reason"}


def trigger_form() -> dict[str, Param]:
    """The parameters of a run; null keeps the setting."""
    section = "Settings for this run only"
    return {
        "day": Param(None, type=["null", "string"], format="date", title="Day", description=_DAY),
        "promote": Param(
            "gate", type="string", enum=list(_LABELS), values_display=_LABELS, title="Promote", description=_PROMOTE
        ),
        "reason": Param(None, type=["null", "string"], minLength=1, maxLength=500, title="Reason", description=_REASON),
        **{name: Param(None, section=section, **schema_of(name)) for name in FIELDS},
    }


def asked() -> Asked:
    """What the parameters of the current run ask for."""
    context = get_current_context()
    return read_form(context["params"], context["run_id"])


def workspace(overrides: Mapping[str, Any] | None = None) -> Workspace:
    """The workspace, with settings of the run's own."""
    from sbr_tasks.workspace import Workspace  # too much to import where DAG files are parsed

    return Workspace.open(overrides)


def workspace_as_asked(overrides: Mapping[str, Any] | None = None) -> Workspace:
    """The workspace with the settings of the run's parameters, which win over `overrides`."""
    return workspace({**(overrides or {}), **asked().overrides})


def result_of(task: str, result: Any) -> Any:
    """What an earlier task of the run returned.

    Args:
        task: The earlier task.
        result: What Airflow has of it.

    Raises:
        StepError: It returned nothing, because somebody marked it as successful by hand.
    """
    if result is None:
        raise StepError(
            f"The task {task} has no result, which this task needs: {task} was marked as successful by hand, or its result was "
            f"deleted. Clear {task} and the tasks after it."
        )
    return result


def resolve_run() -> str:
    """The day of the current run; rejects parameters that don't go together before anything is done."""
    context = get_current_context()
    run, wanted = context["dag_run"], asked()
    # A backfill's logical date is the start of its interval, except where it takes over a manual run of that date: Airflow
    # then keeps the manual run's interval, which is a day earlier.
    zone = load_settings().zone
    given = context["params"]["day"]
    day = resolve_as_of(day=given, run_type=run.run_type.value, interval_start=run.logical_date, zone=zone)
    found = {"day": str(day), "promote": wanted.wish.promote, "settings for this run": wanted.overrides or None}
    logger.info("Done: %s.", in_one_line(found))
    return str(day)


def run_step(step: Callable[..., Result | None], *args: Any, **named: Any) -> Any:
    """Runs a step, and returns what it does, as JSON.

    Its progress goes to Airflow's metrics as gauges (`sbr.TASK.events_per_second`, ...), and a summary to the log at its end.
    """
    instance = get_current_context()["ti"]

    def gauge(numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            stats.gauge(f"sbr.{instance.task_id}.{name}", value, tags={"dag_id": instance.dag_id, "task_id": instance.task_id})

    with watched_by(gauge):
        result = step(*args, **named)
    if result is None:
        return None
    if result.text:
        logger.info("%s", result.text)
    returned = result.model_dump(mode="json")
    logger.info("Done: %s.", in_one_line(returned))
    return returned
