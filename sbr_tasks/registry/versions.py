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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sbr_tasks.errors import DamagedError, RegistryError
from sbr_tasks.evaluation.ranking import event_clicks
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.gru4rec.export import check_saved_model, export_saved_model
from sbr_tasks.gru4rec.model import Model
from sbr_tasks.gru4rec.progress import max_epochs, train_shown
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.slots import Parent
from sbr_tasks.gru4rec.weights import Floats, GRU4RecWeights
from sbr_tasks.readout import Mixture, count_covisits, fit_mixture
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.scratch import scratch_folder
from sbr_tasks.settings import ModelSettings, ServingSettings, Settings, TrainingSettings
from sbr_tasks.store import FileRecord, Record, Store, code_version, fingerprint, kinds, to_npz
from sbr_tasks.window.build import choosing_data, choosing_days
from sbr_tasks.window.data import WindowData, read_window
from sbr_tasks.window.record import Window, WindowRules
from sbr_tasks.window.sessions import UNKNOWN, Sessions, no_sessions

logger = logging.getLogger(__name__)

_SAMPLE_SESSIONS = 50
_PACKAGES = ("sbr-tasks", "tensorflow", "numpy", "pandas", "pyarrow", "great-expectations", "mlflow")


class Choice(Record):
    """The number of epochs and the read-out of a model.

    Attributes:
        day: The validation day that chose them; None where none did.
        n_epochs: Number of epochs.
        mixture: The numbers of the read-out; None for plain GRU4Rec.
    """

    day: date | None
    n_epochs: int
    mixture: Mixture | None


class VersionInputs(Record):
    """What a version is trained from; its fingerprint identifies them.

    Attributes:
        window: Fingerprint of the window.
        parent: The version that the training started from; None if from scratch.
        code: Version of the code that trains and scores.
        choice: Fingerprint of what epochs and read-out are chosen from; None where validation can't choose.
        fallback: Epochs and read-out where validation can't choose; None where it can.
    """

    window: str
    model: ModelSettings
    training: TrainingSettings
    serving: ServingSettings
    parent: str | None
    code: str
    choice: str | None
    fallback: Choice | None


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
        choice: The number of epochs and the read-out.
        curve: The epochs among which validation chose or, where it couldn't, those of the training.
        note: Why validation couldn't choose; None where it did.
        n_events: Training transitions, of one epoch.
        n_items: Items that it knows.
        took_s: Seconds of training and of reading the window.
        trained_at: When, ISO-8601.
        lineage: Data, settings and packages.
        files: Weights, items, hyperparameters and, with a read-out, co-visits, by name.
        optimizer: Adagrad's sums of squared gradients.
        saved_model: The TensorFlow SavedModel, by path within it.
    """

    name: str
    fingerprint: str
    day: date
    window: str
    inputs: VersionInputs
    choice: Choice
    curve: tuple[Epoch, ...]
    note: str | None
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

    The model is trained on all clicks before the test day. The number of epochs and the numbers of the read-out are chosen by a
    training that leaves a validation day out. Runs of `training.choose_every` consecutive days choose from the same clicks, so
    the first one that runs makes the choice of all (`choosing_days`). Where that day has too few events to choose, the last
    choice is used, however old it is.

    With `training.warm_start` both trainings start from the champion of an earlier day (the parent), if there is one whose
    layers and loss are the same.

    Raises:
        TrainingError: There is nothing to train on, or the loss is not finite any more.
        RegistryError: The SavedModel doesn't answer as the model does.
    """
    parent_name, parent = _find_parent(store, settings, window.day)
    data = read_window(store, window, settings.zone)
    days = choosing_days(window, settings.training.choose_every)
    code = code_version("gru4rec", "readout", "evaluation", "window")
    choice_key = fingerprint(
        {
            "revisions": {str(day): window.inputs.revisions[day] for day in days},
            "window": window.inputs.window.as_dict(),
            "timezone": window.inputs.timezone,
            "model": settings.model.model_dump(mode="json"),
            "training": settings.training.model_dump(mode="json"),
            "parent": parent_name,
            "code": code,
        }
    )
    source = _made_before(store, settings, window.day, choice_key) or _choice_source(store, settings, window, days, parent_name)
    fallback = source.choice if isinstance(source, _Chosen) and source.note else None
    inputs = VersionInputs(
        window=window.fingerprint,
        model=settings.model,
        training=settings.training,
        serving=settings.serving,
        parent=parent_name,
        code=code,
        choice=None if fallback else choice_key,
        fallback=fallback,
    )
    key = fingerprint(inputs.as_dict())
    name = f"{window.day}-{key[:8]}"
    checkpoints = [StoreCheckpoints(store, checkpoint_key) for checkpoint_key in checkpoint_keys(key)]

    def train() -> ModelVersion:
        started = time.monotonic()
        chosen = source if isinstance(source, _Chosen) else _choose(days[-1], source, settings, parent, checkpoints[0])
        choice = chosen.choice
        if chosen.note:
            logger.warning("%s", chosen.note)
        trained = train_shown(
            data.refit,
            data.refit_index,
            no_sessions(data.refit),
            settings,
            parent=parent,
            n_epochs=choice.n_epochs,
            checkpoints=checkpoints[1],
        )
        model = Model.of(trained.weights, data.refit, choice.mixture)
        folder = kinds.VERSION_FILE.folder(version=name, fingerprint=key)
        version = ModelVersion(
            name=name,
            fingerprint=key,
            day=window.day,
            window=window.fingerprint,
            inputs=inputs,
            choice=choice,
            curve=chosen.curve or trained.curve,
            note=chosen.note,
            n_events=trained.n_events,
            n_items=len(data.refit_index),
            took_s=round(time.monotonic() - started, 1),
            trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
            lineage=_lineage(settings, window),
            files={file: store.publish(f"{folder}/{file}", content) for file, content in model.to_files().items()},
            optimizer=store.publish(f"{folder}/optimizer.npz", to_npz(trained.squares)),
            saved_model=_publish_saved_model(store, settings, f"{folder}/saved_model", model, data.refit),
        )
        logger.info(
            "Trained %s: %d events an epoch, %d epochs, %.0f s.", name, trained.n_events, choice.n_epochs, version.took_s
        )
        return version

    version = store.once(kinds.VERSION.key(version=name), ModelVersion, train)
    for unfinished in checkpoints:
        unfinished.delete()
    return version


def checkpoint_keys(key: str) -> tuple[str, str]:
    """The keys of the checkpoints of the two trainings of a version: the one that chooses, and the one that is served."""
    return kinds.CHECKPOINT.key(fingerprint=f"{key}-choice"), kinds.CHECKPOINT.key(fingerprint=key)


@dataclass(frozen=True)
class _Chosen:
    """A choice.

    Attributes:
        choice: The number of epochs and the read-out.
        curve: The epochs that it was made among; empty where validation couldn't choose.
        note: Why it couldn't.
    """

    choice: Choice
    curve: tuple[Epoch, ...] = ()
    note: str | None = None


def _choose(day: date, data: WindowData, settings: Settings, parent: Parent | None, checkpoints: StoreCheckpoints) -> _Chosen:
    """Trains without the validation day, and chooses the number of epochs and the read-out by it."""
    trained = train_shown(data.train, data.index, data.validation, settings, parent=parent, checkpoints=checkpoints)
    mixture = None
    if settings.model.readout == "mixture":
        scorer = GRU4RecScorer(trained.weights)
        covisits = count_covisits(data.train, data.index)
        mixture = fit_mixture(scorer, covisits, data.validation, batch_size=settings.evaluation.batch_size)
    return _Chosen(Choice(day=day, n_epochs=trained.best_epoch, mixture=mixture), trained.curve)


def _made_before(store: Store, settings: Settings, day: date, choice_key: str) -> _Chosen | None:
    """The choice that a run of a day nearby made from the same; None if none did."""
    for name in version_names(store):
        if abs((date.fromisoformat(name[:10]) - day).days) >= settings.training.choose_every:
            continue
        try:
            version = load_version(store, name)
        except (DamagedError, RegistryError) as error:
            logger.warning("The choice of %s isn't known: %s", name, error)
            continue
        if version.inputs.choice == choice_key:
            return _Chosen(version.choice, version.curve)
    return None


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


def load_model(store: Store, version: ModelVersion) -> Model:
    """The weights of a version with its read-out; see `version_files` for the errors."""
    return Model.from_files(version_files(store, version), version.choice.mixture)


def _publish_saved_model(
    store: Store, settings: Settings, folder: str, model: Model, sessions: Sessions
) -> dict[str, FileRecord]:
    """The version as a TensorFlow SavedModel, which must answer as the model does for the newest of some sessions.

    Returns:
        Records of its files by their path within it.
    """
    sample = sessions.take(np.arange(sessions.n_sessions)[-_SAMPLE_SESSIONS:])
    clicks = [items[:-1].tolist() for items in np.split(sample.item_ids, sample.offsets[1:-1])]
    with scratch_folder(settings, "export") as place:
        export_saved_model(model, place, k=settings.serving.k)
        check_saved_model(place, model, clicks, k=settings.serving.k, is_apart=False)
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


def _choice_source(
    store: Store, settings: Settings, window: Window, days: Sequence[date], parent: str | None
) -> _Chosen | WindowData:
    """The sessions to choose by or, where the validation day has too few events, the last choice.

    Events whose target is no item of the training days don't count: every epoch ranks them last.
    """
    data = choosing_data(store, settings, window, days)
    targets = data.index.codes_of(data.validation)[event_clicks(data.validation)] if data else np.empty(0, np.int32)
    n_known = int(np.count_nonzero(targets != UNKNOWN))
    least = settings.training.min_validation_events
    if data and n_known >= least:
        return data
    n_unknown = len(targets) - n_known
    besides = f", not counting {n_unknown:,} whose target is no item of the training days" if n_unknown else ""
    few = (
        f"The validation day {days[-1] if days else window.validation_day} has too few events to choose the best epoch: "
        f"{n_known:,} of the {least:,} that training.min_validation_events asks for{besides}"
    )
    most = max_epochs(settings, is_warm=parent is not None)
    last = _last_choice(store, window.day, parent)
    if last is None:
        choice = Choice(day=None, n_epochs=most, mixture=None)
        return _Chosen(choice, note=f"{few}. Trained for {epochs_in_words(most)}, the maximum.")
    n_epochs = min(last.choice.n_epochs, most)
    mixture = last.choice.mixture if settings.model.readout == "mixture" else None
    choice = last.choice.model_copy(update={"n_epochs": n_epochs, "mixture": mixture})
    return _Chosen(choice, note=f"{few}. Trained for {epochs_in_words(n_epochs)}, as was {last.name}.")


def epochs_in_words(n: int) -> str:
    """Such as `5 epochs`."""
    return f"{n} epoch{'s' if n > 1 else ''}"


def _last_choice(store: Store, day: date, parent: str | None) -> ModelVersion | None:
    """The version whose choice comes next: the parent, or the last version of an earlier day that was trained from scratch."""
    for name in [parent] if parent else _decided_before(store, day):
        try:
            earlier = load_version(store, name)
        except (DamagedError, RegistryError) as error:
            logger.warning("The number of epochs of %s isn't known: %s", name, error)
            continue
        if parent or earlier.inputs.parent is None:
            return earlier
    return None


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
