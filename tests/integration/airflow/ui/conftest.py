"""Debian's Chromium, driven by Playwright, on the pages of the integration tests' Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.airflow.conftest import Platform
from tests.integration.conftest import ROOT
from tools.browser import VIEWPORT, chromium, find_chromium, log_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, StorageState

PageOf = Callable[[str], "Page"]
SCREENS = ROOT / "var" / "screens"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; tests that use it are skipped where there is none, which CI forbids."""
    program = find_chromium()
    if program is None:
        pytest.skip("no chromium on the PATH (install Debian's package, or name the program in CHROMIUM)")
    with chromium(program) as found:
        yield found


@pytest.fixture(scope="package")
def logged_in(platform: Platform, browser: Browser) -> Callable[[str], StorageState]:
    """What a user's browser keeps after a login, by which each further page of the user needs none."""

    @cache
    def states(user: str) -> StorageState:
        context = browser.new_context(base_url=platform.airflow.url)
        log_in(context.new_page(), user, password_of(platform, user))
        state = context.storage_state()
        context.close()
        return state

    return states


@pytest.fixture
def page_of(platform: Platform, browser: Browser, logged_in: Callable[[str], StorageState]) -> Iterator[PageOf]:
    """Opens an empty page on which a user of Airflow (`admin`, `op`, `viewer`) is logged in."""
    contexts = []

    def open_page(user: str) -> Page:
        context = browser.new_context(base_url=platform.airflow.url, viewport=VIEWPORT, storage_state=logged_in(user))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


def password_of(platform: Platform, user: str) -> str:
    """The password that Airflow made for a user."""
    return str(json.loads((platform.airflow.folder / "passwords.json").read_text(encoding="utf-8"))[user])


def keep_screen(page: Page, name: str, *, full: bool = False) -> Path:
    """Writes what the page shows, or all of it however long, into `var/screens/`, for people to look at."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    file = SCREENS / f"{name}.png"
    page.screenshot(path=str(file), full_page=full)
    return file
