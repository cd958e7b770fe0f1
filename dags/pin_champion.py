"""### Pins the champion, or unpins it

Trigger with `action` *Pin* and a `reason`, which is kept in the promotion log. Until the DAG is triggered with *Unpin*, the
gate still records decisions (`would_promote`, `would_keep`), but the champion stays. Pinning changes neither MLflow nor the
serving copy.

**When a task fails**, the last line of its log says why: there is no champion, it is pinned for another reason, or it isn't
pinned. Nothing was changed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from sbr_dag_parts import DEFAULT_ARGS
from sbr_run_parts import run_step, workspace

LABELS = {"pin": "Pin: keep the champion", "unpin": "Unpin: let better versions replace it"}


@dag(
    schedule=None,
    start_date=datetime(1995, 1, 1),
    catchup=False,
    params={
        "action": Param("pin", type="string", enum=list(LABELS), values_display=LABELS, title="Action"),
        "reason": Param(
            None,
            type=["null", "string"],
            minLength=1,
            title="Reason",
            description="Required to pin; kept in the promotion log.",
        ),
    },
    tags=["recommendations", "gru4rec"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
)
def pin_champion() -> None:
    """Connects the one step; the work is in `sbr_tasks.workspace`."""

    @task(execution_timeout=timedelta(minutes=5))
    def pin() -> dict[str, Any]:
        """Records the pin, or its end, in the promotion log."""
        context = get_current_context()
        params = context["params"]
        opened = workspace()
        step = opened.pin if params["action"] == "pin" else opened.unpin
        return run_step(step, params["reason"] or "", actor=context["run_id"])

    pin()


pin_champion()
