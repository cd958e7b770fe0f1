"""What tasks do beside their step: progress as metrics and a summary; for `daily_retrain`, what its form asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk import Param, get_current_context
from airflow.sdk.observability import stats

from sbr_tasks import steps
from sbr_tasks.errors import StepError
from sbr_tasks.progress import watched_by
from sbr_tasks.summary import in_one_line
from sbr_tasks.trigger import FIELDS, Asked, read_form, schema_of

logger = logging.getLogger(__name__)

_DAY = "Day to retrain for. Required for a single run (the logical date is ignored); leave empty in a backfill."
_PROMOTE = (
    "By the gate: if it is better than the champion. Never: train, score and report only. Force: whatever the metrics, unless "
    "the champion is of a newer day."
)
_REASON = "Why the promotion is forced (kept in the promotion log); required with Force, refused without."
_LABELS = {"gate": "By the gate", "never": "Never", "force": "Force, with a reason"}


def trigger_form() -> dict[str, Param]:
    """The parameters of a run; null leaves a setting as it is."""
    only_now = "Settings of this run only"
    return {
        "day": Param(None, type=["null", "string"], format="date", title="Day", description=_DAY),
        "promote": Param(
            "gate", type="string", enum=list(_LABELS), values_display=_LABELS, title="Promote", description=_PROMOTE
        ),
        "reason": Param(None, type=["null", "string"], minLength=1, maxLength=500, title="Reason", description=_REASON),
        **{name: Param(None, section=only_now, **schema_of(name)) for name in FIELDS},
    }


def asked() -> Asked:
    """What the run of the present task was asked for."""
    return read_form(get_current_context()["params"])


def result_of(task: str, result: Any) -> Any:
    """What an earlier task of the run returned.

    Args:
        task: The earlier task.
        result: What Airflow has of it.

    Raises:
        StepError: It returned nothing, because somebody marked it as a success by hand.
    """
    if result is None:
        raise StepError(
            f"The task {task} has no result, so this one can't do its work: {task} was marked as a success by hand before it "
            f"had done its own, or its result was deleted. Clear {task} and the tasks after it."
        )
    return result


def resolve_run() -> str:
    """The day of the run of the present task; refuses parameters that don't go together, before anything is done."""
    context = get_current_context()
    run, wanted = context["dag_run"], asked()
    # A backfill's logical date is the start of its interval, except where it takes over a manual run of that date: Airflow
    # then keeps the manual run's interval, which is a day earlier.
    day = steps.resolve_day(context["params"]["day"], run.run_type.value, run.logical_date)
    logger.info("Done: %s.", in_one_line({"day": day, "promote": wanted.promote, "settings of this run": wanted.overrides}))
    return day


def run_step(step: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Runs a step, and returns what it does.

    Its progress goes to Airflow's metrics as gauges (`sbr.TASK.events_per_second`, ...), and a summary to the log at its end.
    """
    instance = get_current_context()["ti"]

    def gauge(numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            stats.gauge(f"sbr.{instance.task_id}.{name}", value, tags={"dag_id": instance.dag_id, "task_id": instance.task_id})

    with watched_by(gauge):
        found = step(*args, **named)
    if found is not None:
        logger.info("Done: %s.", in_one_line(found))
    return found


def run_as_asked(step: Callable[..., Any], *args: Any, overrides: Sequence[str] = (), **named: Any) -> Any:
    """As `run_step`, with the settings that the run was asked for, which win over `overrides`."""
    return run_step(step, *args, overrides=[*overrides, *asked().overrides], **named)
