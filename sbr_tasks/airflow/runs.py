"""What tasks share around their step: the day, results of earlier tasks, the parameters of the run, a summary in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from airflow.sdk import get_current_context

from sbr_tasks import steps
from sbr_tasks.airflow.metrics import gauge_progress
from sbr_tasks.airflow.parameters import Asked, read_form
from sbr_tasks.errors import StepError
from sbr_tasks.progress import watched_by
from sbr_tasks.summary import in_one_line

logger = logging.getLogger(__name__)


def asked() -> Asked:
    """What the parameters of the current run ask for."""
    return read_form(get_current_context()["params"])


def resolve_run() -> str:
    """The day of the current run; rejects parameters that don't go together before anything is done."""
    context = get_current_context()
    run, wanted = context["dag_run"], asked()
    # A backfill's logical date is the start of its interval, except where it takes over a manual run of that date: Airflow
    # then keeps the manual run's interval, which is a day earlier.
    day = steps.resolve_day(context["params"]["day"], run.run_type.value, run.logical_date)
    logger.info("Done: %s.", in_one_line({"day": day, "promote": wanted.promote, "settings for this run": wanted.overrides}))
    return day


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


def run_step(step: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Runs a step and returns its result. Its progress becomes metrics; a summary of the result ends the log."""
    with watched_by(gauge_progress):
        result = step(*args, **named)
    logger.info("Done: %s.", in_one_line(result))
    return result


def run_as_asked(step: Callable[..., Any], *args: Any, overrides: Sequence[str] = (), **named: Any) -> Any:
    """Like `run_step`, with the settings of the run's parameters, which win over `overrides`."""
    return run_step(step, *args, overrides=[*overrides, *asked().overrides], **named)
