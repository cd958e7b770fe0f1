"""Windows whose building is killed: the same again gives the same, and the store stays whole."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.days import parse_day
from sbr_tasks.demo import write_demo_clicks
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.store import Store
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.validation.validate_days import validate_pending

_draw = random.Random(6)
MOMENTS = [pytest.param(_draw.random(), marks=[] if i < 2 else pytest.mark.long, id=f"{i}") for i in range(10)]

BUILD = """
import sys
from sbr_tasks.days import parse_day
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store
from sbr_tasks.window.build import window_for_day
settings = load_settings({"store": sys.argv[1], "window.days": 5})
print("begins", flush=True)
window_for_day(Store.open(settings), settings, parse_day("2014-09-30"))
"""


def start(store: Path) -> subprocess.Popen[str]:
    """A process that has just begun to build a window."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    messages = process.communicate()[1]
    assert process.returncode == 0, messages


def windows(store: Path) -> dict[str, bytes]:
    opened = Store(str(store))
    return {key: opened.get(key) for key in opened.keys("windows")}


def settings_of(store: Path, clicks: Path) -> Settings:
    return load_settings({"store": store, "source.path": str(clicks), "window.days": 5})


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with five accepted days."""
    folder = tmp_path_factory.mktemp("accepted")
    write_demo_clicks(folder / "c.dat", end=parse_day("2014-09-30"), days=5, sessions_per_day=None, seed=1, clicks=200_000)
    settings = settings_of(folder / "store", folder / "c.dat")
    ingest(Store.open(settings), settings)
    validate_pending(Store.open(settings), settings)
    return folder / "store"


@pytest.fixture(scope="module")
def undisturbed(accepted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The window, and how long it takes to build it."""
    store = Path(shutil.copytree(accepted, tmp_path_factory.mktemp("undisturbed") / "store"))
    process, began = start(store), time.monotonic()
    finish(process)
    took_s = time.monotonic() - began
    assert windows(store)
    return windows(store), took_s


@pytest.mark.parametrize("moment", MOMENTS)
def test_window_killed_and_built_again_is_that_of_an_undisturbed_run(
    accepted: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path, moment: float
) -> None:
    expected, took_s = undisturbed
    store = Path(shutil.copytree(accepted, tmp_path / "store"))
    killed = start(store)
    time.sleep(moment * took_s)
    killed.kill()
    killed.communicate()
    assert windows(store).items() <= expected.items()
    finish(start(store))
    assert windows(store) == expected
    assert verify_store(Store(str(store))).faults == ()
