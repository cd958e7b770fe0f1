"""Model versions: trained once per fingerprint, kept in the store with everything that explains them.

A version is named by its day and its fingerprint (`2020-06-30-1a2b3c4d`), so the same inputs give the same version wherever
and however often they are trained. The store's manifest is the record of a version; MLflow shows it.
"""

from __future__ import annotations

import importlib.metadata
import io
import logging
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sbr_tasks.errors import DamagedError, RegistryError
from sbr_tasks.evaluation.ranking import event_clicks
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.gru4rec.export import export_saved_model
from sbr_tasks.gru4rec.progress import max_epochs, train_shown
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.slots import Parent
from sbr_tasks.gru4rec.weights import Floats, GRU4RecWeights
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.scratch import scratch_folder
from sbr_tasks.settings import ModelSettings, ServingSettings, Settings, TrainingSettings
from sbr_tasks.store import FileRecord, Record, Store, code_version, fingerprint, kinds, to_npz
from sbr_tasks.window.data import WindowData, read_window
from sbr_tasks.window.record import Window, WindowRules
from sbr_tasks.window.sessions import UNKNOWN

logger = logging.getLogger(__name__)

_PACKAGES = ("sbr-tasks", "tensorflow", "numpy", "pandas", "pyarrow", "great-expectations", "mlflow")


class UsualEpochs(Record):
    """The number of epochs where validation couldn't choose: the best of another version, or the maximum (None)."""

    n: int
    version: str | None


class VersionInputs(Record):
    """What a version is trained from; its fingerprint identifies them.

    Attributes:
        window: Fingerprint of the window.
        parent: The version that the training started from; None if from scratch.
        code: Version of the code that trains and scores.
        epochs: None where validation chose the best epoch.
    """

    window: str
    model: ModelSettings
    training: TrainingSettings
    serving: ServingSettings
    parent: str | None
    code: str
    epochs: UsualEpochs | None


class UsedSettings(Record):
    """The settings of a version's window and training."""

    timezone: str
    window: WindowRules
    model: ModelSettings
    training: TrainingSettings


class Lineage(Record):
    """Where a version comes from.

    Attributes:
        revisions: The revision of each day's clicks that it was trained and tested on.
        settings: Those of its window and training.
        git_revision: The commit of the source checkout; None where the package was installed without one.
        python: Release of Python.
        packages: Releases of the packages that matter.
    """

    revisions: Mapping[date, str]
    settings: UsedSettings
    git_revision: str | None
    python: str
    packages: Mapping[str, str]


class ModelVersion(Record):
    """A trained model: how it came about, and its files.

    Attributes:
        name: Day and fingerprint.
        fingerprint: Identifies its inputs.
        day: The day it was trained for.
        window: Fingerprint of the window it was trained on.
        inputs: Window, settings, parent and code.
        curve: All epochs that were trained.
        best_epoch: The number of the one whose weights were kept.
        epochs_note: Why validation didn't choose the number of epochs; None where it did.
        n_events: Training transitions, of one epoch.
        n_items: Items that it knows.
        took_s: Seconds of training and of reading the window.
        trained_at: When, ISO-8601.
        lineage: Data, settings and packages.
        files: Weights, items and hyperparameters, by name.
        optimizer: Adagrad's sums of squared gradients.
        saved_model: The TensorFlow SavedModel, by path within it.
    """

    name: str
    fingerprint: str
    day: date
    window: str
    inputs: VersionInputs
    curve: tuple[Epoch, ...]
    best_epoch: int
    epochs_note: str | None
    n_events: int
    n_items: int
    took_s: float
    trained_at: str
    lineage: Lineage
    files: Mapping[str, FileRecord]
    optimizer: FileRecord
    saved_model: Mapping[str, FileRecord]


def train_version(store: Store, settings: Settings, window: Window) -> ModelVersion:
    """Trains GRU4Rec on a window, or returns the version that was trained from the same inputs.

    With `training.warm_start` the training starts from the champion of an earlier day (its parent), if there is one whose
    layers and loss are the same. Where validation has too few events to choose the best epoch, as many are trained as were best
    for the parent, or for the last version of an earlier day.

    Raises:
        TrainingError: There is nothing to train on, or the loss is not finite any more.
    """
    parent_name, parent = _find_parent(store, settings, window.day)
    data = read_window(store, window, settings.zone)
    unchosen = _epochs_without_validation(store, settings, window, data, parent_name)
    inputs = VersionInputs(
        window=window.fingerprint,
        model=settings.model,
        training=settings.training,
        serving=settings.serving,
        parent=parent_name,
        code=code_version("gru4rec", "evaluation", "window"),
        epochs=unchosen.epochs if unchosen else None,
    )
    key = fingerprint(inputs.as_dict())
    name = f"{window.day}-{key[:8]}"
    checkpoints = StoreCheckpoints(store, kinds.CHECKPOINT.key(fingerprint=key))

    def train() -> ModelVersion:
        if unchosen:
            logger.warning("%s", unchosen.sentence)
        started = time.monotonic()
        trained = train_shown(
            data.train,
            data.index,
            data.validation,
            settings,
            parent=parent,
            n_epochs=unchosen.epochs.n if unchosen else None,
            checkpoints=checkpoints,
        )
        folder = kinds.VERSION_FILE.folder(version=name, fingerprint=key)
        version = ModelVersion(
            name=name,
            fingerprint=key,
            day=window.day,
            window=window.fingerprint,
            inputs=inputs,
            curve=trained.curve,
            best_epoch=trained.best_epoch,
            epochs_note=unchosen.sentence if unchosen else None,
            n_events=trained.n_events,
            n_items=len(data.index),
            took_s=round(time.monotonic() - started, 1),
            trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
            lineage=_lineage(settings, window),
            files={file: store.publish(f"{folder}/{file}", content) for file, content in trained.weights.to_files().items()},
            optimizer=store.publish(f"{folder}/optimizer.npz", to_npz(trained.squares)),
            saved_model=_publish_saved_model(store, settings, f"{folder}/saved_model", trained.weights),
        )
        logger.info(
            "Trained %s: %d events an epoch, best epoch %d of %d, %.0f s.",
            name, trained.n_events, trained.best_epoch, len(trained.curve), version.took_s,
        )  # fmt: skip
        return version

    version = store.once(kinds.VERSION.key(version=name), ModelVersion, train)
    checkpoints.delete()
    return version


def load_version(store: Store, name: str) -> ModelVersion:
    """The version of that name.

    Raises:
        RegistryError: There is no such version.
        DamagedError: Its manifest is damaged.
    """
    if kinds.VERSION.parse(kinds.VERSION.key(version=name)) is None:
        raise RegistryError(
            f"There is no model version {name!r}: expected a name such as 2020-06-30-1a2b3c4d. `sbr models` lists them."
        )
    key = kinds.VERSION.key(version=name)
    if not store.exists(key):
        raise RegistryError(
            f"There is no model version {name!r}: {store.where(key)} is missing. If it was lost, restore models/{name}/ from a "
            f"backup, or run {name[:10]} again with its settings. `sbr models` lists the others."
        )
    return store.get_record(key, ModelVersion)


def version_names(store: Store) -> list[str]:
    """All versions, oldest day first."""
    return sorted(fields["version"] for key in store.keys(kinds.VERSION.area) if (fields := kinds.VERSION.parse(key)))


def version_files(store: Store, version: ModelVersion) -> dict[str, bytes]:
    """The files of a version, verified, by name.

    Raises:
        StoreError: A file is missing or damaged.
    """
    return {name: store.read(record) for name, record in version.files.items()}


def require_files(store: Store, version: ModelVersion) -> None:
    """Checks that a version can be scored with and served.

    Raises:
        DamagedError: A file of it is missing or damaged.
    """
    for record in (*version.files.values(), *version.saved_model.values()):
        store.read(record)


def load_weights(store: Store, version: ModelVersion) -> GRU4RecWeights:
    """The weights of a version; see `version_files` for the errors."""
    return GRU4RecWeights.from_files(version_files(store, version))


def load_squares(store: Store, version: ModelVersion) -> dict[str, Floats]:
    """Adagrad's sums of squared gradients, shaped and named as the weights' arrays; see `version_files` for the errors."""
    optimizer = io.BytesIO(store.read(version.optimizer))
    with np.load(optimizer, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def load_scorer(store: Store, version: ModelVersion) -> GRU4RecScorer:
    """The model as a NumPy scorer; see `version_files` for the errors."""
    return GRU4RecScorer(load_weights(store, version))


def _publish_saved_model(store: Store, settings: Settings, folder: str, weights: GRU4RecWeights) -> dict[str, FileRecord]:
    """The version as a TensorFlow SavedModel; records of its files by their path within it."""
    with scratch_folder(settings, "export") as place:
        export_saved_model(weights, place, k=settings.serving.k)
        files = sorted(file for file in place.rglob("*") if file.is_file())
        names = [file.relative_to(place).as_posix() for file in files]
        return {name: store.publish(f"{folder}/{name}", file.read_bytes()) for name, file in zip(names, files, strict=True)}


class StoreCheckpoints:
    """The last finished epoch of an unfinished training, in the store: any machine may resume from it."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key

    def load(self) -> bytes | None:
        """What was saved last; None when nothing was."""
        return self._store.get(self._key) if self._store.exists(self._key) else None

    def save(self, data: bytes) -> None:
        """Replaces what was saved before, at once."""
        self._store.replace(self._key, data)

    def delete(self) -> None:
        """Removes it: the training is done."""
        self._store.delete(self._key)


def _find_parent(store: Store, settings: Settings, day: date) -> tuple[str | None, Parent | None]:
    """Name and content of the version that the training starts from; both None for a training from scratch."""
    name = PromotionLog(store).state().parent_for(day) if settings.training.warm_start == "parent" else None
    if name is None:
        return None, None
    try:
        version = load_version(store, name)
        parent = Parent(load_weights(store, version), load_squares(store, version))
    except (DamagedError, RegistryError) as error:
        logger.warning("Training starts from scratch, because its parent %s can't be used: %s", name, error)
        return None, None
    if not parent.fits(settings.model):
        logger.warning("Training starts from scratch: %s has other layers, tables or another loss than the settings.", name)
        return None, None
    return name, parent


@dataclass(frozen=True)
class _Unchosen:
    """How many epochs are trained where validation can't choose, and a sentence that says so and why."""

    epochs: UsualEpochs
    sentence: str


def _epochs_without_validation(
    store: Store, settings: Settings, window: Window, data: WindowData, parent: str | None
) -> _Unchosen | None:
    """How many epochs to train where the validation day has too few events to choose the best epoch; None where it has enough.

    Events whose target is no item of the training days don't count: every epoch ranks them last.
    """
    targets = data.index.codes_of(data.validation)[event_clicks(data.validation)]
    n_known = int(np.count_nonzero(targets != UNKNOWN))
    least = settings.training.min_validation_events
    if n_known >= least:
        return None
    n_unknown = len(targets) - n_known
    besides = f", not counting {n_unknown:,} whose target is no item of the training days" if n_unknown else ""
    few = (
        f"The validation day {window.validation_day} has too few events to choose the best epoch: {n_known:,} of the {least:,} "
        f"that training.min_validation_events asks for{besides}"
    )
    most = max_epochs(settings, is_warm=parent is not None)
    for name in [parent] if parent else _decided_before(store, window.day):
        try:
            earlier = load_version(store, name)
        except (DamagedError, RegistryError) as error:
            logger.warning("The best number of epochs of %s isn't known: %s", name, error)
            continue
        if parent or earlier.inputs.parent is None:
            n = min(max(1, earlier.best_epoch), most)
            sentence = f"{few}. Trained for {n} epoch{'s' if n > 1 else ''}, as was best for {name}."
            return _Unchosen(UsualEpochs(n=n, version=name), sentence)
    sentence = f"{few}. Trained for {most} epoch{'s' if most > 1 else ''}, the maximum."
    return _Unchosen(UsualEpochs(n=most, version=None), sentence)


def _decided_before(store: Store, day: date) -> list[str]:
    """Versions of earlier days that were decided on, the newest day first, and of a day the last one first."""
    decisions = PromotionLog(store).state().decisions.values()
    newest_first = sorted(decisions, key=lambda decision: (decision.day, decision.number), reverse=True)
    return [decision.version for decision in newest_first if decision.day < day]


def _lineage(settings: Settings, window: Window) -> Lineage:
    return Lineage(
        revisions=window.inputs.revisions,
        settings=UsedSettings(
            timezone=window.inputs.timezone,
            window=window.inputs.window,
            model=settings.model,
            training=settings.training,
        ),
        git_revision=_git_revision(),
        python=platform.python_version(),
        packages={package: importlib.metadata.version(package) for package in _PACKAGES},
    )


def _git_revision() -> str | None:
    """The commit of a source checkout; None where the package is installed without one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning("The git revision of %s is unknown: %s", folder, error)
        return None
    return done.stdout.strip()


def parameters_of(version: ModelVersion) -> Mapping[str, Any]:
    """Hyperparameters and training settings of a version, flat, by name."""
    return {**version.inputs.model.model_dump(mode="json"), **version.inputs.training.model_dump(mode="json")}
