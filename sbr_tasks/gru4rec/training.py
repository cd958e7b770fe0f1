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

from sbr_tasks.ahead import one_ahead
from sbr_tasks.errors import TrainingError
from sbr_tasks.evaluation.ranking import evaluate, event_clicks
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

_LEAST_EVENTS_TO_COMPILE = 50_000
_DECAY = 1.0
"""Of a parent's sums of squared gradients: forgotten or shrunk, warm starts are worse (benchmarks/README.md, Accuracy)."""


@dataclass(frozen=True)
class Progress:
    """Where training stands within an epoch; reported every second or so.

    Attributes:
        epoch: From 1.
        n_epochs: Most epochs.
        events_done: Events of this epoch that are trained.
        n_events: Events of an epoch.
        steps_done: Steps (mini-batches) of this epoch that are trained.
        n_steps: Steps of an epoch.
        loss: Mean per event of this epoch so far.
        events_per_second: Of this epoch so far.
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
    """A trained model and how it came about.

    Attributes:
        weights: As they were after the best epoch.
        squares: Adagrad's sums of squared gradients then, shaped and named as the weights' arrays.
        curve: All epochs that were trained.
        best_epoch: The first with the highest validation Recall@20; with too few validation events to tell, the last.
        n_events: Training transitions, of one epoch.
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
    on_progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Trains until `model.n_epochs` epochs are done or validation Recall@20 didn't rise for `training.patience` epochs.

    Fewer than `training.min_validation_events` validation events neither choose an epoch nor stop the training.

    Two calls with the same arguments give bitwise the same weights on the same machine, also when the first was stopped and the
    second goes on from its checkpoint.

    Args:
        sessions: What is trained on, all transitions; `is_target` doesn't count.
        index: All items of `sessions`, with their support there.
        validation: What the best epoch is chosen by, or what `training.validation_events` leaves of it; may be empty.
        model: Hyperparameters.
        training: Seed, patience and size of the validation.
        evaluation: How validation is scored.
        parent: A model that fits `model`, to go on from; None starts from random weights.
        on_progress: Called every second or so, and at the end of an epoch.
        on_epoch: Called with each epoch that was trained and validated; what it raises ends the training.
        checkpoints: Where the state after each epoch is kept and training goes on from; None keeps nothing.

    Raises:
        ValueError: A session holds an item that isn't in the index.
        TrainingError: There is no transition to train on, or the loss or a weight is no longer a finite number.
    """
    items = index.encode(sessions.item_ids)
    if (items == UNKNOWN).any():
        unknown = sessions.item_ids[items == UNKNOWN][0]
        raise ValueError(f"all items of the training sessions must be in the index; {unknown!r} is not")
    schedule = plan_batches(sessions.offsets, model.batch_size)
    if not schedule.n_events:
        raise TrainingError(
            f"There is nothing to train on: none of the {sessions.n_sessions} training sessions has 2 clicks. "
            "Widen the window (window.days) or lower window.least_click."
        )
    batches = Batches(schedule, items, index.support, model, seed=training.seed)
    validation = _some_of(validation, training.validation_events)
    network = _new_network(model, len(index), batches, seed=training.seed)
    if parent:
        network.restore(carry_over(network.slots(), parent, index, decay=_DECAY))
    chooses = len(event_clicks(validation)) >= training.min_validation_events
    curve, binding = list[Epoch](), ""
    best: Slots = network.slots()
    if checkpoints:
        binding = _binding(best, index, items, sessions, validation, model, training, evaluation)
        if saved := load_checkpoint(checkpoints, binding):
            curve, best = list(saved.curve), _restore(network, batches, saved)
            logger.info("Going on after epoch %d of %d, from its checkpoint", len(curve), model.n_epochs)
    while len(curve) < model.n_epochs and not (chooses and is_stalled(curve, training.patience)):
        number = len(curve) + 1
        loss, took_s = _train_epoch(network, batches, model, number, on_progress)
        slots = network.slots()
        weights = _finite(weights_of(slots, model, index), model, number)
        found = evaluate(GRU4RecScorer(weights), validation, batch_size=evaluation.batch_size)
        recall, mrr = (found.recall_at(20), found.mrr_at(20)) if found.n_events else (None, None)
        curve.append(Epoch(number, loss, recall, mrr, took_s, schedule.n_events / took_s))
        logger.info(
            "Epoch %d of %d: loss %.4f, validation Recall@20 %s, MRR@20 %s, %.1f s, %.0f events/s",
            number, model.n_epochs, loss, _short(recall), _short(mrr), took_s, schedule.n_events / took_s,
        )  # fmt: skip
        is_best = not chooses or best_epoch(curve) == number
        best = slots if is_best else best
        if checkpoints:
            state = Checkpoint(tuple(curve), slots, None if is_best else best, batches.n_columns)
            save_checkpoint(checkpoints, state, binding)
        if on_epoch:
            on_epoch(curve[-1])
    if len(curve) < model.n_epochs:
        logger.info("Stopped early: no better validation Recall@20 since epoch %d", best_epoch(curve))
    chosen = best_epoch(curve) if chooses else len(curve)
    return Trained(weights_of(best, model, index), squares_of(best), tuple(curve), chosen, schedule.n_events)


def _some_of(validation: Sessions, most: int) -> Sessions:
    """The validation sessions, or some that are spread evenly over the day and have about `most` events."""
    n_events, n_sessions = len(event_clicks(validation)), validation.n_sessions
    if n_events <= most:
        return validation
    n_kept = max(1, n_sessions * most // n_events)
    keep = np.zeros(n_sessions, bool)
    keep[np.arange(n_kept) * n_sessions // n_kept] = True
    some = validation.where(keep)
    logger.info(
        "The best epoch is chosen by %s of %s validation events (training.validation_events)",
        f"{len(event_clicks(some)):,}", f"{n_events:,}",
    )  # fmt: skip
    return some


def _binding(
    start: Slots, index: ItemIndex, items: Indices, sessions: Sessions, validation: Sessions, *settings: BaseModel
) -> str:
    validated = index.encode(validation.item_ids)
    arrays: list[npt.NDArray[Any]] = [index.support, items, sessions.offsets]
    arrays += [validated, validation.offsets, validation.is_target, *start.values()]
    return bind({"settings": [section.model_dump(mode="json") for section in settings], "items": index.ids.tolist()}, arrays)


def _restore(network: Network, batches: Batches, saved: Checkpoint) -> Slots:
    """Sets network and batches to what they were, and returns the slots of the best epoch so far."""
    network.restore(saved.slots)
    batches.n_columns = saved.n_columns
    return saved.slots if saved.best is None else saved.best


def _new_network(model: ModelSettings, n_items: int, batches: Batches, *, seed: int) -> Network:
    from sbr_tasks.gru4rec._network import Network  # here, because TensorFlow takes seconds to import

    # Compilation takes one or two seconds: what a small window takes without it.
    compiled = batches.schedule.n_events * model.n_epochs >= _LEAST_EVENTS_TO_COMPILE
    return Network(model, n_items, batches.schedule.n_lanes, seed=seed, compiled=compiled)


def _train_epoch(
    network: Network, batches: Batches, model: ModelSettings, epoch: int, on_progress: Callable[[Progress], None] | None
) -> tuple[float, float]:
    """Mean loss per event, and seconds."""
    started, loss = perf_counter(), 0.0
    schedule = batches.schedule
    for chunk in one_ahead(batches.epoch(epoch)):
        losses = network.train(chunk, epoch=epoch)
        _refuse_non_finite(losses, chunk, model, epoch)
        loss += float(losses.sum(dtype=np.float64))
        steps = chunk.first_step + len(losses)
        done = int(schedule.step_offsets[steps])
        if on_progress:
            rate, mean = done / (perf_counter() - started), loss / done
            on_progress(Progress(epoch, model.n_epochs, done, schedule.n_events, steps, schedule.n_steps, mean, rate))
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


def _short(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
