"""Runs the services of `docker-compose.yaml` as processes of this machine, for tests where there is no container engine.

What it proves: the commands, the variables, the health checks and the order of the services, as they are in the file. What it
can't prove: images, users, memory limits and networks. How the two differ:

- Each service's ports become free ports on loopback: `redis:6379` and the like in commands, variables and checks,
  `localhost:PORT`, and a service's own port numbers are rewritten; so is 0.0.0.0 as the address to listen on.
- Paths of volumes, of the checkout (/opt/sbr) and of Airflow's home (/opt/airflow) become folders of this machine.
- A container's name (`%h`, $HOSTNAME) is the service's. A process sees the service's variables, what a test adds to them, HOME,
  LANG, PATH and OPENBLAS_*, and no others.
- PostgreSQL and Redis are Debian's. The start script of PostgreSQL's image is replaced here; it doesn't wait for the
  disk.
- A health check counts only until it first passes, and comes every three seconds or more often; retries, start periods and the
  grace of a stop are the runner's own.
- The restart policy is simulated: once all are up, a service that ends is started again about a second later.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import psutil

from tools.local_airflow.supervisor import free_port, members_of, send_signal, tail

from .compose import Service, services

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yaml"
UP_TIMEOUT_S = 420
STOP_GRACE_S = 20
COMPLETED, HEALTHY = "service_completed_successfully", "service_healthy"


def missing_programs() -> list[str]:
    """What a stack needs and this machine lacks."""
    missing = [name for name in ("redis-server", "redis-cli", "curl", "pg_isready") if shutil.which(name) is None]
    return missing + ([] if any(_postgres_programs()) else ["initdb"])


class StackError(Exception):
    """A service ended, or wasn't healthy in time; the text holds the end of its log."""


class Stack:
    """One stack; what it writes is in `folder`, except PostgreSQL's files, which belong to a user of their own."""

    def __init__(self, folder: Path, variables: Mapping[str, str], extra: Mapping[str, str] | None = None) -> None:
        """Describes the stack without starting it.

        Args:
            folder: Volumes, logs (`<service>.log`) and what containers would hold.
            variables: What `.env` would hold. Nothing else is used of this process's environment.
            extra: Further environment of all services, such as a test's shorter intervals.
        """
        self.folder = folder
        self.variables = dict(variables)
        self.services = services(COMPOSE_FILE, variables)
        self._extra = dict(extra or {})
        self._ports = {(name, port): free_port() for name, service in self.services.items() for port in service.ports}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._kept_down: set[str] = set()
        self._restarts = threading.Thread(target=self._restart_what_ended, daemon=True)
        self._is_over = threading.Event()
        self._postgres = Path(tempfile.mkdtemp(prefix="sbr-postgres-"))

    def port(self, name: str, port: int) -> int:
        """The port of this machine that replaces one of a service."""
        return self._ports[name, port]

    def log(self, name: str) -> Path:
        """What a service printed."""
        return self.folder / f"{name}.log"

    def volume(self, name: str) -> Path:
        """The folder of a volume."""
        return self._postgres / "data" if name == "postgres" else self.folder / "volumes" / name

    def processes(self, name: str) -> set[int]:
        """The processes of a service that run now."""
        return members_of(self._sessions_of(name))

    def start(self, names: Collection[str] | None = None) -> None:
        """Starts each service when what it depends on is healthy or done, and returns when all are.

        Args:
            names: Only these services, as `docker compose up NAMES` does; then the restart policy isn't in force yet.

        Raises:
            StackError: A service ended or wasn't healthy in time; then nothing is left running.
        """
        selected = {name: service for name, service in self.services.items() if names is None or name in names}
        deadline = time.monotonic() + UP_TIMEOUT_S
        up: dict[str, Future[None]] = {}
        reached = threading.Event()

        def bring_up(service: Service) -> None:
            reached.wait()
            for other in service.depends_on.keys() & up.keys():
                up[other].result()
            if self._is_over.is_set():
                raise StackError(f"{service.name} was not started, as another service failed.")
            running = self._running.get(service.name)
            if running is None or running.poll() is not None:
                self.launch(service.name)
            self._wait_until_up(service, deadline)

        try:
            with ThreadPoolExecutor(len(selected)) as pool:
                for name, service in selected.items():
                    up[name] = pool.submit(bring_up, service)
                reached.set()
                try:
                    for future in up.values():
                        future.result()
                except BaseException:
                    self._is_over.set()
                    raise
        except BaseException:
            self.stop()
            raise
        if names is None:
            self._restarts.start()

    def launch(self, name: str) -> None:
        """Starts a service, or starts it again, as it is."""
        service = self.services[name]
        for inside, outside in service.volumes.items():
            if not outside.startswith((".", "/")):
                self.volume(outside).mkdir(parents=True, exist_ok=True)
            del inside
        self._home(name).mkdir(parents=True, exist_ok=True)
        command, user = [self._here(service, word) for word in service.command], None
        if service.image.startswith("postgres:"):
            command, user = self._postgres_command(service)
        with self.log(name).open("ab") as out:
            started = subprocess.Popen(
                command,
                env=self._environment(service),
                cwd=self._postgres if user else ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                user=user,
            )
        self._running[name] = started
        self._kept_down.discard(name)

    def replicate(self, name: str) -> str:
        """Starts one more of a service, as `--scale` does, and returns its name when it is healthy.

        Raises:
            StackError: It ended, or wasn't healthy in time.
        """
        number = 2 + sum(other.startswith(f"{name}-") for other in self.services)
        replica = replace(self.services[name], name=f"{name}-{number}")
        self._ports |= {(replica.name, port): free_port() for port in replica.ports}
        self.services[replica.name] = replica
        self.launch(replica.name)
        self._wait_until_up(replica, time.monotonic() + UP_TIMEOUT_S)
        return replica.name

    def kill(self, name: str, *, keep_down: bool = False) -> None:
        """Kills all processes of a service at once, as the end of a container does; the restart policy then starts it again.

        Args:
            name: Of the service.
            keep_down: It stays down until `launch`.
        """
        if keep_down:
            self._kept_down.add(name)
        self._kill(self._sessions_of(name))

    def remove(self, name: str) -> None:
        """Ends a replica for good, as scaling down does, but at once."""
        self.kill(name, keep_down=True)
        del self._running[name]
        del self.services[name]

    def is_healthy(self, name: str) -> bool:
        """Whether a service's own health check passes now."""
        service = self.services[name]
        kind, *words = service.check
        shell = ["sh", "-c"] if kind == "CMD-SHELL" else []
        with self.log(f"{name}-check").open("ab") as out, suppress(subprocess.TimeoutExpired):
            return self._inside(service, [*shell, *words], out, out, service.check_timeout_s).returncode == 0
        return False

    def run(self, name: str, *words: str) -> bytes:
        """What a command prints with a service's environment, as `docker compose exec` does it.

        Raises:
            StackError: It failed.
        """
        return _printed(" ".join(words), self._inside(self.services[name], words))

    def postgres_command(self, program: str, *words: str, stdin: IO[bytes] | None = None) -> bytes:
        """What a program of PostgreSQL prints that runs beside the server as its superuser, as `docker compose exec` does it.

        Raises:
            StackError: It failed.
        """
        command = [str(_newest_postgres() / program), "--host=127.0.0.1", f"--port={self.port('postgres', 5432)}"]
        environment = {"PGUSER": "postgres", "PGPASSWORD": self.services["postgres"].environment["POSTGRES_PASSWORD"]}
        done = subprocess.run([*command, *words], env=environment, stdin=stdin, capture_output=True, check=False)
        return _printed(program, done)

    def stop(self) -> None:
        """Stops everything that was started, with all descendants, and removes PostgreSQL's files; kills what doesn't stop."""
        self._is_over.set()
        if self._restarts.is_alive():
            self._restarts.join()
        databases = [name for name in self._running if name in ("postgres", "redis")]
        for names in ([name for name in self._running if name not in databases], databases):
            sessions = set().union(*map(self._sessions_of, names))
            for name in names:
                self._running[name].send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            deadline = time.monotonic() + STOP_GRACE_S
            while self._alive(sessions) and time.monotonic() < deadline:
                time.sleep(0.1)
            self._kill(sessions)
        self._running.clear()
        shutil.rmtree(self._postgres, ignore_errors=True)

    def _restart_what_ended(self) -> None:
        while not self._is_over.wait(1):
            for name, process in list(self._running.items()):
                is_due = name not in self._kept_down and self.services[name].is_restarted
                if is_due and process.poll() is not None and not self.processes(name):
                    self.launch(name)

    def _sessions_of(self, name: str) -> set[int]:
        """The sessions in which a service's processes are: its own, and those that descendants made, as PostgreSQL's do."""
        leader = self._running[name]
        if leader.poll() is not None:
            # A process id isn't reused while a session has it: if another process has it, the session is over.
            return set() if psutil.pid_exists(leader.pid) else {leader.pid}
        sessions = {leader.pid}
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(leader.pid).children(recursive=True):
                with suppress(ProcessLookupError):
                    sessions.add(os.getsid(child.pid))
        return sessions

    def _kill(self, sessions: set[int]) -> None:
        while alive := self._alive(sessions):
            for pid in alive:
                send_signal(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _alive(self, sessions: set[int]) -> set[int]:
        for process in self._running.values():
            process.poll()
        return members_of(sessions)

    def _wait_until_up(self, service: Service, deadline: float) -> None:
        process = self._running[service.name]
        is_one_shot = any(other.depends_on.get(service.name) == COMPLETED for other in self.services.values())
        while time.monotonic() < deadline and not self._is_over.is_set():
            code = process.poll()
            if code == 0 and is_one_shot:
                return
            if code is not None:
                raise StackError(f"{service.name} ended with {code}; the end of its log:\n{tail(self.log(service.name), 30)}")
            if not is_one_shot and (not service.check or self.is_healthy(service.name)):
                return
            self._is_over.wait(0.2 if is_one_shot else min(service.check_pause_s, 3))
        raise StackError(f"{service.name} was not up in time; the end of its log:\n{tail(self.log(service.name), 30)}")

    def _inside(
        self,
        service: Service,
        words: Iterable[str],
        out: int | IO[bytes] = subprocess.PIPE,
        err: int | IO[bytes] = subprocess.PIPE,
        timeout_s: float | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a command to its end, as in a service's container."""
        return subprocess.run(
            [self._here(service, word) for word in words],
            env=self._environment(service),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=timeout_s,
            check=False,
        )

    def _home(self, name: str) -> Path:
        return self.folder / "containers" / name

    def _environment(self, service: Service) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}
        outside = {
            "HOME": str(self._home(service.name)),
            "HOSTNAME": service.name,
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }
        own = {name: self._here(service, value) for name, value in service.environment.items()}
        return inherited | outside | own | self._extra

    def _here(self, service: Service, text: str) -> str:
        """A text of the compose file, with the hosts, ports and paths of this machine."""
        ports: dict[str, int] = {}
        for (name, port), local in self._ports.items():
            ports[f"{name}:{port}"] = local
        for name, other in self.services.items():
            for outside, inside in other.published.items():
                ports[f"localhost:{outside}"] = self._ports[name, inside]
        own = {str(port): self._ports[service.name, port] for port in service.ports}
        ports |= {f"localhost:{port}": local for port, local in own.items()}
        paths = {"/opt/sbr": str(ROOT), "/opt/airflow": str(self._home(service.name) / "airflow")}
        for path, volume in service.volumes.items():
            paths[path] = str(self.volume(volume)) if not volume.startswith((".", "/")) else str((ROOT / volume).resolve())
        replacements = {place: f"127.0.0.1:{port}" for place, port in ports.items()}
        replacements |= {port: str(local) for port, local in own.items()} | paths
        replacements |= {"0.0.0.0": "127.0.0.1", "%h": service.name}  # noqa: S104 - what is replaced
        pattern = "|".join(re.escape(original) for original in sorted(replacements, key=len, reverse=True))
        return re.sub(rf"(?:(?<![\w/.:-])|(?<=[@/]))(?:{pattern})(?![\w.-])", lambda match: replacements[match[0]], text)

    def _postgres_command(self, service: Service) -> tuple[list[str], str | None]:
        """What the image's start script does: creates the database's files with the password, then becomes the server."""
        user = "postgres" if os.geteuid() == 0 else None
        programs = _newest_postgres()
        data = self.volume("postgres")
        if user:
            shutil.chown(self._postgres, user)
            shutil.chown(data, user)
        if not any(data.iterdir()):
            password = self._postgres / "password"
            password.write_text(service.environment["POSTGRES_PASSWORD"], encoding="utf-8")
            if user:
                shutil.chown(password, user)
            words = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--encoding=UTF8"]
            subprocess.run(
                [programs / "initdb", "-D", data, *words], user=user, cwd=self._postgres, check=True, stdout=subprocess.DEVNULL
            )
            password.unlink()
        # The machine doesn't lose power: without waiting for the disk.
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._postgres}", "-c", "fsync=off"]
        port = str(self._ports[service.name, 5432])
        return [str(programs / "postgres"), "-D", str(data), "-p", port, *settings], user


def _printed(command: str, done: subprocess.CompletedProcess[bytes]) -> bytes:
    """What a command printed.

    Raises:
        StackError: It failed.
    """
    if done.returncode:
        raise StackError(f"{command} ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def _newest_postgres() -> Path:
    return max(_postgres_programs(), key=lambda path: int(path.parent.name))


def _postgres_programs() -> list[Path]:
    return [initdb.parent for initdb in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
