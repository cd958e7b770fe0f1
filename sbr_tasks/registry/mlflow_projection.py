"""MLflow as a view: versions, metrics by epoch, lineage and the `champion` alias, derived from the store's records.

Everything here may be run again at any time and ends in the same state.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from sbr_tasks.errors import DamagedError, RegistryError, TrackingError, first_line, system_error
from sbr_tasks.plain_text import without_credentials
from sbr_tasks.registry.log import Decision, Entry, LogState, Pin, PromotionLog, Rollback
from sbr_tasks.registry.versions import ModelVersion, load_version, parameters_of, version_files
from sbr_tasks.scratch import scratch_folder
from sbr_tasks.settings import Settings, is_url
from sbr_tasks.store import Store, file_name, kinds, to_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

ALIAS = "champion"
PAGE = "report.html"
"""The page of the last decision on a version, among the files of its run."""
_NAME_TAG = "sbr.version"
_CURSOR_TAG = "sbr.log_entries_shown"
_ATTEMPTS = 5

Result = TypeVar("Result")


class MlflowProjection:
    """Keeps MLflow in step with the store."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._uri = str(settings.mlflow.tracking_uri)
        with in_words(self._uri):
            self._client: MlflowClient = _connect(settings)
            self._experiment = _experiment(self._client, settings)
        self._entries: list[Entry] | None = None

    def number_of(self, name: str) -> str | None:
        """MLflow's number of a version, registered if it isn't yet; None, with a warning, if its files are lost."""
        return self._alone(lambda: self._ensure(name))

    def show_page(self, decision: Decision) -> None:
        """Keeps the page of a decision, which is in the store, with the run of its version."""
        self._alone(lambda: self._show_page(decision))

    def show_version(self, version: ModelVersion) -> str:
        """Registers a version with its run (parameters, learning curve, lineage, files), unless it is there.

        Returns:
            MLflow's number of the version.
        """
        return self._alone(lambda: self._number_of(version.name) or self._register(version))

    def _register(self, version: ModelVersion) -> str:
        run_id = self._log_run(version)
        self._log_page(kinds.UNDECIDED_PAGE.key(day=version.day, version=version.name), run_id)
        registered = self._client.create_model_version(
            self._settings.mlflow.model_name,
            source=f"runs:/{run_id}/model",
            run_id=run_id,
            tags={_NAME_TAG: version.name, "day": str(version.day), "fingerprint": version.fingerprint},
        )
        self._client.set_terminated(run_id, end_time=_ms(version.trained_at))
        logger.info("%s is version %s of %s in MLflow.", version.name, registered.version, self._settings.mlflow.model_name)
        self._show_log_of(version.name, str(registered.version))
        return str(registered.version)

    def _show_log_of(self, name: str, number: str) -> None:
        """Shows the log's entries on a version that somebody deleted in MLflow."""
        if self._entries is None:
            self._entries = PromotionLog(self._store).entries()
        for entry in self._entries:
            if _shown_with(entry) == name:
                self._show_entry(entry, number)

    def show(self, entries: Sequence[Entry], state: LogState, *, again: bool = False) -> None:
        """Shows the log: decisions on versions, retired ones, and the champion's alias.

        Args:
            entries: The log.
            state: What it says.
            again: Show every entry, not only those since the last one shown.
        """
        self._alone(lambda: self._show(entries, state, again))

    def _show(self, entries: Sequence[Entry], state: LogState, again: bool) -> None:
        name = self._settings.mlflow.model_name
        shown = 0 if again else int(self._client.get_registered_model(name).tags.get(_CURSOR_TAG, 0))
        # Versions (or their runs) that somebody deleted in MLflow are restored, with their entries of the log.
        known_versions = dict.fromkeys(version for entry in entries[:shown] if (version := _shown_with(entry)))
        for version in known_versions.keys() - self._registered():
            self._ensure(version)
        for entry in entries[shown:]:
            version = _shown_with(entry)
            number = self._ensure(version) if version else None
            if number is not None:
                self._show_entry(entry, number)
        if state.champion:
            champion = self._ensure(state.champion)
            if champion is None:
                self._client.delete_registered_model_alias(name, ALIAS)
            else:
                self._client.set_registered_model_alias(name, ALIAS, champion)
        if len(entries) != shown:
            self._client.set_registered_model_tag(name, _CURSOR_TAG, str(len(entries)))

    def _registered(self) -> set[str]:
        """Our names of all versions that MLflow shows with their runs."""
        from mlflow.entities import ViewType

        where = f"name = '{self._settings.mlflow.model_name}'"
        versions = _all_pages(lambda token: self._client.search_model_versions(where, page_token=token))
        deleted = _all_pages(
            lambda token: self._client.search_runs([self._experiment], "", ViewType.DELETED_ONLY, page_token=token)
        )
        names = {version.tags.get(_NAME_TAG, "") for version in versions}
        return names - {run.data.tags.get(_NAME_TAG, "") for run in deleted}

    def _show_entry(self, entry: Entry, number: str) -> None:
        if isinstance(entry, Rollback):
            self._client.set_model_version_tag(self._settings.mlflow.model_name, number, "retired", entry.reason)
        elif isinstance(entry, Decision):
            self._show_decision(entry, number)

    def champion(self) -> str | None:
        """The version that the alias names; None while there is none."""
        model = self._client.get_registered_model(self._settings.mlflow.model_name)
        number = model.aliases.get(ALIAS)
        if number is None:
            return None
        return str(self._client.get_model_version(model.name, number).tags[_NAME_TAG])

    def _show_decision(self, decision: Decision, number: str) -> None:
        from mlflow.entities import Metric

        name = self._settings.mlflow.model_name
        self._client.set_model_version_tag(name, number, "outcome", decision.outcome.value)
        self._client.set_model_version_tag(name, number, "log_entry", str(decision.number))
        self._client.update_model_version(name, number, description=" ".join(decision.reasons))
        run_id = str(self._client.get_model_version(name, number).run_id)
        at_ms = _ms(decision.at)
        scores = {"test": decision.challenger_metrics, "test_champion": decision.opponent_metrics or {}}
        scores |= {f"test_{baseline}": values for baseline, values in decision.baselines.items()}
        self._client.log_batch(
            run_id,
            metrics=[
                Metric(f"{who}.{metric}", float(value), at_ms, 0)
                for who, values in scores.items()
                for metric, value in values.items()
            ],
        )
        self._log_page(decision.page, run_id)

    def _show_page(self, decision: Decision) -> None:
        number = self._ensure(decision.version)
        if number is not None:
            version = self._client.get_model_version(self._settings.mlflow.model_name, number)
            self._log_page(decision.page, str(version.run_id))

    def _log_page(self, key: str, run_id: str) -> None:
        """Keeps a page with a run, in place of that of an earlier decision on the version; it may not be written yet."""
        if self._store.exists(key):
            self._log_files(run_id, {PAGE: self._store.get(key)})

    def _log_files(self, run_id: str, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """Keeps files with a run; they pass through scratch, as MLflow's `log_text` and `log_dict` fill the system's folder."""
        with scratch_folder(self._settings, "mlflow") as scratch:
            for name, content in files.items():
                (scratch / file_name(name)).write_bytes(content)
            self._client.log_artifacts(run_id, str(scratch), folder)

    def _ensure(self, name: str) -> str | None:
        """MLflow's number of a version, registered if it isn't yet; None, with a warning, if its files are lost."""
        number = self._number_of(name)
        if number:
            return number
        try:
            return self._register(load_version(self._store, name))
        except (DamagedError, RegistryError) as error:
            logger.warning("MLflow can't show %s: %s", name, error)
            return None

    def _alone(self, work: Callable[[], Result]) -> Result:
        """Does repeatable work, with retries: two processes that show the same entries at once can make each other fail."""
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                with in_words(self._uri), _alone_with(self._uri):
                    return work()
            except TrackingError as error:
                if not attempts_left:
                    raise
                logger.warning("Trying again: %s", error)
                time.sleep(_ATTEMPTS - attempts_left)
        raise AssertionError("unreachable")

    def _number_of(self, name: str) -> str | None:
        """MLflow's number of a version; None where it isn't registered, or its run was deleted permanently."""
        model = self._settings.mlflow.model_name
        registered_versions = self._client.search_model_versions(f"name = '{model}' and tag.`{_NAME_TAG}` = '{name}'")
        for registered in sorted(registered_versions, key=lambda registered: int(registered.version)):
            if self._has_run(str(registered.run_id)):
                return str(registered.version)
            self._client.delete_model_version(model, registered.version)
        return None

    def _has_run(self, run_id: str) -> bool:
        """Whether a run is there, after restoring one that somebody deleted and ending one that was interrupted."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        if run.info.lifecycle_stage == "deleted":
            self._client.restore_run(run_id)
        if run.info.status == "RUNNING":
            self._client.set_terminated(run_id)
        return True

    def _log_run(self, version: ModelVersion) -> str:
        from mlflow.entities import Metric, Param, RunTag

        at_ms, lineage = _ms(version.trained_at), version.lineage
        cut_off = self._client.search_runs([self._experiment], f"tags.`{_NAME_TAG}` = '{version.name}'", max_results=1)
        run = (
            cut_off[0]
            if cut_off
            else self._client.create_run(
                self._experiment,
                run_name=version.name,
                start_time=at_ms - int(version.took_s * 1000),
                tags={_NAME_TAG: version.name},
            )
        )
        tags = {
            "day": str(version.day),
            "window": version.window,
            "mlflow.source.git.commit": lineage.git_revision,
            **{f"package.{name}": release for name, release in lineage.packages.items()},
        }
        metrics = [
            Metric(name, float(value), at_ms, epoch.number)
            for epoch in version.curve
            for name, value in asdict(epoch).items()
            if name != "number" and value is not None
        ]
        self._client.log_batch(
            run.info.run_id,
            metrics=metrics,
            params=[Param(name, str(value)) for name, value in parameters_of(version).items()],
            tags=[RunTag(name, str(value)) for name, value in tags.items() if value],
        )
        self._log_files(run.info.run_id, {"lineage.json": to_json(lineage.as_dict())})
        self._log_files(run.info.run_id, version_files(self._store, version), "model")
        return str(run.info.run_id)


def _shown_with(entry: Entry) -> str | None:
    """The version with which MLflow shows a log entry: that decided on, or that rolled back from; None of a pin."""
    if isinstance(entry, Pin):
        return None
    return entry.before if isinstance(entry, Rollback) else entry.version


def _all_pages(page_of: Callable[[str | None], Any]) -> Iterator[Any]:
    """What MLflow lists a page at a time; `page_of` takes the token of a page, None for the first."""
    token = None
    while True:
        page = page_of(token)
        yield from page
        token = page.token
        if not token:
            return


def _ms(at: str) -> int:
    """A moment of a record as MLflow counts it: milliseconds since 1970."""
    return int(datetime.fromisoformat(at).timestamp() * 1000)


@contextmanager
def _alone_with(uri: str) -> Iterator[None]:
    """One process at a time on a SQLite file: MLflow creates its tables and rows without a lock."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _connect(settings: Settings) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # A server's client would print the address of each run, between the lines of commands, and into their JSON.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # a new database would be reported table by table
    root = str(settings.mlflow.artifact_root)
    if not is_url(root):
        Path(root).mkdir(parents=True, exist_ok=True)
    uri = str(settings.mlflow.tracking_uri)
    with _alone_with(uri):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    _create_or(lambda: client.create_registered_model(settings.mlflow.model_name).name, lambda: settings.mlflow.model_name)
    return client


def _experiment(client: MlflowClient, settings: Settings) -> str:
    name, root = settings.mlflow.experiment, str(settings.mlflow.artifact_root)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return _create_or(
            lambda: client.create_experiment(name, artifact_location=root),
            lambda: client.get_experiment_by_name(name).experiment_id,
        )
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    if experiment.artifact_location != root:
        logger.warning(
            "MLflow's experiment %s writes files to %s, but the settings say %s. If the store was moved, move MLflow's "
            "database away and run `sbr repair` to rebuild it.",
            name,
            experiment.artifact_location,
            root,
        )
    return str(experiment.experiment_id)


def _create_or(create: Callable[[], Any], get: Callable[[], Any]) -> str:
    """Creates something, or gets what another process created first."""
    from mlflow.exceptions import MlflowException

    try:
        return str(create())
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(get())


def model_url(settings: Settings) -> str | None:
    """Where browsers see MLflow's list of versions, without credentials; None if they can't, or if MLflow is no server."""
    pages = settings.mlflow.pages_uri
    uri = str(settings.mlflow.tracking_uri) if pages is None else pages
    if not uri.startswith(("http://", "https://")):
        return None
    return f"{without_credentials(uri).rstrip('/')}/#/models/{quote(settings.mlflow.model_name, safe='')}"


def version_url(settings: Settings, number: str) -> str | None:
    """Where browsers see MLflow's page of a version; see `model_url`."""
    model = model_url(settings)
    return model and f"{model}/versions/{number}"


@contextmanager
def in_words(uri: str) -> Iterator[None]:
    """Turns what MLflow and its database raise into one sentence."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        if isinstance(error, ImportError):
            why = f"the driver of its database isn't installed ({error})"
        else:
            why = system_error(error) if isinstance(error, OSError) else first_line(error)
        raise TrackingError(
            f"MLflow at {uri} can't be used: {why.removesuffix('.')}. Nothing is lost, the store has all "
            "records: repair MLflow or move it away, then run `sbr repair`."
        ) from None
