from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sbr_tasks.errors import StoreError, system_error
from sbr_tasks.scratch import machine, scratch_folder
from sbr_tasks.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"store": str(tmp_path / "store"), "scratch": str(tmp_path / "scratch")})


def test_what_killed_processes_left_goes_and_what_others_use_stays(settings: Settings, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, used = (tmp_path / "scratch" / f"serving-{machine()}-{pid}-x" for pid in (gone.pid, os.getpid()))
    elsewhere = tmp_path / "scratch" / f"serving-0a1b2c3d-{gone.pid}-x"  # a container that shares the folder, not the processes
    for folder in (left, used, elsewhere):
        folder.mkdir(parents=True)
    with scratch_folder(settings, "serving") as folder:
        assert sorted((tmp_path / "scratch").iterdir()) == sorted([used, elsewhere, folder])
    assert sorted((tmp_path / "scratch").iterdir()) == sorted([used, elsewhere])


def test_full_disk_is_reported_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"can't be written .*no space left"), scratch_folder(settings, "export"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_full_disk_elsewhere_is_not_put_down_to_scratch(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, scratch_folder(settings, "mlflow") as folder:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "a"), None, str(tmp_path / "artifacts" / "a"))
    assert system_error(caught.value).startswith(str(tmp_path / "artifacts"))


def test_other_failures_of_what_is_done_inside_keep_their_own_words(settings: Settings) -> None:
    with pytest.raises(ConnectionError, match="no answer"), scratch_folder(settings, "mlflow"):
        raise ConnectionError("no answer")


def test_unusable_scratch_folder_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file")
    with (
        pytest.raises(StoreError, match=r"scratch can't be used .*Name another one \(setting scratch\)"),
        scratch_folder(settings, "x"),
    ):
        pytest.fail("entered")
