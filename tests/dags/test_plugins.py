"""What must hold for the plugins folder, found out in a fresh process as each of Airflow's would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

LOAD = """
import json, sys
from airflow.plugins_manager import _get_plugins, get_fastapi_plugins, _get_ui_plugins

before = set(sys.modules)
plugins, errors = _get_plugins()
views, apps = _get_ui_plugins()[0], get_fastapi_plugins()[0]
new = sorted(set(sys.modules) - before)
from sbr_models_app import app
routes = [[route.path, [d.call.__qualname__ for d in route.dependant.dependencies]] for route in app.routes]
print("FACTS" + json.dumps({
    "errors": errors, "names": [plugin.name for plugin in plugins], "views": views, "new": new, "routes": routes,
    "prefixes": [app["url_prefix"] for app in apps],
    "heavy": sorted({"tensorflow", "mlflow", "great_expectations"} & set(sys.modules)),
}))
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow finds in the plugins folder, where it isn't at the root of its host."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SBR_"))}
    environment |= {
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("home")),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__API__BASE_URL": "https://example.com/team/airflow/",
    }
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.split("FACTS", 1)[1]))


def test_the_models_page_stands_in_the_navigation(facts: dict[str, Any]) -> None:
    assert facts["errors"] == {}
    assert "sbr_models" in facts["names"]
    view = next(view for view in facts["views"] if view["name"] == "Models")
    assert (view["destination"], view["nav_top_level"], view["href"]) == ("nav", True, "/team/airflow/sbr-models/")
    assert "/sbr-models" in facts["prefixes"]


def test_only_the_first_request_loads_the_web_app(facts: dict[str, Any]) -> None:
    assert "sbr_models_plugin" in facts["new"]
    assert not [name for name in facts["new"] if name == "sbr_models_app" or name.split(".")[0] in ("sbr_tasks", "fastapi")]
    assert facts["heavy"] == []  # nor does the app itself load them


def test_every_route_asks_for_the_right_to_read_the_dag(facts: dict[str, Any]) -> None:
    assert len(facts["routes"]) >= 9
    for path, dependencies in facts["routes"]:
        assert "requires_access_dag.<locals>.inner" in dependencies, path
