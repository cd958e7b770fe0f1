"""Processes that outlive the terminal, are restarted when they exit, and are stopped with all their descendants.

Each runs in a session of its own, by which its descendants are found; `running.json` lists them. The leader of each session is
this module as a program: it runs a command and restarts it when it exits, as a service manager would. On SQLite, without row
locks, Airflow's scheduler exits when another process changes a row that it was about to write; the restarted scheduler adopts
its tasks.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import psutil

MAX_QUICK_EXITS = 3
QUICK_S = 60.0
STOP_GRACE_S = 10


@dataclass(frozen=True)
class Process:
    """One component. Its start time distinguishes it from a later process with the same id."""

    name: str
    pid: int
    began: float

    def is_alive(self) -> bool:
        """Whether this process is running."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.began) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def spawn(name: str, command: list[str], *, log: Path, environment: Mapping[str, str], cwd: Path) -> Process:
    """Starts a command that is restarted when it exits; what it prints goes to `log`."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, "-m", __name__, *command],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return Process(name, started.pid, psutil.Process(started.pid).create_time())


def keep(command: list[str]) -> int:
    """Runs a command until SIGTERM, or until it exits within a minute several times in a row; returns its exit code."""
    running: subprocess.Popen[bytes] | None = None
    is_over = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal is_over
        del frame
        is_over = True
        if running:
            running.send_signal(number)

    signal.signal(signal.SIGTERM, end)
    n_quick = 0
    while True:
        began = time.monotonic()
        running = subprocess.Popen(command)
        code = running.wait()
        n_quick = n_quick + 1 if time.monotonic() - began < QUICK_S else 0
        if is_over or n_quick == MAX_QUICK_EXITS:
            return code if code >= 0 else 128 - code
        sys.stderr.write(f"{' '.join(command)} exited with {code}; restarting it.\n")


def stop(folder: Path) -> bool:
    """Stops the processes that `folder` lists, with all descendants; kills what doesn't stop by itself.

    Returns:
        Whether anything was running.
    """
    _, processes = read_record(folder)
    members = _members(processes)
    for pid in members & {process.pid for process in processes}:
        send_signal(pid, signal.SIGTERM)
    deadline = time.time() + STOP_GRACE_S
    while _members(processes) and time.time() < deadline:
        time.sleep(0.1)
    while remaining := _members(processes):
        for pid in remaining:
            send_signal(pid, signal.SIGKILL)
        time.sleep(0.1)
    for process in processes:
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
    _record(folder).unlink(missing_ok=True)
    return bool(members)


def _members(processes: list[Process]) -> set[int]:
    """All running processes of the components' sessions. Tasks are in other process groups, but in the same session."""
    # A process id isn't reused while a session has it: if another process has a leader's id, the session is over.
    return members_of({process.pid for process in processes if process.is_alive() or not _exists(process.pid)})


def members_of(sessions: set[int]) -> set[int]:
    """All running processes of sessions, which are identified by their leaders' process ids."""
    members = set()
    for pid in psutil.pids():
        with suppress(OSError, psutil.NoSuchProcess):
            if os.getsid(pid) in sessions and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                members.add(pid)
    return members


def _exists(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signals a process; ignores one that has already exited."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _record(folder: Path) -> Path:
    return folder / "running.json"


def write_record(folder: Path, fingerprint: str, processes: list[Process]) -> None:
    """Lists the processes in `folder`, with the settings that they were started with."""
    record = {"settings": fingerprint, "processes": [asdict(process) for process in processes]}
    new = folder / "running.json.new"
    new.write_text(json.dumps(record, indent=1), encoding="utf-8")
    new.replace(_record(folder))


def read_record(folder: Path) -> tuple[str, list[Process]]:
    """The settings and the processes that `folder` lists; empty if it lists none."""
    try:
        record = json.loads(_record(folder).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "", []
    return record["settings"], [Process(**entry) for entry in record["processes"]]


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a file."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
