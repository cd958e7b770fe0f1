"""Sequential rules: which items follow the current one, directly or a few clicks later."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sbr_tasks.evaluation.scorer import Indices, LastItemState, Rows, Scores, faint_popularity
from sbr_tasks.window.sessions import ItemIndex, Sessions


class SequentialRules(LastItemState):
    """Sequential rules (Ludewig & Jannach 2018, *Evaluation of Session-based Recommendation Algorithms*).

    A rule l -> i is an item i clicked `d` <= `steps` clicks after an item l in one training session. With l the last known item
    of session s,

        score(i | s) = (sum of 1 / d over the rules l -> i) / (number of rules from l to any item)

    A rule leads to another item, so the last item itself scores 0. Equal scores are ordered by support, and so are items
    without a rule, below all others: ties count against a model, so the baseline would look weaker than it is.
    """

    def __init__(self, sessions: Sessions, index: ItemIndex, *, steps: int = 10) -> None:
        """
        Args:
            sessions: The training sessions. Rules from or to items that aren't in the index are ignored.
            index: The items to rank.
            steps: Maximum distance of the two items of a rule, in clicks; the next click has distance 1.
        """
        from scipy.sparse import coo_array, csr_array

        self.index = index
        items = index.codes_of(sessions)
        session = np.repeat(np.arange(sessions.n_sessions), sessions.lengths)
        shape = (len(index), len(index))
        weights, n_rules = csr_array(shape), np.zeros(len(index), np.int64)
        for apart in range(1, min(steps, int(sessions.lengths.max(initial=1)) - 1) + 1):
            before, after = items[:-apart], items[apart:]
            is_rule = (session[:-apart] == session[apart:]) & (before >= 0) & (after >= 0) & (before != after)
            before, after = before[is_rule], after[is_rule]
            weights += coo_array((np.full(len(before), 1 / apart), (before, after)), shape).tocsr()
            n_rules += np.bincount(before, minlength=len(index))
        source = np.repeat(np.arange(len(index)), np.diff(weights.indptr))
        scores = np.round(weights.data, 9) / n_rules[source]  # rounded, so that 1/2 + 1/3 + 1/6 equals 1
        data = _in_order(source, scores, index.support[weights.indices])
        self._rules = csr_array((data, weights.indices, weights.indptr), shape)
        self._faint_popularity = faint_popularity(index)

    def scores(self, state: Indices, rows: Rows) -> Scores:
        """The score of the rules from the last item to each item; shape `(len(rows), n_items)`."""
        last = state[rows]
        scores = np.tile(self._faint_popularity, (len(rows), 1))
        is_known = last >= 0
        scores[is_known] = np.maximum(scores[is_known], self._rules[last[is_known]].toarray())
        return scores


def _in_order(
    group: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], tie_break: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Positive scores as float32 that, in each group, are ordered by (score, tie break), and equal only if both are equal.

    Scores that would be equal otherwise are raised to the next float32; none of them overtakes a higher score.
    """
    order = np.lexsort((tie_break, scores, group))
    group, scores, tie_break = group[order], scores[order], tie_break[order]
    is_higher = np.ones(len(order), bool)
    is_higher[1:] = (np.diff(scores) != 0) | (np.diff(tie_break) != 0)
    nth = np.cumsum(is_higher)
    # The bits of positive floats, read as integers, are in the order of the floats, and the next float is 1 more.
    bits = (group << 32) + scores.astype(np.float32).view(np.int32)
    raised = np.maximum.accumulate(bits - nth) + nth
    ordered = np.empty(len(order), np.float32)
    ordered[order] = (raised - (group << 32)).astype(np.int32).view(np.float32)
    return ordered
