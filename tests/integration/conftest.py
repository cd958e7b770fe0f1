"""Generated clicks, and a shop whose versions are trained, for all tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from .shops import new_shop, run_days

ROOT = Path(__file__).resolve().parents[2]

# So far apart that the newer model wins for certain: what tests interrupt is a promotion, and not a mere decision.
OLD, NEW = date(2014, 9, 17), date(2014, 9, 30)

Json = dict[str, Any]

pytest.register_assert_rewrite("tests.integration.history")


@pytest.fixture(scope="session")
def demo_clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated clicks of the 20 days that end with 30 September 2014."""
    file = tmp_path_factory.mktemp("demo") / "clicks.dat"
    words = ["demo-clicks", "--out", str(file), "--days", "20", "--sessions-per-day", "300"]
    subprocess.run([sys.executable, "-m", "sbr_tasks", *words], check=True, capture_output=True)
    return file


@pytest.fixture(scope="session")
def trained(demo_clicks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with the champion of an old day, and a version of the newest day that nobody decided on yet."""
    shop = new_shop(tmp_path_factory.mktemp("trained") / "shop", demo_clicks)
    return run_days(shop, retrain=[OLD], train=[NEW])
