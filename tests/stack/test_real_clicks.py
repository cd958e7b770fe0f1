"""A day of a real shop on the stack."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.integration.shops import run_days
from tools.local_stack.running import RunningStack

from .test_faults import decided_on_the_same_model

DAY = date(2020, 6, 30)
SETTINGS = """
window = { least_click = 1 }
model = { n_epochs = 2, batch_size = 32, dropout_p_embed = 0.1, dropout_p_hidden = 0 }
"""


@pytest.fixture
def delivered(running: RunningStack, shared_data: Path) -> Iterator[Path]:
    """bol.com's clicks, delivered beside the others, while the stack has the settings for them."""
    settings = running.stack.folder / "settings" / "sbr.toml"
    before = settings.read_text("utf-8")
    file = running.clicks / "bolcom.dat"
    with file.open("w", encoding="utf-8") as out:
        for part in ("train", "valid", "test"):
            with (shared_data / "bolcom-serenade" / f"{part}.txt").open(encoding="utf-8") as lines:
                for row in csv.DictReader(lines, delimiter="\t"):
                    at = datetime.fromtimestamp(float(row["Time"]), UTC)
                    out.write(f"{row['SessionId']},{at:%Y-%m-%dT%H:%M:%S}.000Z,{row['ItemId']},0\n")
    settings.write_text(SETTINGS, "utf-8")
    yield file
    settings.write_text(before, "utf-8")
    file.unlink()


@pytest.mark.long
def test_a_day_with_its_window_of_30_gives_what_the_commands_give(
    running: RunningStack, delivered: Path, tmp_path: Path
) -> None:
    def without_airflow(day: date) -> Path:
        source = f'store = "store"\nsource = {{ path = {json.dumps(str(delivered))}, settle_seconds = 0 }}\n'
        (tmp_path / "sbr.toml").write_text(source + SETTINGS, "utf-8")
        return run_days(tmp_path, retrain=[day])

    run_id = running.retrain("op", DAY)
    decided_on_the_same_model(running, run_id, DAY, without_airflow)
