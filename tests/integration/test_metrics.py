"""The progress of a training reaches whoever collects Airflow's metrics."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from .conftest import NEW, ROOT
from .shops import environment, new_shop

# What Airflow's task runner does before a task, then the step as the task runs it.
_TRAIN = """
import sys
from types import SimpleNamespace

from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

import sbr_run_parts
from sbr_tasks import steps

stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
task = SimpleNamespace(dag_id="daily_retrain", task_id="train_gru4rec")
sbr_run_parts.get_current_context = lambda: {"ti": task, "params": {"n_epochs": 2}}
day = sys.argv[1]
steps.ingest_clicks(day), steps.validate_clicks(day)
sbr_run_parts.run_as_asked(steps.train_gru4rec, day, steps.build_window(day)["window"])
"""


def test_training_sends_its_progress_as_statsd_gauges(demo_clicks: Path, tmp_path: Path) -> None:
    shop = new_shop(tmp_path / "shop", demo_clicks)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.setblocking(False)
        metrics = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(collector.getsockname()[1])}
        given = {f"AIRFLOW__METRICS__{name}": value for name, value in metrics.items()}
        given |= {"AIRFLOW_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join([str(ROOT / "dags"), str(ROOT)])}
        command = [sys.executable, "-c", _TRAIN, str(NEW)]
        done = subprocess.run(command, cwd=shop, env=environment() | given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        received = "\n".join(_received(collector))
    found = {
        name: float(value) for name, value in re.findall(r"^airflow\.sbr\.train_gru4rec\.(\w+):([\d.e-]+)\|g$", received, re.M)
    }
    assert found["epoch"] == 2, "the run's own setting"
    assert found["events_done"] == found["events_total"] > 0
    assert found["events_per_second"] > 0
    assert found["seconds_left"] == 0
    assert found["loss"] > 0
    assert found["step"] > 0


def _received(collector: socket.socket) -> list[str]:
    """What lies in the socket's buffer."""
    found = []
    while True:
        try:
            found.append(collector.recv(65536).decode())
        except BlockingIOError:
            return found
