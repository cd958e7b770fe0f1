"""Retraining by hand: what the form refuses, what the first task refuses, and what a run with settings of its own does."""

from __future__ import annotations

import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from sbr_tasks.days import day_in_words
from sbr_tasks.registry.versions import load_version
from tests.integration.airflow.conftest import Platform
from tests.integration.conftest import NEW
from tests.integration.history import entries_of, store_of

from .conftest import PageOf, keep_screen
from .forms import DAG_PAGE, choose, open_form, set_number, submit

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def shop(platform: Platform, trained: Path, demo_clicks: Path, tmp_path: Path) -> Iterator[Path]:
    """A shop with the champion of an old day, which the tasks work on meanwhile."""
    shop = Path(shutil.copytree(trained, tmp_path / "shop"))
    with platform.using(shop, demo_clicks), platform.publishing_nothing():
        yield shop


def test_the_dag_page_explains_itself(page_of: PageOf) -> None:
    page = page_of("viewer")
    page.goto(DAG_PAGE)
    page.get_by_role("button", name="Dag Docs").click()
    page.get_by_text("Retrains GRU4Rec on the newest day of clicks").wait_for()
    page.wait_for_timeout(700)  # it fades in
    keep_screen(page, "dag-docs")
    page.get_by_text("waiting for a slot in its pool").scroll_into_view_if_needed()
    keep_screen(page, "dag-docs-end")
    page.keyboard.press("Escape")
    page.get_by_role("button", name=re.compile("Show Graph")).click()
    for group in ("clicks", "model", "decision"):
        page.locator(".react-flow__node").get_by_text(group, exact=True).wait_for()
    page.get_by_role("button", name="Expand all task groups").click()
    page.locator(".react-flow__node").get_by_text("train_gru4rec", exact=True).wait_for()
    page.get_by_role("button", name="Collapse Details Panel").click()
    page.wait_for_timeout(1500)  # the graph is laid out again
    page.locator("button.react-flow__controls-fitview").click()
    page.wait_for_timeout(1500)  # it moves into place
    keep_screen(page, "dag-graph")


def test_epochs_out_of_bounds_make_no_run(platform: Platform, page_of: PageOf) -> None:
    before = [run["dag_run_id"] for run in platform.runs(run_type="manual")]
    page = page_of("op")
    form = open_form(page)
    form.locator("[name=element_day]").fill(str(NEW))
    keep_screen(page, "trigger-form")
    set_number(form, "n_epochs", 500)
    assert form.get_by_text("From 1 to 100.").is_visible()
    form.get_by_role("button", name="Trigger").click()
    page.get_by_text("Failed to Trigger Dag").first.wait_for()
    keep_screen(page, "trigger-form-refused")
    assert [run["dag_run_id"] for run in platform.runs(run_type="manual")] == before


def test_forced_promotion_without_a_reason_is_refused_by_the_first_task(platform: Platform, page_of: PageOf) -> None:
    page = page_of("op")
    form = open_form(page)
    form.locator("[name=element_day]").fill(str(NEW))
    choose(form, "promote", "Force, with a reason")
    run_id = unquote(submit(form))
    assert platform.finished(run_id)["state"] == "failed"
    states = {task_id: task["state"] for task_id, task in platform.tasks(run_id).items()}
    assert states.pop("resolve_day") == "failed"
    assert set(states.values()) == {"upstream_failed"}
    assert platform.log(run_id, "resolve_day")[-1] == (
        "A forced promotion needs a reason, which is kept in the log; found none. Give one and try again."
    )


def test_run_with_a_setting_of_its_own_that_promotes_nothing(platform: Platform, page_of: PageOf, shop: Path) -> None:
    before = entries_of(shop)
    page = page_of("op")
    form = open_form(page)
    form.locator("[name=element_day]").fill(str(NEW))
    choose(form, "promote", "Never")
    set_number(form, "n_epochs", 2)
    page.wait_for_timeout(700)  # one section folds up while the other opens
    keep_screen(page, "trigger-form-settings")
    run_id = unquote(submit(form))
    assert platform.finished(run_id)["state"] == "success"

    result = platform.returned(run_id, "promote_if_better")
    assert (result["outcome"], result["promoted"], result["log_entry"]) == ("not_asked", False, None)
    assert result["reasons"][-1] == "Settings for this run only: model.n_epochs=2."
    assert entries_of(shop) == before, "nothing was written to the promotion log"
    version = load_version(store_of(shop), result["model_version"])
    assert len(version.curve) == version.inputs.model.n_epochs == 2
    assert platform.tasks(run_id)["announce_champion"]["state"] == "skipped"
    for task_id in ("resolve_day", "ingest_clicks", "validate_clicks", "build_window", "train_gru4rec", "write_report"):
        assert any(f"Done: day {NEW}" in line for line in platform.log(run_id, task_id)), task_id

    _look_at_links(platform, page, run_id)
    page.goto(f"/sbr-models/version?name={version.name}")
    page.get_by_text("only trained and scored").first.wait_for()


def _look_at_links(platform: Platform, page: Page, run_id: str) -> None:
    """The task's page leads to the version's page and the Data Docs, which ask for a login and stay inside the store."""
    page.goto(f"{DAG_PAGE}/runs/{run_id}/tasks/write_report/details")
    report = page.get_by_role("link", name="Report of the run")
    report.wait_for()
    keep_screen(page, "task-links")
    docs = str(page.get_by_role("link", name="Data Docs of the day").get_attribute("href"))
    report.click()
    frame = page.frame_locator('iframe[title="Models"]')
    frame.get_by_text("only trained and scored").first.wait_for()
    keep_screen(page, "version-never")
    page.goto(docs)
    page.get_by_text(f"{day_in_words(NEW)} was accepted").wait_for()
    keep_screen(page, "data-docs")

    place = page.url
    answer = page.request.get(place)
    assert (answer.status, "sandbox" in answer.headers["content-security-policy"]) == (200, True)
    lost = ("version?name=..%2F..%2Fsbr.toml", "data-docs/..%2F..", "version?name=2014-09-30-00000000", "data-docs/2001-01-01")
    for outside in lost:
        assert page.request.get(f"/sbr-models/{outside}").status == 404, outside
    for path in (place, f"{platform.airflow.url}/sbr-models/", f"{platform.airflow.url}/sbr-models/docs"):
        assert _anonymous_status(path) in (401, 404), path
    assert _anonymous_status(place) == 401


def _anonymous_status(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_parameter_that_does_not_exist_is_refused(platform: Platform) -> None:
    run_id = platform.trigger("daily_retrain", {"day": str(NEW), "n_epoch": 3})
    assert platform.finished(run_id)["state"] == "failed"
    assert platform.log(run_id, "resolve_day")[-1].startswith("Unknown parameter 'n_epoch': expected day, promote, reason, ")


def test_forced_promotion_with_a_reason_is_unchanged_when_the_task_is_repeated(platform: Platform, shop: Path) -> None:
    run_id = platform.trigger("daily_retrain", {"day": str(NEW), "promote": "force", "reason": "new season"})
    assert platform.finished(run_id)["state"] == "success"
    forced = entries_of(shop)[-1]
    result = platform.returned(run_id, "promote_if_better")
    assert (result["outcome"], result["promoted"], result["log_entry"]) == ("forced", True, forced.number)
    assert result["reasons"][0] == "Forced regardless of the metrics: new season."
    body = {"dag_run_id": run_id, "dry_run": False, "only_failed": False, "task_ids": ["promote_if_better"]}
    platform.airflow.api.post("dags/daily_retrain/clearTaskInstances", body)
    assert platform.finished(run_id)["state"] == "success"
    assert entries_of(shop)[-1] == forced
    assert json.dumps(platform.returned(run_id, "promote_if_better")) == json.dumps(result)
