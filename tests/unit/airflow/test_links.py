"""The buttons on the pages of tasks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sbr_tasks.airflow.links import DATA_DOCS, MLFLOW, REPORT, XComLink


def address(link: XComLink, results: dict[str, Any]) -> str:
    return link.get_link(None, ti_key=SimpleNamespace(xcom_pull=lambda *, task_ids: results.get(task_ids)))


def test_addresses_hold_what_earlier_tasks_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = {"model_version": "2020-06-30-1a2b3c4d", "mlflow_url": "http://mlflow.test/7"}
    results = {"resolve_day": "2020-06-30", "train_gru4rec": trained}
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/team/airflow/")
    assert address(DATA_DOCS, results) == f"/team/airflow{DATA_DOCS.address.format(day='2020-06-30')}"
    assert address(REPORT, results) == f"/team/airflow{REPORT.address.format(version='2020-06-30-1a2b3c4d')}"
    assert address(MLFLOW, results) == "http://mlflow.test/7"


@pytest.mark.parametrize("trained", [None, {}, {"mlflow_url": None}])
def test_there_is_no_button_while_a_value_is_missing(trained: dict[str, Any] | None) -> None:
    assert address(MLFLOW, {"train_gru4rec": trained}) == ""
