from __future__ import annotations

import pytest

from tests.airflow_library import clear_environment


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)
