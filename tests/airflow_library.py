"""Airflow as a library: imported into this process without its logging, its database and a folder of its own."""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest

with patch.dict(os.environ, {"_AIRFLOW__AS_LIBRARY": "1", "AIRFLOW_HOME": os.devnull}):
    from airflow.models import import_all_models

# MLflow makes SQLAlchemy configure all models of a process, which fails while only some of Airflow's are imported.
import_all_models()


def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the settings of this machine's Airflow and shop."""
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "SBR_")):
            monkeypatch.delenv(name)
