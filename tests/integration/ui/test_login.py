"""Logging in to Airflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from .conftest import keep_screen

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.parametrize("user", ["admin", "viewer"])
def test_a_user_logs_in_and_sees_the_dags(page_of: Callable[[str], Page], user: str) -> None:
    page = page_of(user)
    page.goto("/dags")
    page.get_by_role("link", name="daily_retrain").first.wait_for()
    keep_screen(page, f"dags-{user}")
