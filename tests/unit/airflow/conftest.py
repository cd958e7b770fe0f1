from __future__ import annotations

from pathlib import Path

import pytest

from tests.airflow_library import clear_environment


@pytest.fixture(autouse=True)
def settings_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: it has no settings, and neither has the environment."""
    clear_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path
