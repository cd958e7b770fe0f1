"""A contender works in a process of its own, so that it shares neither memory nor warm caches with the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_contender(benchmark: str, *words: str) -> dict[str, Any]:
    """The JSON object that `python -m benchmarks.BENCHMARK WORDS` prints as its last line."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *words]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peak_mb() -> float:
    """The most memory that this process held at once, in MB; `getrusage` would count what its parent held when it forked."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024
