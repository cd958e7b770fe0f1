"""The read-out without a neural model: co-visits and own items, mixed with popularity instead of GRU4Rec."""

from __future__ import annotations

import numpy as np

from sbr_tasks.evaluation.scorer import Indices, Rows, Scorer, Scores
from sbr_tasks.readout.covisits import count_covisits
from sbr_tasks.readout.fit import fit_mixture
from sbr_tasks.readout.mixture import MixtureScorer
from sbr_tasks.window.sessions import ItemIndex, Sessions


class PopularityLogits:
    """Scores items by the logarithm of their support, whatever the session: the softmax is each item's share of the clicks."""

    def __init__(self, index: ItemIndex) -> None:
        self.index = index
        self._scores = np.log(np.maximum(1, index.support)).astype(np.float32)

    def start(self, n_sessions: int) -> None:
        """Returns None: the model has no state."""

    def advance(self, state: None, items: Indices, rows: Rows) -> None:
        """Does nothing: the model has no state."""

    def scores(self, state: None, rows: Rows) -> Scores:
        """The same for each session, shape `(len(rows), n_items)`; a read-only view."""
        return np.broadcast_to(self._scores, (len(rows), len(self._scores)))


def counted_scorer(
    sessions: Sessions, index: ItemIndex, fit: tuple[Sessions, ItemIndex, Sessions], *, batch_size: int
) -> Scorer:
    """A baseline that shows what GRU4Rec adds to what can be counted.

    Args:
        sessions: The sessions to count.
        index: Their items.
        fit: Earlier sessions to count, their items, and the sessions that the numbers of the mixture are fitted on.
        batch_size: Sessions scored in parallel.

    Returns:
        The scorer; popularity alone if nothing can be fitted.
    """
    earlier, earlier_index, validation = fit
    covisits = count_covisits(earlier, earlier_index)
    mixture = fit_mixture(PopularityLogits(earlier_index), covisits, validation, batch_size=batch_size)
    popularity = PopularityLogits(index)
    return MixtureScorer(popularity, count_covisits(sessions, index), mixture) if mixture else popularity
