"""Runs a component of Airflow and restarts it when it exits, as a service manager would.

On SQLite, without row locks, the scheduler exits when another process changes a row that it was about to write. The restarted
scheduler adopts its tasks.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import FrameType

MOST_QUICK_ENDS = 3
QUICK_S = 60.0


def keep(command: list[str]) -> int:
    """Runs a command until SIGTERM, or until it exits within a minute several times in a row; returns its exit code."""
    running: subprocess.Popen[bytes] | None = None
    is_over = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal is_over
        del frame
        is_over = True
        if running:
            running.send_signal(number)

    signal.signal(signal.SIGTERM, end)
    n_quick = 0
    while True:
        began = time.monotonic()
        running = subprocess.Popen(command)
        code = running.wait()
        n_quick = n_quick + 1 if time.monotonic() - began < QUICK_S else 0
        if is_over or n_quick == MOST_QUICK_ENDS:
            return code if code >= 0 else 128 - code
        sys.stderr.write(f"{' '.join(command)} exited with {code}; restarting it.\n")


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
