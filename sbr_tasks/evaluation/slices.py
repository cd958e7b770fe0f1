"""Metrics of sessions of like length: a model may be good at long sessions and useless at short ones."""

from __future__ import annotations

import numpy as np

from sbr_tasks.evaluation.metrics import mrr_at, recall_at
from sbr_tasks.evaluation.ranking import Evaluation
from sbr_tasks.window.sessions import Sessions

LENGTHS = {"2": (2, 2), "3-5": (3, 5), "6+": (6, np.iinfo(np.int64).max)}
"""Name of a slice, and the fewest and most clicks of its sessions."""


def metrics_by_length(evaluation: Evaluation, sessions: Sessions, k: int = 20) -> dict[str, dict[str, float]]:
    """Recall and MRR at `k` by length of the session.

    Args:
        evaluation: Ranks over `sessions`.
        sessions: What was predicted.
        k: The cut-off.

    Returns:
        By name of the slice: `recall_at_K`, `mrr_at_K` and `n_events`; slices without events are left out.
    """
    lengths = sessions.lengths[evaluation.session]
    found = {}
    for name, (fewest, most) in LENGTHS.items():
        ranks = evaluation.ranks[(lengths >= fewest) & (lengths <= most)]
        if len(ranks):
            found[name] = {f"recall_at_{k}": recall_at(ranks, k), f"mrr_at_{k}": mrr_at(ranks, k), "n_events": len(ranks)}
    return found
