"""Starts and stops an Airflow made of three processes: api-server, scheduler and dag-processor.

They run on SQLite with a LocalExecutor, and outlive the terminal (`supervisor.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from sbr_tasks.airflow.pools import POOLS
from tools.local_airflow.api import Api, ApiError
from tools.local_airflow.supervisor import Process, read_record, spawn, stop, tail, write_record

COMPONENTS: dict[str, list[str]] = {
    "api-server": ["api-server"],
    # Task logs are read from the disk: without a log server, no second port is needed.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
}
MIGRATE = ["db", "migrate"]
CREATE_POOLS = [sys.executable, "-m", "sbr_tasks.airflow.pools"]
START_TIMEOUT_S = 240
Report = Callable[[str], None]


class LocalAirflowError(Exception):
    """Airflow could not start, or exited too early; the message is for people."""


def inherited_environment() -> dict[str, str]:
    """This process's environment without settings of another Airflow."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AIRFLOW__") and name not in {"AIRFLOW_HOME", "AIRFLOW_CONFIG"}
    }


class LocalAirflow:
    """One Airflow; passwords and process records are in `folder`, its database and task logs in `home`."""

    def __init__(self, folder: Path, home: Path, root: Path, port: int, settings: Mapping[str, str]) -> None:
        """Describes an Airflow without starting it.

        Args:
            folder: Passwords and the record of running processes.
            home: AIRFLOW_HOME.
            root: The checkout, whose `dags` and `plugins` are used; it is the working folder of all tasks.
            port: Of the UI and the API, on this machine only.
            settings: Further environment: of the tasks (SBR_*), or of Airflow (AIRFLOW__*), which wins over the defaults.
        """
        self.folder, self.home, self.root, self.port = folder, home, root, port
        self.settings = dict(settings)
        self.url = f"http://localhost:{port}"
        self.api = Api(self.url, folder / "passwords.json")
        self.began = 0.0  # when it was started, in seconds since 1970; 0: not by this object

    def environment(self) -> dict[str, str]:
        """The variables that this Airflow's processes have on top of the caller's environment."""
        python_folder = str(Path(sys.executable).parent)
        no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY"), "localhost", "127.0.0.1"]))
        return {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__DEFAULT_WRAP": "True",  # the log shows long errors in full
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # the default asks the network
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.root / "plugins"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "passwords.json"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            # airflow.cfg holds these too, but would point a moved checkout to its old place.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self.home / "logs" / "dag_processor"),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # The end of a skipped or failed task is often noticed only at its next heartbeat.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "GX_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "NO_PROXY": no_proxy,
            "PATH": os.pathsep.join([python_folder, os.environ.get("PATH", os.defpath)]),
            # Each task is a new process; without bytecode it would compile TensorFlow every time.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONUTF8": "1",
            "no_proxy": no_proxy,
        } | self.settings

    def command(self, *words: str) -> list[str]:
        """The command line of `airflow WORDS` that works whatever the path of the checkout."""
        return [sys.executable, "-m", "airflow", *words]

    def start(self, report: Report) -> None:
        """Creates the database if needed, starts the components, and returns when they are healthy.

        Raises:
            LocalAirflowError: The port is taken, or a component exited or wasn't healthy in time. Nothing is left running.
        """
        require_free_port(self.port)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.mkdir(parents=True, exist_ok=True)
        self.began = time.time()
        report(f"Starting Airflow on {self.url} ...")
        self._migrate()
        try:
            processes = self._spawn()
            self._wait_until_healthy(processes, report)
        except BaseException:
            stop(self.folder)
            raise
        report(f"Airflow started in {time.time() - self.began:.0f} s.")

    def _migrate(self) -> None:
        log, mark = self.home / "migrate.log", self.home / "migrated"
        wanted = f"{version('apache-airflow-core')} {POOLS}"
        if (self.home / "airflow.db").exists() and mark.exists() and mark.read_text() == wanted:
            return
        with log.open("wb") as out:
            for words in (self.command(*MIGRATE), CREATE_POOLS):
                done = subprocess.run(words, env=self._full(), cwd=self.root, stdout=out, stderr=out, check=False)
                if done.returncode:
                    raise LocalAirflowError(f"Airflow's database could not be created. The end of {log}:\n{tail(log)}")
        mark.write_text(wanted)

    def _full(self) -> dict[str, str]:
        return inherited_environment() | self.environment()

    def _spawn(self) -> list[Process]:
        processes: list[Process] = []
        for name, words in COMPONENTS.items():
            log = self._log(name)
            processes.append(spawn(name, self.command(*words), log=log, environment=self._full(), cwd=self.root))
            write_record(self.folder, self._fingerprint(), processes)
        return processes

    def _log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def _wait_until_healthy(self, processes: list[Process], report: Report) -> None:
        next_report = time.time() + 10
        while time.time() - self.began < START_TIMEOUT_S:
            for process in processes:
                if not process.is_alive():
                    log = self._log(process.name)
                    raise LocalAirflowError(f"Airflow's {process.name} exited. The end of {log}:\n{tail(log)}")
            healthy = self.healthy_parts()
            if {"metadatabase", "scheduler", "dag_processor"} <= healthy:
                return
            if time.time() > next_report:
                parts = ", ".join(sorted(healthy)) or "none yet"
                report(f"Still starting after {time.time() - self.began:.0f} s; healthy: {parts}.")
                next_report += 10
            time.sleep(0.3)
        raise LocalAirflowError(f"Airflow was not healthy within {START_TIMEOUT_S} s; its logs are in {self.home}.")

    def healthy_parts(self) -> set[str]:
        """The parts of Airflow that report they are healthy; empty while it doesn't respond."""
        try:
            health = self.api.get("monitor/health", login=False, attempts=1)
        except ApiError:
            return set()
        return {part for part, state in health.items() if state["status"] == "healthy"}

    def is_running(self) -> bool:
        """Whether all components run with this port and these settings, and are healthy."""
        fingerprint, processes = read_record(self.folder)
        return (
            fingerprint == self._fingerprint()
            and len(processes) == len(COMPONENTS)
            and all(process.is_alive() for process in processes)
            and {"scheduler", "dag_processor"} <= self.healthy_parts()
        )

    def _fingerprint(self) -> str:
        settings = {name: value for name, value in self._full().items() if name.startswith(("AIRFLOW_", "SBR_"))}
        text = json.dumps([settings, str(POOLS)], sort_keys=True)  # an Airflow started before a pool was added is restarted
        return hashlib.sha256(text.encode()).hexdigest()


def require_free_port(port: int) -> None:
    """Raises:
    LocalAirflowError: Another program listens on `port`.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LocalAirflowError(
                f"Port {port} can't be used ({error.strerror}). Stop the program that listens on it, or choose another port: "
                f"make run PORT={port + 1 if port < 65535 else 8080}"
            ) from error
