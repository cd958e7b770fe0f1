"""Airflow's trigger form of `daily_retrain`, as a person fills it in."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

DAG_PAGE = "/dags/daily_retrain"


def open_form(page: Page) -> Locator:
    """Opens the form on the DAG's page; its parameters are shown."""
    page.goto(DAG_PAGE)
    page.get_by_role("button", name="Trigger Dag").click()
    form = page.locator("[role=dialog]").filter(has_text="daily_retrain")
    form.locator("[name=element_day]").wait_for()
    return form


def choose(form: Locator, field: str, label: str) -> None:
    """Chooses from a list of the form by what it shows."""
    form.locator(f"div:has(> [name=element_{field}])").get_by_role("combobox").click()
    form.page.get_by_role("option", name=label).click()


def set_number(form: Locator, field: str, value: float) -> None:
    """Types a number into the section with the settings of the run."""
    box = form.locator(f"[name=element_{field}]")
    if not box.is_visible():
        form.get_by_text("Settings for this run only").click()
    box.fill(str(value))


def submit(form: Locator) -> str:
    """Triggers; returns the id of the run that the page then shows."""
    page = form.page
    form.get_by_role("button", name="Trigger").click()
    page.wait_for_url(re.compile(r"/runs/"))
    found = re.search(r"/runs/([^/?]+)", page.url)
    assert found
    return found[1]


def open_backfill_form(page: Page, first: date, last: date) -> Locator:
    """Opens the form for a range of days and fills in the first and the last."""
    form = open_form(page)
    form.get_by_text("Backfill", exact=True).click()
    for i, day in enumerate((first, last)):
        form.get_by_test_id("datetime-input").nth(i).click()
        picker = page.get_by_placeholder("YYYY/MM/DD").locator("visible=true")
        picker.fill(f"{day:%Y/%m/%d}")
        page.get_by_placeholder("HH:mm").locator("visible=true").fill("00:00")
        page.keyboard.press("Escape")
        picker.wait_for(state="hidden")
    return form
