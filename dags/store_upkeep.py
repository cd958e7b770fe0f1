"""### Checks the store, then removes what nothing needs any more

Once a week: `check_store` verifies every file that a record of the store names (`sbr store check`); if all are whole,
`clear_store` removes revisions, windows, versions and leftovers that no retained run and no entry of the promotion log needs
(`sbr store gc`). Retained are the runs of the newest decided day and of `keep_days` days before it; without that parameter
the setting `upkeep.keep_days` counts. Daily runs may be at work meanwhile.

**When a task fails**, the last line of its log says why. `check_store`: files are missing or damaged; the table in its log
names each and says what to do (docs/store.md, *Remedies*); then clear the task. Until then nothing
is removed. `clear_store`: the store is out of reach; clear the task, and it continues where it was stopped. Or more than half
of the accepted days would go, which only a person may confirm: `sbr store gc --dry-run` shows which, `--yes` removes them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from sbr_dag_parts import DEFAULT_ARGS
from sbr_run_parts import run_step

from sbr_tasks import steps

KEEP_HELP = "Days before the newest decided day whose runs keep all they read and wrote; empty: the setting upkeep.keep_days"


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
    """Wires the two steps; the work is in `sbr_tasks.steps`."""

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
