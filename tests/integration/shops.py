"""Small shops with a store and settings of their own, whose days are run without a scheduler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from tools.demo_shop import demo_settings, environment

# Many days in one process: most of the time that a day takes is the import of TensorFlow.
_RUN = """
import sys
from sbr_tasks import steps

for word in sys.argv[1:]:
    step, day = word.split(":")
    if step == "retrain":
        steps.retrain(day)
    else:
        steps.ingest_clicks(day), steps.validate_clicks(day)
        steps.train_gru4rec(day, steps.build_window(day)["window"])
"""


def new_shop(folder: Path, clicks: Path) -> Path:
    """A folder with settings, whose store is empty."""
    folder.mkdir(parents=True)
    (folder / "sbr.toml").write_text(demo_settings(clicks, "store"), encoding="utf-8")
    return folder


def run_days(shop: Path, *, retrain: Iterable[date] = (), train: Iterable[date] = ()) -> Path:
    """Does for some days what `sbr retrain` does, and for further days the part that ends with the training."""
    words = [f"retrain:{day}" for day in retrain] + [f"train:{day}" for day in train]
    command = [sys.executable, "-c", _RUN, *words]
    done = subprocess.run(command, cwd=shop, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return shop
