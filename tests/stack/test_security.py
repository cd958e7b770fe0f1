"""Who gets in, what each role may do, and that no secret leaks."""

from __future__ import annotations

import json
import pickle  # noqa: TID251 - to compare with, not to load
import re
from datetime import date
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from sbr_tasks.registry.log import PromotionLog, Rollback
from sbr_tasks.store import Store
from tests.integration.history import assert_projections_follow
from tools.local_airflow.api import ApiError
from tools.local_stack.leaks import files_below
from tools.local_stack.running import DAG, USERS, RunningStack

from .conftest import DAY

ROLL_BACK = "rollback_champion"
BACKFILL = {"dag_id": DAG, "from_date": "2014-09-29T00:00:00Z", "to_date": "2014-09-29T00:00:00Z"}
ROLLBACK = {"logical_date": None, "conf": {"to": "2014-09-01-00000000", "reason": "a test"}}
PAGES = ["/sbr-models/", "/sbr-models/static/page.css", f"/sbr-models/data-docs/{DAY}"]


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
    pages = {
        app["url_prefix"] for plugin in plugins for app in plugin["fastapi_apps"] if plugin["source"].startswith("$PLUGINS")
    }
    assert pages == {f"/{path.split('/')[1]}" for path in PAGES}
    for page in pages:
        for path in ("/", "/docs", "/openapi.json"):
            assert running.status(page + path) in (401, 404), page + path


@pytest.mark.parametrize("path", PAGES)
def test_the_models_page_and_data_docs_are_shown_to_users_with_a_role_only(
    running: RunningStack, daily_run: str, path: str
) -> None:
    del daily_run
    assert running.status(path) == 401
    assert running.status(path, "made.up.token") in (401, 403)
    statuses = {user: running.status(path, running.token(user)) for user in USERS}
    assert statuses == {"nobody": 403, "viewer": 200, "op": 200, "admin": 200}


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
        f"dags/{ROLL_BACK}/dagRuns": ROLLBACK,
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


def test_the_models_page_offers_a_pin_to_whom_airflow_lets_do_it(running: RunningStack, daily_run: str) -> None:
    del daily_run
    pages = {user: running.page("/sbr-models/", running.token(user)) for user in USERS if user != "nobody"}
    offered = {user: 'data-dag="pin_champion"' in page for user, page in pages.items()}
    assert offered == {"viewer": False, "op": True, "admin": True}


@pytest.mark.long
@pytest.mark.usefixtures("daily_run")
def test_an_operator_rolls_back_to_an_earlier_champion(running: RunningStack) -> None:
    store = Store.open(running.settings())
    running.finished(running.retrain("op", date(2014, 9, 30)))
    state = PromotionLog(store).state()
    earlier = sorted(state.were_champion - state.retired - {str(state.champion)})[0]
    asked = {"logical_date": None, "conf": {"to": earlier, "reason": "fewer clicks"}}
    run = running.api("op").post(f"dags/{ROLL_BACK}/dagRuns", asked)
    assert running.finished(run["dag_run_id"], ROLL_BACK)["state"] == "success"
    last = PromotionLog(store).entries()[-1]
    assert isinstance(last, Rollback)
    assert (last.version, last.before, last.reason) == (earlier, state.champion, "fewer clicks")
    assert_projections_follow(store, running.settings())


def test_an_operator_may_trigger_but_manages_no_users(running: RunningStack, daily_run: str) -> None:
    assert running.finished(daily_run)["triggering_user_name"] == "op"
    assert running.api("op").post(f"dags/{ROLL_BACK}/dagRuns", ROLLBACK)["state"] == "queued"
    with pytest.raises(ApiError) as refused:
        running.api("op").get("/auth/fab/v1/users", attempts=1)
    assert refused.value.status == 403


def test_a_connection_is_stored_but_its_password_is_shown_to_nobody(running: RunningStack) -> None:
    for user in ("op", "admin"):
        found = running.api(user).get("connections/smtp_default")
        assert (found["login"], found["host"]) == ("shop", "mail.example")
        assert running.secrets["smtp"] not in json.dumps(found)


def test_nothing_that_a_day_leaves_is_a_pickle(running: RunningStack, daily_run: str) -> None:
    """Those of protocols 2 to 5, which begin with 0x80 and the protocol and end with a dot; inside NumPy's archives too."""
    del daily_run
    contents = dict(files_below([running.stack.volume(name) for name in ("store", "mlflow")]))
    assert {"saved_model.pb", "weights.npz"} <= {Path(name).name for name in contents}
    assert [name for name, found in contents.items() if re.match(rb"\x80[\x02-\x05].*\.\Z", found, re.DOTALL)] == []
    for found in (found for name, found in contents.items() if name.endswith(".npz")):
        with np.load(BytesIO(found), allow_pickle=False) as archive:
            assert all(archive[name].dtype != object for name in archive.files)  # reading an object would raise an error
    [(_, rows)] = running.rows()
    # Airflow itself pickles a task's `executor_config`, which no task here has.
    assert set(re.findall(rb"\\\\x(800[2-5]\w*2e)\b", rows)) == {pickle.dumps({}, 5).hex().encode()}


def test_no_secret_is_in_a_log_or_an_artifact(running: RunningStack, daily_run: str) -> None:
    del daily_run
    assert len(list(running.stack.folder.rglob("*.log"))) > 10
    assert running.leaks() == []
