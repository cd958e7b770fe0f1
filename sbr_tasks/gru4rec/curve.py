"""The learning curve of a training: which epoch is the best, and when to stop early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve.

    Attributes:
        number: Counted from 1.
        loss: Mean training loss per event.
        validation_recall_at_20: None without validation events.
        validation_mrr_at_20: None without validation events.
        took_s: Seconds of training, without validation.
        events_per_second: Training events per second.
    """

    number: int
    loss: float
    validation_recall_at_20: float | None
    validation_mrr_at_20: float | None
    took_s: float
    events_per_second: float


def best_epoch(curve: Sequence[Epoch]) -> int:
    """The first epoch with the highest validation Recall@20; without validation events, the last; 0 for an empty curve."""
    recalls = [epoch.validation_recall_at_20 for epoch in curve if epoch.validation_recall_at_20 is not None]
    return 1 + int(np.argmax(recalls)) if recalls else len(curve)


def is_stalled(curve: Sequence[Epoch], patience: int) -> bool:
    """Whether validation Recall@20 hasn't improved in the last `patience` epochs."""
    return len(curve) - best_epoch(curve) >= patience
