"""Which runs wait for clicks that haven't arrived."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Context, PokeReturnValue
from airflow.sdk.execution_time.context import set_current_context

from sbr_tasks.airflow.sensors import polling, wait_for_clicks
from sbr_tasks.errors import DayError, NotArrivedError
from sbr_tasks.settings import SourceSettings

WAITS = SourceSettings(wait_minutes=90, check_every_minutes=0.5)
DOES_NOT_WAIT = SourceSettings(wait_minutes=0)


def poke(run_type: str, source: SourceSettings, error: Exception | None = None) -> PokeReturnValue:
    def ingest() -> dict[str, Any]:
        if error:
            raise error
        return {"clicks": 5}

    with set_current_context(cast("Context", {"dag_run": SimpleNamespace(run_type=run_type)})):
        return wait_for_clicks("2020-06-30", source, ingest)


def test_sensor_is_done_once_the_clicks_are_ingested() -> None:
    for run_type in ("scheduled", "manual"):
        done = poke(run_type, WAITS)
        assert (done.is_done, done.xcom_value) == (True, {"clicks": 5})


def test_scheduled_run_waits_for_clicks_that_have_not_arrived(caplog: pytest.LogCaptureFixture) -> None:
    assert not poke("scheduled", WAITS, NotArrivedError("No such file.")).is_done
    assert caplog.messages == [
        "Waiting for the clicks of 2020-06-30: No such file. Checking every 0.5 minutes, for up to 90 minutes after the "
        "first attempt."
    ]


@pytest.mark.parametrize(
    ("run_type", "source", "error"),
    [
        ("manual", WAITS, NotArrivedError("No such file.")),
        ("backfill", WAITS, NotArrivedError("No such file.")),
        ("scheduled", DOES_NOT_WAIT, NotArrivedError("No such file.")),
        ("scheduled", WAITS, DayError("closed")),
    ],
)
def test_other_runs_and_other_errors_fail(run_type: str, source: SourceSettings, error: Exception) -> None:
    with pytest.raises(type(error)):
        poke(run_type, source, error)


def test_settings_say_how_often_and_how_long_a_sensor_looks() -> None:
    assert polling(WAITS) == {"poke_interval": timedelta(seconds=30), "timeout": timedelta(minutes=90)}
