"""A soak: simulated days on the production stack, one after the other, with faults, and the growth that they cause.

    python -m benchmarks.soak [--days 14] [--sessions-per-day 1500] [--json FILE] [--keep FOLDER]

The services of `docker-compose.yaml` run as local processes (`tools/local_stack/`), and clicks are synthetic
(`sbr demo-clicks`): a shop whose items drift. Each day the day's file arrives, and Airflow runs `daily_retrain` for it; a
training starts from the champion of an earlier day. Every seventh day ends with `store_upkeep`, which keeps three days.
Besides:

- On the days 3 and 8 the training worker is killed (SIGKILL to all its processes) after an epoch: the worker that
  replaces it must retry the training and resume after that epoch.
- The file of day 5 arrives after the run of day 7. The runs of the days 5 and 6 must fail and say that day 5 has no clicks;
  that of day 7 does without it. Then both are cleared and must succeed, and the version of day 7 must be shown as stale.

After each day, when no run is active, memory (by service, its processes together, shared pages divided among them) and disk
are sampled. `benchmarks/soak_checks.py` says what is allowed. Exit code 1, with explanations, if a day isn't decided exactly
once, the store is damaged, log, MLflow's alias and serving copy differ, a run remains failed or unfinished, memory grows or
disk grows faster than that, or `store_upkeep` leaves clicks that no kept run needs.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import redis
from tabulate import tabulate

from benchmarks.soak_checks import (
    MB,
    WEEK,
    Sample,
    decision_faults,
    disk_faults,
    growth_of_disk,
    growth_of_memory,
    memory_faults,
    retention_faults,
)
from sbr_tasks.demo import write_demo_clicks
from sbr_tasks.errors import SbrError
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.serving import served
from sbr_tasks.store import Store
from tools.demo_shop import demo_settings, environment
from tools.local_airflow.api import ApiError, midnight
from tools.local_stack.leaks import paths_below
from tools.local_stack.runner import StackError, missing_programs
from tools.local_stack.running import DAG, RunningStack, prepared, started
from tools.wait import wait_for

FIRST = date(2014, 9, 1)
WINDOW_DAYS = 5
KILLS = (3, 8)
LATE, DELIVERED = 5, 7
TRAIN = "train_gru4rec"
KEEP_DAYS = 3
SETTINGS = f"""
training = {{ warm_start = "parent", warm_epochs = 6 }}
upkeep = {{ keep_days = {KEEP_DAYS}, grace_hours = 0 }}
"""

Json = dict[str, Any]

_log = logging.getLogger("soak")


class SoakError(Exception):
    """Something didn't happen as it should; the text says what."""


FAILURES = (SoakError, SbrError, ApiError, StackError, TimeoutError, psycopg2.Error, redis.RedisError, OSError)
"""What ends a soak with a fault, and with the figures until then."""


@dataclass
class Soak:
    """The days of a running stack, and what was seen.

    Attributes:
        running: The stack.
        sessions_per_day: Of the clicks.
        start: What was held before the first day.
        samples: What was held after each day.
        seconds: How long each day took.
        runs: The id of each day's run.
        faults: What wasn't as it should be.
    """

    running: RunningStack
    sessions_per_day: int
    start: Sample
    samples: list[Sample] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    runs: dict[date, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def do(self, number: int) -> None:
        """Runs a day; the first is day 1."""
        began, day = time.monotonic(), day_of(number)
        notes = []
        if number != LATE:
            self.deliver(day)
        self.runs[day] = self.trigger(DAG, {"day": str(day)}, logical_date=midnight(day))
        if number in KILLS:
            self.kill_training(self.runs[day])
            notes.append("worker killed in training")
        self.expect(self.runs[day], "failed" if LATE <= number < DELIVERED else "success")
        if LATE <= number < DELIVERED:
            self.require_named_lateness(self.runs[day])
        if number in KILLS:
            self.require_resumed(self.runs[day])
        if LATE <= number < DELIVERED:
            notes.append(f"failed, as {day_of(LATE)} is late")
        if number == DELIVERED:
            self.deliver_late()
            notes.append(f"{day_of(LATE)} delivered, days since then cleared")
        if number % WEEK == 0:
            self.expect(self.trigger("store_upkeep", {}), "success", "store_upkeep")
            self.faults += retention_faults(self.days_with_clicks(), day, WINDOW_DAYS + KEEP_DAYS)
            notes.append("store checked and cleared")
        self.wait_until_idle()
        self.samples.append(sample(self.running))
        self.seconds.append(time.monotonic() - began)
        self.tell(number, notes)

    def deliver(self, day: date) -> None:
        """Puts a day's file into the folder of the source."""
        out = self.running.clicks / f"clicks-{day}.dat"
        write_demo_clicks(out, end=day, days=1, sessions_per_day=self.sessions_per_day)

    def deliver_late(self) -> None:
        """Delivers the day that is late, clears the runs that failed without it, and checks that staleness is shown."""
        late, following = day_of(LATE), day_of(DELIVERED)
        self.deliver(late)
        for number in range(LATE, DELIVERED):
            run_id = self.runs[day_of(number)]
            tasks = {"dag_run_id": run_id, "dry_run": False, "only_failed": True, "reset_dag_runs": True}
            self.running.api("op").post(f"dags/{DAG}/clearTaskInstances", tasks)
            self.expect(run_id, "success")
        rows = sbr(self.running, "models")["models"]
        stale = [row["stale"] for row in rows if row["day"] == str(following)]
        if stale != [[str(late)]]:
            self.faults.append(
                f"`sbr models` must say that the version of {following} is stale because {late} came later; found {stale}."
            )

    def require_named_lateness(self, run_id: str) -> None:
        """Notes a fault unless the run failed because the late day has no clicks, and says so."""
        failed = [task for task in self.running.tasks(run_id).values() if task["state"] == "failed"]
        logs = [self.running.log_of(run_id, task["task_id"], task["try_number"]) for task in failed]
        expected = f"{day_of(LATE)} has no clicks in"
        if not any(expected in log for log in logs):
            names = ", ".join(task["task_id"] for task in failed) or "none"
            self.faults.append(f"A task of {run_id} must fail and say `{expected} ...`; failed: {names}, without these words.")

    def days_with_clicks(self) -> set[date]:
        """The days whose clicks the store holds."""
        keys = Store.open(self.running.settings()).keys("clicks")
        return {date.fromisoformat(key.split("day=")[1][:10]) for key in keys if key.endswith(".parquet")}

    def kill_training(self, run_id: str) -> None:
        """Kills the training worker once an epoch of the run is over."""
        folder = self.running.stack.volume("store") / "checkpoints"

        def look() -> bool:
            return any(folder.glob("*.npz"))

        if look():
            raise SoakError(
                f"{folder} must hold no checkpoint before the training of {run_id} starts; one of an earlier day is left."
            )
        wait_for(look, every_s=0.01)
        self.running.stack.kill("training-worker")

    def require_resumed(self, run_id: str) -> None:
        """Notes a fault unless the training was tried twice and the second try resumed the first."""
        tries = self.running.tasks(run_id)[TRAIN]["try_number"]
        resumed = "Resuming from the checkpoint after epoch" in self.running.log_of(run_id, TRAIN, tries)
        if tries != 2 or not resumed:
            self.faults.append(
                f"After the kill, the second try of the training of {run_id} must resume the first; it took {tries} tries, "
                f"and the last one {'resumed' if resumed else 'started from scratch'}."
            )

    def trigger(self, dag: str, conf: Json, logical_date: str | None = None) -> str:
        """Starts a run; returns its id."""
        body = {"logical_date": logical_date, "conf": conf}
        return str(self.running.api("op").post(f"dags/{dag}/dagRuns", body)["dag_run_id"])

    def expect(self, run_id: str, state: str, dag: str = DAG) -> None:
        """Waits for the end of a run.

        Raises:
            SoakError: It ended otherwise.
        """
        found = self.running.finished(run_id, dag)["state"]
        if found != state:
            tasks = self.running.tasks(run_id, dag)
            raise SoakError(
                f"Expected the run {run_id} of {dag} to end as {state}, found {found}: "
                f"{ {name: task['state'] for name, task in tasks.items()} }. The logs are in {self.running.stack.folder}."
            )

    def wait_until_idle(self) -> None:
        """Returns when no run of any DAG is active, including those that follow a promotion."""
        api = self.running.api("admin")
        wait_for(lambda: not api.get("dags/~/dagRuns", state=["queued", "running"], limit=1)["total_entries"])

    def tell(self, number: int, notes: list[str]) -> None:
        """Prints the line of a day."""
        last, entries = self.samples[-1], sbr(self.running, "log")["entries"]
        outcome = [row["outcome"] for row in entries if row["day"] == str(day_of(number))]
        sizes = ", ".join(f"{name} {size / MB:.1f}" for name, size in last.disk.items())
        print(
            f"day {number:>2}  {day_of(number)}  {self.seconds[-1]:5.0f} s  {', '.join(outcome) or '-':<13}  "
            f"memory {sum(last.memory.values()) / MB:.0f} MB  disk: {sizes} MB{''.join(f'  [{note}]' for note in notes)}",
            flush=True,
        )

    def check(self) -> list[str]:
        """Everything that isn't as it should be at the end, in sentences."""
        settings = self.running.settings()
        store, api = Store.open(settings), self.running.api("admin")
        decided = [date.fromisoformat(row["day"]) for row in sbr(self.running, "log")["entries"]]
        faults = [*self.faults, *decision_faults(decided, self.runs)]
        checked = sbr(self.running, "store", "check")
        faults += [f"`sbr store check`: {fault}" for kind in ("missing", "damaged") for fault in checked[kind]]
        state = PromotionLog(store).state()
        if (alias := MlflowProjection(store, settings).champion()) != state.champion:
            faults.append(f"The log's champion is {state.champion}, but MLflow's alias names {alias}.")
        if (copy := served(store)) != (state.champion_entry, state.champion):
            faults.append(
                f"The log's champion is {state.champion} of entry {state.champion_entry}, but the serving copy is {copy}."
            )
        left = api.get("dags/~/dagRuns", state=["failed", "queued", "running"], limit=100)["dag_runs"]
        faults += [f"The run {run['dag_run_id']} of {run['dag_id']} is left {run['state']}; expected none." for run in left]
        return faults + memory_faults(self.samples) + disk_faults(self.start, self.samples)

    def figures(self) -> Json:
        """What was seen, as one JSON object."""
        entries = sbr(self.running, "log")["entries"]
        return {
            "days": len(self.samples),
            "sessions_per_day": self.sessions_per_day,
            "seconds": [round(took, 1) for took in self.seconds],
            "outcomes": {row["day"]: row["outcome"] for row in entries},
            "start": asdict(self.start),
            "samples": [asdict(found) for found in self.samples],
        }


def day_of(number: int) -> date:
    """The date of a simulated day, from 1."""
    return FIRST + timedelta(days=number - 1)


def sample(running: RunningStack) -> Sample:
    """What the stack holds now."""
    stack, folder = running.stack, running.stack.folder
    memory = {name: sum(map(_memory_of, stack.processes(name))) for name in stack.services if name != "init"}
    connection = redis.Redis(port=stack.port("redis", 6379), password=running.secrets["REDIS_PASSWORD"])
    logs = sum(file.stat().st_size for file in folder.glob("*.log")) + _size_of(folder / "volumes" / "logs")
    disk = {
        "store": _size_of(stack.volume("store")),
        "artifacts": _size_of(stack.volume("mlflow")),
        "database": _databases(running),
        "logs": logs,
        "redis": int(connection.info("memory")["used_memory"]),
    }
    return Sample(memory, disk)


def sbr(running: RunningStack, *words: str) -> Json:
    """What `sbr WORDS --json` prints of the stack's store."""
    overrides = [word for override in running.overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "sbr_tasks", *words, "--json", *overrides]
    done = subprocess.run(
        command, cwd=running.stack.folder / "settings", env=environment(), capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise SoakError(
            f"`sbr {' '.join(words)} --json` ended with {done.returncode} and printed nothing: {done.stderr[-2000:]}"
        )
    return dict(json.loads(done.stdout))


def _memory_of(pid: int) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(psutil.Process(pid).memory_full_info().pss)
    return 0


def _size_of(folder: Path) -> int:
    total = 0
    for file in paths_below(folder):
        with suppress(FileNotFoundError):  # a service may remove what it wrote
            total += file.stat().st_size
    return total


def _databases(running: RunningStack) -> int:
    """Bytes of the databases, without PostgreSQL's log of changes, whose files are kept for reuse."""
    port, password = running.stack.port("postgres", 5432), running.secrets["POSTGRES_PASSWORD"]
    connection = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT sum(pg_database_size(datname)) FROM pg_database WHERE datname IN ('airflow', 'mlflow')")
            [total] = cursor.fetchone() or [0]
            return int(total)
    finally:
        connection.close()


def table(soak: Soak) -> str:
    """What a person wants to see at the end."""
    memory = [
        [name, *(f"{size / MB:.0f}" for size in ends), f"{ends[1] / ends[0] - 1:+.0%}"]
        for name, ends in growth_of_memory(soak.samples).items()
    ]
    disk = [
        [name, f"{soak.samples[-1].disk[name] / MB:.1f}", *(f"{week / MB:+.1f}" for week in weeks)]
        for name, weeks in growth_of_disk(soak.start, soak.samples).items()
    ]
    return "\n\n".join(
        [
            tabulate(memory, headers=["memory, MB", "7 days ago", "now", "growth"]),
            tabulate(disk, headers=["disk (redis: memory), MB", "now", "first week", "second week"]),
        ]
    )


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept:
        try:
            kept.mkdir(parents=True)
        except FileExistsError:
            raise SystemExit(f"Expected a new folder for --keep, found that {kept} is there. Name another one.") from None
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="sbr-soak-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)


def main() -> int:
    """Runs the days, prints the figures, and returns 1 if something isn't as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=2 * WEEK, help="At least 8, so that all faults happen; growth needs 14.")
    parser.add_argument("--sessions-per-day", type=int, default=1_500)
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there as well.")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Work in this new folder, and keep it.")
    options = parser.parse_args()
    if options.days < max(KILLS):
        parser.error(f"--days must be at least {max(KILLS)}, the day of the last fault; got {options.days}.")
    if missing := missing_programs():
        parser.error(f"no {' and no '.join(missing)} on this machine; install Debian's postgresql, redis-server and curl.")
    with _folder(options.keep) as folder:
        (folder / "clicks").mkdir()
        settings = demo_settings(folder / "clicks", "store") + SETTINGS
        began = time.monotonic()
        with started(prepared(folder, folder / "clicks", settings)) as running:
            print(f"The stack is up after {time.monotonic() - began:.0f} s.", flush=True)
            soak = Soak(running, options.sessions_per_day, sample(running))
            for number in range(2 - WINDOW_DAYS, 1):
                soak.deliver(day_of(number))
            try:
                for number in range(1, options.days + 1):
                    soak.do(number)
            except FAILURES as error:
                _log.exception("Day %d failed:", len(soak.samples) + 1)
                soak.faults.append(f"Day {len(soak.samples) + 1} ended with {type(error).__name__}: {error}")
            except KeyboardInterrupt:
                soak.faults.append(f"Interrupted after {len(soak.samples)} of {options.days} days.")
            try:
                faults = soak.check()
            except FAILURES as error:
                _log.exception("The final state could not be checked:")
                faults = [*soak.faults, f"The final state could not be checked: {type(error).__name__}: {error}"]
            figures = soak.figures() | {"faults": faults, "took_s": round(time.monotonic() - began)}
    print(f"\n{table(soak)}\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for fault in faults:
        print(fault)
    decided = len(figures["outcomes"])
    print(f"{decided} days decided, {len(faults)} faults, {figures['took_s'] / 60:.0f} minutes.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
