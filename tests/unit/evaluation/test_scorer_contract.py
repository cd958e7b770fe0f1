"""What every scorer must keep."""

import copy
from collections.abc import Callable
from dataclasses import is_dataclass

import numpy as np
import pytest

from sbr_tasks.evaluation.scorer import Scorer
from sbr_tasks.experiments.offline import BASELINES
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.weights import GRU4RecWeights, array_shapes
from sbr_tasks.readout import MixtureScorer, count_covisits, fit_mixture
from sbr_tasks.settings import ModelSettings, load_settings
from sbr_tasks.window.sessions import UNKNOWN, ItemIndex, Sessions

N_ITEMS = 9


def gru4rec(index: ItemIndex, **hyperparameters: object) -> GRU4RecScorer:
    model = ModelSettings(**hyperparameters)
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in array_shapes(model, len(index)).items()}
    return GRU4RecScorer(GRU4RecWeights.from_arrays(model, index, arrays))


@pytest.fixture(params=[*BASELINES, "gru4rec shared", "gru4rec separate stacked", "readout"])
def scorer(request: pytest.FixtureRequest, sessions_of: Callable[..., Sessions]) -> Scorer:
    index = ItemIndex(np.arange(N_ITEMS) + 100, np.arange(N_ITEMS) + 1)
    if request.param in BASELINES:
        sessions = sessions_of([[100, 101, 102, 100, 103], [104, 105, 106, 107, 108, 100]])
        return BASELINES[request.param](sessions, index, load_settings({}))
    if request.param == "gru4rec shared":
        return gru4rec(index, layers=(4,))
    if request.param == "readout":
        sessions = sessions_of([[100, 101, 102, 100, 103], [104, 105, 106, 107, 108, 100]])
        covisits, model = count_covisits(sessions, index), gru4rec(index, layers=(4,))
        mixture = fit_mixture(model, covisits, sessions, batch_size=8)
        assert mixture is not None
        return MixtureScorer(model, covisits, mixture)
    return gru4rec(index, layers=(4, 3), constrained_embedding=False, embedding=5)


def feed(scorer: Scorer, sessions: list[list[int]]) -> np.ndarray:
    """Scores after feeding whole sessions side by side."""
    state = scorer.start(len(sessions))
    for step in range(max(map(len, sessions))):
        rows = np.array([i for i, session in enumerate(sessions) if len(session) > step])
        scorer.advance(state, np.array([sessions[i][step] for i in rows], np.int32), rows)
    return np.array(scorer.scores(state, np.arange(len(sessions))))


def plain(state: object) -> object:
    """A state that is a record, as a dictionary, which NumPy can compare."""
    return {name: plain(value) for name, value in vars(state).items()} if is_dataclass(state) else state


def test_scores_have_a_row_a_session_and_a_column_an_item(scorer: Scorer) -> None:
    scores = feed(scorer, [[0], [1, 2]])
    assert scores.shape == (2, N_ITEMS)
    assert scores.dtype == np.float32
    assert not np.isnan(scores).any()


def test_sessions_do_not_touch_each_other(scorer: Scorer) -> None:
    sessions = [[0, 1, 2], [3], [0, 4]]
    together = feed(scorer, sessions)
    for scores, session in zip(together, sessions, strict=True):
        np.testing.assert_allclose(scores, feed(scorer, [session])[0], rtol=1e-5, atol=1e-6)


def test_rows_are_answered_in_the_order_asked_for(scorer: Scorer) -> None:
    state = scorer.start(3)
    scorer.advance(state, np.array([4, 2, 0], np.int32), np.array([2, 0, 1]))
    forward = np.array(scorer.scores(state, np.array([0, 1, 2])))
    backward = np.array(scorer.scores(state, np.array([2, 1, 0])))
    np.testing.assert_allclose(forward, backward[::-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(forward, feed(scorer, [[2], [0], [4]]), rtol=1e-5, atol=1e-6)


def test_unknown_items_leave_a_session_as_it_is(scorer: Scorer) -> None:
    with_unknown = feed(scorer, [[UNKNOWN, 0, UNKNOWN, UNKNOWN, 1, UNKNOWN], [2, UNKNOWN]])
    np.testing.assert_allclose(with_unknown, feed(scorer, [[0, 1], [2]]), rtol=1e-5, atol=1e-6)


def test_scoring_changes_nothing(scorer: Scorer) -> None:
    state = scorer.start(2)
    scorer.advance(state, np.array([1, 5], np.int32), np.array([0, 1]))
    before = copy.deepcopy(state)
    first = np.array(scorer.scores(state, np.array([0, 1])))
    np.testing.assert_equal(plain(state), plain(before))
    np.testing.assert_array_equal(scorer.scores(state, np.array([0, 1])), first)


def test_every_start_is_fresh(scorer: Scorer) -> None:
    fresh = feed(scorer, [[3]])
    feed(scorer, [[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(feed(scorer, [[3]]), fresh)


def test_nothing_asked_gives_no_row(scorer: Scorer) -> None:
    state = scorer.start(1)
    none = np.empty(0, np.intp)
    scorer.advance(state, none.astype(np.int32), none)
    assert scorer.scores(state, none).shape == (0, N_ITEMS)
