"""Speed of building a window from the days in the store, compared with the usual notebook on the same Parquet files.

    python -m benchmarks.window [--clicks 5500000] [--rounds 3] [--growth 33000000] [--cache FOLDER]

Contenders take turns, each in a process of its own; the median of the rounds counts. `window` is `sbr_tasks.window`, `strings`
the same with UUIDs and SKUs in place of integers. `notebook` is pandas: groupby/size and isin until nothing changes, a split
by groupby/max and isin, an item index by `Series.map`, a sort by session and time, the parts as Parquet. Reading means files to
columns, for `window` with the files' hashes verified; its sort is part of `encode` and `split`. Memory is touched before the
clock starts: a virtual machine's host may hand it out again, at seconds a gigabyte. The clicks are synthetic, over 30 days.
Generated days are kept in the cache, by default below the system's folder for temporary files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.contenders import peak_mb, run_contender, touch_memory

CONTENDERS = ("notebook", "window", "strings")
STAGES = ("read", "encode", "cleanse", "split", "index", "sort", "write")
TOUCHED_GB = 3.0
"""More than any contender needs."""
DAYS = 30
DAY = date(2014, 9, 30)

Measured = dict[str, Any]


def main() -> None:
    """Measures and prints the tables, or, with `--contender`, runs one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=5_500_000)
    parser.add_argument("--growth", type=int, default=0, help="also this many clicks, for `window` alone, once a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "sbr-benchmark-window")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(_run(options.contender, options.store)))
        return
    integers, strings = _generated(options.cache, options.clicks)
    runs = {"notebook": ("notebook", integers), "window": ("window", integers), "strings": ("strings", strings)}
    if options.growth:
        runs["growth"] = ("window", _generated(options.cache, options.growth, with_strings=False)[0])
    measured: dict[str, list[Measured]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, (contender, store) in runs.items():
            measured[name].append(_measure(contender, store))
    _report(measured, options.clicks, options.growth)


def _report(measured: dict[str, list[Measured]], clicks: int, growth: int) -> None:
    def seconds(name: str, stages: Iterable[str]) -> float:
        return float(median(sum(one["took_s"].get(stage, 0.0) for stage in stages) for one in measured[name]))

    def peak(name: str) -> float:
        return float(max(one["peak_mb"] for one in measured[name]))

    rows = [[name, *(seconds(name, [stage]) for stage in STAGES), seconds(name, STAGES), peak(name)] for name in measured]
    headers = [f"{clicks:,} clicks, s" + (f" (growth: {growth:,})" if growth else ""), *STAGES, "all", "peak MB"]
    print(tabulate(rows, headers=headers, floatfmt=("", *[".2f"] * (len(STAGES) + 1), ".0f")))
    touched = [one["took_s"]["touch memory"] for runs in measured.values() for one in runs]
    print(f"To touch {TOUCHED_GB:g} GB of memory before a contender started took {min(touched):.2f} to {max(touched):.2f} s.")
    ours, theirs = ("encode", "cleanse", "split", "index"), ("cleanse", "split", "index")
    bars = [
        [
            "encode + cleanse + split + index, x the notebook's cleanse + split + index + sort",
            seconds("notebook", [*theirs, "sort"]) / seconds("window", ours),
        ],
        ["the same without the notebook's sort", seconds("notebook", theirs) / seconds("window", ours)],
        ["all, x the notebook's all", seconds("notebook", STAGES) / seconds("window", STAGES)],
        ["peak with string ids / with integers", peak("strings") / peak("window")],
    ]
    if growth:
        bars.append([f"time of {growth:,} / of {clicks:,}", seconds("growth", STAGES) / seconds("window", STAGES)])
    print(tabulate(bars, headers=["bar", "measured"], floatfmt=".2f"))


def _generated(cache: Path, clicks: int, *, with_strings: bool = True) -> tuple[Path, Path]:
    """Stores that hold the same accepted days, with integer and with string ids."""
    integers, strings = cache / f"{clicks}-integers", cache / f"{clicks}-strings"
    if not integers.exists():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clicks.dat"
            size = ["--clicks", str(clicks), "--days", str(DAYS), "--end", str(DAY)]
            command = [sys.executable, "-m", "sbr_tasks", "demo-clicks", "--out", str(file), *size]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            _fill(integers, {"source.path": str(file)})
    if with_strings and not strings.exists():
        with tempfile.TemporaryDirectory() as folder:
            _write_with_strings(integers, Path(folder))
            _fill(strings, {"source.path": folder, "source.format": "parquet", "source.id_type": "string"})
    return integers, strings


def _fill(store: Path, source: dict[str, str]) -> None:
    """Creates a store of accepted days, atomically."""
    from sbr_tasks.clicks.catalog import ClickCatalog
    from sbr_tasks.clicks.commits import Judgement
    from sbr_tasks.clicks.ingest import ingest
    from sbr_tasks.settings import load_settings
    from sbr_tasks.store import Store

    building = store.with_name(f"{store.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    settings = load_settings({"store": str(building), **source})
    opened = Store.open(settings)
    decisions = {
        revision.day: Judgement(rev=revision.rev, accepted=True, result="", data_docs="")
        for revision in ingest(opened, settings).revisions
    }
    ClickCatalog(opened).commit_validation(decisions, at="2014-10-01T00:00:00+00:00")
    building.rename(store)


def _write_with_strings(integers: Path, folder: Path) -> None:
    """The same days as Parquet, sessions named by UUIDs and items by SKUs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, file in enumerate(_day_files(integers)):
        day = pq.read_table(file)
        for column, name in (("session_id", lambda id_: str(uuid.uuid5(uuid.NAMESPACE_OID, str(id_)))), ("item_id", _sku)):
            ids = day.column(column).combine_chunks().dictionary_encode()
            names = pa.array([name(id_) for id_ in ids.dictionary.to_pylist()])
            day = day.set_column(day.column_names.index(column), column, names.take(ids.indices))
        pq.write_table(day, folder / f"{number:02d}.parquet")


def _sku(item: int) -> str:
    return f"SKU-{item * 2654435761 % 2**32:010d}-EU"


def _day_files(store: Path) -> list[Path]:
    return sorted(store.glob("clicks/day=*/rev=*/*.parquet"))


def _measure(contender: str, store: Path) -> Measured:
    return run_contender("window", "--contender", contender, "--store", str(store))


def _run(contender: str, store: Path) -> Measured:
    took_s = _notebook(store) if contender == "notebook" else _window(store)
    return {"took_s": took_s, "peak_mb": peak_mb()}


def _window(store: Path) -> dict[str, float]:
    from sbr_tasks.settings import load_settings
    from sbr_tasks.store import Store
    from sbr_tasks.window.build import window_for_day
    from sbr_tasks.window.stages import Stages

    shutil.rmtree(store / "windows", ignore_errors=True)
    settings = load_settings({"store": str(store), "window.days": DAYS})
    opened, stages = Store.open(settings), Stages()
    with stages("touch memory"):
        touch_memory(TOUCHED_GB)
    window_for_day(opened, settings, DAY, stages)
    return stages.took_s


def _notebook(store: Path) -> dict[str, float]:
    import pandas as pd

    from sbr_tasks.window.stages import Stages

    stages = Stages()
    with stages("touch memory"):
        touch_memory(TOUCHED_GB)
    with stages("read"):
        columns = ["session_id", "item_id", "clicked_at"]
        clicks = pd.concat([pd.read_parquet(file, columns=columns) for file in _day_files(store)], ignore_index=True)
    with stages("cleanse"):
        while True:
            before = len(clicks)
            lengths = clicks.groupby("session_id").size()
            clicks = clicks[clicks["session_id"].isin(lengths[lengths >= 2].index)]
            support = clicks.groupby("item_id").size()
            clicks = clicks[clicks["item_id"].isin(support[support >= 5].index)]
            if len(clicks) == before:
                break
    with stages("split"):
        test_day = pd.Timestamp(DAY, tz="UTC")
        last = clicks.groupby("session_id")["clicked_at"].max()
        ends = {
            "train": last.index[last < test_day - pd.Timedelta(days=1)],
            "validation": last.index[(last >= test_day - pd.Timedelta(days=1)) & (last < test_day)],
            "test": last.index[last >= test_day],
        }
        parts = {name: clicks[clicks["session_id"].isin(ids)] for name, ids in ends.items()}
    with stages("index"):
        items = parts["train"]["item_id"].unique()
        index = pd.Series(range(len(items)), index=items)
        parts = {name: part.assign(item_index=part["item_id"].map(index)) for name, part in parts.items()}
    with stages("sort"):
        parts = {name: part.sort_values(["session_id", "clicked_at"]) for name, part in parts.items()}
    with stages("write"), tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items():
            part.to_parquet(Path(folder) / f"{name}.parquet", compression="zstd", index=False)
    return stages.took_s


if __name__ == "__main__":
    main()
