"""Sequential rules: which items come after the current one, not only directly after it."""

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

    A rule leads to another item, so the last item itself scores nothing. Equal scores are told apart by support, and what no
    rule leads to ranks below, by support: ties would make the baseline weaker than it is.
    """

    def __init__(self, sessions: Sessions, index: ItemIndex, *, steps: int = 10) -> None:
        """
        Args:
            sessions: The training sessions. Rules from or to items that the index doesn't hold are left out.
            index: The items to rank.
            steps: Most clicks from the item of a rule to the one that it leads to; the next click is 1 apart.
        """
        from scipy.sparse import coo_array, csr_array

        self.index = index
        items = index.encode(sessions.item_ids)
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
        found = np.tile(self._faint_popularity, (len(rows), 1))
        known = last >= 0
        found[known] = np.maximum(found[known], self._rules[last[known]].toarray())
        return found


def _in_order(
    group: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], tie_break: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Positive scores as float32, in each group in the order of (score, tie break) and equal only where both are.

    What float32 or the scores themselves don't tell apart is raised to the next float32, so no score overrules a higher one.
    """
    order = np.lexsort((tie_break, scores, group))
    group, scores, tie_break = group[order], scores[order], tie_break[order]
    is_higher = np.ones(len(order), bool)
    is_higher[1:] = (np.diff(scores) != 0) | (np.diff(tie_break) != 0)
    nth = np.cumsum(is_higher)
    # The bits of positive floats, read as integers, are in the order of the floats, and the next float is 1 more.
    bits = (group << 32) + scores.astype(np.float32).view(np.int32)
    raised = np.maximum.accumulate(bits - nth) + nth
    found = np.empty(len(order), np.float32)
    found[order] = (raised - (group << 32)).astype(np.int32).view(np.float32)
    return found
