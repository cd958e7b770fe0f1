"""Backfills from the UI: the form says how many days it would run, runs them in order, and repeats them without harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from sbr_tasks.registry.log import Decision
from tests.integration.airflow.conftest import Platform
from tests.integration.conftest import NEW
from tests.integration.history import entries_of
from tests.integration.shops import new_shop
from tools.local_airflow import backfill
from tools.local_airflow.api import midnight

from .conftest import PageOf, keep_screen
from .forms import choose, open_backfill_form

if TYPE_CHECKING:
    from playwright.sync_api import Page

DAYS = [NEW - timedelta(days=1), NEW]


@pytest.fixture
def shop(platform: Platform, demo_clicks: Path, tmp_path: Path) -> Iterator[Path]:
    """An empty shop, which the tasks work on meanwhile."""
    shop = new_shop(tmp_path / "shop", demo_clicks)
    with platform.using(shop, demo_clicks), platform.publishing_nothing():
        yield shop


@contextmanager
def paused(platform: Platform) -> Iterator[None]:
    """On SQLite the scheduler and the API server get in each other's way while a backfill is created; see `backfill.create`."""
    platform.airflow.api.patch("dags/daily_retrain", {"is_paused": True})
    try:
        yield
    finally:
        platform.airflow.api.patch("dags/daily_retrain", {"is_paused": False})


def backfill_runs(platform: Platform) -> list[dict[str, Any]]:
    """The runs of the days, of whatever kind."""
    return platform.runs(logical_date_gte=midnight(DAYS[0]), logical_date_lte=midnight(DAYS[-1]))


def start(platform: Platform, page: Page, expected: str, reprocess: str, screen: str) -> None:
    """Fills in the form, reads how many runs it announces, and starts."""
    with paused(platform):
        form = open_backfill_form(page, *DAYS)
        form.get_by_text("Unpause daily_retrain on trigger").click()
        form.get_by_text(reprocess, exact=True).click()
        form.get_by_text(expected).wait_for()
        keep_screen(page, screen)
        form.get_by_role("button", name="Run Backfill").click()
        page.get_by_text("Backfill in progress").wait_for()


def test_backfill_of_a_range_runs_its_days_in_order_and_again(platform: Platform, page_of: PageOf, shop: Path) -> None:
    page = page_of("op")
    form = open_backfill_form(page, *DAYS)
    form.get_by_text("2 runs will be triggered").wait_for()
    page.keyboard.press("Escape")
    assert backfill_runs(platform) == [], "the form only says what it would run"

    start(platform, page, "2 runs will be triggered", "Missing Runs", "backfill-form")
    assert backfill.follow(platform.airflow.api, DAYS, ZoneInfo("UTC"), print) == []
    runs = sorted(backfill_runs(platform), key=lambda run: run["logical_date"])
    assert [_day(run) for run in runs] == [platform.returned(run["dag_run_id"], "resolve_day") for run in runs]
    assert [date.fromisoformat(_day(run)) for run in runs] == DAYS
    assert {run["run_type"] for run in runs} == {"backfill"}
    assert runs[0]["end_date"] <= runs[1]["start_date"], "one after the other"
    first = entries_of(shop)
    assert [entry.day for entry in first if isinstance(entry, Decision)] == DAYS

    backfill.cancel_unfinished(platform.airflow.api, run_type="backfill")  # the first is over, but may still count as active
    page.goto("/dags")
    start(platform, page, "2 runs will be triggered", "All Runs", "backfill-form-again")
    assert backfill.follow(platform.airflow.api, DAYS, ZoneInfo("UTC"), print) == []
    again = sorted(backfill_runs(platform), key=lambda run: run["logical_date"])
    assert [run["dag_run_id"] for run in again] == [run["dag_run_id"] for run in runs]
    assert all(platform.tasks(run["dag_run_id"])["resolve_day"]["try_number"] == 2 for run in again), "every day ran again"
    assert entries_of(shop) == first, "nothing changed, so every decision is the same"
    page.goto("/dags/daily_retrain/backfills")
    page.get_by_text("Completed").first.wait_for()
    keep_screen(page, "backfills")


@pytest.mark.parametrize("is_ticked", [True, False])
def test_parameters_of_a_backfill_count_if_existing_runs_are_overridden(
    platform: Platform, page_of: PageOf, is_ticked: bool
) -> None:
    """What docs/run.md warns of."""
    backfill.cancel_unfinished(platform.airflow.api, run_type="backfill")
    day = date(2001, 6, 1 if is_ticked else 2)
    page = page_of("op")
    with paused(platform):
        form = open_backfill_form(page, day, day)
        form.get_by_text("Unpause daily_retrain on trigger").click()
        choose(form, "promote", "Never")
        if is_ticked:
            form.get_by_text("Override parameters on existing runs").click()
        form.get_by_text("1 run will be triggered").wait_for()
        form.get_by_role("button", name="Run Backfill").click()
        page.get_by_text("Backfill in progress").wait_for()
        backfill.cancel_unfinished(platform.airflow.api, run_type="backfill")
    (run,) = platform.runs(logical_date_gte=midnight(day), logical_date_lte=midnight(day))
    assert run["conf"].get("promote") == ("never" if is_ticked else None)


def _day(run: dict[str, Any]) -> str:
    return str(datetime.fromisoformat(run["logical_date"]).date())
