"""Showing people how far a training is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sbr_tasks.gru4rec.training import Progress as TrainingProgress
from sbr_tasks.progress import Progress
from sbr_tasks.window.sessions import Sessions

logger = logging.getLogger(__name__)


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
            progress.advance(total - done, f"epoch {state.epoch}/{state.n_epochs}, loss {state.loss:.3f}")
            done = total

        yield show
