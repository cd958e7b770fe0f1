"""Runs every benchmark: `make bench`."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = {
    "ingest": ("--clicks", "1000000,4000000,33000000"),
    "validation": (),
    "window": ("--growth", "33000000"),
    "models_page": ("--airflow",),
    "gru4rec": (),
    "readout": (),
}


def main() -> None:
    """Runs them one after the other, so that none disturbs another."""
    for name, words in BENCHMARKS.items():
        print("==", name, *words, flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *words], check=True)


if __name__ == "__main__":
    main()
