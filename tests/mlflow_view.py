"""All that people see of the versions in an MLflow, as plain data, to compare one MLflow with another."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store

Json = dict[str, Any]


def all_shown(store: Store, settings: Settings) -> Json:
    """Aliases, and each version by MLflow's number with its run: all but ids, addresses, and when a version was registered."""
    from mlflow import MlflowClient

    assert MlflowProjection(store, settings)
    client = MlflowClient(tracking_uri=settings.mlflow.tracking_uri)
    name = settings.mlflow.model_name
    model = client.get_registered_model(name)
    found = client.search_model_versions(f"name = '{name}'")
    versions = {int(version.version): _version(client, version) for version in found}
    assert len(client.search_runs([client.get_experiment_by_name(settings.mlflow.experiment).experiment_id])) == len(versions)
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    return {"aliases": aliases, "tags": dict(model.tags), "versions": versions}


def _version(client: Any, version: Any) -> Json:
    run = client.get_run(version.run_id)
    return {
        "tags": dict(version.tags),
        "description": version.description or "",
        "run": run.info.run_name,
        "times": (run.info.start_time, run.info.end_time),
        "status": run.info.status,
        "params": dict(run.data.params),
        "run_tags": dict(run.data.tags),
        "metrics": {metric: _points(client, version.run_id, metric) for metric in run.data.metrics},
        "files": _files(client, version.run_id),
    }


def _points(client: Any, run_id: str, metric: str) -> list[tuple[int, float, int]]:
    return sorted((point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, metric))


def _files(client: Any, run_id: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(client.download_artifacts(run_id, "", folder))
        files = sorted(file for file in root.rglob("*") if file.is_file())
        return {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
