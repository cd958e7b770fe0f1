"""### Publishes the champion's top 20 next items for every item

Runs whenever the asset `champion` is updated: after a promotion or a rollback. It writes
`recommendations/MODEL_VERSION/next_items.parquet` to the store, with the columns `item_id`, `rank`, `next_item_id` and `score`.
An item never follows itself, and the settings `recommend` may hide others. This DAG is an example of work that follows a
promotion.

**When a task fails**, the last line of its log says why. Clear the task to retry; the same version gives the same file.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import dag, task

from sbr_tasks.airflow.assets import CHAMPION
from sbr_tasks.airflow.defaults import DEFAULT_ARGS
from sbr_tasks.airflow.runs import run_step, workspace


@dag(
    schedule=[CHAMPION],
    start_date=datetime(1995, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["recommendations", "gru4rec", "example"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
)
def publish_recommendations() -> None:
    """Connects the one step; the work is in `sbr_tasks.workspace`."""

    @task(execution_timeout=timedelta(hours=1))
    def publish_next_items() -> dict[str, Any]:
        """Scores next items for every item with the champion and writes the best ones."""
        return run_step(workspace().publish_next_items)

    publish_next_items()


publish_recommendations()
