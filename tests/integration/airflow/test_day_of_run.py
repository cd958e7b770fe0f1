"""Whichever way a run is started, it is for the right day, or it is refused with a sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Json
from tools.local_airflow.api import ApiError, midnight
from tools.wait import wait_for

from .conftest import DAYS, Platform

# The source has no clicks then, so that these runs end soon after their day is known.
EMPTY_DAY = date(2001, 2, 3)
REFUSAL = (
    "A manual run needs the parameter 'day' (YYYY-MM-DD): the day whose clicks are new. "
    'It was not given; trigger the DAG again with, for example, {"day": "2020-06-30"}.'
)


def trigger_form(platform: Platform, day: date | None) -> str:
    """What the form of the UI sends: every field, and the time at which it was opened."""
    conf = {"day": str(day) if day else None}
    now = datetime.now(UTC).isoformat()
    empty = {"data_interval_start": None, "data_interval_end": None, "note": ""}
    return str(_trigger(platform, {"conf": conf, "logical_date": now, **empty}))


def trigger_rest(platform: Platform, day: date | None) -> str:
    """The least that the REST API asks for."""
    return str(_trigger(platform, {"logical_date": None} | ({"conf": {"day": str(day)}} if day else {})))


def trigger_cli(platform: Platform, day: date | None) -> str:
    run_id = f"by_command_line_{day}"
    conf = ["--conf", f'{{"day": "{day}"}}'] if day else []
    platform.command(sys.executable, "-m", "airflow", "dags", "trigger", "daily_retrain", "--run-id", run_id, *conf)
    return run_id


Way = Callable[[Platform, date | None], str]
WAYS: list[Way] = [trigger_form, trigger_rest, trigger_cli]


@pytest.fixture(scope="module")
def triggered(platform: Platform) -> dict[tuple[Way, date | None], str]:
    """Runs started in each way with and without a day, so close together that the scheduler works on some side by side."""
    return {(way, day): way(platform, day) for way in WAYS for day in (EMPTY_DAY, None)}


def test_scheduled_run_is_for_the_day_before_it(platform: Platform) -> None:
    run = wait_for(lambda: platform.runs(run_type="scheduled"))[0]
    platform.finished(run["dag_run_id"])
    start = datetime.fromisoformat(run["data_interval_start"])
    assert (datetime.fromisoformat(run["run_after"]) - start).days == 1
    assert platform.returned(run["dag_run_id"], "resolve_day") == str(start.date())


def test_scheduled_run_waits_until_its_clicks_arrive(platform: Platform, tmp_path: Path) -> None:
    run_id = wait_for(lambda: platform.runs(run_type="scheduled"))[0]["dag_run_id"]
    platform.finished(run_id)
    day, late = platform.returned(run_id, "resolve_day"), tmp_path / "late.dat"
    before = platform.tasks(run_id)["ingest_clicks"]
    assert before["state"] == "failed"

    def becomes(state: str) -> Json:
        return wait_for(lambda: found if (found := platform.tasks(run_id)["ingest_clicks"])["state"] == state else None)

    with platform.using(tmp_path / "shop", late, wait_minutes=60):
        platform.clear_failed(run_id)
        assert becomes("up_for_reschedule")["try_number"] == before["try_number"] + 1  # waiting is no failed try
        late.write_text(f"1,{day}T10:00:00.000Z,5,0\n1,{day}T10:01:00.000Z,6,0\n", encoding="utf-8")
        becomes("success")
        assert platform.returned(run_id, "ingest_clicks")["clicks"] == 2
        platform.finished(run_id)
    log = platform.log(run_id, "ingest_clicks", before["try_number"] + 1)
    waited = f"Waiting for the clicks of {day}: Expected clicks in {late}, but there is no such file."
    assert any(waited in line for line in log), log


def test_backfill_runs_are_for_the_days_that_were_asked_for(platform: Platform, three_days: dict[date, Json]) -> None:
    resolved = [platform.returned(run["dag_run_id"], "resolve_day") for run in three_days.values()]
    assert sorted(resolved) == [str(day) for day in DAYS]
    assert all(platform.returned(run["dag_run_id"], "resolve_day") == str(day) for day, run in three_days.items())


@pytest.mark.parametrize("trigger", WAYS)
def test_manual_run_is_for_its_day_parameter(
    platform: Platform, triggered: dict[tuple[Way, date | None], str], trigger: Way
) -> None:
    run = platform.finished(triggered[trigger, EMPTY_DAY])
    assert run["run_type"] == "manual"
    assert platform.returned(run["dag_run_id"], "resolve_day") == str(EMPTY_DAY)


@pytest.mark.parametrize("trigger", WAYS)
def test_manual_run_without_day_is_refused_at_once(
    platform: Platform, triggered: dict[tuple[Way, date | None], str], trigger: Way
) -> None:
    run = platform.finished(triggered[trigger, None])
    tasks = platform.tasks(run["dag_run_id"])
    assert run["state"] == "failed"
    assert (tasks["resolve_day"]["state"], tasks["resolve_day"]["try_number"]) == ("failed", 1)
    assert {task["state"] for task_id, task in tasks.items() if task_id != "resolve_day"} == {"upstream_failed"}
    assert platform.log(run["dag_run_id"], "resolve_day")[-1] == REFUSAL


@pytest.mark.parametrize("day", ["30/06/2020", "2020-06-31", "yesterday"])
def test_a_day_that_is_none_is_refused_before_a_run_exists(platform: Platform, day: str) -> None:
    with pytest.raises(ApiError) as refused:
        _trigger(platform, {"logical_date": None, "conf": {"day": day}})
    assert refused.value.status == 400
    assert day in str(refused.value)


def test_day_without_clicks_fails_at_once_with_a_sentence(
    platform: Platform, triggered: dict[tuple[Way, date | None], str]
) -> None:
    run = platform.finished(triggered[trigger_rest, EMPTY_DAY])
    ingest = platform.tasks(run["dag_run_id"])["ingest_clicks"]
    assert (ingest["state"], ingest["try_number"]) == ("failed", 1)
    assert platform.log(run["dag_run_id"], "ingest_clicks")[-1].startswith(f"{EMPTY_DAY} has no clicks in ")


def test_backfill_that_takes_over_a_manual_run_is_for_its_own_day(platform: Platform) -> None:
    taken = date(2001, 5, 10)
    run_id = str(_trigger(platform, {"logical_date": midnight(taken)}))
    manual = platform.finished(run_id)
    assert manual["data_interval_start"].startswith("2001-05-09")  # what a naive reading would take for the day
    platform.backfill(taken, taken)
    run = platform.finished(run_id)
    assert run["run_type"] == "backfill"
    assert platform.returned(run_id, "resolve_day") == str(taken)


def _trigger(platform: Platform, body: dict[str, Any]) -> str:
    return str(platform.airflow.api.post("dags/daily_retrain/dagRuns", body)["dag_run_id"])
