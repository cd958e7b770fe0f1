"""Where Airflow's connections say that Spark runs."""

from __future__ import annotations

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from sbr_tasks.settings import WindowSettings


def spark_overrides(window: WindowSettings) -> list[str]:
    """The Spark master of the connection `spark_default`, unless the settings name one or windows don't need Spark."""
    if window.engine != "spark" or window.spark_master:
        return []
    try:
        connection = Connection.get("spark_default")
    except AirflowNotFoundException:
        return []
    master = connection.host
    if connection.port:  # of a connection given as a URL, the scheme is its type
        master = f"{master if '://' in master else f'spark://{master}'}:{connection.port}"
    return [f"window.spark_master={master}"] if master else []
