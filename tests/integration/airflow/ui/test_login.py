"""Who reaches Airflow, and logs in to it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.integration.airflow.conftest import Platform
from tools.browser import VIEWPORT, log_in

from .conftest import keep_screen, password_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.parametrize("user", ["admin", "viewer"])
def test_a_user_logs_in_and_sees_the_dags(platform: Platform, browser: Browser, user: str) -> None:
    page = browser.new_context(base_url=platform.airflow.url, viewport=VIEWPORT).new_page()
    log_in(page, user, password_of(platform, user))
    page.goto("/dags")
    page.get_by_role("link", name="daily_retrain").first.wait_for()
    keep_screen(page, f"dags-{user}")
    page.context.close()


def test_nothing_of_a_local_airflow_listens_beyond_this_machine(platform: Platform) -> None:
    assert platform.airflow.is_running()
    listening = set[tuple[str, str]]()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            ports = [found for found in process.net_connections("inet") if found.status == psutil.CONN_LISTEN]
            listening |= {(process.name(), port.laddr.ip) for port in ports}
    assert listening
    assert {ip for _, ip in listening} == {"127.0.0.1"}, listening
