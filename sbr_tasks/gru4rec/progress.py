"""Shows the progress of a training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sbr_tasks.gru4rec.checkpoint import Checkpoints
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.gru4rec.slots import Parent
from sbr_tasks.gru4rec.training import EpochProgress, Trained, train
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
    n_epochs: int | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Trains as the settings say and shows the progress; see `train`. The default of `n_epochs` is `max_epochs`."""
    model = settings.model.model_copy(update={"n_epochs": n_epochs or max_epochs(settings, is_warm=parent is not None)})
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


def max_epochs(settings: Settings, *, is_warm: bool) -> int:
    """Maximum number of epochs: `training.warm_epochs` for a warm start, else `model.n_epochs`."""
    return settings.training.warm_epochs if is_warm else settings.model.n_epochs


@contextmanager
def training_progress(sessions: Sessions, n_epochs: int) -> Iterator[Callable[[EpochProgress], None]]:
    """Yields a callback for `on_progress` of `train`, which shows events over all epochs, the rate and the loss.

    Args:
        sessions: The training sessions.
        n_epochs: Maximum number of epochs.
    """
    n_events = sessions.n_clicks - sessions.n_sessions
    with Progress("Training", n_events * n_epochs, "events", logger) as progress:
        done = 0

        def show(state: EpochProgress) -> None:
            nonlocal done
            total = (state.epoch - 1) * state.n_events + state.events_done
            where = f"epoch {state.epoch}/{state.n_epochs}, step {state.steps_done:,}/{state.n_steps:,}"
            numbers = {"epoch": state.epoch, "step": state.steps_done, "loss": state.loss}
            progress.advance(total - done, f"{where}, loss {state.loss:.3f}", numbers)
            done = total

        yield show
