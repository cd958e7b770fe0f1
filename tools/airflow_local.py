"""Runs the whole platform on this machine: what `make run` and `make stop` call.

    run    starts Airflow, retrains for the last DAYS days of clicks in one backfill, and prints the decisions
    stop   stops Airflow
    env    prints exports that make `airflow` and `sbr` use the same state: eval "$(... env)"

Each source of clicks has its own folder under `var/`: `var/demo` for generated clicks, otherwise one named after the file. It
holds the store and, in `airflow/`, AIRFLOW_HOME. Passwords and the record of running processes are in `var/airflow`. Options
can also be given as environment variables, as make does.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

from sbr_tasks.errors import SbrError
from sbr_tasks.settings import load_settings
from tools.local_airflow import backfill
from tools.local_airflow.api import ApiError
from tools.local_airflow.server import LocalAirflow, LocalAirflowError, inherited_environment
from tools.local_airflow.supervisor import stop

ROOT = Path(__file__).resolve().parents[1]
VAR = ROOT / "var"
FOLDER = VAR / "airflow"
DEMO = ("--days", "33", "--sessions-per-day", "500")

_log = logging.getLogger("airflow_local")


@dataclass(frozen=True)
class Clicks:
    """A source of clicks, and its folder."""

    path: Path
    format: str
    folder: Path

    @classmethod
    def of(cls, path: str | None, layout: str | None) -> Clicks:
        """The given file, folder or glob; without one, generated clicks."""
        if not path:
            if layout:
                raise LocalAirflowError("FORMAT needs a file: set CLICKS=path/to/file too.")
            return cls(VAR / "demo" / "clicks.dat", "yoochoose", VAR / "demo")
        absolute, layout = Path(path).expanduser().absolute(), layout or "yoochoose"
        mark = hashlib.sha256(f"{layout} {absolute}".encode()).hexdigest()[:8]
        stem = "".join(letter if letter.isalnum() else "-" for letter in absolute.stem).strip("-") or "clicks"
        return cls(absolute, layout, VAR / f"{stem}-{mark}")

    def settings(self) -> dict[str, str]:
        """The environment that makes the steps read these clicks."""
        return {
            "SBR_SOURCE__FORMAT": self.format,
            "SBR_SOURCE__PATH": str(self.path),
            "SBR_SOURCE__WAIT_MINUTES": "0",  # a file of past clicks is complete
            "SBR_SOURCE__SETTLE_SECONDS": "0",  # even if it was just written
            "SBR_STORE": str(self.folder / "store"),
        }


def main() -> int:
    """Runs the command; returns its exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    options = _options()
    try:
        match options.command:
            case "run":
                return run(options)
            case "stop":
                _log.info("Airflow stopped." if stop(FOLDER) else "Airflow isn't running for this checkout.")
            case "env":
                airflow = _airflow(Clicks.of(options.clicks, options.format), options.port)
                _log.info("\n".join(f"export {name}={shlex.quote(value)}" for name, value in airflow.environment().items()))
    except (LocalAirflowError, ApiError, SbrError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        return int(error.returncode)  # the command printed why
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Everything that was started has been stopped.\n")
        return 130
    return 0


def run(options: argparse.Namespace) -> int:
    """Starts Airflow and retrains; returns 0 if every day has a decision."""
    clicks = Clicks.of(options.clicks, options.format)
    with _alone():
        airflow = _airflow(clicks, options.port)
        days = _days(clicks, options.days, airflow)
        started = _ensure_running(airflow)
        try:
            failures = _retrain(airflow, days, started)
        except BaseException:
            if started:
                stop(FOLDER)
            raise
        _sbr(airflow, "runs", *(word for day in days for word in ("--day", str(day))))
    for failure in failures:
        _log.info("\nLog of the failed task %s:\n%s", failure.task_id, backfill.task_log(airflow.api, failure.log))
    if options.oneshot:
        stop(FOLDER)
        _log.info("\nAirflow stopped.")
    else:
        _log.info("\nAirflow: %s  user: admin  password: %s  (`make stop` stops it)", airflow.url, airflow.api.password())
    return 1 if failures else 0


def _days(clicks: Clicks, n_days: int, airflow: LocalAirflow) -> list[date]:
    """The last days of the clicks, after logging what will run and for how long."""
    if clicks.folder == VAR / "demo" and not clicks.path.exists():
        _log.info("Generating clicks for a demo shop ...")
        clicks.folder.mkdir(parents=True, exist_ok=True)
        new = clicks.path.with_suffix(".new")
        _sbr(airflow, "demo-clicks", "--out", str(new), *DEMO)
        new.replace(clicks.path)
    preview: dict[str, Any] = json.loads(_sbr(airflow, "preview", "--days", str(n_days), "--json", capture=True))
    days = [date.fromisoformat(day) for day in preview["last_days"]]
    _log.info(
        "%s: retraining for %s to %s. A window has about %s clicks; each day takes about %.1f minutes.",
        clicks.path,
        days[0],
        days[-1],
        f"{preview['window_clicks']:,}",
        preview["seconds_per_day"] / 60,
    )
    return days


def _ensure_running(airflow: LocalAirflow) -> bool:
    """Starts Airflow unless it is already running; returns whether it was started."""
    if airflow.is_running():
        _log.info("Airflow is already running on %s.", airflow.url)
        return False
    if stop(FOLDER):
        _log.info("Stopped this checkout's Airflow: it ran with other settings, or only some of its processes were running.")
    airflow.start(_log.info)
    return True


def _retrain(airflow: LocalAirflow, days: list[date], started: bool) -> list[backfill.Failure]:
    zone = load_settings(cwd=ROOT).zone
    backfill.wait_for_dag(airflow.api, since=airflow.began)
    if started:
        backfill.cancel_unfinished(airflow.api)  # left unfinished when Airflow was last stopped
    backfill.start(airflow.api, days[0], days[-1], zone)
    try:
        return backfill.follow(airflow.api, days, zone, _log.info)
    except KeyboardInterrupt:
        if not started:
            backfill.cancel_unfinished(airflow.api)
        raise


def _sbr(airflow: LocalAirflow, *words: str, capture: bool = False) -> str:
    """Runs `sbr WORDS` with the settings of the tasks; returns its output, if captured."""
    command = [sys.executable, "-m", "sbr_tasks", *words]
    environment = inherited_environment() | airflow.environment()
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE if capture else None, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.returncode)  # it printed why
    return done.stdout or ""


def _airflow(clicks: Clicks, port: int) -> LocalAirflow:
    # No scheduled runs: the clicks of a file end. Backfills and manual runs still work.
    settings = {"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False", **clicks.settings()}
    return LocalAirflow(FOLDER, clicks.folder / "airflow", ROOT, port, settings)


@contextmanager
def _alone() -> Iterator[None]:
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalAirflowError("Another `make run` is active in this checkout. Wait for it to finish.") from None
        yield


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "stop", "env"])
    parser.add_argument("--clicks", default=os.environ.get("CLICKS"), help="file, folder or glob; default: generated clicks")
    parser.add_argument("--format", default=os.environ.get("FORMAT"), help="format of the clicks; default: yoochoose")
    parser.add_argument("--days", default=os.environ.get("DAYS") or "3", type=int, help="last days to retrain; default: 3")
    parser.add_argument(
        "--port", default=os.environ.get("PORT") or "8080", type=int, help="port of Airflow's UI; default: 8080"
    )
    oneshot = os.environ.get("ONESHOT", "") not in {"", "0"}
    parser.add_argument("--oneshot", action="store_true", default=oneshot, help="stop Airflow when the run finishes")
    options = parser.parse_args()
    if options.days < 1 or not 1 <= options.port <= 65535:
        parser.error("DAYS must be at least 1, and PORT between 1 and 65535")
    return options


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
