"""Time and memory of a day's validation, and Great Expectations' cost per day.

    python -m benchmarks.validation [--rounds 3]

Each run is a process of its own; the median of the rounds counts. `validate` is `sbr_tasks.validation.validate_days` with
facts, result and Data Docs written to the store, on one day of clicks and on 30 small days at once. `pandas` checks the same
rows by hand and writes nothing. Seconds exclude imports, which are shown separately; peak memory is that of the process,
imports included. The clicks are synthetic.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

from tabulate import tabulate

from benchmarks.contenders import peak_mb, run_contender

CASES = {"200,000 clicks": (200_000, 1), "1 M clicks": (1_000_000, 1), "30 days of 5,000 clicks": (150_000, 30)}
END = date(2014, 9, 30)


def main() -> None:
    """Measures and prints the table, or, with `--work`, does one part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=["prepare", "pandas", "validate"], help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(
            json.dumps(
                {"prepare": _prepare, "pandas": _pandas, "validate": _validate}[options.work](options.store, options.case)
            )
        )
        return
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            _run("prepare", Path(folder) / "store", case)
            found: dict[str, list[dict[str, float]]] = {"pandas": [], "validate": []}
            for _ in range(options.rounds):
                for work, runs in found.items():
                    copy = Path(folder) / "copy"
                    shutil.copytree(Path(folder) / "store", copy)
                    runs.append(_run(work, copy, case))
                    shutil.rmtree(copy)
        peer = median(run["seconds"] for run in found["pandas"])
        for work, runs in found.items():
            middle = {name: median(run[name] for run in runs) for name in runs[0]}
            rows.append([case, work, middle["import_s"], middle["seconds"], middle["seconds"] / peer, middle["peak_mb"]])
    headers = ["clicks", "", "imports s", "seconds", "x pandas", "peak MB"]
    print(tabulate(rows, headers=headers, floatfmt=("", "", ".2f", ".2f", ".1f", ".0f")))


def _run(work: str, store: Path, case: str) -> dict[str, float]:
    return run_contender("validation", "--work", work, "--store", str(store), "--case", case)


def _prepare(place: Path, case: str) -> dict[str, float]:
    from sbr_tasks.clicks.ingest import ingest
    from sbr_tasks.demo import write_demo_clicks
    from sbr_tasks.settings import load_settings
    from sbr_tasks.store import Store

    clicks, days = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clicks.dat"
        write_demo_clicks(file, end=END, days=days, clicks=clicks)
        settings = load_settings({"store": str(place), "source.path": str(file)})
        ingest(Store.open(settings), settings)
    return {}


def _pandas(place: Path, case: str) -> dict[str, float]:
    begun = time.perf_counter()
    import pandas as pd

    started = time.perf_counter()
    for file in sorted(place.glob("clicks/*/*/*.parquet")):
        frame = pd.read_parquet(file)
        start = pd.Timestamp(file.parent.parent.name.removeprefix("day="), tz="UTC")
        frame["clicked_at"].between(start, start + pd.Timedelta(days=1), inclusive="left").all()
        frame[["session_id", "item_id", "clicked_at"]].isna().any()
        (frame[["session_id", "item_id"]] >= 0).all()
        frame.duplicated(["session_id", "item_id", "clicked_at"], keep=False).sum()
        frame.groupby("session_id")["item_id"].transform("size").max()
    return _measured(begun, started)


def _validate(place: Path, case: str) -> dict[str, float]:
    begun = time.perf_counter()

    from sbr_tasks.settings import load_settings
    from sbr_tasks.store import Store
    from sbr_tasks.validation.gx import great_expectations
    from sbr_tasks.validation.validate_days import validate_pending

    great_expectations().get_context(mode="ephemeral")
    settings = load_settings({"store": str(place)})
    started = time.perf_counter()
    validated = validate_pending(Store.open(settings), settings)
    if len(validated.accepted) != CASES[case][1]:
        raise SystemExit(f"Expected {CASES[case][1]} accepted days, found {validated}.")
    return _measured(begun, started)


def _measured(begun: float, started: float) -> dict[str, float]:
    ended = time.perf_counter()
    return {"import_s": started - begun, "seconds": ended - started, "peak_mb": peak_mb()}


if __name__ == "__main__":
    main()
