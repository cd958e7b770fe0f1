from __future__ import annotations

import numpy as np

from sbr_tasks.evaluation.ranking import Evaluation
from sbr_tasks.evaluation.slices import metrics_by_length
from sbr_tasks.window.sessions import Sessions


def test_events_are_grouped_by_the_length_of_their_session() -> None:
    lengths = np.array([2, 3, 6])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    sessions = Sessions.of_ids(offsets, np.zeros(11, np.int64))
    ranks = np.array([2, 1, 40, 20, 4, 50, 50, 50], np.int32)
    evaluation = Evaluation(ranks, np.array([0, 1, 1, 2, 2, 2, 2, 2]))
    assert metrics_by_length(evaluation, sessions) == {
        "2": {"recall_at_20": 1.0, "mrr_at_20": 0.5, "n_events": 1},
        "3-5": {"recall_at_20": 0.5, "mrr_at_20": 0.5, "n_events": 2},
        "6+": {"recall_at_20": 0.4, "mrr_at_20": 0.06, "n_events": 5},
    }


def test_slices_without_events_are_left_out() -> None:
    sessions = Sessions.of_ids(np.array([0, 2]), np.zeros(2, np.int64))
    assert list(metrics_by_length(Evaluation(np.array([1], np.int32), np.array([0])), sessions)) == ["2"]
