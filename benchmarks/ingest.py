"""Speed of importing a file of clicks, compared with reading alone and with the usual notebook.

    python -m benchmarks.ingest [--clicks 1000000,4000000,33000000] [--rounds 3]

Contenders take turns, each in a process of its own; the median of the rounds counts. `stream` reads the file with Arrow's CSV
reader and discards the blocks. `notebook` is `pandas.read_csv` with parsed dates and a sort, and writes nothing. `ingest` is
`sbr_tasks.clicks.ingest`, with Parquet written. The clicks are synthetic and in random order. The last rows are a day of
200,000 clicks. Imports of modules aren't counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.contenders import peak_mb, run_contender

CONTENDERS = ("stream", "notebook", "ingest")
DAY_CLICKS = 200_000
NAMES = ["session_id", "clicked_at", "item_id", "category"]


def main() -> None:
    """Measures and prints the table, or, with `--contender`, runs one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=_numbers, default=(4_000_000,), help="Sizes of the files, separated by commas.")
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(_run(options.contender, options.file)))
        return
    rows = [row for clicks in options.clicks for row in _compare(clicks, options.days, options.rounds, CONTENDERS)]
    rows += _compare(DAY_CLICKS, 1, options.rounds, ("stream", "ingest"))
    headers = ["lines", "", "seconds", "x stream", "faster than notebook", "peak MB", "most MB"]
    print(tabulate(rows, headers=headers, floatfmt=("", "", ".2f", ".2f", ".2f", ".0f", ".0f"), intfmt=",", missingval="-"))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _compare(clicks: int, days: int, rounds: int, contenders: tuple[str, ...]) -> list[list[Any]]:
    """One row a contender, on a new file of so many clicks."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clicks.dat"
        size = ["--clicks", str(clicks), "--days", str(days), "--shuffle"]
        demo = [sys.executable, "-m", "sbr_tasks", "demo-clicks", "--out", str(file), *size]
        subprocess.run(demo, check=True, stdout=subprocess.DEVNULL)
        for _ in range(rounds):
            for name in contenders:
                measured[name].append(_measure(name, file))
    seconds = {name: median(one["seconds"] for one in ones) for name, ones in measured.items()}
    return [
        [
            clicks,
            name,
            seconds[name],
            seconds[name] / seconds["stream"],
            seconds["notebook"] / seconds[name] if "notebook" in seconds else None,
            median(one["peak_mb"] for one in measured[name]),
            max(one["peak_mb"] for one in measured[name]),
        ]
        for name in contenders
    ]


def _measure(contender: str, file: Path) -> dict[str, float]:
    return run_contender("ingest", "--contender", contender, "--file", str(file))


def _run(contender: str, file: Path) -> dict[str, float]:
    work = {"stream": _stream, "notebook": _notebook, "ingest": _ingest}[contender]
    seconds = work(file)
    return {"seconds": seconds, "peak_mb": peak_mb()}


def _stream(file: Path) -> float:
    from pyarrow import csv

    started = time.perf_counter()
    with csv.open_csv(file, read_options=csv.ReadOptions(column_names=NAMES)) as reader:
        for _ in reader:
            pass
    return time.perf_counter() - started


def _notebook(file: Path) -> float:
    import pandas as pd

    started = time.perf_counter()
    frame = pd.read_csv(file, names=NAMES, parse_dates=["clicked_at"], dtype={"category": str})
    frame.sort_values(["session_id", "clicked_at"])
    return time.perf_counter() - started


def _ingest(file: Path) -> float:
    import pandas  # noqa: F401 (Arrow imports it at its first conversion)

    from sbr_tasks.clicks.ingest import ingest
    from sbr_tasks.settings import load_settings
    from sbr_tasks.store import Store

    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"store": str(folder), "source.path": str(file)})
        started = time.perf_counter()
        ingest(Store.open(settings), settings)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
