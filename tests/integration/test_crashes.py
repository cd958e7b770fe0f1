"""kill -9 at any moment, and the same again: as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.serving import served
from sbr_tasks.registry.versions import load_version, load_weights, version_names
from sbr_tasks.settings import load_settings
from tools.demo_shop import environment

from .conftest import NEW, Json
from .history import contents_of, digests, entries_of, store_of

TRAINED = re.compile(r"Reusing \S+/models/\S+, which has the same inputs")

_draw = random.Random(20)
MOMENTS = [pytest.param(_draw.random(), marks=[] if i < 2 else pytest.mark.long, id=f"{i}") for i in range(20)]


def retrain(shop: Path) -> subprocess.Popen[str]:
    """`sbr retrain` for the newest day, in a session of its own so that it can be killed with its children."""
    command = [sys.executable, "-m", "sbr_tasks", "retrain", "--day", str(NEW)]
    return subprocess.Popen(
        command,
        cwd=shop,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> str:
    """Kills a process and its children at once; returns what is left of its messages."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[1]


def wait_until_trained(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    assert any(TRAINED.search(line) for line in process.stderr), "the process ended before it knew of its version"


def state_of(shop: Path) -> Json:
    """All that must not depend on whether somebody was killed."""
    store, settings = store_of(shop), load_settings(cwd=shop)
    return {
        "log": contents_of(PromotionLog(store).entries()),
        "served": served(store),
        "serving": digests(shop / "store" / "serving"),
        "evaluations": digests(shop / "store" / "evaluations"),
        "alias": MlflowProjection(store, settings).champion(),
        "versions": version_names(store),
    }


@pytest.fixture(scope="module")
def undisturbed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, float]:
    """What a run that nobody killed leaves, and how long it took from the end of training on."""
    shop = tmp_path_factory.mktemp("undisturbed") / "shop"
    shutil.copytree(trained, shop)
    process = retrain(shop)
    wait_until_trained(process)
    began = time.monotonic()
    messages = process.communicate()[1]
    assert process.returncode == 0, messages
    state = state_of(shop)
    assert [entry["outcome"] for entry in state["log"]] == ["first_champion", "promote"]
    return state, time.monotonic() - began


@pytest.mark.parametrize("moment", MOMENTS)
def test_run_killed_after_training_and_repeated_leaves_what_an_undisturbed_one_does(
    trained: Path, undisturbed: tuple[Json, float], tmp_path: Path, moment: float
) -> None:
    expected, took_s = undisturbed
    shop = tmp_path / "shop"
    shutil.copytree(trained, shop)
    killed = retrain(shop)
    wait_until_trained(killed)
    time.sleep(moment * took_s)
    kill(killed)
    entries = entries_of(shop)
    assert contents_of(entries) == expected["log"][: len(entries)]
    assert len(entries) >= 1
    assert_champion_is_usable(shop)
    again = retrain(shop)
    messages = again.communicate()[1]
    assert again.returncode == 0, messages
    assert state_of(shop) == expected


def test_training_killed_and_repeated_resumes_after_its_last_epoch_to_the_same_weights(
    trained: Path, undisturbed: tuple[Json, float], tmp_path: Path
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(trained, shop)
    store = store_of(shop)
    *_, name = version_names(store)
    files = load_version(store, name).files
    shutil.rmtree(shop / "store" / "models" / name)
    killed, checkpoints = retrain(shop), shop / "store" / "checkpoints"
    while not list(checkpoints.glob("*.npz")):
        assert killed.poll() is None
        time.sleep(0.005)
    kill(killed)
    assert name not in version_names(store)
    again = retrain(shop)
    messages = again.communicate()[1]
    assert again.returncode == 0, messages
    assert re.search(r"Resuming from the checkpoint after epoch [1-9] of 10", messages)
    assert load_version(store, name).files == files
    assert not list(checkpoints.glob("*.npz"))
    assert contents_of(entries_of(shop)) == undisturbed[0]["log"]


def assert_champion_is_usable(shop: Path) -> None:
    """The champion's weights, and every file of the newest serving copy, are what their records say."""
    store = store_of(shop)
    champion = PromotionLog(store).state().champion
    assert champion
    load_weights(store, load_version(store, champion))
    number, version = served(store) or (0, "")
    expected = {name: record.sha256 for name, record in load_version(store, version).saved_model.items()}
    assert digests(shop / "store" / "serving/gru4rec" / str(number)) == expected
