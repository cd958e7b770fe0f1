"""What `make run` refuses, and that `make stop` leaves no process behind. Nothing here starts an Airflow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tools.local_airflow import server, supervisor

from .conftest import ROOT

KEEP = [sys.executable, "-m", supervisor.__name__]
CLICKS = "".join(f"{day},2014-09-{day}T10:0{i}:00.000Z,7,0\n" for day in (28, 29, 30) for i in (0, 1))

# A component that doesn't listen to SIGTERM, with a task in a process group of its own, as Airflow starts them.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setpgid(0, 0)
open(f"{os.getpid()}.pid", "w").close()
time.sleep(600)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the tools, so that what they write stays apart from the developer's own `var`."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "tools", folder / "tools")
    (folder / "clicks.dat").write_text(CLICKS, encoding="utf-8")
    return folder


def airflow_local(checkout: Path, command: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Runs the tool as make does."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"CLICKS", "FORMAT", "DAYS", "ONESHOT", "PORT"}
    }
    words = [sys.executable, "-m", "tools.airflow_local", command]
    return subprocess.run(words, env=environment | options, cwd=checkout, capture_output=True, text=True, check=False)


def written(checkout: Path) -> set[str]:
    """What the tool left, apart from its empty lock."""
    return {str(file.relative_to(checkout)) for file in (checkout / "var").rglob("*") if file.is_file()} - {"var/airflow/lock"}


def test_missing_file_is_one_sentence_and_nothing_is_started(checkout: Path) -> None:
    done = airflow_local(checkout, "run", CLICKS="absent.dat")
    assert done.returncode != 0
    assert done.stderr.splitlines() == [
        f"sbr: Expected clicks in {checkout / 'absent.dat'}, but there is no such file. Check the path (source.path or --from)."
    ]
    assert written(checkout) == set()


def test_wrong_format_is_refused_and_nothing_is_started(checkout: Path) -> None:
    done = airflow_local(checkout, "run", CLICKS="clicks.dat", FORMAT="gru4rec")
    assert done.returncode != 0
    assert "clicks.dat" in done.stderr
    assert "Traceback" not in done.stderr
    assert written(checkout) == set()


def test_format_without_a_file_is_refused(checkout: Path) -> None:
    done = airflow_local(checkout, "run", FORMAT="gru4rec")
    assert (done.returncode, done.stderr) == (
        1,
        "FORMAT needs a file: set CLICKS=path/to/file too.\n",
    )


def test_taken_port_is_one_sentence_and_nothing_is_started(checkout: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = airflow_local(checkout, "run", CLICKS="clicks.dat", DAYS="1", PORT=str(port), SBR_WINDOW__DAYS="3")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Port {port} can't be used (Address already in use)")
    assert written(checkout) == set()


def test_stop_without_anything_running_is_no_error(checkout: Path) -> None:
    done = airflow_local(checkout, "stop")
    assert (done.returncode, done.stdout) == (0, "Airflow isn't running for this checkout.\n")


def test_stop_kills_what_does_not_end_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_GRACE_S", 0.5)
    leader = subprocess.Popen([sys.executable, "-c", STUBBORN], cwd=tmp_path, start_new_session=True)
    while len(pids := [int(file.stem) for file in tmp_path.glob("*.pid")]) < 2:
        time.sleep(0.05)
    _record(tmp_path, leader.pid, psutil.Process(leader.pid).create_time())
    assert supervisor.stop(tmp_path)
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    assert not supervisor.stop(tmp_path)


def test_stop_spares_a_stranger_with_the_number_of_a_component(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        _record(tmp_path, stranger.pid, began=psutil.Process(stranger.pid).create_time() - 3600)
        assert not supervisor.stop(tmp_path)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_tasks_write_bytecode_whatever_the_shell_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    airflow = server.LocalAirflow(tmp_path, tmp_path, ROOT, 8080, {})
    environment = server.inherited_environment() | airflow.environment()
    command = [sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "False\n"


def test_component_that_ends_is_started_again_unless_it_never_works(tmp_path: Path) -> None:
    began = tmp_path / "began"
    command = [sys.executable, "-c", f"open({str(began)!r}, 'a').write('x'); raise SystemExit(7)"]
    done = subprocess.run([*KEEP, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, began.read_text()) == (7, "x" * supervisor.MAX_QUICK_EXITS)
    assert done.stderr.count("exited with 7; restarting it.") == supervisor.MAX_QUICK_EXITS - 1


def test_component_that_is_asked_to_end_is_not_started_again(tmp_path: Path) -> None:
    began = tmp_path / "began"
    command = [sys.executable, "-c", f"import time; open({str(began)!r}, 'a').write('x'); time.sleep(600)"]
    keeper = subprocess.Popen([*KEEP, *command], cwd=ROOT)
    while not (began.exists() and began.read_text()):
        time.sleep(0.05)
    (component,) = psutil.Process(keeper.pid).children()
    keeper.terminate()
    assert keeper.wait() == 128 + signal.SIGTERM
    assert not component.is_running()
    assert began.read_text() == "x"


def _record(folder: Path, pid: int, began: float) -> None:
    record = {"settings": "", "processes": [{"name": "scheduler", "pid": pid, "began": began}]}
    (folder / "running.json").write_text(json.dumps(record), encoding="utf-8")
