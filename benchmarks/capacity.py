"""The cost of each task of a daily run: processor time, memory and time, by clicks a day.

    python -m benchmarks.capacity [--clicks-per-day 200000,1000000,5000000] [--window-days 30] [--training-days 30,7,3]
                                  [--until STEP,STEP,STEP] [--without-champion] [--stop-training-after SECONDS]
                                  [--set KEY=VALUE ...] [--cache FOLDER]

For each number of clicks a day, a shop gets a history of all days of the window except the last, whose import and validation
are the rows `first import` and `first validation`. It also gets a champion, trained for one epoch on three days and not
measured; with `--without-champion` there is none, and `evaluate_models` scores one model less. Then the last day is measured,
in a file of its own: the functions that the tasks call, each in its own process, including imports and the start of Python,
without Airflow's overhead.

A window of millions of clicks a day trains for hours on two cores. What is measured instead is reported, never extrapolated:
the window is built of `--window-days`, then what follows works on a window of the last `--training-days` (a number for each
size), for `n_epochs` of 1 unless `--set` says otherwise; the table shows both. `--until` names the last step of each size.
`--stop-training-after` measures the memory of a training that is stopped early; later steps are left out.

CPU is user and system time of the process and its children. The peak of memory is that of the process, or the sum over it and
its children (sampled 20 times a second) if that is more. The clicks are synthetic; the catalogue grows with them
(`sbr demo-clicks`). Files of clicks are kept in the cache, by default below the system's folder for temporary files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

DAY = date(2014, 9, 30)
CLICKS_PER_SESSION = 3.58
STEPS = (
    "ingest_clicks", "validate_clicks", "build_window", "train_gru4rec", "evaluate_models", "promote_if_better", "write_report",
)  # fmt: skip
LOOKS_PER_S = 20

# One step, as a task runs it; its summary is the last line.
_STEP = """
import json, sys
from sbr_tasks.settings import parse_overrides
from sbr_tasks.wish import Wish
from sbr_tasks.workspace import Workspace

step, overrides, *names = sys.argv[1:]
# A promotion costs more than a decision to keep the champion.
more = [Wish("force", "its cost is measured")] if step == "promote_if_better" else []
workspace = Workspace.open(parse_overrides(json.loads(overrides)))
print(getattr(workspace, step)(*names, *more).model_dump_json())
"""

Json = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a process took, with its children."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    returned: Json


@dataclass(frozen=True)
class _Shop:
    """A folder with a store, and how long a training may take there before it is stopped."""

    folder: Path
    training_s: float | None


def main() -> None:
    """Measures, and prints a table for each size as soon as it is complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks-per-day", type=_numbers, default=(200_000, 1_000_000, 5_000_000))
    parser.add_argument("--window-days", type=int, default=30, help="4 or more")
    parser.add_argument(
        "--training-days", type=_numbers, default=(30, 7, 3), help="one number, or one for each size; 3 or more"
    )
    parser.add_argument("--until", type=_steps, default=[STEPS[-1]], help=f"one of {', '.join(STEPS)}")
    parser.add_argument("--without-champion", action="store_true")
    parser.add_argument("--stop-training-after", type=float, metavar="SECONDS")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "sbr-benchmark-capacity")
    options = parser.parse_args()
    if options.stop_training_after:
        options.until, options.without_champion = ["train_gru4rec"], True
    sizes = options.clicks_per_day
    for clicks, days, last in zip(sizes, _each(options.training_days, sizes), _each(options.until, sizes), strict=True):
        files = _generated(options.cache, clicks, options.window_days)
        with tempfile.TemporaryDirectory(dir=options.cache) as folder:
            shop = _Shop(Path(folder), options.stop_training_after)
            rows = _measure(shop, files, options.window_days, days, last, options.overrides, options.without_champion)
        headers = [f"{clicks:,} clicks a day", "window, days", "did", "wall s", "CPU s", "peak MB"]
        print(
            tabulate(rows, headers=headers, floatfmt=("", "", "", ".1f", ".1f", ".0f"), intfmt=",", missingval="-"), flush=True
        )
        print(f"\n{', '.join(['n_epochs=1', *options.overrides])}; {os.cpu_count()} processors\n", flush=True)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _steps(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(STEPS):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(STEPS)}; found {', '.join(sorted(unknown))}")
    return names


def _each(given: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
    """One of what was given for each size."""
    if len(given) not in (1, len(sizes)) and len(given) < len(sizes):
        raise SystemExit(f"Expected one value, or one for each of {len(sizes)} sizes; got {len(given)}.")
    return list(given) * len(sizes) if len(given) == 1 else list(given[: len(sizes)])


def _generated(cache: Path, clicks: int, window_days: int) -> tuple[Path, Path]:
    """The files of the history and of the last day."""
    sessions = max(1, round(clicks / CLICKS_PER_SESSION))
    spans = ((DAY - timedelta(days=1), window_days - 1), (DAY, 1))
    files = []
    for end, days in spans:
        file = cache / f"{end}-{days}-{sessions}.dat"
        if not file.exists():
            words = ["--end", str(end), "--days", str(days), "--sessions-per-day", str(sessions)]
            _sbr(cache, "demo-clicks", "--out", f"{file}.part", *words)
            Path(f"{file}.part").rename(file)
        files.append(file)
    return files[0], files[1]


def _measure(
    shop: _Shop,
    files: tuple[Path, Path],
    window_days: int,
    training_days: int,
    last: str,
    overrides: Sequence[str],
    is_first_day: bool,
) -> list[list[Any]]:
    """A row for each step, in the order of a run."""
    history, newest = files
    given = ["store=store", f"window.days={window_days}", "model.n_epochs=1", *overrides]
    before = str(DAY - timedelta(days=1))
    first = [*given, f"source.path={history}"]
    rows = []
    for name, step in (("first import", "ingest_clicks"), ("first validation", "validate_clicks")):
        cost = _run(shop, step, first, before)
        rows.append([name, window_days - 1, *_told(step, cost)])
    steps = STEPS[: STEPS.index(last) + 1]
    if "evaluate_models" in steps and not is_first_day:
        _run_all(shop, STEPS[2:6], [*first, "window.days=3"], before)
    daily, short = [*given, f"source.path={newest}"], [*given, f"source.path={newest}", f"window.days={training_days}"]
    rows += _run_all(shop, steps[:3], daily, str(DAY))
    if len(steps) > 3:
        skipped = 1 if training_days == window_days else 0
        rows += _run_all(shop, steps[2:], short, str(DAY))[skipped:]
    return rows


def _run_all(shop: _Shop, steps: Iterable[str], overrides: Sequence[str], day: str) -> list[list[Any]]:
    """A row for each of the steps, which come one after the other from `build_window` on at the latest."""
    rows, window, names = [], "", [day]
    days = next(one.partition("=")[2] for one in reversed(overrides) if one.startswith("window.days="))
    for step in steps:
        cost = _run(shop, step, overrides, *names)
        rows.append([step, int(days), *_told(step, cost)])
        if step == "build_window":
            window = cost.returned["window"]
            names = [day, window]
        elif step == "train_gru4rec" and cost.returned:
            names = [day, window, cost.returned["model_version"]]
    return rows


def _told(step: str, cost: Cost) -> list[Any]:
    """What a step did, and what it took."""
    found = cost.returned
    did = {
        "ingest_clicks": lambda: f"{found['rows']:,} clicks",
        "build_window": lambda: f"{found['clicks']:,} clicks, {found['items']:,} items",
        "train_gru4rec": lambda: f"{found['epochs']} epoch(s), {found['events_per_second']:,} events/s",
        "evaluate_models": lambda: f"{len(found) - 1} scorers",
        "promote_if_better": lambda: str(found["outcome"]),
    }
    if step in did and not found:
        return ["stopped", cost.wall_s, cost.cpu_s, cost.peak_mb]
    return [did[step]() if step in did else None, cost.wall_s, cost.cpu_s, cost.peak_mb]


def _run(shop: _Shop, step: str, overrides: Sequence[str], *names: str) -> Cost:
    """What a step costs in a process of its own.

    Raises:
        SystemExit: It failed, or was killed because memory ran out.
    """
    used, started = _cpu_s(), time.perf_counter()
    command = [sys.executable, "-c", _STEP, step, json.dumps(list(overrides)), *names]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen(command, cwd=shop.folder, env=_environment(), stdout=out, stderr=said)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _memory_mb(process))
            time.sleep(1 / LOOKS_PER_S)
            if step == "train_gru4rec" and shop.training_s and time.perf_counter() - started > shop.training_s:
                process.kill()
                process.wait()
                return Cost(time.perf_counter() - started, _cpu_s() - used, peak, {})
        took = time.perf_counter() - started
        out.seek(0)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{step} of {names[0]} ended with {process.returncode}:\n{said.read()[-3000:]}")
        returned = json.loads(out.read().splitlines()[-1])
    print(f"{step} {names[0]}: {took:.1f} s", file=sys.stderr, flush=True)
    return Cost(took, _cpu_s() - used, peak, returned)


def _memory_mb(process: psutil.Process) -> float:
    """The most that the process held until now, or what it and its children hold now, if that is more."""
    own, all_now = 0.0, 0.0
    with suppress(psutil.NoSuchProcess, FileNotFoundError, StopIteration):
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        own = int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024
        all_now = sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20
    return max(own, all_now)


def _cpu_s() -> float:
    """Processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SBR_")}
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3"}


def _sbr(folder: Path, *words: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "sbr_tasks", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
