"""What must hold for the plugins folder, found out in a fresh process as each of Airflow's would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from benchmarks.seeded_history import seed_history
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.store import Store

ROOT = Path(__file__).resolve().parents[2]

LOAD = """
import json, sys
from airflow.plugins_manager import _get_plugins, get_fastapi_plugins, _get_ui_plugins

before = set(sys.modules)
plugins, errors = _get_plugins()
views, apps = _get_ui_plugins()[0], get_fastapi_plugins()[0]
new = sorted(set(sys.modules) - before)
from fastapi.testclient import TestClient
from sbr_app import app, live_of, may_read
from sbr_tasks.report.render import Live, Query
routes = [[route.path, [d.call.__qualname__ for d in route.dependant.dependencies]] for route in app.routes]

def anybody(items: str = "", outcome: str = ""):
    return Live("/team/airflow", True, True, Query(items=items, outcome=outcome))

app.dependency_overrides = {may_read: lambda: None, live_of: anybody}
client = TestClient(app, raise_server_exceptions=False)
answers = {}
for path in sys.argv[1:]:
    answer = client.get(path)
    answers[path] = [answer.status_code, dict(answer.headers), answer.text]
print("FACTS" + json.dumps({
    "errors": errors, "names": [plugin.name for plugin in plugins], "views": views, "new": new, "routes": routes,
    "prefixes": [app["url_prefix"] for app in apps], "answers": answers,
    "heavy": sorted({"tensorflow", "mlflow", "great_expectations"} & set(sys.modules)),
}))
"""
LAST = date(2026, 11, 27)
DAMAGED = "promotions/00000001.json"


def load(home: Path, store: Store, *paths: str) -> dict[str, Any]:
    """What Airflow finds in the plugins folder, where it isn't at the root of its host, and what the app answers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SBR_"))}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__API__BASE_URL": "https://example.com/team/airflow/",
        "SBR_STORE": store.url,
    }
    command = [sys.executable, "-c", LOAD, *paths]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.split("FACTS", 1)[1]))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The plugins, and pages of a store with a few decisions, whose last entry's version is `champion`."""
    folder = tmp_path_factory.mktemp("plugins")
    store = Store(str(folder / "store"))
    seed_history(store, LAST, 4)
    store.replace(f"validation/day={LAST}/data_docs.html", b"<h1>docs</h1>")
    champion = str(PromotionLog(store).state().champion)
    paths = ["/", f"/version?name={champion}", f"/stale?name={champion}", f"/data-docs/{LAST}", "/static/page.css"]
    paths += ["/version?name=2026-11-27-00000000", "/data-docs/2001-01-01", "/data-docs/..%2F..", "/static/..%2Frender.py"]
    paths += ["/?items=1", "/docs", "/openapi.json"]
    return load(folder, store, *paths) | {"champion": champion}


def test_the_models_page_is_in_the_navigation(facts: dict[str, Any]) -> None:
    assert facts["errors"] == {}
    assert "sbr" in facts["names"]
    view = next(view for view in facts["views"] if view["name"] == "Models")
    assert (view["destination"], view["nav_top_level"], view["href"]) == ("nav", True, "/team/airflow/sbr-models/")
    assert [prefix for prefix in facts["prefixes"] if prefix.startswith("/sbr")] == ["/sbr-models"]


def test_only_the_first_request_loads_the_web_app(facts: dict[str, Any]) -> None:
    assert "sbr_plugin" in facts["new"]
    assert not [name for name in facts["new"] if name == "sbr_app" or name.split(".")[0] in ("sbr_tasks", "fastapi")]
    assert facts["heavy"] == []  # nor does the app itself load them


def test_every_route_asks_for_the_right_to_read_the_dag(facts: dict[str, Any]) -> None:
    assert {path for path, _ in facts["routes"]} == {"/", "/version", "/stale", "/data-docs/{day}", "/static/{name}"}
    for path, dependencies in facts["routes"]:
        assert "requires_access_dag.<locals>.inner" in dependencies, path
    assert facts["answers"]["/docs"][0] == facts["answers"]["/openapi.json"][0] == 404


def test_pages_are_served_under_a_policy_and_not_kept(facts: dict[str, Any]) -> None:
    answers, champion = facts["answers"], facts["champion"]
    for path in ("/", f"/version?name={champion}", "/?items=1"):
        status, headers, text = answers[path]
        assert (status, headers["cache-control"]) == (200, "no-store"), path
        assert "script-src 'self'; style-src 'self'" in headers["content-security-policy"]
        assert champion in text and 'data-airflow="/team/airflow"' in text
    assert answers["/static/page.css"][0] == 200
    assert answers[f"/stale?name={champion}"][2].strip() == ""
    status, headers, text = answers[f"/data-docs/{LAST}"]
    assert (status, text) == (200, "<h1>docs</h1>")
    assert headers["content-security-policy"].startswith("sandbox allow-scripts;")


def test_what_is_missing_is_said_in_a_sentence(facts: dict[str, Any]) -> None:
    for path in ("/version?name=2026-11-27-00000000", "/data-docs/2001-01-01"):
        status, headers, text = facts["answers"][path]
        assert status == 404 and 'role="alert"' in text and "There " in text
        assert "script-src 'self'" in headers["content-security-policy"]
    assert 'href="../static/page.css"' in facts["answers"]["/data-docs/2001-01-01"][2]
    assert facts["answers"]["/data-docs/..%2F.."][0] == facts["answers"]["/static/..%2Frender.py"][0] == 404


def test_a_damaged_log_is_an_error_that_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    seed_history(store, LAST, 2)
    store.replace(DAMAGED, b"{}")
    status, _, text = load(tmp_path, store, "/")["answers"]["/"]
    assert status == 500 and f"{DAMAGED} is damaged" in text
