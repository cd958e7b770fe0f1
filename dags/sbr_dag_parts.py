"""What the DAGs of this folder share: who owns a task, what is tried again, and the asset that a promotion updates."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Connection, Context, RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowNotFoundException
from sbr_alerts import ALERTS

from sbr_tasks.errors import DamagedError, SbrError, StoreError
from sbr_tasks.settings import SourceSettings, WindowSettings


class RetryWhatMayMend(RetryPolicy):
    """Fails at once on an error that is the same at every try, with its sentence as the reason in the log."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Retries everything but the package's own errors; a store that was out of reach may be back at the next try."""
        may_mend = isinstance(exception, StoreError) and not isinstance(exception, DamagedError)
        if isinstance(exception, SbrError) and not may_mend:
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


def spark_overrides(window: WindowSettings) -> list[str]:
    """Where Spark works, as the connection `spark_default` says; nothing if windows need no Spark or the settings say where."""
    if window.engine != "spark" or window.spark_master:
        return []
    try:
        connection = Connection.get("spark_default")
    except AirflowNotFoundException:
        return []
    master = connection.host
    if connection.port:  # a connection that is written as a URL has its scheme as its type
        master = f"{master if '://' in master else f'spark://{master}'}:{connection.port}"
    return [f"window.spark_master={master}"] if master else []


CHAMPION = Asset("champion")
"""Updated by whatever makes another version the champion; the event's extra holds `model_version`, `day` and `log_entry`."""
