"""Ingest of a file that is much larger than a block, in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_four_million_lines_in_random_order_stay_under_1500_mb(tmp_path: Path) -> None:
    file = tmp_path / "clicks.dat"
    sbr = [sys.executable, "-m", "sbr_tasks"]
    subprocess.run([*sbr, "demo-clicks", "--out", str(file), "--clicks", "4000000", "--days", "180", "--shuffle"], check=True)
    code = (
        "import resource, sys; from sbr_tasks.clicks.ingest import ingest; from sbr_tasks.settings import load_settings;"
        "from sbr_tasks.store import Store; s = load_settings({'store': f'{sys.argv[1]}/store', 'source.path': sys.argv[2]});"
        "print(ingest(Store.open(s), s).rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(file)], check=True, capture_output=True, text=True)
    rows, peak_kib = map(int, done.stdout.split())
    assert rows == 4_000_000
    assert peak_kib < 1_500_000_000 / 1024
