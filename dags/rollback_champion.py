"""### Makes an earlier champion the champion again

Trigger with `to`, the name of a version that was champion before (see `sbr log`), and `reason`, for whoever reads the log
later. The version that is left is retired: it is never promoted again. The serving copy gets a new number with the old model,
and the asset `champion` is updated. With `pin` the version stays champion until it is unpinned; without, the next better model
replaces it.

**When a task fails**, the last line of its log says why: the version was never champion, is champion already, or is retired.
Nothing was changed then, unless it says that the decision was recorded. Triggering again with the same parameters changes
nothing after a success, and completes what was stopped halfway.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from sbr_dag_parts import CHAMPION, DEFAULT_ARGS
from sbr_run_parts import run_step

from sbr_tasks import steps


@dag(
    schedule=None,
    start_date=datetime(1995, 1, 1),
    catchup=False,
    params={
        "to": Param(
            type="string", minLength=1, title="Version", description="An earlier champion, such as 2020-06-29-1a2b3c4d"
        ),
        "reason": Param(type="string", minLength=1, title="Reason", description="Kept in the promotion log"),
        "pin": Param(
            False, type="boolean", title="Pin", description="Also keep it whatever the gate says, until pin_champion unpins it"
        ),
    },
    tags=["recommendations", "gru4rec"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
)
def rollback_champion() -> None:
    """Wires the one step; the work is in `sbr_tasks.steps`."""

    @task(execution_timeout=timedelta(minutes=30), outlets=[CHAMPION], pool="promotion")
    def roll_back() -> dict[str, Any]:
        """Writes the rollback into the promotion log, and updates MLflow and the serving copy."""
        context = get_current_context()
        params = context["params"]
        done = run_step(steps.roll_back, params["to"], params["reason"], pin=params["pin"], run=context["run_id"])
        context["outlet_events"][CHAMPION].extra.update(done)
        return done

    roll_back()


rollback_champion()
