import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbr_tasks.evaluation.neighbours import VSTAN, VSkNN
from sbr_tasks.evaluation.scorer import Scorer
from sbr_tasks.settings import VSkNNSettings, VSTANSettings
from sbr_tasks.window.sessions import ItemIndex, Sessions

Build = Callable[..., Sessions]
Clicks = list[int]

DAY_US = 24 * 60 * 60 * 1_000_000
CLOSE = {"rtol": 1e-5, "atol": 1e-12}
"""Scores are float32, and what scores nothing still has its faint popularity."""


def index_of(sessions: Sessions) -> ItemIndex:
    return ItemIndex(*np.unique(sessions.item_ids, return_counts=True))


def scores_after(scorer: Scorer, clicks: Sequence[int]) -> np.ndarray:
    state = scorer.start(1)
    for item in scorer.index.encode(np.array(clicks)):
        scorer.advance(state, np.array([item]), np.array([0]))
    return np.array(scorer.scores(state, np.array([0]))[0])


def test_vsknn_by_hand(sessions_of: Build) -> None:
    sessions = sessions_of([[1, 2, 3], [2, 4], [5, 6]])
    # 2 is the last click (weight 1), 1 the one before (weight 0.9); 5 and 6 are in no neighbour
    first, second = (1 + 0.9) / math.sqrt(3), 1 / math.sqrt(2)
    idf_1, idf_2 = math.log(3), math.log(3 / 2)
    expected = [first * idf_1, (first + second) * idf_2, first * idf_1, second * idf_1, 0, 0]
    np.testing.assert_allclose(scores_after(VSkNN(sessions, index_of(sessions)), [1, 2]), expected, **CLOSE)


def test_vsknn_weighs_a_neighbour_by_its_most_recent_shared_item(sessions_of: Build) -> None:
    sessions = sessions_of([[1, 4], [2, 3]])
    scores = scores_after(VSkNN(sessions, index_of(sessions)), [1, 3, 3])
    # 1 is two clicks back: 0.8 in the similarity and 0.8 in the score; 3 counts where it was clicked last
    np.testing.assert_allclose(scores, np.array([0.64, 1, 1, 0.64]) * math.log(2) / math.sqrt(2), **CLOSE)


def test_vsknn_forgets_what_is_ten_clicks_back(sessions_of: Build) -> None:
    sessions = sessions_of([[2, 3], [1, 4]])
    vsknn = VSkNN(sessions, index_of(sessions), VSkNNSettings(sample_size=1))
    faintest = 0.1 * 0.1 * math.log(2) / math.sqrt(2)
    np.testing.assert_allclose(scores_after(vsknn, [1, *[2] * 9]), [faintest, 0, 0, faintest], **CLOSE)
    np.testing.assert_array_equal(scores_after(vsknn, [1, *[2] * 10]), scores_after(vsknn, [2]))


def test_vstan_by_hand(sessions_of: Build) -> None:
    sessions = replace(sessions_of([[1, 2, 3], [5, 4, 2], [6, 7]]), at_us=np.repeat([0, 2, 9], [3, 3, 2]) * DAY_US)
    parameters = VSTANSettings(lambda_spw=1, lambda_snh=4, lambda_inh=2, lambda_ipw=5, lambda_idf=3)
    scores = scores_after(VSTAN(sessions, index_of(sessions), parameters), [1, 2, 8, 2, 4])
    # the known clicks are 1, 2, 2, 4: 4 is the last click, 2 was clicked 1 before and 1 was clicked 3 before
    first = math.exp(-2 / 4) * (math.exp(-1) + math.exp(-3)) / math.sqrt(3) * math.exp(-1 / 5)  # match 2; 2 days older
    second = (1 + math.exp(-1)) / math.sqrt(3)  # match 4
    near = math.exp(-1 / 2)
    idf_1, idf_2 = 1 + 3 * math.log(3), 1 + 3 * math.log(3 / 2)
    expected = [first * near * idf_1, (first + second * near) * idf_2, first * near * idf_1, second * idf_1]
    np.testing.assert_allclose(scores, [*expected, second * near * idf_1, 0, 0], **CLOSE)


def test_vstan_without_times_takes_all_sessions_for_equally_old(sessions_of: Build) -> None:
    sessions = sessions_of([[1, 2], [1, 3]])
    scores = scores_after(VSTAN(sessions, index_of(sessions)), [1])
    assert scores[1] == scores[2] > 0


def test_neighbours_are_looked_for_among_the_most_recent_sessions(sessions_of: Build) -> None:
    sessions = sessions_of([[1, 2], [1, 3], [1, 4], [5, 6]])
    by_order = scores_after(VSkNN(sessions, index_of(sessions), VSkNNSettings(sample_size=2)), [1])
    assert (by_order > 1e-20).tolist() == [True, False, True, True, False, False]
    sessions = replace(sessions, at_us=np.repeat([5, 4, 3, 2], 2))
    by_time = scores_after(VSkNN(sessions, index_of(sessions), VSkNNSettings(sample_size=2)), [1])
    assert (by_time > 1e-20).tolist() == [True, True, True, False, False, False]


def test_the_nearest_count_and_of_equally_near_ones_the_more_recent(sessions_of: Build) -> None:
    sessions = sessions_of([[1, 2], [1, 3], [1, 4], [1, 5, 6], [7, 8]])
    scores = scores_after(VSkNN(sessions, index_of(sessions), VSkNNSettings(k=2)), [1])
    assert (scores > 1e-20).tolist() == [True, False, True, True, False, False, False, False]


@pytest.mark.parametrize("model", [VSkNN, VSTAN])
def test_items_of_no_neighbour_rank_last_by_support(model: Callable[..., Scorer], sessions_of: Build) -> None:
    index = ItemIndex(np.array([1, 2, 3, 4, 5]), np.array([1, 1, 700, 500, 600]))
    scores = scores_after(model(sessions_of([[1, 2], [3, 4], [5, 9]]), index), [1])
    assert np.argsort(-scores)[2:].tolist() == [2, 4, 3]


@pytest.mark.parametrize("model", [VSkNN, VSTAN])
@pytest.mark.parametrize("clicks", [[], [[]], [[9], [9, 9]]])
def test_nothing_learnt_ranks_by_support(model: Callable[..., Scorer], clicks: list[Clicks], sessions_of: Build) -> None:
    scorer = model(sessions_of(clicks), ItemIndex(np.array([1, 2]), np.array([1, 3])))
    for session in ([], [1], [9]):
        scores = scores_after(scorer, session)
        assert 0 < scores[0] < scores[1] < 1e-19


N_ITEMS = 6
items = st.integers(0, N_ITEMS)  # the last one isn't in the index
past_sessions = st.lists(st.lists(items, min_size=1, max_size=5), min_size=1, max_size=8)
current_session = st.lists(items, max_size=13)


def neighbourhood(past: list[Clicks], clicks: list[int], weigh: Callable[[int], float]) -> list[tuple[int, int, int, float]]:
    """Most recent first: number of the past session, clicks since the match, the match, sum of the weights."""
    back = {item: len(clicks) - 1 - at for at, item in enumerate(clicks) if weigh(len(clicks) - 1 - at) > 0}
    found = []
    for number in reversed(range(len(past))):
        shared = [item for item in back if item in past[number]]
        if shared:
            match = min(shared, key=back.__getitem__)
            # added in the order of the clicks, so that sums which are equal here are equal there
            total = sum(weigh(back[item]) for item in sorted(shared, key=back.__getitem__, reverse=True))
            found.append((number, back[match], match, total))
    return found


def known(clicks: Clicks) -> Clicks:
    return [item for item in clicks if item < N_ITEMS]


def idf(past: list[Clicks], item: int) -> float:
    return math.log(len(past) / sum(item in session for session in past))


def last_click(session: Clicks, item: int) -> int:
    return len(session) - session[::-1].index(item)


def built(past: list[Clicks], last_click_us: np.ndarray | None = None) -> tuple[Sessions, ItemIndex]:
    flat = np.array([item for session in past for item in session])
    offsets = np.cumsum([0, *map(len, past)])
    support = np.bincount(flat, minlength=N_ITEMS + 1)[:N_ITEMS]
    at_us = None if last_click_us is None else np.repeat(last_click_us, np.diff(offsets))
    return Sessions.of_ids(offsets, flat, at_us=at_us), ItemIndex(np.arange(N_ITEMS), support)


@given(past_sessions, current_session, st.integers(1, 4), st.integers(1, 6))
def test_vsknn_scores_are_those_of_the_formula(past: list[Clicks], session: Clicks, k: int, sample_size: int) -> None:
    scores = scores_after(VSkNN(*built(past), VSkNNSettings(k=k, sample_size=sample_size)), session)

    def decay(back: int) -> float:
        return max(0, 10 - back) / 10

    past = [known(one) for one in past]
    sample = neighbourhood(past, known(session), decay)[:sample_size]
    nearest = sorted(sample, key=lambda one: -one[3] / math.sqrt(len(past[one[0]])))[:k]
    expected = [0.0] * N_ITEMS
    for number, back, _, total in nearest:
        for item in set(past[number]):
            expected[item] += idf(past, item) * total / math.sqrt(len(past[number])) * decay(back)
    np.testing.assert_allclose(scores, expected, **CLOSE)


@given(past_sessions, current_session, st.integers(1, 4), st.integers(1, 6), st.data())
def test_vstan_scores_are_those_of_the_formula(
    past: list[Clicks], session: Clicks, k: int, sample_size: int, data: st.DataObject
) -> None:
    days = data.draw(st.lists(st.integers(0, 9), min_size=len(past), max_size=len(past)))
    parameters = VSTANSettings(
        k=k, sample_size=sample_size, lambda_spw=1.3, lambda_snh=4.9, lambda_inh=2.1, lambda_ipw=1.7, lambda_idf=3
    )
    sessions, index = built(past, np.array(days) * DAY_US)
    scores = scores_after(VSTAN(sessions, index, parameters), session)

    order = sorted(range(len(past)), key=days.__getitem__)
    past, days = [known(past[at]) for at in order], [days[at] for at in order]
    sample = neighbourhood(past, known(session), lambda back: math.exp(-back / 1.3))[:sample_size]
    similarity = {
        number: math.exp(-(days[sample[0][0]] - days[number]) / 4.9) * total / math.sqrt(len(past[number]))
        for number, _, _, total in sample
    }
    expected = [0.0] * N_ITEMS
    for number, back, match, _ in sorted(sample, key=lambda one: -similarity[one[0]])[:k]:
        for item in set(past[number]):
            apart = abs(last_click(past[number], item) - last_click(past[number], match))
            expected[item] += similarity[number] * math.exp(-back / 1.7) * math.exp(-apart / 2.1) * (1 + 3 * idf(past, item))
    np.testing.assert_allclose(scores, expected, **CLOSE)
