"""Arguments that all tasks share."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sbr_tasks.airflow.alerts import on_failure, on_success
from sbr_tasks.airflow.retries import RetryTransientErrors

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "recommendations",
    "retry_policy": RetryTransientErrors(),
    "retries": 3,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 2,
    "on_failure_callback": on_failure,
    "on_success_callback": on_success,
}
