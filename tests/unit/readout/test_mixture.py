"""The probabilities of the mixture, computed by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from sbr_tasks.evaluation.scorer import LastItemState, score_session
from sbr_tasks.readout import CoVisits, Mixture, MixtureScorer
from sbr_tasks.readout.mixture import Shares
from sbr_tasks.readout.recent import N_RECENT, advance_recent, no_recent
from sbr_tasks.window.sessions import ItemIndex, Sessions


class Logits(LastItemState):
    """A model with the same scores in each session: log 1, log 2, ... of the items 10, 11, ..."""

    def __init__(self, n_items: int) -> None:
        self.index = ItemIndex(np.arange(n_items) + 10, np.ones(n_items, np.int64))

    def scores(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.tile(np.log(np.arange(1, len(self.index) + 1, dtype=np.float32)), (len(rows), 1))


def mixture(shares: list[tuple[float, float, float]], *, biases: tuple[float, ...] = (), temperature: float = 1.0) -> Mixture:
    return Mixture(
        temperature=temperature,
        biases=biases,
        own_items=(0.1, 0.3, 0.2) + (0.0,) * (N_RECENT - 3),
        shares=tuple(Shares(gru4rec=a, covisits=b, own_items=c) for a, b, c in shares),
        n_events=1,
    )


# Item 0 has the neighbours 1 (weight 3) and 2 (1); item 1 has 3 (2); the others have none.
COVISITS = CoVisits(
    np.array([[1, 2], [3, 0], [0, 0], [0, 0]], np.int32), np.array([[3, 1], [2, 0], [0, 0], [0, 0]], np.float32)
)


def probabilities(numbers: Mixture, session: list[int]) -> np.ndarray:
    scores, is_known = score_session(MixtureScorer(Logits(4), COVISITS, numbers), np.array(session, np.int32))
    assert is_known
    return scores


def test_four_clicks_by_hand() -> None:
    session = [1, 0, 2, 0]  # the last distinct items are 0, 2, 1
    numbers = mixture([(1, 0, 0), (1, 0, 0), (0.5, 0.3, 0.2)], biases=(math.log(2), 0, math.log(3)) + (0,) * 7)
    # Softmax: 1, 2, 3, 4, with item 0 (the last one) twice and item 1 (the third last) three times as likely.
    softmax = np.array([2, 6, 3, 4]) / 15
    # Co-visits: item 0 counts 1, item 2 has no neighbours, item 1 counts exp(-1).
    covisits = np.array([0, 3, 1, 2 / math.e]) / (4 + 2 / math.e)
    own = np.array([0.1, 0.2, 0.3, 0]) / 0.6
    expected = 0.5 * softmax + 0.3 * covisits + 0.2 * own
    np.testing.assert_allclose(probabilities(numbers, session), expected, rtol=1e-6)
    assert probabilities(numbers, session).sum() == pytest.approx(1)


def test_shares_follow_the_number_of_distinct_items() -> None:
    numbers = mixture([(1, 0, 0), (0, 1, 0), (0, 0, 1)])
    np.testing.assert_allclose(probabilities(numbers, [0, 0]), np.array([1, 2, 3, 4]) / 10, rtol=1e-6)
    np.testing.assert_allclose(probabilities(numbers, [2, 0]), [0, 0.75, 0.25, 0], rtol=1e-6)
    for session in ([1, 2, 0], [3, 1, 2, 0]):
        np.testing.assert_allclose(probabilities(numbers, session)[[0, 2, 1]], np.array([1, 3, 2]) / 6, rtol=1e-6)


def test_temperature_flattens_the_softmax() -> None:
    roots = np.sqrt([1, 2, 3, 4])
    np.testing.assert_allclose(probabilities(mixture([(1, 0, 0)], temperature=2.0), [3]), roots / roots.sum(), rtol=1e-6)


def test_scores_far_apart_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Logits, "scores", lambda *_: np.array([[1e4, -1e4, 0, 0]], np.float32))
    np.testing.assert_allclose(probabilities(mixture([(1, 0, 0)]), [3]), [1, 0, 0, 0])


def test_recent_items_are_distinct_newest_first_and_at_most_n_recent() -> None:
    recent = no_recent(2)
    for item in [*range(N_RECENT + 3), 5, 5]:
        advance_recent(recent, np.array([item], np.int32), np.array([1]))
    assert recent[1].tolist() == [5, 12, 11, 10, 9, 8, 7, 6, 4, 3]
    assert (recent[0] == -1).all()


def test_own_items_of_long_sessions_are_forgotten(sessions_of: Callable[..., Sessions]) -> None:
    model, n_items = Logits(N_RECENT + 2), N_RECENT + 2
    none = CoVisits(np.zeros((n_items, 0), np.int32), np.zeros((n_items, 0), np.float32))
    scorer = MixtureScorer(model, none, mixture([(0, 0, 1)]))
    scores, _ = score_session(scorer, np.arange(n_items, dtype=np.int32))
    assert np.flatnonzero(scores).tolist() == [n_items - 3, n_items - 2, n_items - 1]
