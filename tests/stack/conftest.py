"""One production stack for all tests of this folder: it takes a minute or two to start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.integration.shops import new_shop, run_days
from tools.demo_shop import demo_settings, environment
from tools.local_stack.runner import missing_programs
from tools.local_stack.running import RunningStack, prepared, started

DAY = date(2014, 9, 20)
CLICKS = "clicks.dat"
DEMO_WORDS = ["demo-clicks", "--days", "20", "--sessions-per-day", "300"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A stack of a test's own comes before the shared one starts: two at once are too much for two cores."""
    here = [place for place, item in enumerate(items) if item.path.is_relative_to(Path(__file__).parent)]
    shared_last = sorted((items[place] for place in here), key=lambda item: "running" in getattr(item, "fixturenames", ()))
    for place, item in zip(here, shared_last, strict=True):
        items[place] = item


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that is up; tests that use it are skipped without PostgreSQL, which CI forbids."""
    with started(new_stack(tmp_path_factory.mktemp("stack"))) as found:
        yield found


def new_stack(folder: Path, more: Mapping[str, str] | None = None, store: Mapping[str, Any] | None = None) -> RunningStack:
    """A stack that isn't started yet, in an empty folder, with generated clicks; see `prepared`."""
    if missing := missing_programs():
        pytest.skip(f"no {' and no '.join(missing)} on this machine (install Debian's postgresql, redis-server, curl)")
    clicks = folder / "clicks" / CLICKS
    clicks.parent.mkdir()
    run_sbr(*DEMO_WORDS, "--out", str(clicks))
    return prepared(folder, clicks.parent, demo_settings(clicks, "store"), more, store)


@pytest.fixture(scope="package")
def daily_run(running: RunningStack) -> str:
    """The id of a daily run that an operator triggered, and that is done."""
    run_id = running.retrain("op", DAY)
    running.finished(run_id)
    return run_id


@pytest.fixture(scope="package")
def without_airflow(running: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Callable[[date], Path]:
    """Does a day by `sbr retrain` on the same clicks, in a shop that has done `DAY` and what was asked for before."""
    shop = run_days(new_shop(tmp_path_factory.mktemp("plain") / "shop", running.clicks / CLICKS), retrain=[DAY])

    def retrain(day: date) -> Path:
        return run_days(shop, retrain=[day])

    return retrain


def run_sbr(*words: str) -> None:
    """Runs `sbr WORDS`, without settings."""
    command = [sys.executable, "-m", "sbr_tasks.cli", *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
