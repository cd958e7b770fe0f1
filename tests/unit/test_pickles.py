"""Nothing that is read may run code: no pickle is loaded, by whatever name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("sbr_tasks", "dags", "plugins", "tools", "benchmarks")

NAMES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal",
    "read_pickle",  # pandas
    "load_model",  # Keras and MLflow, whose models may hold code
    "unsafe_load", "enable_unsafe_deserialization",  # YAML, Keras
}  # fmt: skip
"""Modules and functions that let what they read run code."""
SAFE = {"allow_pickle": False, "safe_mode": True, "weights_only": True}
"""Arguments that NumPy, Keras and Torch ask for it with, and the value that refuses it."""
SETTINGS = ("PICKL", "SERIALIZ", "EXTRA_CELERY_CONFIG", "CELERY_CONFIG_OPTIONS")
"""Parts of names of settings with which Airflow, Celery or MLflow could be made to read pickles or other classes."""


def pickles(source: str) -> list[str]:
    """What a module would load pickles with."""
    nodes = list(ast.walk(ast.parse(source)))
    used = [name for node in nodes for name in names_in(node) if name.split(".")[0] in NAMES]
    return used + [str(node.arg) for node in nodes if isinstance(node, ast.keyword) and not is_safe(node)]


def names_in(node: ast.AST) -> list[str]:
    """What a node imports or looks up."""
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module), names=names):
            return [module, *(name.name for name in names)]
        case ast.Call(func=ast.Name("__import__") | ast.Attribute(attr="import_module"), args=[ast.Constant(str(name)), *_]):
            return [name]
        case ast.Attribute(attr=name):
            return [name]
    return []


def is_safe(argument: ast.keyword) -> bool:
    value = argument.value
    return argument.arg not in SAFE or (isinstance(value, ast.Constant) and value.value is SAFE[argument.arg])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", ["pickle"]),
        ("def f():\n    from joblib import load", ["joblib"]),
        ("import importlib\nimportlib.import_module('dill')", ["dill"]),
        ("from mlflow.pyfunc import load_model", ["load_model"]),
        ("keras.models.load_model(path)", ["load_model"]),
        ("pd.read_pickle(path)", ["read_pickle"]),
        ("np.load(path, allow_pickle=True)", ["allow_pickle"]),
        ("np.load(path, allow_pickle=settings.trusted)", ["allow_pickle"]),
        ("np.load(path, allow_pickle=False)", []),
        ("keras.saving.load(path, safe_mode=False)", ["safe_mode"]),
    ],
)
def test_ways_to_load_a_pickle_are_known(source: str, found: list[str]) -> None:
    assert pickles(source) == found


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_loads_a_pickle(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert modules
    found = {module.relative_to(ROOT).as_posix(): pickles(module.read_text("utf-8")) for module in modules}
    assert {module: names for module, names in found.items() if names} == {}


def test_no_setting_of_the_stack_brings_pickles_back() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))["services"]
    names = {name for service in services.values() for name in service.get("environment", {})}
    assert "AIRFLOW__CELERY__RESULT_BACKEND" in names
    assert [name for name in names if any(part in name for part in SETTINGS)] == []
