"""Recall@K and MRR@K, computed from the ranks of the true next items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UNRANKED = int(np.iinfo(np.int32).max)
"""Rank of a target that the model can't rank: beyond every cut-off, however many items there are."""

CUT_OFFS = (1, 5, 10, 20)

METRICS = tuple(f"{metric}_at_{k}" for metric in ("recall", "mrr") for k in CUT_OFFS)
"""Names of the metrics in records."""

KNOWN_TARGETS, KNOWN_INPUTS, RECALL_AMONG_KNOWN = "known_targets", "known_inputs", "recall_at_20_among_known"

KNOWLEDGE = (KNOWN_TARGETS, KNOWN_INPUTS, RECALL_AMONG_KNOWN)
"""Shown next to the metrics, but never compared: the share of events whose target the model knows, the share whose current item
it knows, and Recall@20 among the events with a known target."""

Ranks = npt.NDArray[np.int32] | npt.NDArray[np.float64]
"""Ranks of the targets, shape `(n_events,)`: 1 for the highest score, `UNRANKED` for none; ties may have halves."""


def metric_title(metric: str) -> str:
    """The title of one of `METRICS` or `KNOWLEDGE` for people: `Recall@20` for `recall_at_20`."""
    titles = {
        KNOWN_TARGETS: "Share of known targets",
        KNOWN_INPUTS: "Share of known inputs",
        RECALL_AMONG_KNOWN: "Recall@20 among known targets",
    }
    return titles.get(metric, metric.replace("recall_at_", "Recall@").replace("mrr_at_", "MRR@"))


def recall_at(ranks: Ranks, k: int) -> float:
    """Share of the events whose target is among the first `k` items.

    Each event has one true item, so this is also the hit rate. NaN without events.

    Example:
        >>> recall_at(np.array([1, 3, 30, UNRANKED], np.int32), k=20)
        0.5
    """
    return float(np.mean(ranks <= k)) if len(ranks) else float("nan")


def reciprocal_ranks(ranks: Ranks, k: int) -> npt.NDArray[np.float64]:
    """1 / rank where the target is among the first `k` items, else 0; shape `(n_events,)`."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def mrr_at(ranks: Ranks, k: int) -> float:
    """Mean of `reciprocal_ranks`. NaN without events."""
    return float(np.mean(reciprocal_ranks(ranks, k))) if len(ranks) else float("nan")
