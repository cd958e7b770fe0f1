from collections.abc import Callable

import numpy as np
import pytest

from sbr_tasks.evaluation.baselines import Markov, Popularity
from sbr_tasks.window.sessions import ItemIndex, Sessions

Build = Callable[..., Sessions]


def test_popularity_scores_by_support_whatever_was_clicked() -> None:
    popularity = Popularity(ItemIndex(np.array([5, 6, 7]), np.array([2, 9, 4])))
    state = popularity.start(2)
    popularity.advance(state, np.array([0, 2], np.int32), np.array([0, 1]))
    assert popularity.scores(state, np.array([1, 0])).tolist() == [[2, 9, 4], [2, 9, 4]]


def test_markov_counts_direct_followers_within_sessions(sessions_of: Build) -> None:
    sessions = sessions_of([[5, 6, 5, 6], [6, 7], [5, 6]])
    markov = Markov(sessions, ItemIndex(np.array([5, 6, 7]), np.array([3, 4, 1])))
    state = markov.start(4)
    markov.advance(state, np.array([0, 1, 2], np.int32), np.array([0, 1, 2]))
    tie_break = np.array([3, 4, 1]) / 9
    # after 5: 6 three times; after 6: 5 once, 7 once; 7 is always last, and session 3 has no click
    expected = np.array([[0, 3, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0]]) + tie_break
    np.testing.assert_allclose(markov.scores(state, np.arange(4)), expected, rtol=1e-6)


def test_markov_tells_equal_counts_apart_by_support_but_never_overrules_a_count(sessions_of: Build) -> None:
    index = ItemIndex(np.array([1, 2, 3, 4]), np.array([1, 1, 2, 1000]))
    markov = Markov(sessions_of([[1, 2], [1, 3]]), index)
    state = markov.start(1)
    markov.advance(state, np.array([0], np.int32), np.array([0]))
    assert index.ids[np.argsort(-markov.scores(state, np.array([0]))[0])].tolist() == [3, 2, 4, 1]


@pytest.mark.parametrize("clicks", [[], [[1]], [[8, 9], [9, 1]]])
def test_markov_without_known_transitions_ranks_by_popularity(clicks: list[list[int]], sessions_of: Build) -> None:
    index = ItemIndex(np.array([1, 2]), np.array([1, 3]))
    markov = Markov(sessions_of(clicks), index)
    state = markov.start(1)
    markov.advance(state, np.array([0], np.int32), np.array([0]))
    np.testing.assert_allclose(markov.scores(state, np.array([0])), [[0.2, 0.6]], rtol=1e-6)
