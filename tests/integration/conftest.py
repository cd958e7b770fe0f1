"""Generated clicks, and a shop whose versions are trained, for all tests of this folder."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
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


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """What the first of the test processes to ask for it builds, and the others use too."""
    root = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    place, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            build(place)
            done.touch()
    return place


@pytest.fixture(scope="session")
def demo_clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated clicks of the 20 days that end with 30 September 2014."""

    def write(file: Path) -> None:
        words = ["demo-clicks", "--out", str(file), "--days", "20", "--sessions-per-day", "300"]
        subprocess.run([sys.executable, "-m", "sbr_tasks", *words], check=True, capture_output=True)

    return build_once(tmp_path_factory, "clicks.dat", write)


@pytest.fixture(scope="session")
def trained(demo_clicks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with the champion of an old day, and a version of the newest day that nobody decided on yet."""
    return build_once(
        tmp_path_factory, "trained", lambda shop: run_days(new_shop(shop, demo_clicks), retrain=[OLD], train=[NEW])
    )
