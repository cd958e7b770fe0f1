"""The progress of a training reaches whoever collects Airflow's metrics."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tools.demo_shop import environment

from .conftest import NEW, ROOT
from .shops import new_shop

# What Airflow's task runner does before a task, then the step as the task runs it.
_TRAIN = """
import sys
from types import SimpleNamespace

from airflow.sdk.execution_time.context import set_current_context
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

from sbr_tasks.airflow.runs import run_step, run_workspace

stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
task = SimpleNamespace(dag_id="daily_retrain", task_id="train_gru4rec")
day = sys.argv[1]
with set_current_context({"ti": task, "run_id": "r", "params": {"n_epochs": 2}}):
    workspace = run_workspace()
    workspace.ingest_clicks(day), workspace.validate_clicks(day)
    run_step(workspace.train_gru4rec, day, workspace.build_window(day).window)
"""

# The same for a step that only reports progress.
_TELL = """
import logging
from types import SimpleNamespace

from airflow.sdk.execution_time.context import set_current_context
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

from sbr_tasks.airflow.runs import run_step
from sbr_tasks.progress import Progress
from sbr_tasks.summary import Result

stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
task = SimpleNamespace(dag_id="daily_retrain", task_id="train_gru4rec")


def step():
    with Progress("Training", 10, "events", logging.getLogger()) as progress:
        progress.advance(10, "epoch 2/2", {"epoch": 2, "loss": 1.5})
    return Result()


with set_current_context({"ti": task, "params": {}}):
    run_step(step)
"""


def test_training_sends_its_progress_as_statsd_gauges(demo_clicks: Path, tmp_path: Path) -> None:
    shop = new_shop(tmp_path / "shop", demo_clicks)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.setblocking(False)
        metrics = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(collector.getsockname()[1])}
        given = {f"AIRFLOW__METRICS__{name}": value for name, value in metrics.items()}
        _run(_TRAIN, str(NEW), cwd=shop, home=tmp_path / "home", given=given)
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


def test_progress_reaches_an_opentelemetry_collector_with_dag_and_task_as_tags(tmp_path: Path) -> None:
    with _collector() as (url, requests):
        given = {"AIRFLOW__METRICS__OTEL_ON": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        _run(_TELL, cwd=tmp_path, home=tmp_path / "home", given=given | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
    metrics = [
        metric
        for request in requests
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    points = {metric.name: metric.gauge.data_points[-1] for metric in metrics if metric.gauge.data_points}
    found = {name.removeprefix("airflow.sbr.train_gru4rec."): point.as_double or point.as_int for name, point in points.items()}
    assert (found["epoch"], found["loss"], found["events_done"], found["events_total"]) == (2, 1.5, 10, 10)
    tags = {tag.key: tag.value.string_value for tag in points["airflow.sbr.train_gru4rec.loss"].attributes}
    assert tags == {"dag_id": "daily_retrain", "task_id": "train_gru4rec"}


def _run(program: str, *args: str, cwd: Path, home: Path, given: dict[str, str]) -> None:
    """Runs a program as a task of Airflow would run it."""
    given = given | {"AIRFLOW_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *args]
    done = subprocess.run(command, cwd=cwd, env=environment() | given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def _collector() -> Iterator[tuple[str, list[ExportMetricsServiceRequest]]]:
    """The address of a collector that speaks OTLP over HTTP, and what it was sent."""
    requests: list[ExportMetricsServiceRequest] = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(ExportMetricsServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Take) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def _received(collector: socket.socket) -> list[str]:
    """What is in the socket's buffer."""
    found = []
    while True:
        try:
            found.append(collector.recv(65536).decode())
        except BlockingIOError:
            return found
