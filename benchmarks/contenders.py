"""A contender works in a process of its own, so that it shares neither memory nor warm caches with the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def run_contender(benchmark: str, *words: str) -> dict[str, Any]:
    """The JSON object that `python -m benchmarks.BENCHMARK WORDS` prints as its last line."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *words]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def touch_memory(gigabytes: float) -> None:
    """Uses this much memory and gives it back; `peak_mb` counts from here on.

    The host of a virtual machine may take free memory back and hand it out again at a second or two a gigabyte. Work that is
    timed after this call has the memory at hand, as on a machine of its own.
    """
    np.empty(int(gigabytes * 2**30), np.uint8)[:: os.sysconf("SC_PAGE_SIZE")] = 1
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mb() -> float:
    """The most memory that this process held at once, in MB; `getrusage` would count what its parent held when it forked."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024
