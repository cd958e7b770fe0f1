"""Search for better hyperparameters with Optuna (`sbr tune`), judged by days of a window before its test day."""

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
"""Trials, given ones included, before Optuna learns from them; until then it draws at random."""

_LEAST_EPOCHS = 4
"""Before a setting is given up: large layers and strong dropout learn slowly at first."""

_LEAST_UNITS = 64
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
"""What GRU4Rec's authors published for YooChoose (two) and Rees46; RetailRocket, Coveo and Diginetica. The points of the ranges
that are nearest to them are tried first."""


@dataclass(frozen=True)
class Scored:
    """A setting and what it scored on the days that judge.

    Attributes:
        number: Of the trial, from 0.
        is_start: Whether it is the setting that the search started from.
        model: The setting.
        recall_at_20: In its best epoch.
        mrr_at_20: In its best epoch.
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
    """What a search found, over all its parts.

    Attributes:
        start: The setting that it started from.
        scored: All settings that were trained to their end, best first.
        n_trials: Settings that were tried.
        n_pruned: Those that were given up, because at the same epoch they were worse than most, or diverged.
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
    """Tries the present setting, published ones, and others of the published ranges; days before the test day rank them.

    The value of a setting is the geometric mean of its validation Recall@20 and MRR@20, in the epoch that a training would
    keep: the gate wants both. The ranges are those in which the authors of GRU4Rec searched (Hidasi & Czapp 2023, supplementary
    material, *Hyperparameters*); `layers` is one layer of 64 to `max_units` units, all else stays as it is set.

    Args:
        data: What is trained on, and the validation sessions. The test sessions aren't looked at.
        window: Where it came from.
        settings: `model` is the setting to start from and says which loss; `training` says seed and patience.
        journal: A file that keeps every trial; a search with the same window and settings resumes it.
        minutes: When no further trial is started, and the one at work is given up.
        n_trials: Most trials, those of earlier parts of the search included; None: no limit.
        max_units: Most units of the layer.
        judging_days: Days that judge, the validation day and those before it; none of them is trained on.

    Raises:
        EvaluationError: The days that judge have no event, or another search is at work on the journal.
        TrainingError: The setting to start from diverges, or there is nothing to train on.
    """
    import optuna

    if not len(event_clicks(data.validation)):
        first, last = (window.day - timedelta(days=n) for n in (judging_days, 1))
        raise EvaluationError(
            f"Expected events from {first} to {last}, found none, so no setting can be judged. "
            "Choose another day (--day) or more days (--judging-days)."
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial that the deadline ends would be shown with its traceback
    deadline = monotonic() + 60 * minutes
    with _alone(journal):
        study = _open_study(journal, window, settings, max_units, judging_days)
        objective = _Objective(data, settings, max_units, deadline)
        found = _found(study, settings.model)
        while found is None or (monotonic() < deadline and (n_trials is None or found.n_trials < n_trials)):
            if found:
                _enqueue(study, found, settings, max_units)
            study.optimize(objective, n_trials=1, catch=_OutOfTimeError)
            found = _found(study, settings.model)
            if found:
                _log(found, deadline)
        return found


class _OutOfTimeError(Exception):
    """The time of a search is over. Says nothing about the setting at work, so that trial counts as failed, not as pruned."""


class _Objective:
    """Trains one setting; gives it up where it is worse than the median of the others at the same epoch, or time is up."""

    def __init__(self, data: WindowData, settings: Settings, max_units: int, deadline: float) -> None:
        self._data = data
        self._settings = settings
        self._max_units = max_units
        self._deadline = deadline

    def __call__(self, trial: Trial) -> float:
        from optuna import TrialPruned

        suggested = _suggest(trial, self._settings.model.loss, self._max_units)
        is_start = _START in trial.user_attrs
        model = self._settings.model if is_start else _setting(self._settings.model, suggested)

        def judge(epoch: Epoch) -> None:
            trial.report(_value(epoch), epoch.number)
            if is_start:
                return
            if monotonic() >= self._deadline:
                raise _OutOfTimeError
            if trial.should_prune():
                raise TrialPruned

        logger.info("Trial %d: %s", trial.number, "the present setting" if is_start else describe(suggested))
        data, settings = self._data, self._settings.model_copy(update={"model": model})
        try:
            trained = train_shown(data.train, data.index, data.validation, settings, on_epoch=judge)
        except TrainingError as error:
            if is_start:
                raise
            raise TrialPruned(str(error)) from error
        best = trained.curve[trained.best_epoch - 1]
        trial.set_user_attr("recall_at_20", best.validation_recall_at_20)
        trial.set_user_attr("mrr_at_20", best.validation_mrr_at_20)
        return _value(best)


def require_beside(file: Path, base: Path | None) -> None:
    """Checks that relative paths of a settings file name the same places in another one.

    Raises:
        SettingsError: They are in different folders.
    """
    if base and file.resolve().parent != base.resolve().parent:
        raise SettingsError(
            f"Expected --out in {base.resolve().parent}, where {base.name} is, found {file}: relative paths of the settings "
            "would name other places. Choose a file of that folder."
        )


def write_settings(file: Path, model: ModelSettings, *, base: Path | None, comment: str) -> None:
    """Writes a settings file: the base, with the model's settings in place of its own.

    Args:
        file: What is written.
        model: Its hyperparameters.
        base: A settings file, whose other settings and comments stay; None where there is none.
        comment: The line above the model's settings.

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
    """Least, most and step."""
    return {"units": (_LEAST_UNITS, max_units - (max_units - _LEAST_UNITS) % 32, 32), "batch_size": (32, 256, 16)}


def _floats(loss: str) -> Mapping[str, tuple[float, float, float]]:
    """Least, most and step."""
    return _FLOATS | (_BPR_MAX if loss == "bpr-max" else {})


def _ranges(loss: str, max_units: int) -> Mapping[str, tuple[float, float, float]]:
    return {**_integers(max_units), **_floats(loss)}


def _suggest(trial: Trial, loss: str, max_units: int) -> Json:
    suggested: Json = {}
    for name, (least, most, by) in _integers(max_units).items():
        suggested[name] = trial.suggest_int(name, least, most, step=by)
    for name, (low, high, step) in _floats(loss).items():
        suggested[name] = trial.suggest_float(name, low, high, step=step)
    if loss == "bpr-max":
        suggested["elu_param"] = trial.suggest_categorical("elu_param", _ELU)
    return suggested


def _setting(start: ModelSettings, suggested: Mapping[str, Any]) -> ModelSettings:
    """The setting to start from with the values of a trial."""
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
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_N_RANDOM // 2, n_warmup_steps=_LEAST_EPOCHS),
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
    """The point of the ranges that is nearest to a setting."""
    return _on_ranges(model.model_dump() | {"units": model.layers[0]}, model.loss, max_units)


def _on_ranges(values: Mapping[str, Any], loss: str, max_units: int) -> Json:
    nearest: Json = {}
    for name, (low, high, step) in _ranges(loss, max_units).items():
        steps = round((min(max(values[name], low), high) - low) / step)
        nearest[name] = low + steps * step
    if loss == "bpr-max":
        nearest["elu_param"] = min(_ELU, key=lambda alpha: abs(alpha - values["elu_param"]))
    return nearest


def _enqueue(study: Study, found: Search, settings: Settings, max_units: int) -> None:
    """Says what is tried next: a published setting that wasn't tried yet, else in every second turn a neighbour of the best."""
    from optuna.trial import TrialState

    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING), deepcopy=False)
    if any(trial.state == TrialState.WAITING for trial in trials):
        return
    known = [trial.system_attrs.get("fixed_params") for trial in trials]
    published = (_on_ranges(values, settings.model.loss, max_units) for values in _PUBLISHED[settings.model.loss])
    untried = [values for values in published if values not in known]
    if untried:
        study.enqueue_trial(untried[0])
    elif found.n_trials % 2:
        study.enqueue_trial(_neighbour(found, settings, max_units))


def _neighbour(found: Search, settings: Settings, max_units: int) -> Json:
    """The best setting so far with two of its values moved a little, away from a bound where one is at it.

    Optuna's TPE looks everywhere, and does so too rarely there in the few dozen trials that half an hour allows.
    """
    values = _nearest(found.best.model, max_units)
    rng = np.random.default_rng([settings.training.seed, found.n_trials])
    ranges = _ranges(settings.model.loss, max_units)
    for name in rng.choice(list(ranges), 2, replace=False).tolist():
        low, high, step = ranges[name]
        by = max(step, 0.15 * (high - low)) * rng.choice([-1, 1]) * rng.uniform(0.75, 1.5)
        values[name] += by if low <= values[name] + by <= high else -by
    return _on_ranges(values, settings.model.loss, max_units)


def _found(study: Study, start: ModelSettings) -> Search | None:
    """What a study holds; None until its start is scored."""
    from optuna.trial import TrialState

    scored = [_scored(trial, start) for trial in study.get_trials(states=(TrialState.COMPLETE,))]
    n_pruned = len(study.get_trials(states=(TrialState.PRUNED,)))
    first = next((one for one in scored if one.is_start), None)
    if first is None:
        return None
    ranked = sorted(scored, key=lambda one: (-one.value, one.number))
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


def search_table(found: Search, n_rows: int = 5) -> str:
    """The best settings and the one that the search started from, for people."""
    shown = [*found.scored[:n_rows], *(one for one in found.scored[n_rows:] if one.is_start)]
    rows = [
        [
            "present" if one.is_start else one.number,
            f"{one.recall_at_20:.4f}",
            f"{one.mrr_at_20:.4f}",
            f"{100 * (one.value / found.start.value - 1):+.1f}%" if found.start.value else "-",
            describe(changes(found.start.model, one.model)),
        ]
        for one in shown
    ]
    headers = ["trial", "Recall@20", "MRR@20", "both", "other than the present setting"]
    return tabulate(rows, headers=headers, disable_numparse=True, maxcolwidths=[None, None, None, None, 70])


def changes(start: ModelSettings, model: ModelSettings) -> Json:
    """The hyperparameters in which a setting differs from another, with its own values."""
    before = start.model_dump(mode="json")
    return {name: value for name, value in model.model_dump(mode="json").items() if value != before[name]}


def _log(found: Search, deadline: float) -> None:
    best = found.best
    logger.info(
        "%d trials, %d given up; the best is %s: Recall@20 %.4f, MRR@20 %.4f (present: %.4f, %.4f); %.1f min left",
        found.n_trials,
        found.n_pruned,
        "the present setting" if best.is_start else f"trial {best.number}",
        best.recall_at_20,
        best.mrr_at_20,
        found.start.recall_at_20,
        found.start.mrr_at_20,
        max(deadline - monotonic(), 0) / 60,
    )


def _value(epoch: Epoch) -> float:
    return _mean(epoch.validation_recall_at_20 or 0.0, epoch.validation_mrr_at_20 or 0.0)


def _mean(recall: float, mrr: float) -> float:
    return math.sqrt(recall * mrr)


@contextmanager
def _alone(journal: Path) -> Iterator[None]:
    """One search at a time on a journal: a second one would take the trials of the first for those of a killed process."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvaluationError(
                f"Another search is at work on {journal}. Wait for it, or give this one another --out."
            ) from None
        yield
