"""What tasks share around their step."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Context
from airflow.sdk.execution_time.context import set_current_context

from sbr_tasks.airflow.runs import names_of, result_of, run_step, run_workspace
from sbr_tasks.errors import StepError
from sbr_tasks.results import IngestedDay


def context(**params: Any) -> Context:
    return cast(
        "Context", {"params": params, "run_id": "r", "ti": SimpleNamespace(dag_id="daily_retrain", task_id="build_window")}
    )


def test_summary_of_a_step_ends_its_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with set_current_context(context()):
        result = run_step(lambda day: IngestedDay(day=day, clicks=1234, text="A table"), "2020-06-30")
    assert (result["day"], result["clicks"]) == ("2020-06-30", 1234)
    assert caplog.messages[0] == "A table"
    assert caplog.messages[-1].startswith("Done: day 2020-06-30, clicks 1,234")


def test_parameters_of_the_run_win_over_other_overrides() -> None:
    with set_current_context(context(n_epochs=3)):
        workspace = run_workspace({"model.n_epochs": 9, "window.days": 7})
    assert workspace.overrides == {"model.n_epochs": 3, "window.days": 7}
    assert (workspace.settings.model.n_epochs, workspace.settings.window.days) == (3, 7)


def test_missing_result_names_the_task_that_was_marked_by_hand() -> None:
    assert result_of("build_window", {"clicks": 5}) == {"clicks": 5}
    with pytest.raises(StepError, match="Clear build_window and the tasks after it"):
        result_of("build_window", None)


def test_later_tasks_take_day_window_and_version() -> None:
    assert names_of({"day": "2020-06-30", "window": "w", "model_version": "v", "took_s": 1}) == ("2020-06-30", "w", "v")
    with pytest.raises(StepError, match="train_gru4rec"):
        names_of(None)  # type: ignore[arg-type] # what Airflow gives of a task without a result
