"""Searches for better hyperparameters with Optuna (`sbr tune`), validated on the days of a window before its test day."""

from __future__ import annotations

import fcntl
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import tomlkit
from tabulate import tabulate

from sbr_tasks.errors import EvaluationError, SettingsError, TrainingError
from sbr_tasks.evaluation.ranking import event_clicks
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.gru4rec.progress import train_shown
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.training import Trained
from sbr_tasks.readout import count_covisits, cross_fitted
from sbr_tasks.settings import ModelSettings, Settings
from sbr_tasks.store import Json, code_version, fingerprint
from sbr_tasks.window.data import WindowData
from sbr_tasks.window.record import Window

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

_START = "is_start"
_N_RANDOM = 8
"""Number of trials, including given ones, from which Optuna learns; until then, it draws at random."""

_MIN_EPOCHS = 4
"""Epochs before a trial may be pruned: large layers and strong dropout learn slowly at first."""

_MIN_UNITS = 64
_FLOATS = {
    "learning_rate": (0.01, 0.25, 0.005),
    "dropout_p_embed": (0.0, 0.5, 0.05),
    "dropout_p_hidden": (0.0, 0.7, 0.05),
    "momentum": (0.0, 0.9, 0.05),
    "sample_alpha": (0.0, 1.0, 0.1),
}
_BPR_MAX = {"bpreg": (0.0, 2.0, 0.05)}
_ELU = (0.0, 0.5, 1.0)
_NAMES = ("units", "batch_size", "dropout_p_embed", "dropout_p_hidden", "learning_rate", "momentum", "sample_alpha")
_PUBLISHED: Mapping[str, tuple[Json, ...]] = {
    "cross-entropy": (
        dict(zip(_NAMES, (100, 32, 0.1, 0.0, 0.1, 0.0, 0.75), strict=True)),
        dict(zip(_NAMES, (480, 48, 0.0, 0.2, 0.07, 0.0, 0.2), strict=True)),
        dict(zip(_NAMES, (512, 240, 0.45, 0.0, 0.065, 0.0, 0.5), strict=True)),
    ),
    "bpr-max": (
        dict(zip(_NAMES, (224, 80, 0.5, 0.05, 0.05, 0.4, 0.4), strict=True)) | {"bpreg": 1.95, "elu_param": 0.5},
        dict(zip(_NAMES, (512, 144, 0.35, 0.0, 0.05, 0.4, 0.2), strict=True)) | {"bpreg": 1.85, "elu_param": 1.0},
        dict(zip(_NAMES, (512, 128, 0.5, 0.3, 0.05, 0.15, 0.3), strict=True)) | {"bpreg": 0.9, "elu_param": 1.0},
    ),
}
"""Settings that GRU4Rec's authors published for YooChoose (two) and Rees46; and for RetailRocket, Coveo and Diginetica. The
nearest points of the ranges are tried first."""


@dataclass(frozen=True)
class Scored:
    """A setting and its validation scores.

    Attributes:
        number: Number of the trial, from 0.
        is_start: Whether the search started from this setting.
        model: The setting.
        recall_at_20: Validation Recall@20 of its best epoch.
        mrr_at_20: Validation MRR@20 of its best epoch.
    """

    number: int
    is_start: bool
    model: ModelSettings
    recall_at_20: float
    mrr_at_20: float

    @property
    def value(self) -> float:
        return _mean(self.recall_at_20, self.mrr_at_20)


@dataclass(frozen=True)
class Search:
    """The result of a search, including its earlier parts.

    Attributes:
        start: The setting that it started from.
        scored: All settings that were trained to the end, best first.
        n_trials: Number of trials.
        n_pruned: Trials that were stopped early, because they were worse than most at the same epoch, or diverged.
    """

    start: Scored
    scored: tuple[Scored, ...]
    n_trials: int
    n_pruned: int

    @property
    def best(self) -> Scored:
        return self.scored[0]


def search(
    data: WindowData,
    window: Window,
    settings: Settings,
    *,
    journal: Path,
    minutes: float,
    n_trials: int | None = None,
    max_units: int = 512,
    judging_days: int = 1,
) -> Search:
    """Tries the current setting, published ones, and others in the published ranges; ranks them by validation.

    The value of a setting is the geometric mean of validation Recall@20 and MRR@20 after its best epoch, because the gate
    requires both. With a read-out, each half of the validation sessions is scored with the numbers fitted on the other half.
    The ranges are those that the authors of GRU4Rec searched (Hidasi & Czapp 2023, supplementary material,
    *Hyperparameters*); `layers` is one layer of 64 to `max_units` units. Other settings don't change.

    Args:
        data: The training and validation sessions. The test sessions aren't used.
        window: The window of `data`.
        settings: `model` is the setting to start from, with the loss to use; `training` has seed and patience.
        journal: A file that records every trial; a search with the same window and settings resumes from it.
        minutes: Time limit: no trial starts later, and a running one is stopped after its epoch.
        n_trials: Maximum number of trials, including earlier parts of the search; None: no limit.
        max_units: Maximum number of units of the layer.
        judging_days: Number of validation days, up to the day before the test day; none of them is trained on.

    Raises:
        EvaluationError: The validation days have no events, or another search uses the journal.
        TrainingError: The setting to start from diverges, or there is nothing to train on.
    """
    import optuna

    if not len(event_clicks(data.validation)):
        first, last = (window.day - timedelta(days=n) for n in (judging_days, 1))
        raise EvaluationError(
            f"Expected events from {first} to {last}, found none, so no setting can be judged. "
            "Choose another day (--day) or more days (--judging-days)."
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # else it logs a traceback for a trial that the time limit ends
    deadline = monotonic() + 60 * minutes
    with _alone(journal):
        study = _open_study(journal, window, settings, max_units, judging_days)
        objective = _Objective(data, settings, max_units, deadline)
        result = _result(study, settings.model)
        while result is None or (monotonic() < deadline and (n_trials is None or result.n_trials < n_trials)):
            if result:
                _enqueue(study, result, settings, max_units)
            study.optimize(objective, n_trials=1, catch=_OutOfTimeError)
            result = _result(study, settings.model)
            if result:
                _log(result, deadline)
        return result


class _OutOfTimeError(Exception):
    """The time limit was reached. It says nothing about the running trial, which counts as failed, not as pruned."""


class _Objective:
    """Trains one setting; stops if it is worse than the median of the others at the same epoch, or at the time limit."""

    def __init__(self, data: WindowData, settings: Settings, max_units: int, deadline: float) -> None:
        self._data = data
        self._settings = settings
        self._max_units = max_units
        self._deadline = deadline
        self._covisits = count_covisits(data.train, data.index) if settings.model.readout == "mixture" else None

    def __call__(self, trial: Trial) -> float:
        from optuna import TrialPruned

        suggested = _suggest(trial, self._settings.model.loss, self._max_units)
        is_start = _START in trial.user_attrs
        model = self._settings.model if is_start else _setting(self._settings.model, suggested)

        def report(epoch: Epoch) -> None:
            trial.report(_value(epoch), epoch.number)
            if is_start:
                return
            if monotonic() >= self._deadline:
                raise _OutOfTimeError
            if trial.should_prune():
                raise TrialPruned

        logger.info("Trial %d: %s", trial.number, "the current setting" if is_start else describe(suggested))
        data, settings = self._data, self._settings.model_copy(update={"model": model})
        try:
            trained = train_shown(data.train, data.index, data.validation, settings, on_epoch=report)
        except TrainingError as error:
            if is_start:
                raise
            raise TrialPruned(str(error)) from error
        recall, mrr = self._validated(trained)
        trial.set_user_attr("recall_at_20", recall)
        trial.set_user_attr("mrr_at_20", mrr)
        return _mean(recall, mrr)

    def _validated(self, trained: Trained) -> tuple[float, float]:
        """Validation Recall@20 and MRR@20 after the best epoch, with the read-out if there is one."""
        best = trained.curve[trained.best_epoch - 1]
        plain = best.validation_recall_at_20 or 0.0, best.validation_mrr_at_20 or 0.0
        if self._covisits is None:
            return plain
        batch_size = self._settings.evaluation.batch_size
        scored = cross_fitted(GRU4RecScorer(trained.weights), self._covisits, self._data.validation, batch_size=batch_size)
        return (scored.recall_at(20), scored.mrr_at(20)) if scored else plain


def require_beside(file: Path, base: Path | None) -> None:
    """Checks that a new settings file is in the folder of its base, so that relative paths stay valid.

    Raises:
        SettingsError: They are in different folders.
    """
    if base and file.resolve().parent != base.resolve().parent:
        raise SettingsError(
            f"Expected --out in {base.resolve().parent}, where {base.name} is, found {file}: relative paths of the settings "
            "would name other places. Choose a file of that folder."
        )


def write_settings(file: Path, model: ModelSettings, *, base: Path | None, comment: str) -> None:
    """Writes a settings file: the base with other hyperparameters.

    Args:
        file: The file to write.
        model: The hyperparameters.
        base: A settings file whose other settings and comments are kept; None if there is none.
        comment: A comment above the hyperparameters.

    Raises:
        SettingsError: See `require_beside`.
    """
    require_beside(file, base)
    document = tomlkit.parse(base.read_text(encoding="utf-8")) if base else tomlkit.document()
    given: Mapping[str, Any] = document.get("model", {})
    table = tomlkit.table()
    table.comment(comment)
    for name, value in model.model_dump(mode="json").items():
        if name in given or value != ModelSettings.model_fields[name].get_default():
            table.add(name, value)
    document["model"] = table
    file.write_text(tomlkit.dumps(document), encoding="utf-8")


def _integers(max_units: int) -> Mapping[str, tuple[int, int, int]]:
    """Minimum, maximum and step by name."""
    return {"units": (_MIN_UNITS, max_units - (max_units - _MIN_UNITS) % 32, 32), "batch_size": (32, 256, 16)}


def _floats(loss: str) -> Mapping[str, tuple[float, float, float]]:
    """Minimum, maximum and step by name."""
    return _FLOATS | (_BPR_MAX if loss == "bpr-max" else {})


def _ranges(loss: str, max_units: int) -> Mapping[str, tuple[float, float, float]]:
    return {**_integers(max_units), **_floats(loss)}


def _suggest(trial: Trial, loss: str, max_units: int) -> Json:
    suggested: Json = {}
    for name, (minimum, maximum, by) in _integers(max_units).items():
        suggested[name] = trial.suggest_int(name, minimum, maximum, step=by)
    for name, (low, high, step) in _floats(loss).items():
        suggested[name] = trial.suggest_float(name, low, high, step=step)
    if loss == "bpr-max":
        suggested["elu_param"] = trial.suggest_categorical("elu_param", _ELU)
    return suggested


def _setting(start: ModelSettings, suggested: Mapping[str, Any]) -> ModelSettings:
    """The start setting with the values of a trial."""
    values = {name: round(value, 6) if isinstance(value, float) else value for name, value in suggested.items()}
    units = values.pop("units", None)
    return ModelSettings(**{**start.model_dump(), **values, **({"layers": (units,)} if units else {})})


def _open_study(journal: Path, window: Window, settings: Settings, max_units: int, judging_days: int) -> Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    start = settings.model.model_dump(mode="json")
    sections = {"model": start, "training": settings.training.model_dump(mode="json")}
    limits = {"max_units": max_units, "judging_days": judging_days}
    key = fingerprint({"window": window.fingerprint, **sections, **limits, "code": code_version("gru4rec", "evaluation")})
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=f"{window.day}-{key}",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_N_RANDOM // 2, n_warmup_steps=_MIN_EPOCHS),
        load_if_exists=True,
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # of a process that was killed
        study.tell(trial.number, state=TrialState.FAIL)
    done = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=_N_RANDOM, seed=settings.training.seed + len(done))
    if done:
        logger.info("Resuming a search of %d trials.", len(done))
    if not any(_START in trial.user_attrs for trial in done):
        study.enqueue_trial(_nearest(settings.model, max_units), user_attrs={_START: True})
    return study


def _nearest(model: ModelSettings, max_units: int) -> Json:
    """The nearest point of the ranges to a setting."""
    return _on_ranges(model.model_dump() | {"units": model.layers[0]}, model.loss, max_units)


def _on_ranges(values: Mapping[str, Any], loss: str, max_units: int) -> Json:
    nearest: Json = {}
    for name, (low, high, step) in _ranges(loss, max_units).items():
        steps = round((min(max(values[name], low), high) - low) / step)
        nearest[name] = low + steps * step
    if loss == "bpr-max":
        nearest["elu_param"] = min(_ELU, key=lambda alpha: abs(alpha - values["elu_param"]))
    return nearest


def _enqueue(study: Study, result: Search, settings: Settings, max_units: int) -> None:
    """Enqueues the next trial: a published setting if one is untried, else, every second time, a neighbour of the best."""
    from optuna.trial import TrialState

    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING), deepcopy=False)
    if any(trial.state == TrialState.WAITING for trial in trials):
        return
    tried = [trial.system_attrs.get("fixed_params") for trial in trials]
    published = (_on_ranges(values, settings.model.loss, max_units) for values in _PUBLISHED[settings.model.loss])
    untried = [values for values in published if values not in tried]
    if untried:
        study.enqueue_trial(untried[0])
    elif result.n_trials % 2:
        study.enqueue_trial(_neighbour(result, settings, max_units))


def _neighbour(result: Search, settings: Settings, max_units: int) -> Json:
    """The best setting so far with two values changed a little, within the ranges.

    Optuna's TPE rarely tries neighbours of the best setting in the few dozen trials that fit into half an hour.
    """
    values = _nearest(result.best.model, max_units)
    rng = np.random.default_rng([settings.training.seed, result.n_trials])
    ranges = _ranges(settings.model.loss, max_units)
    for name in rng.choice(list(ranges), 2, replace=False).tolist():
        low, high, step = ranges[name]
        by = max(step, 0.15 * (high - low)) * rng.choice([-1, 1]) * rng.uniform(0.75, 1.5)
        values[name] += by if low <= values[name] + by <= high else -by
    return _on_ranges(values, settings.model.loss, max_units)


def _result(study: Study, start: ModelSettings) -> Search | None:
    """The result of a study; None until its start is scored."""
    from optuna.trial import TrialState

    scored = [_scored(trial, start) for trial in study.get_trials(states=(TrialState.COMPLETE,))]
    n_pruned = len(study.get_trials(states=(TrialState.PRUNED,)))
    first = next((trial for trial in scored if trial.is_start), None)
    if first is None:
        return None
    ranked = sorted(scored, key=lambda trial: (-trial.value, trial.number))
    return Search(start=first, scored=tuple(ranked), n_trials=len(scored) + n_pruned, n_pruned=n_pruned)


def _scored(trial: FrozenTrial, start: ModelSettings) -> Scored:
    is_start = _START in trial.user_attrs
    return Scored(
        number=trial.number,
        is_start=is_start,
        model=start if is_start else _setting(start, trial.params),
        recall_at_20=trial.user_attrs["recall_at_20"],
        mrr_at_20=trial.user_attrs["mrr_at_20"],
    )


def describe(values: Mapping[str, Any]) -> str:
    """Hyperparameters in one line."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())


def search_table(result: Search, n_rows: int = 5) -> str:
    """A table of the best settings and the start setting, for people."""
    shown = [*result.scored[:n_rows], *(trial for trial in result.scored[n_rows:] if trial.is_start)]
    rows = [
        [
            "current" if trial.is_start else trial.number,
            f"{trial.recall_at_20:.4f}",
            f"{trial.mrr_at_20:.4f}",
            f"{100 * (trial.value / result.start.value - 1):+.1f}%" if result.start.value else "-",
            describe(changes(result.start.model, trial.model)),
        ]
        for trial in shown
    ]
    headers = ["trial", "Recall@20", "MRR@20", "both", "changes to the current setting"]
    return tabulate(rows, headers=headers, disable_numparse=True, maxcolwidths=[None, None, None, None, 70])


def changes(start: ModelSettings, model: ModelSettings) -> Json:
    """The hyperparameters of `model` that differ from those of `start`."""
    before = start.model_dump(mode="json")
    return {name: value for name, value in model.model_dump(mode="json").items() if value != before[name]}


def _log(result: Search, deadline: float) -> None:
    best = result.best
    logger.info(
        "%d trials, %d pruned; the best is %s: Recall@20 %.4f, MRR@20 %.4f (current: %.4f, %.4f); %.1f min left",
        result.n_trials,
        result.n_pruned,
        "the current setting" if best.is_start else f"trial {best.number}",
        best.recall_at_20,
        best.mrr_at_20,
        result.start.recall_at_20,
        result.start.mrr_at_20,
        max(deadline - monotonic(), 0) / 60,
    )


def _value(epoch: Epoch) -> float:
    return _mean(epoch.validation_recall_at_20 or 0.0, epoch.validation_mrr_at_20 or 0.0)


def _mean(recall: float, mrr: float) -> float:
    return math.sqrt(recall * mrr)


@contextmanager
def _alone(journal: Path) -> Iterator[None]:
    """Locks the journal: a second search would regard running trials of the first as those of a killed process."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvaluationError(f"Another search is using {journal}. Wait for it, or give this one another --out.") from None
        yield
