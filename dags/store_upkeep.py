"""### Checks the store, then removes what is no longer needed

Once a week, `check_store` verifies every file that a record of the store names (`sbr store check`). If all files are intact,
`clear_store` removes revisions, windows, versions and leftovers that no retained run and no entry of the promotion log needs
(`sbr store gc`). Runs are retained for the newest decided day and the `keep_days` days before it (default: the setting
`upkeep.keep_days`). It is safe to run beside daily runs.

**When a task fails**, the last line of its log says why.

- `check_store`: files are missing or damaged. The table in its log lists them and says what to do (docs/store.md,
  *Remedies*). Nothing is removed until you fix them and clear the task.
- `clear_store`: either the store is unreachable (clear the task to continue), or more than half of the accepted days would be
  removed, which needs confirmation: `sbr store gc --dry-run` shows them, and `sbr store gc --yes` removes them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from sbr_tasks import steps
from sbr_tasks.airflow.defaults import DEFAULT_ARGS
from sbr_tasks.airflow.runs import run_step

KEEP_HELP = "Days before the newest decided day whose runs are kept. Default: upkeep.keep_days."


@dag(
    schedule="@weekly",
    start_date=datetime(1995, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"keep_days": Param(None, type=["null", "integer"], minimum=0, title="Days to keep", description=KEEP_HELP)},
    tags=["recommendations", "gru4rec", "upkeep"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
)
def store_upkeep() -> None:
    """Connects the two steps; the work is in `sbr_tasks.steps`."""

    @task(execution_timeout=timedelta(hours=12))
    def check_store() -> dict[str, Any]:
        """Verifies every file that a record of the store names; fails if one is missing or damaged."""
        return run_step(steps.check_store)

    @task(execution_timeout=timedelta(hours=12))
    def clear_store() -> dict[str, Any]:
        """Removes what no retained run and no log entry needs."""
        return run_step(steps.clear_store, get_current_context()["params"]["keep_days"])

    check_store() >> clear_store()


store_upkeep()
