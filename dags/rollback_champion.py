"""### Rolls back to an earlier champion

Trigger with `to`, the name of a version that was champion before (`sbr log` lists them), and a `reason`, which is kept in the
promotion log. The current champion is retired and can never be promoted again. The serving copy gets a new number with the old
model, and the asset `champion` is updated. With `pin`, the version stays champion until it is unpinned; otherwise the next
better version replaces it.

**When a task fails**, the last line of its log says why: the version was never champion, is already the champion, or is
retired. Nothing was changed, unless the error says that the decision was recorded. Triggering again with the same parameters
finishes an interrupted rollback, and changes nothing after a successful one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from sbr_dag_parts import CHAMPION, DEFAULT_ARGS
from sbr_run_parts import run_step, workspace


@dag(
    schedule=None,
    start_date=datetime(1995, 1, 1),
    catchup=False,
    params={
        "to": Param(
            type="string", minLength=1, title="Version", description="An earlier champion, such as 2020-06-29-1a2b3c4d."
        ),
        "reason": Param(type="string", minLength=1, title="Reason", description="Kept in the promotion log."),
        "pin": Param(
            False, type="boolean", title="Pin", description="Keep this version as champion until pin_champion unpins it."
        ),
    },
    tags=["recommendations", "gru4rec"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
)
def rollback_champion() -> None:
    """Connects the one step; the work is in `sbr_tasks.workspace`."""

    @task(execution_timeout=timedelta(minutes=30), outlets=[CHAMPION], pool="promotion")
    def roll_back() -> dict[str, Any]:
        """Records the rollback in the promotion log, then updates MLflow and the serving copy."""
        context = get_current_context()
        params = context["params"]
        done = run_step(workspace().roll_back, params["to"], params["reason"], pin=params["pin"], actor=context["run_id"])
        context["outlet_events"][CHAMPION].extra.update(done)
        return done

    roll_back()


rollback_champion()
