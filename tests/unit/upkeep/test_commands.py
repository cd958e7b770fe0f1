from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from sbr_tasks.errors import DamagedError, DayError
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.workspace import Workspace

from .shop import LAST

pytestmark = pytest.mark.slow

Sbr = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sbr(command_line: Sbr, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Sbr:
    """Exit code, output and messages of a command line on the store of the settings."""
    monkeypatch.setenv("SBR_STORE", settings.store)
    monkeypatch.setenv("SBR_WINDOW__DAYS", str(settings.window.days))
    monkeypatch.setenv("SBR_UPKEEP__GRACE_HOURS", "0")
    return command_line


def clicks_of(settings: Settings) -> Path:
    (file,) = Path(settings.store).glob(f"clicks/day={LAST}/*/clicks.*")
    return file


def test_faults_end_with_code_1_and_orphans_with_code_0(store: Store, settings: Settings, sbr: Sbr) -> None:
    store.replace("clicks/day=2020-06-30/rev=0/left.parquet", b"left over")
    code, out, _ = sbr("store", "check")
    assert code == 0
    assert "orphaned: clicks/day=2020-06-30/rev=0/left.parquet (9 bytes)" in out
    clicks_of(settings).write_bytes(b"other")
    code, out, _ = sbr("store", "check", "--json")
    (fault,) = json.loads(out)["damaged"]
    assert (code, fault["key"]) == (1, str(clicks_of(settings).relative_to(settings.store)))
    assert f"`sbr store forget {LAST} --reason REASON`" in fault["remedy"]


def test_gc_removes_what_its_dry_run_shows(store: Store, sbr: Sbr) -> None:
    _, shown, _ = sbr("store", "gc", "--keep-days", "6", "--dry-run")
    code, done, _ = sbr("store", "gc", "--keep-days", "6")
    assert code == 0
    assert shown.splitlines()[-1] == "Dry run: nothing was removed."
    assert done.splitlines()[:-2] == shown.splitlines()[:-2]  # but for the moment before which files go
    assert sbr("store", "check")[0] == 0
    assert json.loads(sbr("store", "gc", "--keep-days", "6", "--json")[1])["files"] == 0


def test_dry_run_says_from_when_on_files_stay(store: Store, sbr: Sbr) -> None:
    code, out, _ = sbr("store", "gc", "--keep-days", "0", "--dry-run", "--set", "upkeep.grace_hours=24")
    assert code == 0
    kept = next(line for line in out.splitlines() if line.startswith("Whatever was written after "))
    assert kept.endswith(" stays (upkeep.grace_hours).")


def test_window_on_a_damaged_day_says_how_to_get_its_clicks_again(store: Store, settings: Settings, sbr: Sbr) -> None:
    clicks_of(settings).write_bytes(b"other")
    code, _, err = sbr("window", "--day", str(LAST), "--set", "window.least_click=2")
    assert code == 1
    assert f"`sbr store forget {LAST} --reason REASON` and the run of the day again" in err
    assert "`sbr store check` names all that is damaged." in err


def test_day_without_clicks_cannot_be_forgotten(store: Store, sbr: Sbr) -> None:
    code, _, err = sbr("store", "forget", "1999-01-01", "--reason", "none")
    assert code == 1
    assert "Expected a day with clicks in the store, found none of 1999-01-01." in err


def test_day_is_not_forgotten_without_a_reason(store: Store, settings: Settings, sbr: Sbr) -> None:
    code, _, err = sbr("store", "forget", str(LAST), "--reason", "  ")
    assert code == 1
    assert "needs a reason" in err
    assert clicks_of(settings).exists()


def test_forgotten_day_is_gone(store: Store, settings: Settings, sbr: Sbr) -> None:
    file = clicks_of(settings)
    code, out, _ = sbr("store", "forget", str(LAST), "--reason", "damaged", "--json")
    assert (code, json.loads(out)["day"]) == (0, str(LAST))
    assert not file.exists()


def test_steps_stop_at_a_fault_and_take_the_parameter_before_the_setting(
    store: Store, settings: Settings, sbr: Sbr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBR_UPKEEP__KEEP_DAYS", "1000")
    assert Workspace.open().check_store().orphaned.keys == ()
    assert Workspace.open().clear_store().first_retained_run == date(2017, 10, 4)
    assert Workspace.open().clear_store(7).first_retained_run == date(2020, 6, 23)
    with pytest.raises(DayError, match="more than half"):
        Workspace.open().clear_store(0)
    clicks_of(settings).unlink()
    with pytest.raises(DamagedError, match=r"1 files of .* are missing or damaged, such as clicks/day=2020-06-30"):
        Workspace.open().check_store()


def test_gc_removes_most_days_only_with_yes(store: Store, sbr: Sbr) -> None:
    code, _, err = sbr("store", "gc", "--keep-days", "0")
    assert code == 1
    assert "more than half. Nothing was removed." in err
    code, out, _ = sbr("store", "gc", "--keep-days", "0", "--yes", "--json")
    assert (code, json.loads(out)["accepted_days_removed"]) == (0, 15)
