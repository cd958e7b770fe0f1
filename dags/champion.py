"""The DAGs `rollback_champion` and `pin_champion`, with which people change or keep the champion."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from sbr_tasks.airflow.assets import CHAMPION, announce
from sbr_tasks.airflow.defaults import DEFAULT_ARGS
from sbr_tasks.airflow.runs import run_step, workspace

ROLLBACK = """### Rolls back to an earlier champion

Trigger with `to`, the name of a version that was champion before (`sbr log` lists them), and a `reason`, which is kept in the
promotion log. The current champion is retired and can never be promoted again. The serving copy gets a new number with the old
model, and the asset `champion` is updated. With `pin`, the version stays champion until it is unpinned; otherwise the next
better version replaces it.

**When a task fails**, the last line of its log says why: the version was never champion, is already the champion, or is
retired. Nothing was changed, unless the error says that the decision was recorded. Triggering again with the same parameters
finishes an interrupted rollback, and changes nothing after a successful one.
"""

PIN = """### Pins the champion, or unpins it

Trigger with `action` *Pin* and a `reason`, which is kept in the promotion log. Until the DAG is triggered with *Unpin*, the
gate still records decisions (`would_promote`, `would_keep`), but the champion stays. Pinning changes neither MLflow nor the
serving copy.

**When a task fails**, the last line of its log says why: there is no champion, it is pinned for another reason, or it isn't
pinned. Nothing was changed.
"""

ACTIONS = {"pin": "Pin: keep the champion", "unpin": "Unpin: let better versions replace it"}

by_hand = partial(
    dag,
    schedule=None,
    start_date=datetime(1995, 1, 1),
    catchup=False,
    tags=["recommendations", "gru4rec"],
    default_args=DEFAULT_ARGS,
)


@by_hand(
    params={
        "to": Param(
            type="string", minLength=1, title="Version", description="An earlier champion, such as 2020-06-29-1a2b3c4d."
        ),
        "reason": Param(type="string", minLength=1, title="Reason", description="Kept in the promotion log."),
        "pin": Param(
            False, type="boolean", title="Pin", description="Keep this version as champion until pin_champion unpins it."
        ),
    },
    doc_md=ROLLBACK,
)
def rollback_champion() -> None:
    """Connects the one step; the work is in `sbr_tasks.workspace`."""

    @task(execution_timeout=timedelta(minutes=30), outlets=[CHAMPION], pool="promotion")
    def roll_back() -> dict[str, Any]:
        """Records the rollback in the promotion log, then updates MLflow and the serving copy."""
        context = get_current_context()
        params = context["params"]
        named = {"pin": params["pin"], "actor": context["run_id"]}
        return announce(run_step(workspace().roll_back, params["to"], params["reason"], **named))

    roll_back()


@by_hand(
    params={
        "action": Param("pin", type="string", enum=list(ACTIONS), values_display=ACTIONS, title="Action"),
        "reason": Param(
            None,
            type=["null", "string"],
            minLength=1,
            title="Reason",
            description="Required to pin; kept in the promotion log.",
        ),
    },
    doc_md=PIN,
)
def pin_champion() -> None:
    """Connects the one step; the work is in `sbr_tasks.workspace`."""

    @task(execution_timeout=timedelta(minutes=5))
    def pin() -> dict[str, Any]:
        """Records the pin, or its end, in the promotion log."""
        context = get_current_context()
        params = context["params"]
        step = workspace().pin if params["action"] == "pin" else workspace().unpin
        return run_step(step, params["reason"] or "", actor=context["run_id"])

    pin()


rollback_champion()
pin_champion()
