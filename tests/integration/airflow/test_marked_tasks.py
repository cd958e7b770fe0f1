"""Tasks that somebody marks as a success by hand, before they did their work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.integration.conftest import NEW
from tests.integration.history import entries_of, store_of

from .conftest import Platform

DAG = "dags/daily_retrain"
MARKED = ("resolve_day", "ingest_clicks", "validate_clicks", "build_window", "evaluate_models", "promote_if_better")


def test_decision_marked_as_success_is_shown_as_lacking_and_announced_by_nobody(
    platform: Platform, trained: Path, demo_clicks: Path, tmp_path: Path
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(trained, shop)
    before, api = entries_of(shop), platform.airflow.api
    manifest = next((shop / "store" / "models").glob(f"{NEW}-*/manifest.json"))
    version = json.loads(manifest.read_text(encoding="utf-8"))
    with platform.using(shop, demo_clicks), platform.publishing_nothing():
        api.patch(DAG, {"is_paused": True})
        try:
            run_id = platform.trigger("daily_retrain", {"day": str(NEW)})
            of_tasks = f"{DAG}/dagRuns/{run_id}/taskInstances"
            for task in (*MARKED, "train_gru4rec"):
                api.patch(f"{of_tasks}/{task}", {"new_state": "success"})
            trained_version = {"day": str(NEW), "window": version["window"], "model_version": version["name"]}
            api.post(f"{of_tasks}/train_gru4rec/xcomEntries", {"key": "return_value", "value": trained_version})
        finally:
            api.patch(DAG, {"is_paused": False})
        assert platform.finished(run_id)["state"] == "failed"
        tasks = platform.tasks(run_id)
        states = {task: (tasks[task]["state"], tasks[task]["try_number"]) for task in ("announce_champion", "write_report")}
        assert states == {"announce_champion": ("failed", 1), "write_report": ("success", 1)}
        assert platform.log(run_id, "announce_champion")[-1].startswith("The task promote_if_better has no result")
        assert platform.returned(run_id, "write_report")["outcome"] == "undecided"
    assert entries_of(shop) == before
    page = store_of(shop).get(f"reports/day={NEW}/{version['name']}.html").decode()
    assert f"Not decided: the promotion log has no decision on {version['name']}" in page
