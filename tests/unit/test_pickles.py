"""Nothing that is read may run code. Ruff bans what loads pickles by its name; here is what takes an argument or a setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

# Arguments that NumPy, Keras and Torch ask for it with, unless they have the value that refuses it.
UNSAFE = re.compile(r"\b(?:allow_pickle=(?!False\b)|(?:safe_mode|weights_only)=(?!True\b))")
SETTINGS = ("PICKL", "SERIALIZ", "EXTRA_CELERY_CONFIG", "CELERY_CONFIG_OPTIONS")
"""Parts of names of settings with which Airflow, Celery or MLflow could be made to read pickles or other classes."""


@pytest.mark.parametrize("folder", ["sbr_tasks", "dags", "plugins", "tools", "benchmarks"])
def test_no_module_lets_a_pickle_in(folder: str) -> None:
    modules = {module: module.read_text("utf-8") for module in (ROOT / folder).rglob("*.py")}
    assert modules
    assert [str(module) for module, text in modules.items() if UNSAFE.search(text)] == []


def test_no_setting_of_the_stack_brings_pickles_back() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))["services"]
    names = {name for service in services.values() for name in service.get("environment", {})}
    assert "AIRFLOW__CELERY__RESULT_BACKEND" in names
    assert [name for name in names if any(part in name for part in SETTINGS)] == []
