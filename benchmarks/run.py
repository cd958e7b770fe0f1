"""Runs every benchmark: `make bench`."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("ingest", "validation", "window", "models_page", "gru4rec")


def main() -> None:
    """Runs them one after the other, so that none disturbs another."""
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)


if __name__ == "__main__":
    main()
