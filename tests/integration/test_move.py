"""A shop that began with a folder and SQLite moves to a bucket and an MLflow server, and nobody sees a difference."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store
from tests.mlflow_view import all_shown
from tools.demo_shop import demo_settings, environment
from tools.local_airflow.supervisor import free_port
from tools.wait import wait_for

from .conftest import NEW, Json
from .history import assert_projections_follow
from .shops import run_days
from .test_upkeep import sbr


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """The address of an empty MLflow that keeps files itself, as the production stack's does."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    url = f"http://127.0.0.1:{free_port()}"
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--port",
        url.rsplit(":", 1)[1],
        "--workers",
        "1",
        "--serve-artifacts",
        *places,
    ]
    with (folder / "log").open("wb") as log:
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(command, env=environment() | quiet, stdout=log, stderr=log)
    try:
        wait_for(lambda: server.poll() is not None or answers(f"{url}/health"))
        assert server.poll() is None, (folder / "log").read_text()
        yield url
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):  # noqa: S310
            return True
    except OSError:
        return False


def answers_of(shop: Path, **variables: str) -> dict[str, Json]:
    """What the shop's commands answer: history, versions, the champion's recommendations."""
    commands = (["log"], ["models"], ["runs"])
    item = sbr(shop, "recommend", "--session", "0", **variables)["items"][0]
    answers = {words[0]: sbr(shop, *words, **variables) for words in commands}
    return answers | {"recommend": sbr(shop, "recommend", "--session", str(item), **variables)}


def test_shop_moves_from_a_folder_and_sqlite_to_a_bucket_and_a_server_with_its_history(
    trained: Path,
    demo_clicks: Path,
    s3_options: dict[str, str],
    mlflow_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = Path(shutil.copytree(trained, tmp_path / "old")), tmp_path / "new"
    shutil.rmtree(old / "store" / "mlflow")  # it knows where its files were before
    sbr(old, "repair")
    run_days(old, retrain=[NEW])
    options = {name: value for name, value in s3_options.items() if "key" not in name}
    keys = {"AWS_ACCESS_KEY_ID": s3_options["access_key_id"], "AWS_SECRET_ACCESS_KEY": s3_options["secret_access_key"]}
    new.mkdir()
    (new / "sbr.toml").write_text(
        f"""{demo_settings(demo_clicks, "s3://clicks/moved")}
        store_options = {{ {", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items())} }}
        [mlflow]
        tracking_uri = "{mlflow_server}"
        artifact_root = "mlflow-artifacts:///sbr"
        """
    )
    given = [word for name, value in options.items() for word in ("--to-option", f"{name}={value}")]
    copied = sbr(old, "store", "copy", "s3://clicks/moved", *given, **keys)
    repaired = sbr(new, "repair", **keys)

    before = answers_of(old)
    assert (copied["champion"], copied["log_entries"]) == (before["models"]["champion"], 2)
    assert repaired == {"versions": 2, "log_entries": 2, "champion": copied["champion"], "faults": []}
    assert answers_of(new, **keys) == before
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    settings = {shop: load_settings(cwd=shop) for shop in (old, new)}
    shown = {shop: all_shown(Store.open(settings[shop]), settings[shop]) for shop in (old, new)}
    assert shown[new] == shown[old]
    assert_projections_follow(Store.open(settings[new]), settings[new])
    assert sbr(new, "store", "check", **keys)["orphaned"]["files"] == 0
    run_days(new, retrain=[NEW])  # the same day again: known, in the new place too
    assert answers_of(new, **keys) == before
