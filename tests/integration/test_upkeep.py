"""Checking and clearing the store of real runs; a real chain on a real S3 API."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.upkeep.check import verify_store
from tools.demo_shop import demo_settings, environment

from .conftest import NEW, OLD, Json
from .history import store_of
from .shops import run_days

NO_GRACE = ("--set", "upkeep.grace_hours=0")
NEVER_BETTER = ("--set", "gate.min_delta=1")


def sbr(shop: Path, *words: str, **variables: str) -> Json:
    """What `sbr WORDS --json` prints in the folder of a shop."""
    command = [sys.executable, "-m", "sbr_tasks", *words, "--json"]
    done = subprocess.run(command, cwd=shop, env=environment() | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def shop(trained: Path, tmp_path: Path) -> Path:
    """A shop whose champion's day is far before the newest one, whose version the gate didn't promote."""
    folder = Path(shutil.copytree(trained, tmp_path / "shop"))
    sbr(folder, "retrain", "--day", str(NEW), *NEVER_BETTER)
    return folder


def test_old_champion_answers_after_a_clearing_and_the_next_run_is_compared_with_it(shop: Path) -> None:
    store = store_of(shop)
    (item, *_) = sbr(shop, "recommend", "--session", "0")["items"]
    question = ("recommend", "--session", str(item))
    answer = sbr(shop, *question)
    assert sbr(shop, "store", "check")["files"] > 0
    dry = sbr(shop, "store", "gc", "--keep-days", "2", "--dry-run", *NO_GRACE)
    done = sbr(shop, "store", "gc", "--keep-days", "2", *NO_GRACE)
    assert done == dry | {"dry_run": False}
    assert done["first_retained_run"] == str(NEW - timedelta(days=2))
    assert {"clicks", "windows", "evaluations"} <= done["removed"].keys()
    assert sbr(shop, "store", "check")["orphaned"]["files"] == 0
    assert sbr(shop, *question) == answer
    run_days(shop, retrain=[NEW])
    promotion = PromotionLog(store).entries()[-1]
    assert (promotion.before, promotion.day) == (answer["model_version"], NEW)
    assert verify_store(store).faults == ()


def test_removed_day_can_be_run_again(shop: Path) -> None:
    sbr(shop, "store", "gc", "--keep-days", "0", *NO_GRACE)
    assert not list((shop / "store").glob(f"clicks/day={OLD}/*/*"))
    entries = len(PromotionLog(store_of(shop)).entries())
    run_days(shop, retrain=[OLD])
    assert list((shop / "store").glob(f"clicks/day={OLD}/*/*"))
    assert len(PromotionLog(store_of(shop)).entries()) == entries  # the same version: its decision is unchanged
    assert verify_store(store_of(shop)).faults == ()


def test_days_go_from_source_to_window_on_object_storage_with_keys_from_the_environment(
    tmp_path: Path, demo_clicks: Path, s3_options: dict[str, str]
) -> None:
    options = {name: value for name, value in s3_options.items() if "key" not in name}
    keys = {"AWS_ACCESS_KEY_ID": s3_options["access_key_id"], "AWS_SECRET_ACCESS_KEY": s3_options["secret_access_key"]}
    shown = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    (tmp_path / "sbr.toml").write_text(demo_settings(demo_clicks, "s3://clicks/chain") + f"\n[store_options]\n{shown}\n")
    assert len(sbr(tmp_path, "ingest", **keys)["days"]) == 20
    assert len(sbr(tmp_path, "validate", **keys)["accepted"]) == 20
    built = sbr(tmp_path, "window", "--day", str(NEW), **keys)
    assert sbr(tmp_path, "window", "--day", str(NEW), **keys) == built
    local = tmp_path / "local"
    local.mkdir()
    (local / "sbr.toml").write_text(demo_settings(demo_clicks, "store"))
    for words in (["ingest"], ["validate"]):
        sbr(local, *words)
    assert sbr(local, "window", "--day", str(NEW)) == built
    assert sbr(tmp_path, "store", "check", **keys)["orphaned"]["files"] == 0
    cleared = sbr(tmp_path, "store", "gc", "--keep-days", "1", *NO_GRACE, **keys)
    assert "clicks" not in cleared["removed"], "no run was decided on, so every day may still be needed"
    checked = sbr(tmp_path, "store", "check", **keys)
    assert (checked["missing"], checked["damaged"]) == ([], [])
