"""What tasks share around their step: the day, results of earlier tasks, the parameters of the run, a summary in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context

from sbr_tasks.airflow.metrics import gauge_progress
from sbr_tasks.airflow.parameters import RunRequest, read_form
from sbr_tasks.days import resolve_day
from sbr_tasks.errors import StepError
from sbr_tasks.progress import watched_by
from sbr_tasks.settings import load_settings
from sbr_tasks.summary import in_one_line

if TYPE_CHECKING:
    from sbr_tasks.summary import Result
    from sbr_tasks.workspace import Workspace

logger = logging.getLogger(__name__)


def run_request() -> RunRequest:
    """What the parameters of the current run ask for."""
    context = get_current_context()
    return read_form(context["params"], context["run_id"])


def workspace(overrides: Mapping[str, Any] | None = None) -> Workspace:
    """The workspace, with settings for this run only."""
    from sbr_tasks.workspace import Workspace  # too much to import where DAG files are parsed

    return Workspace.open(overrides)


def run_workspace(overrides: Mapping[str, Any] | None = None) -> Workspace:
    """The workspace with the settings of the run's parameters, which win over `overrides`."""
    return workspace({**(overrides or {}), **run_request().overrides})


def resolve_run() -> str:
    """The day of the current run; rejects parameters that don't go together before anything is done."""
    context = get_current_context()
    run, request = context["dag_run"], run_request()
    # A backfill's logical date is the start of its interval, except where it takes over a manual run of that date: Airflow
    # then keeps the manual run's interval, which is a day earlier.
    zone = load_settings().zone
    day = resolve_day(day=context["params"]["day"], run_type=run.run_type.value, interval_start=run.logical_date, zone=zone)
    summary = {"day": str(day), "promote": request.wish.promote, "settings for this run": request.overrides or None}
    logger.info("Done: %s.", in_one_line(summary))
    return str(day)


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


def names_of(challenger: dict[str, Any]) -> tuple[str, str, str]:
    """Day, window and version, which the tasks after `train_gru4rec` take."""
    challenger = result_of("train_gru4rec", challenger)
    return challenger["day"], challenger["window"], challenger["model_version"]


def run_step(step: Callable[..., Result], *args: Any, **named: Any) -> Any:
    """Runs a step and returns its result as JSON. Its progress becomes metrics; its table and a summary end the log."""
    with watched_by(gauge_progress):
        result = step(*args, **named)
    if result.text:
        logger.info("%s", result.text)
    returned = result.model_dump(mode="json")
    logger.info("Done: %s.", in_one_line(returned))
    return returned
