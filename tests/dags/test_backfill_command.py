"""The command that the docs give for a backfill, run as they print it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from sbr_tasks.days import day_start
from sbr_tasks.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "run.md"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's home with an empty database."""
    home = tmp_path_factory.mktemp("home")
    _airflow(home, "UTC", "airflow db migrate")
    return home


def _airflow(home: Path, zone: str, command: str) -> str:
    """Runs a command of Airflow under the settings of a shop."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SBR_"))}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "SBR_TIMEZONE": zone,
        "COLUMNS": "200",
    }
    done = subprocess.run(["bash", "-c", command], env=environment, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documented_command() -> str:
    """The block of the docs that starts a backfill."""
    (block,) = [found for found in re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL) if "backfill create" in found]
    return str(block)


@pytest.mark.parametrize(
    ("zone", "first"),
    [("Europe/Amsterdam", date(2025, 3, 29)), ("America/New_York", date(2025, 3, 8)), ("America/New_York", date(2025, 11, 1))],
    ids=str,
)
def test_documented_backfill_covers_exactly_its_days(database: Path, tmp_path: Path, zone: str, first: date) -> None:
    """In each case the clocks change on the second of the three days."""
    home = tmp_path / "home"
    shutil.copytree(database, home)
    _airflow(home, zone, "airflow dags reserialize")
    days = [first + timedelta(days=n) for n in range(3)]
    command = documented_command()
    for printed, wanted in (("Europe/Amsterdam", zone), ("2025-03-28", str(days[0])), ("2025-03-31", str(days[-1]))):
        assert command.count(printed) == 1
        command = command.replace(printed, wanted)
    out = _airflow(home, zone, f"{command.rstrip()} --dry-run")
    starts = [datetime.fromisoformat(start) for start in re.findall(r"\| (\d{4}-\S+ \d\d:\d\d:\d\d[+-]\d\d:\d\d)", out)]
    assert starts == [day_start(day, load_settings([f"timezone={zone}"]).zone) for day in days], out


def test_way_out_of_a_cancelled_backfill_is_documented_with_an_option_that_airflow_has(database: Path) -> None:
    text = DOCS.read_text()
    assert "github.com/apache/airflow/issues/72337" in text
    (behavior,) = re.findall(r"--reprocess-behavior (\w+)", text)
    assert behavior in _airflow(database, "UTC", "airflow backfill create --help").split("--reprocess-behavior", 2)[2]
