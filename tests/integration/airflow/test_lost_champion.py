"""While the champion's files are gone, a day that must be compared with it decides nothing and says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision
from sbr_tasks.registry.serving import served
from sbr_tasks.settings import load_settings
from tests.integration.conftest import NEW
from tests.integration.history import assert_projections_follow, entries_of, store_of

from .conftest import Platform

REMEDY = "Restore its files, roll back to another version, or set gate.replace_unusable to let a good challenger replace it."


def test_day_fails_while_the_champion_is_lost_and_is_decided_once_it_is_back(
    platform: Platform, trained: Path, demo_clicks: Path, tmp_path: Path
) -> None:
    shop, aside = tmp_path / "shop", tmp_path / "aside"
    shutil.copytree(trained, shop)
    entries, was_served = entries_of(shop), served(store_of(shop))
    champion = str(entries[-1].champion)
    model = shop / "store" / "models" / champion
    model.rename(aside)
    with platform.using(shop, demo_clicks), platform.publishing_nothing():
        run_id = platform.trigger("daily_retrain", {"day": str(NEW)})
        assert platform.finished(run_id)["state"] == "failed"
        tasks = platform.tasks(run_id)
        failed = {task_id: task["try_number"] for task_id, task in tasks.items() if task["state"] == "failed"}
        assert failed == {"promote_if_better": 1}
        assert {task_id for task_id, task in tasks.items() if task["state"] == "upstream_failed"} == {
            "announce_champion",
            "write_report",
        }
        *_, last = platform.log(run_id, "promote_if_better")
        assert last.startswith(f"The champion {champion} can't be used: ")
        assert last.endswith(REMEDY)
        assert (entries_of(shop), served(store_of(shop))) == (entries, was_served)
        aside.rename(model)
        platform.clear_failed(run_id)
        assert platform.finished(run_id)["state"] == "success"
    *before, entry = entries_of(shop)
    assert before == entries
    assert isinstance(entry, Decision)
    assert (entry.opponent, entry.outcome, entry.actor) == (champion, Outcome.PROMOTE, run_id)
    assert_projections_follow(store_of(shop), load_settings(cwd=shop))
