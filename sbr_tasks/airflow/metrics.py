"""Progress of tasks as Airflow's metrics."""

from __future__ import annotations

from collections.abc import Mapping

from airflow.sdk import get_current_context
from airflow.sdk.observability import stats


def gauge_progress(numbers: Mapping[str, float]) -> None:
    """Sends the progress of the current task as gauges (`sbr.TASK.events_per_second`, ...)."""
    instance = get_current_context()["ti"]
    tags = {"dag_id": instance.dag_id, "task_id": instance.task_id}
    for name, value in numbers.items():
        stats.gauge(f"sbr.{instance.task_id}.{name}", value, tags=tags)
