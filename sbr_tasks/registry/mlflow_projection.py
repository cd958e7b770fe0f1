"""MLflow as a view: versions, metrics by epoch, lineage and the `champion` alias, made from the store's records.

Everything here may be run again at any time and ends in the same state.
"""

from __future__ import annotations

import logging
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbr_tasks.errors import RegistryError
from sbr_tasks.registry.gate import Metrics
from sbr_tasks.registry.log import Promotion, live_champion
from sbr_tasks.registry.versions import ModelVersion, parameters_of, version_files
from sbr_tasks.settings import Settings, is_url
from sbr_tasks.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

ALIAS = "champion"
_NAME_TAG = "sbr.version"


class MlflowProjection:
    """Keeps MLflow level with the store."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings.mlflow
        self._client: MlflowClient = _connect(settings)

    def show_version(self, version: ModelVersion) -> str:
        """Registers a version with its run (parameters, learning curve, lineage, files), unless it is there.

        Returns:
            MLflow's number of the version.
        """
        known = self._number_of(version.name)
        if known:
            return known
        run_id = self._log_run(version)
        registered = self._client.create_model_version(
            self._settings.model_name,
            source=f"runs:/{run_id}/model",
            run_id=run_id,
            tags={_NAME_TAG: version.name, "as_of": str(version.as_of), "fingerprint": version.manifest["fingerprint"]},
        )
        self._client.set_terminated(run_id)
        logger.info("%s is version %s of %s in MLflow.", version.name, registered.version, self._settings.model_name)
        return str(registered.version)

    def show_decision(self, promotion: Promotion, metrics: dict[str, Metrics]) -> None:
        """Adds a decision and the test metrics to the version that it decided on."""
        number = self._number_of(promotion.version)
        if number is None:
            raise RegistryError(f"MLflow has no version of {promotion.version}; run `sbr repair`.")
        name = self._settings.model_name
        self._client.set_model_version_tag(name, number, "outcome", promotion.outcome.value)
        self._client.set_model_version_tag(name, number, "log_entry", str(promotion.number))
        self._client.update_model_version(name, number, description=" ".join(promotion.reasons))
        run_id = str(self._client.get_model_version(name, number).run_id)
        for model, values in metrics.items():
            prefix = "test" if model == promotion.version else f"test_{model}"
            for metric, value in values.items():
                self._client.log_metric(run_id, f"{prefix}.{metric}", value)

    def show_champion(self, entries: list[Promotion]) -> None:
        """Moves the alias `champion` to the version that the log names."""
        champion = live_champion(entries)
        if champion is None:
            return
        number = self._number_of(champion)
        if number is None:
            raise RegistryError(f"MLflow has no version of the champion {champion}; run `sbr repair`.")
        self._client.set_registered_model_alias(self._settings.model_name, ALIAS, number)

    def _number_of(self, version: str) -> str | None:
        found = self._client.search_model_versions(f"name = '{self._settings.model_name}' and tag.`{_NAME_TAG}` = '{version}'")
        return min((str(v.version) for v in found), key=int, default=None)

    def _log_run(self, version: ModelVersion) -> str:
        from mlflow.entities import Metric, Param, RunTag

        manifest = version.manifest
        at_ms = int(datetime.fromisoformat(manifest["trained_at"]).timestamp() * 1000)
        run = self._client.create_run(self._experiment(), run_name=version.name, start_time=at_ms)
        tags = {
            _NAME_TAG: version.name,
            "as_of": str(version.as_of),
            "window": version.window,
            "mlflow.source.git.commit": manifest["lineage"]["git_revision"],
            **{f"package.{name}": release for name, release in manifest["lineage"]["packages"].items()},
        }
        metrics = [
            Metric(name, float(value), at_ms, epoch["number"])
            for epoch in manifest["curve"]
            for name, value in epoch.items()
            if name != "number" and value is not None
        ]
        self._client.log_batch(
            run.info.run_id,
            metrics=metrics,
            params=[Param(name, str(value)) for name, value in parameters_of(version).items()],
            tags=[RunTag(name, str(value)) for name, value in tags.items() if value],
        )
        self._client.log_dict(run.info.run_id, manifest["lineage"], "lineage.json")
        with tempfile.TemporaryDirectory() as folder:
            for name, content in version_files(self._store, version).items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(run.info.run_id, folder, "model")
        return str(run.info.run_id)

    def _experiment(self) -> str:
        name = self._settings.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        root = str(self._settings.artifact_root)
        return self._create_or(
            lambda: str(self._client.create_experiment(name, artifact_location=root)),
            lambda: str(self._client.get_experiment_by_name(name).experiment_id),
        )

    @staticmethod
    def _create_or(create: Any, get: Any) -> str:
        """Creates something, or gets what another process created first."""
        from mlflow.exceptions import MlflowException

        try:
            return str(create())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(get())


def _connect(settings: Settings) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    from mlflow import MlflowClient

    uri = str(settings.mlflow.tracking_uri)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    root = str(settings.mlflow.artifact_root)
    if not is_url(root):
        Path(root).mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=uri)
    MlflowProjection._create_or(
        lambda: client.create_registered_model(settings.mlflow.model_name).name, lambda: settings.mlflow.model_name
    )
    return client
