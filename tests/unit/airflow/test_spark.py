"""Where Spark is, by Airflow's connections and the settings."""

from __future__ import annotations

import pytest

from sbr_tasks.airflow.spark import spark_overrides
from sbr_tasks.settings import WindowSettings

ON_SPARK = {"engine": "spark"}


@pytest.mark.parametrize(
    ("settings", "connection", "master"),
    [
        ({}, "spark://shop:7077", None),
        (ON_SPARK, None, None),
        (ON_SPARK | {"spark_master": "local[2]"}, "spark://shop:7077", None),
        (ON_SPARK, "spark://shop:7077", "spark://shop:7077"),
        (ON_SPARK, '{"conn_type": "spark", "host": "spark://shop", "port": 7077}', "spark://shop:7077"),
        (ON_SPARK, '{"conn_type": "spark", "host": "k8s://https://shop", "port": 6443}', "k8s://https://shop:6443"),
        (ON_SPARK, '{"conn_type": "spark", "host": "yarn"}', "yarn"),
    ],
)
def test_connection_names_the_spark_master_unless_the_settings_do(
    settings: dict[str, str], connection: str | None, master: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", connection)
    assert spark_overrides(WindowSettings.model_validate(settings)) == ([f"window.spark_master={master}"] if master else [])
