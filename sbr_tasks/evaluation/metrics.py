"""Recall@K and MRR@K from the ranks of the true next items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UNRANKED = int(np.iinfo(np.int32).max)
"""Rank of a target that can't be ranked: beyond every cut-off, whatever the number of items."""

CUT_OFFS = (1, 5, 10, 20)

METRICS = tuple(f"{metric}_at_{k}" for metric in ("recall", "mrr") for k in CUT_OFFS)
"""The names under which records keep what was measured."""

KNOWN_TARGETS, KNOWN_INPUTS, RECALL_AMONG_KNOWN = "known_targets", "known_inputs", "recall_at_20_among_known"

KNOWLEDGE = (KNOWN_TARGETS, KNOWN_INPUTS, RECALL_AMONG_KNOWN)
"""What is shown beside the metrics, and never compared: the share of events whose target, and whose current item, the model
knows, and Recall@20 of those whose target it knows."""

Ranks = npt.NDArray[np.int32] | npt.NDArray[np.float64]
"""1 for the item with the highest score, shape `(n_events,)`; or `UNRANKED`. Whole numbers, or halves between tied items."""


def metric_title(metric: str) -> str:
    """What people call one of `METRICS` or `KNOWLEDGE`: `Recall@20` for `recall_at_20`."""
    titles = {
        KNOWN_TARGETS: "Share of known targets",
        KNOWN_INPUTS: "Share of known inputs",
        RECALL_AMONG_KNOWN: "Recall@20 among known targets",
    }
    return titles.get(metric, metric.replace("recall_at_", "Recall@").replace("mrr_at_", "MRR@"))


def recall_at(ranks: Ranks, k: int) -> float:
    """Share of the events whose target is among the first `k` items.

    With one true item an event, this is also the hit rate. NaN without events.
    """
    return float(np.mean(ranks <= k)) if len(ranks) else float("nan")


def reciprocal_ranks(ranks: Ranks, k: int) -> npt.NDArray[np.float64]:
    """1 / rank where the target is among the first `k` items, else 0; shape `(n_events,)`."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def mrr_at(ranks: Ranks, k: int) -> float:
    """Mean reciprocal rank, see `reciprocal_ranks`. NaN without events."""
    return float(np.mean(reciprocal_ranks(ranks, k))) if len(ranks) else float("nan")
