"""kill -9 of promotions under a real scheduler, which repeats them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import NEW, Json
from tests.integration.shops import new_shop, run_days
from tests.integration.test_crashes import assert_champion_is_usable, state_of
from tools.wait import wait_for

from .conftest import Platform

SIX = [NEW - timedelta(days=5 - i) for i in range(6)]


@pytest.mark.long
def test_promotions_killed_under_airflow_are_retried_to_the_same_champion(
    platform: Platform, demo_clicks: Path, tmp_path: Path
) -> None:
    shop, reference = tmp_path / "shop", run_days(new_shop(tmp_path / "reference", demo_clicks), train=SIX)
    shutil.copytree(reference, shop)
    run_days(reference, retrain=SIX)
    draw = random.Random(5)
    with platform.using(shop, demo_clicks):
        first = platform.finished(platform.trigger("daily_retrain", {"day": str(SIX[0])}))
        took_s = platform.tasks(first["dag_run_id"])["promote_if_better"]["duration"]
        for number, day in enumerate(SIX[1:], start=2):
            run_id = platform.trigger("daily_retrain", {"day": str(day)})
            task = wait_for(lambda run_id=run_id: running(platform, run_id))
            if number % 2:
                entry = shop / "store" / "promotions" / f"{number:08d}.json"
                while not entry.exists():  # closely: what is left of the task after it may take less than half a second
                    assert psutil.pid_exists(task["pid"])
                    time.sleep(0.005)
                time.sleep(draw.uniform(0, 0.2))
            else:
                time.sleep(draw.uniform(0, took_s / 5))
            assert psutil.Process(task["pid"]).create_time() > platform.airflow.began
            os.kill(task["pid"], signal.SIGKILL)
            assert platform.finished(run_id)["state"] == "success"
            assert platform.tasks(run_id)["promote_if_better"]["try_number"] == 2
            assert_champion_is_usable(shop)
    assert state_of(shop) == state_of(reference)


def running(platform: Platform, run_id: str) -> Json | None:
    """The task `promote_if_better` of a run, once it has a process."""
    task = platform.tasks(run_id)["promote_if_better"]
    return task if task["state"] == "running" and task["pid"] else None
