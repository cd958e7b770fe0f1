"""What a rejected line of JSON costs, by what is wrong with it.

    python -m benchmarks.rejects [--lines 40000] [--rounds 5]

A file of good lines and the same file with bad lines in between, after each good line or after each ninth, are read in turns.
The difference divided by the bad lines is the cost of one: the median of the rounds, in processor time. Clicks are synthetic.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from statistics import median

from tabulate import tabulate

from sbr_tasks.clicks.ingest import read_source
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.settings import load_settings

GOOD = '{{"session_id":{session},"clicked_at":"2020-01-0{day}T10:{minute:02}:00.000Z","item_id":{item},"category":"0"}}'
BAD = {
    "text as an id": ('"item_id":', '"item_id":"x","was":'),
    "list as an id": ('"item_id":', '"item_id":[1],"was":'),
    "true as an id": ('"item_id":', '"item_id":true,"was":'),
    "null as an id": ('"item_id":', '"item_id":null,"was":'),
    "fraction as an id": ('"item_id":', '"item_id":1.5,"was":'),
    "key twice": ('"item_id":', '"item_id":1,"item_id":'),
    "impossible time": ("2020-01", "2020-13"),
    "no closing brace": ("}", ""),
}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=40_000, help="Good lines of each file.")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    lines = [GOOD.format(session=i // 4, day=1 + i % 3, minute=i % 60, item=i % 500) for i in range(options.lines)]
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            [name, *(_cost(Path(folder), lines, change, every, options.rounds) for every in (1, 9))]
            for name, change in BAD.items()
        ]
    print(tabulate(rows, headers=["", "us, 1 line in 2", "us, 1 line in 10"], floatfmt=".1f"))


def _cost(folder: Path, lines: list[str], change: tuple[str, str], every: int, rounds: int) -> float:
    """Microseconds a bad line."""
    alone, mixed = folder / "good.jsonl", folder / "mixed.jsonl"
    alone.write_text("\n".join(lines))
    mixed.write_text("\n".join(f"{line}\n{line.replace(*change)}" if i % every == 0 else line for i, line in enumerate(lines)))
    more = [_seconds(mixed) - _seconds(alone) for _ in range(rounds)]
    return 1e6 * median(more) / len(lines[::every])


def _seconds(file: Path) -> float:
    source = load_settings({"source": {"path": str(file), "format": "jsonl", "settle_seconds": 0}}).source
    started = time.process_time()
    for _ in read_source(source, Rejects(max_share=0.9)):
        pass
    return time.process_time() - started


if __name__ == "__main__":
    main()
