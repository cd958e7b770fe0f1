"""Metrics by session length: a model may be good for long sessions and useless for short ones."""

from __future__ import annotations

import numpy as np

from sbr_tasks.evaluation.metrics import mrr_at, recall_at
from sbr_tasks.evaluation.ranking import Evaluation
from sbr_tasks.window.sessions import Sessions

LENGTHS = {"2": (2, 2), "3-5": (3, 5), "6+": (6, np.iinfo(np.int64).max)}
"""Minimum and maximum number of clicks of the sessions of each slice, by name."""


def metrics_by_length(evaluation: Evaluation, sessions: Sessions, k: int = 20) -> dict[str, dict[str, float]]:
    """Recall@K and MRR@K by session length.

    Args:
        evaluation: Ranks over `sessions`.
        sessions: The evaluated sessions.
        k: The cut-off.

    Returns:
        By name of the slice: `recall_at_K`, `mrr_at_K` and `n_events`; slices without events are left out.
    """
    lengths = sessions.lengths[evaluation.session]
    metrics = {}
    for name, (shortest, longest) in LENGTHS.items():
        ranks = evaluation.ranks[(lengths >= shortest) & (lengths <= longest)]
        if len(ranks):
            metrics[name] = {f"recall_at_{k}": recall_at(ranks, k), f"mrr_at_{k}": mrr_at(ranks, k), "n_events": len(ranks)}
    return metrics
