"""Trains GRU4Rec on a window's sessions (Hidasi et al. 2016; Hidasi & Karatzoglou 2018).

Importing this module is cheap; `train` imports TensorFlow.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from sbr_tasks.ahead import prefetch
from sbr_tasks.errors import TrainingError
from sbr_tasks.evaluation.ranking import evaluate, event_clicks, sample_events
from sbr_tasks.evaluation.scorer import Indices
from sbr_tasks.gru4rec.batches import Batches, Chunk
from sbr_tasks.gru4rec.checkpoint import Checkpoint, Checkpoints, bind, load_checkpoint, save_checkpoint
from sbr_tasks.gru4rec.curve import Epoch, best_epoch, is_stalled
from sbr_tasks.gru4rec.schedule import plan_batches
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.slots import Parent, Slots, carry_over, squares_of, weights_of
from sbr_tasks.gru4rec.weights import Floats, GRU4RecWeights
from sbr_tasks.settings import EvaluationSettings, ModelSettings, TrainingSettings
from sbr_tasks.window.sessions import UNKNOWN, ItemIndex, Sessions

if TYPE_CHECKING:
    from sbr_tasks.gru4rec._network import Network

logger = logging.getLogger(__name__)

_MIN_EVENTS_TO_COMPILE = 50_000
"""Training events of all epochs from which compiling the training loop pays: it takes one or two seconds."""
_DECAY = 1.0
"""Factor for a parent's sums of squared gradients; lower values make warm starts worse (benchmarks/README.md, Accuracy)."""


@dataclass(frozen=True)
class EpochProgress:
    """Progress within an epoch, reported every second or so.

    Attributes:
        epoch: From 1.
        n_epochs: Maximum number of epochs.
        events_done: Events trained in this epoch so far.
        n_events: Events per epoch.
        steps_done: Steps (mini-batches) trained in this epoch so far.
        n_steps: Steps per epoch.
        loss: Mean loss per event in this epoch so far.
        events_per_second: Mean rate in this epoch so far.
    """

    epoch: int
    n_epochs: int
    events_done: int
    n_events: int
    steps_done: int
    n_steps: int
    loss: float
    events_per_second: float


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        weights: The model after the best epoch.
        squares: Adagrad's sums of squared gradients after that epoch, with the names and shapes of the weights' arrays.
        curve: One point for each epoch trained.
        best_epoch: The first epoch with the highest validation Recall@20; with too few validation events, the last epoch.
        n_events: Training events per epoch.
    """

    weights: GRU4RecWeights
    squares: dict[str, Floats]
    curve: tuple[Epoch, ...]
    best_epoch: int
    n_events: int


def train(
    sessions: Sessions,
    index: ItemIndex,
    validation: Sessions,
    *,
    model: ModelSettings,
    training: TrainingSettings,
    evaluation: EvaluationSettings,
    parent: Parent | None = None,
    on_progress: Callable[[EpochProgress], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Trains a model, and returns it as it was after its best epoch.

    Training ends after `model.n_epochs` epochs, or earlier, when validation Recall@20 hasn't improved for `training.patience`
    epochs. With fewer than `training.min_validation_events` validation events, it never stops early and the last epoch counts
    as the best.

    The same arguments give bitwise equal weights on the same machine, even if a training was interrupted and resumed from its
    checkpoint.

    Args:
        sessions: The training sessions; every transition is trained, whatever `is_target` says.
        index: All items of `sessions`, with their support in `sessions`.
        validation: The sessions that choose the best epoch, subsampled to about `training.validation_events` events; may be
            empty.
        model: Hyperparameters.
        training: Seed, patience and size of the validation.
        evaluation: How validation is scored.
        parent: The model of a warm start; it must fit `model`. None starts from random weights.
        on_progress: Called every second or so, and at the end of an epoch.
        on_epoch: Called with each epoch after its validation. An exception that it raises ends the training.
        checkpoints: Where the state after each epoch is saved, and from where an interrupted training resumes. None: neither.

    Raises:
        ValueError: A session has an item that isn't in the index.
        TrainingError: No session has a transition, or the loss or a weight is no longer finite.
    """
    items = index.codes_of(sessions)
    if (items == UNKNOWN).any():
        unknown = sessions.catalog.ids[sessions.items[items == UNKNOWN][0]]
        raise ValueError(f"all items of the training sessions must be in the index; {unknown!r} is not")
    schedule = plan_batches(sessions.offsets, model.batch_size)
    if not schedule.n_events:
        raise TrainingError(
            f"There is nothing to train on: none of the {sessions.n_sessions} training sessions has 2 clicks. "
            "Widen the window (window.days) or lower window.least_click."
        )
    batches = Batches(schedule, items, index.support, model, seed=training.seed)
    validation = _sample(validation, training.validation_events)
    network = _new_network(model, len(index), batches, seed=training.seed)
    if parent:
        network.restore(carry_over(network.slots(), parent, index, decay=_DECAY))
    chooses_epoch = len(event_clicks(validation)) >= training.min_validation_events
    curve, binding = list[Epoch](), ""
    best: Slots = network.slots()
    if checkpoints:
        binding = _binding(best, index, items, sessions, validation, model, training, evaluation)
        if saved := load_checkpoint(checkpoints, binding):
            curve, best = list(saved.curve), _restore(network, batches, saved)
            logger.info("Resuming from the checkpoint after epoch %d of %d", len(curve), model.n_epochs)
    while len(curve) < model.n_epochs and not (chooses_epoch and is_stalled(curve, training.patience)):
        number = len(curve) + 1
        loss, took_s = _train_epoch(network, batches, model, number, on_progress)
        slots = network.slots()
        weights = _finite(weights_of(slots, model, index), model, number)
        validated = evaluate(GRU4RecScorer(weights), validation, batch_size=evaluation.batch_size)
        recall, mrr = (validated.recall_at(20), validated.mrr_at(20)) if validated.n_events else (None, None)
        curve.append(Epoch(number, loss, recall, mrr, took_s, schedule.n_events / took_s))
        logger.info(
            "Epoch %d of %d: loss %.4f, validation Recall@20 %s, MRR@20 %s, %.1f s, %.0f events/s",
            number, model.n_epochs, loss, _decimals(recall), _decimals(mrr), took_s, schedule.n_events / took_s,
        )  # fmt: skip
        is_best = not chooses_epoch or best_epoch(curve) == number
        best = slots if is_best else best
        if checkpoints:
            state = Checkpoint(tuple(curve), slots, None if is_best else best, batches.n_columns)
            save_checkpoint(checkpoints, state, binding)
        if on_epoch:
            on_epoch(curve[-1])
    if len(curve) < model.n_epochs:
        logger.info("Stopped early: validation Recall@20 hasn't improved since epoch %d", best_epoch(curve))
    chosen = best_epoch(curve) if chooses_epoch else len(curve)
    return Trained(weights_of(best, model, index), squares_of(best), tuple(curve), chosen, schedule.n_events)


def _sample(validation: Sessions, max_events: int) -> Sessions:
    sample = sample_events(validation, max_events)
    if sample is not validation:
        n_used, n_events = len(event_clicks(sample)), len(event_clicks(validation))
        logger.info("Choosing the best epoch by %d of %d validation events (training.validation_events)", n_used, n_events)
    return sample


def _binding(
    start: Slots, index: ItemIndex, items: Indices, sessions: Sessions, validation: Sessions, *settings: BaseModel
) -> str:
    arrays: list[npt.NDArray[Any]] = [index.support, items, sessions.offsets]
    arrays += [index.codes_of(validation), validation.offsets, event_clicks(validation), *start.values()]
    return bind({"settings": [section.model_dump(mode="json") for section in settings], "items": index.ids.tolist()}, arrays)


def _restore(network: Network, batches: Batches, saved: Checkpoint) -> Slots:
    """Restores network and batches from a checkpoint, and returns the slots of the best epoch so far."""
    network.restore(saved.slots)
    batches.n_columns = saved.n_columns
    return saved.slots if saved.best is None else saved.best


def _new_network(model: ModelSettings, n_items: int, batches: Batches, *, seed: int) -> Network:
    from sbr_tasks.gru4rec._network import Network  # here, because TensorFlow takes seconds to import

    compiled = batches.schedule.n_events * model.n_epochs >= _MIN_EVENTS_TO_COMPILE
    return Network(model, n_items, batches.schedule.n_lanes, seed=seed, compiled=compiled)


def _train_epoch(
    network: Network, batches: Batches, model: ModelSettings, epoch: int, on_progress: Callable[[EpochProgress], None] | None
) -> tuple[float, float]:
    """Trains one epoch; returns the mean loss per event, and the seconds it took."""
    started, loss = perf_counter(), 0.0
    schedule = batches.schedule
    for chunk in prefetch(batches.epoch(epoch)):
        losses = network.train(chunk, epoch=epoch)
        _refuse_non_finite(losses, chunk, model, epoch)
        loss += float(losses.sum(dtype=np.float64))
        steps = chunk.first_step + len(losses)
        done = int(schedule.step_offsets[steps])
        if on_progress:
            rate, mean = done / (perf_counter() - started), loss / done
            on_progress(EpochProgress(epoch, model.n_epochs, done, schedule.n_events, steps, schedule.n_steps, mean, rate))
    return loss / schedule.n_events, perf_counter() - started


def _refuse_non_finite(losses: npt.NDArray[np.float32], chunk: Chunk, model: ModelSettings, epoch: int) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        where = f"the loss of step {chunk.first_step + int(bad[0]) + 1} in epoch {epoch} is {losses[bad[0]]}"
        raise TrainingError(_diverged(where, model))


def _finite(weights: GRU4RecWeights, model: ModelSettings, epoch: int) -> GRU4RecWeights:
    for name, array in weights.arrays().items():
        if not np.isfinite(array).all():
            raise TrainingError(_diverged(f"after epoch {epoch}, {name} holds values that are not finite", model))
    return weights


def _diverged(where: str, model: ModelSettings) -> str:
    too_high = f"model.learning_rate={model.learning_rate:g}"
    if model.momentum:
        too_high += f" or model.momentum={model.momentum:g}"
    return f"Training diverged: {where}. Lower {too_high} and retrain; no model was kept."


def _decimals(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
