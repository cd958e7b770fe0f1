"""A week of past days at once, on two workers that train."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.versions import load_version
from sbr_tasks.store import Store
from tests.integration.history import assert_explained, assert_projections_follow, store_of
from tests.integration.shops import new_shop, run_days
from tools.local_airflow import backfill
from tools.local_airflow.api import midnight
from tools.local_stack.running import DAG, RunningStack

from .conftest import CLICKS, DAY

WEEK = [DAY - timedelta(days=7 - i) for i in range(7)]


@pytest.mark.long
@pytest.mark.usefixtures("daily_run")
def test_a_week_side_by_side_on_two_workers_gives_the_models_of_one_day_after_the_other(
    running: RunningStack, tmp_path: Path
) -> None:
    api = running.api("admin")
    pool = {"pool": "training", "include_deferred": False}
    other = running.stack.replicate("training-worker")
    try:
        api.patch("pools/training", pool | {"slots": 2})
        span = {"from_date": midnight(WEEK[0]), "to_date": midnight(WEEK[-1])}
        backfill.create(api, {**span, "max_active_runs": 2})
        assert backfill.follow(api, WEEK, ZoneInfo("UTC"), print) == []
    finally:
        running.stack.remove(other)
        api.patch("pools/training", pool | {"slots": 1})
    assert trained_at_once(running) > 1

    settings = running.settings()
    store, plain = Store.open(settings), store_of(run_days(new_shop(tmp_path / "shop", running.clicks / CLICKS), train=WEEK))
    entries = PromotionLog(store).entries()
    versions = {entry.day: entry.version for entry in entries if getattr(entry, "day", None) in WEEK}
    decisions = Counter(getattr(entry, "day", None) for entry in entries)
    assert {day: decisions[day] for day in WEEK} == dict.fromkeys(WEEK, 1)
    for day in WEEK:
        files = [load_version(where, versions[day]).files for where in (store, plain)]
        assert files[0] == files[1], day
    assert_explained(entries, settings, store)
    assert_projections_follow(store, settings)
    assert running.leaks() == []


def trained_at_once(running: RunningStack) -> int:
    """The most trainings of the week that were at work at one time."""
    spans = []
    for run in running.api("admin").get(f"dags/{DAG}/dagRuns", run_type="backfill", limit=100)["dag_runs"]:
        task = running.tasks(run["dag_run_id"])["train_gru4rec"]
        spans.append([datetime.fromisoformat(task[end]) for end in ("start_date", "end_date")])
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
