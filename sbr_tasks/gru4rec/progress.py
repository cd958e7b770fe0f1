"""Showing people how far a training is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sbr_tasks.gru4rec.checkpoint import Checkpoints
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.gru4rec.slots import Parent
from sbr_tasks.gru4rec.training import Progress as TrainingProgress
from sbr_tasks.gru4rec.training import Trained, train
from sbr_tasks.progress import Progress
from sbr_tasks.settings import Settings
from sbr_tasks.window.sessions import ItemIndex, Sessions

logger = logging.getLogger(__name__)


def train_shown(
    sessions: Sessions,
    index: ItemIndex,
    validation: Sessions,
    settings: Settings,
    *,
    parent: Parent | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Trains as the settings say, for `training.warm_epochs` where there is a parent, and shows how far it is; see `train`."""
    model = settings.model.model_copy(update={"n_epochs": settings.training.warm_epochs}) if parent else settings.model
    with training_progress(sessions, model.n_epochs) as show:
        return train(
            sessions,
            index,
            validation,
            model=model,
            training=settings.training,
            evaluation=settings.evaluation,
            parent=parent,
            on_progress=show,
            on_epoch=on_epoch,
            checkpoints=checkpoints,
        )


@contextmanager
def training_progress(sessions: Sessions, n_epochs: int) -> Iterator[Callable[[TrainingProgress], None]]:
    """What `train` wants as `on_progress`: shows the events of all epochs, the rate and the loss.

    Args:
        sessions: What is trained on.
        n_epochs: Most epochs.
    """
    n_events = sessions.n_clicks - sessions.n_sessions
    with Progress("Training", n_events * n_epochs, "events", logger) as progress:
        done = 0

        def show(state: TrainingProgress) -> None:
            nonlocal done
            total = (state.epoch - 1) * state.n_events + state.events_done
            where = f"epoch {state.epoch}/{state.n_epochs}, step {state.steps_done:,}/{state.n_steps:,}"
            numbers = {"epoch": state.epoch, "step": state.steps_done, "loss": state.loss}
            progress.advance(total - done, f"{where}, loss {state.loss:.3f}", numbers)
            done = total

        yield show
