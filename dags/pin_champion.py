"""### Keeps the champion, whatever the gate says, or ends that

Trigger with `action` *Pin* and a `reason`, kept in the promotion log. From then on the gate's decisions are recorded as what
they would be (`would_promote`, `would_keep`), and the champion stays, until the DAG is triggered with *Unpin*. The champion
itself, MLflow and the serving copy don't change.

**When a task fails**, the last line of its log says why: there is no champion, it is pinned for another reason, or it isn't
pinned. Nothing was changed then.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from sbr_dag_parts import DEFAULT_ARGS
from sbr_run_parts import run_step

from sbr_tasks import steps

LABELS = {"pin": "Pin: keep the champion", "unpin": "Unpin: let decisions move it again"}


@dag(
    schedule=None,
    start_date=datetime(1995, 1, 1),
    catchup=False,
    params={
        "action": Param("pin", type="string", enum=list(LABELS), values_display=LABELS, title="Action"),
        "reason": Param(
            None, type=["null", "string"], minLength=1, title="Reason", description="Kept in the promotion log; needed to pin"
        ),
    },
    tags=["recommendations", "gru4rec"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
)
def pin_champion() -> None:
    """Wires the one step; the work is in `sbr_tasks.steps`."""

    @task(execution_timeout=timedelta(minutes=5))
    def pin() -> dict[str, Any]:
        """Writes into the promotion log that the champion stays, or that it may change again."""
        context = get_current_context()
        params = context["params"]
        step = {"pin": steps.pin_champion, "unpin": steps.unpin_champion}[params["action"]]
        return run_step(step, params["reason"] or "", run=context["run_id"])

    pin()


pin_champion()
