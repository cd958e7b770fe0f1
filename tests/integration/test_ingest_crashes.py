"""Imports that are killed, that meet another one, or find no space: all days or none, and the same again gives the same."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.days import parse_day
from sbr_tasks.demo import write_demo_clicks
from sbr_tasks.store import NumberedLog, Store, kinds
from sbr_tasks.upkeep.check import verify_store

_draw = random.Random(5)
MOMENTS = [pytest.param(_draw.random(), marks=[] if i < 2 else pytest.mark.long, id=f"{i}") for i in range(10)]

IMPORT = """
import resource, sys
from sbr_tasks.clicks import ingest as module
from sbr_tasks.errors import SbrError
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store
places = {"store": sys.argv[1], "source.path": sys.argv[2], "scratch": sys.argv[3]}
settings = load_settings({**places, "ingest.max_rejected": 0.1})
limit, publish = int(sys.argv[5]), module._publish_day
def full():
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
if sys.argv[4] == "scratch":
    full()
if sys.argv[4] == "store":
    module._publish_day = lambda *given: full() or publish(*given)
try:
    module.ingest(Store.open(settings), settings)
except SbrError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def start(store: Path, file: Path, *, scratch: Path | None = None, full: str = "", limit: int = 0) -> subprocess.Popen[str]:
    """Starts an import; `full` ("scratch" or "store") lets no file there grow over `limit` bytes."""
    command = [sys.executable, "-c", IMPORT, str(store), str(file), str(scratch or store.parent / "scratch"), full, str(limit)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    messages = process.communicate()[1]
    assert process.returncode == 0, messages


def published(store: Path) -> dict[str, bytes]:
    """All content but commit records."""
    opened = Store(str(store))
    return {key: opened.get(key) for folder in ("clicks", "rejects") for key in opened.keys(folder)}


def commits(store: Path) -> list[dict[str, Any]]:
    """The commit records, but for their time."""
    return [{**entry.body, "at": ""} for entry in NumberedLog(Store(str(store)), kinds.COMMIT).entries()]


def in_scratch(scratch: Path) -> bool:
    return any(scratch.glob("ingest-*/*"))


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("in") / "clicks.dat"
    write_demo_clicks(file, end=parse_day("2014-09-30"), days=60, sessions_per_day=None, seed=1, clicks=200_000, shuffle=True)
    with file.open("a") as lines:
        lines.write("oops\n" * 10)
    return file


@pytest.fixture(scope="module")
def undisturbed(clicks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The store that an import leaves, and how long it took from its first spilled click on."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    process = start(store, clicks)
    while not in_scratch(store.parent / "scratch"):
        assert process.poll() is None
        time.sleep(0.002)
    began = time.monotonic()
    finish(process)
    assert len(commits(store)) == 1
    return store, time.monotonic() - began


@pytest.mark.parametrize("moment", MOMENTS)
def test_import_killed_and_repeated_leaves_what_an_undisturbed_one_does(
    clicks: Path, undisturbed: tuple[Path, float], tmp_path: Path, moment: float
) -> None:
    expected, took_s = undisturbed
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    killed = start(store, clicks)
    while not in_scratch(scratch):
        assert killed.poll() is None
        time.sleep(0.002)
    time.sleep(moment * took_s)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert commits(store) in ([], commits(expected))
    finish(start(store, clicks))
    assert published(store) == published(expected)
    assert commits(store)[:1] == commits(expected)
    assert [commit["days"] for commit in commits(store)[1:]] in ([], [{}])  # it was killed after its commit: all is the same
    assert ClickCatalog(Store(str(store))).days() == ClickCatalog(Store(str(expected))).days()
    assert verify_store(Store(str(store))).faults == ()
    assert not in_scratch(scratch)


def test_two_imports_of_overlapping_days_at_once_give_one_consistent_result(clicks: Path, tmp_path: Path) -> None:
    lines = clicks.read_text().splitlines(keepends=True)
    first, second, store = tmp_path / "first.dat", tmp_path / "second.dat", tmp_path / "store"
    first.write_text("".join(line for line in lines[:-10:2] if line.split(",")[1] < "2014-09-15"))
    second.write_text("".join(line for line in lines[1:-10:2] if line.split(",")[1] >= "2014-08-15"))
    both = [start(store, first), start(store, second)]
    for process in both:
        finish(process)
    found = commits(store)
    assert {Path(commit["source"]["path"]) for commit in found} == {first, second}
    earlier, later = ({day: record["rev"] for day, record in commit["days"].items()} for commit in found)
    assert not set(earlier) & set(later)
    assert set(earlier) & {day for day, found_as in found[1]["kept"].items() if found_as == "different"}
    catalog = ClickCatalog(Store(str(store)))
    current = {str(day): state.incoming for day, state in catalog.days().items() if state.incoming}
    assert {day: revision.rev for day, revision in current.items()} == {**earlier, **later}
    for revision in current.values():
        assert len(catalog.read(revision)) == revision.rows


def assert_refused_and_intact(process: subprocess.Popen[str], store: Path, before: dict[str, bytes], word: str) -> None:
    messages = process.communicate()[1]
    assert process.returncode == 1, messages
    assert messages.startswith("StoreError: "), messages
    assert len(messages.splitlines()) == 1
    assert word in messages
    after = published(store)
    assert {key: after.get(key) for key in before} == before
    assert len(commits(store)) == 1


@pytest.fixture
def small_import(tmp_path: Path) -> dict[str, bytes]:
    """A store of one click at `tmp_path/store`."""
    file = tmp_path / "small.dat"
    file.write_text("1,2014-09-23T23:59:59.999Z,10,S\n")
    finish(start(tmp_path / "store", file))
    return published(tmp_path / "store")


@pytest.mark.parametrize(
    ("full", "limit", "word"),
    [("scratch", 1 << 20, "The scratch folder"), ("store", 10_000, "could not be written")],
)
def test_file_that_cannot_grow_is_a_clear_error_and_leaves_the_old_state(
    clicks: Path, small_import: dict[str, bytes], tmp_path: Path, full: str, limit: int, word: str
) -> None:
    process = start(tmp_path / "store", clicks, full=full, limit=limit)
    assert_refused_and_intact(process, tmp_path / "store", small_import, word)
    assert not in_scratch(tmp_path / "scratch")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.long  # mounting takes rights that a machine that runs only the other tests need not give
@pytest.mark.parametrize(("full", "word"), [("scratch", "The scratch folder"), ("store", "could not be written")])
def test_disk_that_is_full_is_a_clear_error_and_leaves_the_old_state(
    clicks: Path, small_import: dict[str, bytes], small_disk: Path, tmp_path: Path, full: str, word: str
) -> None:
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    if full == "store":
        store = Path(shutil.copytree(store, small_disk / "store"))
    else:
        scratch = small_disk
    assert_refused_and_intact(start(store, clicks, scratch=scratch), store, small_import, word)
    assert not in_scratch(scratch)
