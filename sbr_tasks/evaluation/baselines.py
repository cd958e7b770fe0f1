"""Baselines that count clicks: every trained model must beat them."""

from __future__ import annotations

import numpy as np

from sbr_tasks.evaluation.scorer import Indices, LastItemState, Rows, Scores
from sbr_tasks.window.ragged import rows_of_runs
from sbr_tasks.window.sessions import UNKNOWN, ItemIndex, Sessions


class Popularity:
    """Ranks items by their number of clicks in training, whatever the session."""

    def __init__(self, index: ItemIndex) -> None:
        self.index = index
        self._scores = index.support.astype(np.float32)

    def start(self, n_sessions: int) -> None:
        """Returns None: the model has no state."""

    def advance(self, state: None, items: Indices, rows: Rows) -> None:
        """Does nothing: the model has no state."""

    def scores(self, state: None, rows: Rows) -> Scores:
        """Each item's support, shape `(len(rows), n_items)`; a read-only view."""
        return np.broadcast_to(self._scores, (len(rows), len(self._scores)))


class Markov(LastItemState):
    """First-order Markov chain: ranks items by how often they directly followed the last known item in training.

    Equal counts are ordered by support: most counts are 0 or 1, and ties count against a model, so the baseline would look
    weaker than it is.
    """

    def __init__(self, sessions: Sessions, index: ItemIndex) -> None:
        """
        Args:
            sessions: The training sessions. Transitions from or to items that aren't in the index are ignored.
            index: The items to rank.
        """
        self.index = index
        items = index.codes_of(sessions).astype(np.int64)
        is_last = np.zeros(len(items), bool)
        is_last[sessions.offsets[1:][sessions.lengths > 0] - 1] = True
        pairs = np.stack([items[:-1], items[1:]])[:, ~is_last[:-1]]
        pairs = pairs[:, (pairs != UNKNOWN).all(axis=0)]
        transitions, counts = np.unique(pairs[0] * len(index) + pairs[1], return_counts=True)
        source, self._followers = np.divmod(transitions, max(1, len(index)))
        self._counts = counts.astype(np.float32)
        # Below 1, the smallest difference of counts.
        self._tie_break = (index.support / (index.support.sum() + 1)).astype(np.float32)
        # Followers of item i: `[first[i], first[i + 1])`, as in a sparse row matrix.
        self._first = np.searchsorted(source, np.arange(len(index) + 1))

    def scores(self, state: Indices, rows: Rows) -> Scores:
        """Number of times each item followed the last one, plus its share of all clicks; shape `(len(rows), n_items)`."""
        last = state[rows]
        is_known = last >= 0
        first, end = self._first[last], np.where(is_known, self._first[last + 1], self._first[last])
        n = end - first
        scores = np.tile(self._tie_break, (len(rows), 1))
        entries = rows_of_runs(first, n)
        scores[np.repeat(np.arange(len(rows)), n), self._followers[entries]] += self._counts[entries]
        return scores
