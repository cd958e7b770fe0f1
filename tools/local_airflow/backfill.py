"""Runs `daily_retrain` over past days in one backfill, and reports progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as clock
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from tools.local_airflow.api import Api, ApiError
from tools.local_airflow.server import LocalAirflowError

DAG = "daily_retrain"
POLL_S = 1.5
STILL_S = 30.0
START_ATTEMPTS = 5
UNFINISHED = {"queued", "running"}
Report = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """A task that failed for good, and where the API has the log of its last attempt."""

    task_id: str
    log: str


def wait_for_dag(api: Api, since: float = 0.0, timeout_s: float = 120) -> None:
    """Returns when the DAG was parsed after `since` (seconds since 1970).

    Raises:
        LocalAirflowError: Its file can't be imported, or it wasn't seen in time.
    """
    deadline = time.time() + timeout_s
    while time.time() < deadline:
        errors = api.get("importErrors")["import_errors"]
        if errors:
            raise LocalAirflowError(f"{errors[0]['filename']} can't be imported:\n{errors[0]['stack_trace']}")
        try:
            parsed = api.get(f"dags/{DAG}")["last_parsed_time"]
        except ApiError as error:
            if error.status != 404:
                raise
        else:
            if parsed and datetime.fromisoformat(parsed).timestamp() >= since:
                return
        time.sleep(0.5)
    raise LocalAirflowError(f"Airflow did not find the DAG {DAG} within {timeout_s:.0f} s.")


def cancel_unfinished(api: Api, **which: Any) -> None:
    """Cancels the DAG's active backfills and fails its unfinished runs (those that match the query)."""
    for backfill in _active(api):
        api.put(f"backfills/{backfill['id']}/cancel")
    for run in _runs(api, state=sorted(UNFINISHED), **which):
        api.patch(_path(run), {"state": "failed"})


def start(api: Api, first: date, last: date, zone: ZoneInfo) -> None:
    """Starts one backfill, in day order, that also repeats finished days.

    Raises:
        LocalAirflowError: Another backfill of the DAG is active.
    """
    for backfill in _active(api):
        between = {"logical_date_gte": backfill["from_date"], "logical_date_lte": backfill["to_date"]}
        if _runs(api, state=sorted(UNFINISHED), run_type="backfill", **between):
            raise LocalAirflowError(
                f"A backfill of {DAG} from {backfill['from_date'][:10]} to {backfill['to_date'][:10]} is already active. "
                "Wait for it to finish, or cancel it in the UI."
            )
        api.put(f"backfills/{backfill['id']}/cancel")  # its runs are done, which Airflow notices only twice a minute
    create(api, {"from_date": _midnight(first, zone), "to_date": _midnight(last, zone), "max_active_runs": 1})


def create(api: Api, body: dict[str, Any]) -> None:
    """Creates a backfill that also repeats finished days.

    The DAG is paused meanwhile: on SQLite, the scheduler crashes on a run that the API server rolls back, and the API server
    may stop halfway.
    """
    api.patch(f"dags/{DAG}", {"is_paused": True})
    try:
        for attempts_left in reversed(range(START_ATTEMPTS)):
            try:
                api.post("backfills", {"dag_id": DAG, "reprocess_behavior": "completed", **body})
            except ApiError as error:
                if error.status < 500 or not attempts_left:
                    raise
            else:
                return
            time.sleep(1)
            cancel_unfinished(api, run_type="backfill")
    finally:
        api.patch(f"dags/{DAG}", {"is_paused": False})


def follow(api: Api, days: Sequence[date], zone: ZoneInfo, report: Report) -> list[Failure]:
    """Reports the tasks of the runs from the first to the last of `days` until all have finished.

    Returns:
        The failed tasks, in order of the days; empty when all runs succeeded.
    """
    span = {"logical_date_gte": _midnight(min(days), zone), "logical_date_lte": _midnight(max(days), zone)}
    reported: dict[tuple[str, str], tuple[str, float]] = {}
    failures: dict[str, list[Failure]] = {}  # by run, of the runs that are done
    while True:
        runs = _runs(api, order_by="logical_date", run_type="backfill", **span)
        for run in runs:
            if run["state"] == "queued" or run["dag_run_id"] in failures:
                continue
            tasks = _tasks(api, run)
            day = datetime.fromisoformat(run["logical_date"]).astimezone(zone).date()
            for task in tasks:
                _report_task(day, task, reported, report)
            if run["state"] not in UNFINISHED:
                failures[run["dag_run_id"]] = [_failure(run, task) for task in tasks if task["state"] == "failed"]
        seen = {datetime.fromisoformat(run["logical_date"]).astimezone(zone).date() for run in runs}
        if seen >= set(days) and len(failures) == len(runs):
            return [failure for run in runs for failure in failures[run["dag_run_id"]]]
        time.sleep(POLL_S)


def _failure(run: dict[str, Any], task: dict[str, Any]) -> Failure:
    return Failure(task["task_id"], f"{_path(run)}/taskInstances/{task['task_id']}/logs/{task['try_number']}")


def task_log(api: Api, path: str) -> str:
    """The log of one attempt of a task, which the API has at `path`, as plain lines; an error ends with its sentence."""
    lines = []
    for entry in api.get(path, full_content="true")["content"]:
        if isinstance(entry, str):
            lines.append(entry)
            continue
        if entry["event"].startswith("::"):
            continue
        lines.append(" ".join(filter(None, [(entry.get("timestamp") or "")[:19], entry.get("level"), entry["event"]])))
        lines += [f"    {line}" for error in entry.get("error_detail") or [] for line in _traceback(error)]
        if "reason" in entry:
            lines.append(entry["reason"])
    return "\n".join(lines)


def _traceback(error: dict[str, Any]) -> list[str]:
    frames = [
        f"{frame['filename']}:{frame['lineno']} in {frame['name']}"
        for frame in error.get("frames", [])
        if "/site-packages/airflow/" not in frame["filename"]
    ]
    return [*frames, f"{error['exc_type']}: {error['exc_value']}"]


def _report_task(day: date, task: dict[str, Any], reported: dict[tuple[str, str], tuple[str, float]], report: Report) -> None:
    state, key = task["state"], (task["dag_run_id"], task["task_id"])
    before, when = reported.get(key, ("", 0.0))
    if state not in {"running", "success", "failed", "up_for_retry"}:
        return
    took = task["duration"] or 0.0
    if state == "running":
        if before != "running":
            reported[key] = (state, time.time())
        elif time.time() - when > STILL_S:
            reported[key] = (state, time.time())
            began = datetime.fromisoformat(task["start_date"]).timestamp()
            report(f"{day}  {task['task_id']:<18} still running after {time.time() - began:.0f} s")
    elif state != before:
        reported[key] = (state, time.time())
        words = {"success": f"done in {took:.1f} s", "failed": f"FAILED after {took:.1f} s"}
        words |= {"up_for_retry": f"attempt {task['try_number']} failed, retrying"}
        report(f"{day}  {task['task_id']:<18} {words[state]}")


def _midnight(day: date, zone: ZoneInfo) -> str:
    return datetime.combine(day, clock.min, tzinfo=zone).isoformat()


def _active(api: Api) -> list[dict[str, Any]]:
    backfills = api.get("backfills", dag_id=DAG, order_by="-id", limit=100)["backfills"]
    return [backfill for backfill in backfills if not backfill["completed_at"]]


def _runs(api: Api, **query: Any) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    while True:
        page = api.get(f"dags/{DAG}/dagRuns", limit=100, offset=len(runs), **query)
        runs += page["dag_runs"]
        if not page["dag_runs"] or len(runs) >= page["total_entries"]:
            return runs


def _path(run: dict[str, Any]) -> str:
    return f"dags/{DAG}/dagRuns/{quote(run['dag_run_id'], safe='')}"


def _tasks(api: Api, run: dict[str, Any]) -> list[dict[str, Any]]:
    tasks = api.get(f"{_path(run)}/taskInstances", limit=100)["task_instances"]
    return sorted(tasks, key=lambda task: task["start_date"] or "9")
