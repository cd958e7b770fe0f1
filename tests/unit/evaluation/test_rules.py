import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbr_tasks.evaluation.rules import SequentialRules
from sbr_tasks.window.sessions import ItemIndex, Sessions

Build = Callable[..., Sessions]


def index_of(sessions: Sessions) -> ItemIndex:
    return ItemIndex(*np.unique(sessions.item_ids, return_counts=True))


def scores_after(rules: SequentialRules, item: int) -> np.ndarray:
    state = rules.start(1)
    rules.advance(state, rules.index.encode(np.array([item])), np.array([0]))
    return np.array(rules.scores(state, np.array([0]))[0])


def test_rules_weigh_the_reciprocal_of_the_steps_apart(sessions_of: Build) -> None:
    sessions = sessions_of([[1, 2, 3, 4], [1, 3], [2, 4]])
    rules = SequentialRules(sessions, index_of(sessions))
    # four rules from 1: to 2 (1 apart), to 3 (2 apart and 1 apart), to 4 (3 apart)
    np.testing.assert_allclose(scores_after(rules, 1), np.array([0, 1, 1 / 2 + 1, 1 / 3]) / 4, rtol=1e-6, atol=1e-12)
    # three rules from 2: to 3 (1 apart), to 4 (2 apart and 1 apart)
    np.testing.assert_allclose(scores_after(rules, 2), np.array([0, 0, 1, 3 / 2]) / 3, rtol=1e-6, atol=1e-12)


def test_rules_reach_no_further_than_steps(sessions_of: Build) -> None:
    sessions = sessions_of([[1, 2, 3, 4]])
    rules = SequentialRules(sessions, index_of(sessions), steps=2)
    np.testing.assert_allclose(scores_after(rules, 1), [0, 1 / 2, 1 / 4, 0], rtol=1e-6, atol=1e-12)


def test_a_rule_leads_to_another_item(sessions_of: Build) -> None:
    sessions = sessions_of([[1, 1, 2]])
    rules = SequentialRules(sessions, index_of(sessions))
    np.testing.assert_allclose(scores_after(rules, 1), [0, (1 + 1 / 2) / 2], rtol=1e-6, atol=1e-12)


def test_items_outside_the_index_take_a_step_but_make_no_rule(sessions_of: Build) -> None:
    index = ItemIndex(np.array([1, 2]), np.array([1, 1]))
    rules = SequentialRules(sessions_of([[1, 9, 2]]), index)
    np.testing.assert_allclose(scores_after(rules, 1), [0, 1 / 2], rtol=1e-6, atol=1e-12)


def test_equal_scores_are_ordered_by_support_and_higher_ones_never_overruled(sessions_of: Build) -> None:
    # after 1: 2 and 3 score alike however the thirds and sixths are added, 4 a little less, 5 and 6 nothing
    sessions = sessions_of(
        [[1, 7], [1, 7, 3], [1, 7, 8, 3], [1, 7, 8, 9, 10, 11, 3], [1, 2], [1, 7, 4], [1, 8, 7, 4], [1, 7, 8, 9, 10, 11, 12, 4]]
    )
    items = np.arange(1, 13)
    support = np.array([1, 1, 2, 900_000, 3, 4, 1, 1, 1, 1, 1, 1])
    scores = scores_after(SequentialRules(sessions, ItemIndex(items, support)), 1)
    ranked = items[np.argsort(-scores)].tolist()
    assert [item for item in ranked if item in (2, 3, 4)] == [3, 2, 4]
    assert ranked[-3:-1] == [6, 5]
    assert len(np.unique(scores[[1, 2, 3, 4, 5]])) == 5


def test_without_rules_items_rank_by_support(sessions_of: Build) -> None:
    for clicks in ([], [[1]], [[8, 9], [9, 1]]):
        rules = SequentialRules(sessions_of(clicks), ItemIndex(np.array([1, 2]), np.array([1, 3])))
        scores = scores_after(rules, 1)
        assert 0 < scores[0] < scores[1] < 1e-19


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=7), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 5)
)
def test_scores_are_those_of_the_formula(clicks: list[list[int]], steps: int, last: int) -> None:
    flat = np.array([item for session in clicks for item in session])
    offsets = np.cumsum([0, *map(len, clicks)])
    index = ItemIndex(np.arange(6), np.bincount(flat, minlength=6))
    rules = SequentialRules(Sessions.of_ids(offsets, flat), index, steps=steps)

    weights, n_rules = [0.0] * 6, 0
    for session in clicks:
        for at, item in enumerate(session):
            for d, later in enumerate(session[at + 1 : at + 1 + steps], 1):
                if item == last != later:
                    weights[later] += 1 / d
                    n_rules += 1
    expected = [weight / n_rules if n_rules else 0 for weight in weights]
    scores = scores_after(rules, last)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-12)
    for a in range(6):
        for b in range(6):
            if math.isclose(expected[a], expected[b]):
                assert (scores[a] > scores[b]) == (index.support[a] > index.support[b])


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_more_steps_than_clicks_are_no_error(steps: int, sessions_of: Build) -> None:
    sessions = sessions_of([[1, 2], [], [2, 1]])
    rules = SequentialRules(sessions, index_of(sessions), steps=steps)
    np.testing.assert_allclose(scores_after(rules, 2), [1, 0], rtol=1e-6, atol=1e-12)
