import math

import numpy as np
import pytest

from sbr_tasks.evaluation.metrics import UNRANKED, mrr_at, recall_at

RANKS = np.array([1, 3, 20, 21, UNRANKED], np.int32)


@pytest.mark.parametrize(("k", "recall"), [(1, 0.2), (2, 0.2), (3, 0.4), (20, 0.6), (21, 0.8), (1_000_000, 0.8)])
def test_recall_is_the_share_of_targets_within_k(k: int, recall: float) -> None:
    assert recall_at(RANKS, k) == pytest.approx(recall)


@pytest.mark.parametrize(("k", "mrr"), [(1, 0.2), (3, (1 + 1 / 3) / 5), (20, (1 + 1 / 3 + 1 / 20) / 5)])
def test_mrr_averages_reciprocal_ranks_and_counts_0_beyond_k(k: int, mrr: float) -> None:
    assert mrr_at(RANKS, k) == pytest.approx(mrr)


def test_no_event_gives_nan() -> None:
    none = np.empty(0, np.int32)
    assert math.isnan(recall_at(none, 20))
    assert math.isnan(mrr_at(none, 20))
