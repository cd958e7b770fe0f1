"""Who gets in, what each role may do, and that no secret lies about."""

from __future__ import annotations

import json

import pytest
from local_airflow.api import ApiError

from .running import DAG, RunningStack

BACKFILL = {"dag_id": DAG, "from_date": "2014-09-29T00:00:00Z", "to_date": "2014-09-29T00:00:00Z"}
ROLLBACK = {"logical_date": None, "conf": {"to": "2014-09-01-00000000", "reason": "a test"}}


@pytest.mark.parametrize(
    "path", ["dags", f"dags/{DAG}/dagRuns", "connections", "variables", "pools", "importErrors", "plugins"]
)
def test_the_api_asks_for_a_login(running: RunningStack, path: str) -> None:
    assert running.status(f"/api/v2/{path}") == 401


@pytest.mark.parametrize("page", ["users/list/", "roles/list/", "userstatschartview/chart/"])
def test_pages_of_user_management_send_strangers_to_the_login(running: RunningStack, page: str) -> None:
    assert running.status(f"/auth/{page}") in (302, 307)


def test_pages_of_plugins_ask_for_a_login(running: RunningStack) -> None:
    plugins = running.api("admin").get("plugins", limit=100)["plugins"]
    pages = [
        app["url_prefix"] for plugin in plugins for app in plugin["fastapi_apps"] if plugin["source"].startswith("$PLUGINS")
    ]
    routes = {"/sbr-models": "/", "/sbr-pages": "/reports/2014-09-30-00000000"}
    assert set(pages) == set(routes)
    for page, route in routes.items():
        for path in ("/", "/docs", "/openapi.json"):
            assert running.status(page + path) in (401, 404), page + path
        assert running.status(page + route) == 401


def test_a_wrong_password_opens_nothing(running: RunningStack) -> None:
    for password in ("admin", "airflow", "password"):
        with pytest.raises(ApiError) as refused:
            running.api("admin").post("/auth/token", {"username": "admin", "password": password})
        assert refused.value.status == 401


def test_a_viewer_sees_and_changes_nothing(running: RunningStack) -> None:
    viewer = running.api("viewer")
    assert DAG in {dag["dag_id"] for dag in viewer.get("dags")["dags"]}
    changes = {
        f"dags/{DAG}/dagRuns": {"logical_date": None, "conf": {"day": "2014-09-29"}},
        "dags/rollback_champion/dagRuns": ROLLBACK,
        "backfills": BACKFILL,
        "pools": {"name": "more", "slots": 1},
    }
    for path, body in changes.items():
        with pytest.raises(ApiError) as refused:
            viewer.post(path, body)
        assert refused.value.status == 403, path
    with pytest.raises(ApiError) as refused:
        viewer.get("connections", attempts=1)
    assert refused.value.status == 403


def test_an_operator_may_trigger_but_manages_no_users(running: RunningStack, daily_run: str) -> None:
    assert running.finished(daily_run)["triggering_user_name"] == "op"
    assert running.api("op").post("dags/rollback_champion/dagRuns", ROLLBACK)["state"] == "queued"
    with pytest.raises(ApiError) as refused:
        running.api("op").get("/auth/fab/v1/users", attempts=1)
    assert refused.value.status == 403


def test_a_connection_is_stored_but_its_password_is_shown_to_nobody(running: RunningStack) -> None:
    for user in ("op", "admin"):
        found = running.api(user).get("connections/smtp_default")
        assert (found["login"], found["host"]) == ("shop", "mail.example")
        assert running.secrets["smtp"] not in json.dumps(found)


def test_no_secret_is_in_a_log_or_an_artifact(running: RunningStack, daily_run: str) -> None:
    del daily_run
    folders = [running.stack.folder, running.stack.volume("postgres")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and file != running.passwords]
    assert len([file for file in files if file.suffix == ".log"]) > 10
    leaks = [
        (name, str(file))
        for file in files
        for content in [file.read_bytes()]
        for name, value in running.secrets.items()
        if value.encode() in content
    ]
    assert leaks == []
