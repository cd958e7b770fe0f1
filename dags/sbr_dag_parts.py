"""What the DAGs share: task defaults, retries, and the asset that a promotion updates."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Connection, Context, RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowNotFoundException
from sbr_alerts import ALERTS

from sbr_tasks.errors import DamagedError, SbrError, StoreError
from sbr_tasks.settings import SourceSettings, WindowSettings


class RetryWhatMayMend(RetryPolicy):
    """Fails at once on an error that a retry can't fix, with its message as the reason in the log."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Retries everything but the package's own errors; an unreachable store may be back at the next attempt."""
        is_transient = isinstance(exception, StoreError) and not isinstance(exception, DamagedError)
        if isinstance(exception, SbrError) and not is_transient:
            return RetryDecision.fail(str(exception))
        return RetryDecision.default()


DEFAULT_ARGS: dict[str, Any] = {
    "owner": "recommendations",
    "retry_policy": RetryWhatMayMend(),
    "retries": 3,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 2,
    **ALERTS,
}


def waits(source: SourceSettings) -> dict[str, timedelta]:
    """How often a sensor looks for clicks, and when it gives up."""
    return {
        "poke_interval": timedelta(minutes=source.check_every_minutes),
        "timeout": timedelta(minutes=source.wait_minutes),
    }


def spark_overrides(window: WindowSettings) -> dict[str, str]:
    """The Spark master of the connection `spark_default`, unless the settings name one or windows don't need Spark."""
    if window.engine != "spark" or window.spark_master:
        return {}
    try:
        connection = Connection.get("spark_default")
    except AirflowNotFoundException:
        return {}
    master = connection.host
    if connection.port:  # of a connection given as a URL, the scheme is its type
        master = f"{master if '://' in master else f'spark://{master}'}:{connection.port}"
    return {"window.spark_master": master} if master else {}


CHAMPION = Asset("champion")
"""Updated when another version becomes champion; the event's extra holds `model_version`, `day` and `log_entry`."""
