import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sbr_tasks.evaluation.baselines import Markov
from sbr_tasks.evaluation.metrics import KNOWLEDGE, METRICS, UNRANKED
from sbr_tasks.evaluation.ranking import TIE_MODES, Evaluation, conservative_ranks, evaluate, evaluate_ties
from sbr_tasks.window.sessions import ItemIndex, Sessions

Build = Callable[..., Sessions]


class TableScorer:
    """Scores by the last known item: row i of the table after item i."""

    def __init__(self, table: Any) -> None:
        self.table = np.array(table, np.float32)
        n_items = self.table.shape[1]
        self.index = ItemIndex(np.arange(n_items, dtype=np.int64) * 10, np.ones(n_items, np.int64))
        self.asked: list[int] = []

    def start(self, n_sessions: int) -> Any:
        return np.full(n_sessions, -1)

    def advance(self, state: Any, items: Any, rows: Any) -> None:
        state[rows[items >= 0]] = items[items >= 0]

    def scores(self, state: Any, rows: Any) -> Any:
        assert (state[rows] >= 0).all(), "asked for a session without a known click"
        self.asked.append(len(rows))
        return self.table[state[rows]] if len(self.table) > 1 else np.broadcast_to(self.table, (len(rows), self.table.shape[1]))


THREE = [[0.0, 3.0, 2.0], [5.0, 1.0, 3.0], [9.0, 7.0, 8.0]]


def test_ranks_are_counted_by_hand(sessions_of: Build) -> None:
    found = evaluate(TableScorer(THREE), sessions_of([[0, 10, 20], [20, 10]]), batch_size=8)
    # after 0: 10 is best; after 10: 0 (5.0) beats 20 (3.0); after 20: 0 and 20 beat 10
    assert found.ranks.tolist() == [1, 2, 3]
    assert found.session.tolist() == [0, 0, 1]
    assert (found.n_events, found.n_sessions) == (3, 2)
    assert found.recall_at(1) == pytest.approx(1 / 3)
    assert found.mrr_at(2) == pytest.approx((1 + 1 / 2) / 3)


def test_ties_count_against_the_model() -> None:
    scores = np.array([[1, 2, 2, 2, 0]], np.float32).repeat(3, axis=0)
    assert conservative_ranks(scores, np.array([1, 0, 4], np.int32)).tolist() == [3, 4, 5]


def test_nan_counts_against_the_model() -> None:
    nan = float("nan")
    scores = np.array([[nan, 2, 1], [nan, 2, nan], [nan, nan, nan]], np.float32)
    assert conservative_ranks(scores, np.array([1, 1, 0], np.int32)).tolist() == [2, 3, 3]
    assert conservative_ranks(scores, np.array([0, 0, 2], np.int32)).tolist() == [3, 3, 3]


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_collapsed_model_ranks_every_target_last(value: float, sessions_of: Build) -> None:
    found = evaluate(TableScorer(np.full((7, 7), value)), sessions_of([[0, 10, 20], [30, 40]]), batch_size=2)
    assert found.ranks.tolist() == [7, 7, 7]


def test_unknown_target_never_ranks_even_among_fewer_items_than_k(sessions_of: Build) -> None:
    found = evaluate(TableScorer(THREE), sessions_of([[0, 99, 10]]), batch_size=8)
    assert found.ranks.tolist() == [UNRANKED, 1]
    assert found.recall_at(20) == 0.5
    assert found.mrr_at(20) == 0.5


def test_unknown_input_is_skipped(sessions_of: Build) -> None:
    with_unknown = evaluate(TableScorer(THREE), sessions_of([[10, 99, 20]]), batch_size=8)
    assert with_unknown.ranks.tolist() == [UNRANKED, 2]  # as if 20 had followed 10


def test_before_the_first_known_input_nothing_is_ranked(sessions_of: Build) -> None:
    found = evaluate(TableScorer(THREE), sessions_of([[99, 98, 0, 10]]), batch_size=8)
    assert found.ranks.tolist() == [UNRANKED, UNRANKED, 1]


def test_only_marked_clicks_are_events_and_earlier_ones_warm_the_state(sessions_of: Build) -> None:
    sessions = sessions_of([[20, 10, 0, 20], [0, 10], [0]], [[True, False, True, False], [False, False], [True]])
    found = evaluate(TableScorer(THREE), sessions, batch_size=8)
    assert found.ranks.tolist() == [1]  # 0 after 10
    assert found.session.tolist() == [0]
    assert found.n_sessions == 1


def test_events_lie_as_the_sessions_lie(sessions_of: Build) -> None:
    clicks = [[0, 10], [0, 20, 10, 0], [10, 20, 0], [20, 20]]
    found = evaluate(TableScorer(THREE), sessions_of(clicks), batch_size=2)
    alone = [evaluate(TableScorer(THREE), sessions_of([session]), batch_size=2).ranks for session in clicks]
    assert found.ranks.tolist() == np.concatenate(alone).tolist()
    assert found.session.tolist() == [0, 1, 1, 1, 2, 2, 3]


def test_batch_size_changes_nothing(sessions_of: Build) -> None:
    rng = np.random.default_rng(3)
    clicks = [rng.integers(0, 12, rng.integers(1, 9)).tolist() for _ in range(60)]
    flags = [(rng.random(len(session)) < 0.7).tolist() for session in clicks]
    sessions = sessions_of(clicks, flags)
    index = ItemIndex(np.arange(10), rng.integers(1, 9, 10))
    results = [evaluate(Markov(sessions, index), sessions, batch_size=size) for size in (1, 7, 512)]
    for other in results[1:]:
        np.testing.assert_array_equal(other.ranks, results[0].ranks)
        np.testing.assert_array_equal(other.session, results[0].session)


def test_scores_are_asked_for_in_bounded_pieces(sessions_of: Build) -> None:
    scorer = TableScorer(np.arange(2**20, dtype=np.float32)[None])
    found = evaluate(scorer, sessions_of([[0, 10]] * 9), batch_size=512)
    assert max(scorer.asked) * len(scorer.index) * 4 <= 2**25
    assert found.ranks.tolist() == [2**20 - 1] * 9


def test_no_event_gives_nan_metrics(sessions_of: Build) -> None:
    for sessions in (sessions_of([]), sessions_of([[0], [10]])):
        metrics = evaluate(TableScorer(THREE), sessions, batch_size=8).metrics()
        assert (metrics["n_events"], metrics["n_sessions"]) == (0, 0)
        assert math.isnan(metrics["recall_at_20"])
        assert math.isnan(metrics["mrr_at_1"])


def test_metrics_are_named_after_their_cut_off(sessions_of: Build) -> None:
    metrics = evaluate(TableScorer(THREE), sessions_of([[0, 10, 20], [20, 10]]), batch_size=8).metrics()
    assert set(metrics) == {*METRICS, *KNOWLEDGE, "n_events", "n_sessions"}
    assert metrics["recall_at_1"] == pytest.approx(1 / 3)
    assert metrics["mrr_at_20"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_shares_of_known_targets_and_inputs_are_counted_by_hand(sessions_of: Build) -> None:
    # Events: 0 to 99, 99 to 10, 10 to 98; 97 to 20. Of the two known targets 10 ranks first after 0, 20 can't be ranked.
    metrics = evaluate(TableScorer(THREE), sessions_of([[0, 99, 10, 98], [97, 20]]), batch_size=8).metrics()
    assert (metrics["known_targets"], metrics["known_inputs"]) == (0.5, 0.5)
    assert metrics["recall_at_20_among_known"] == 0.5
    assert metrics["recall_at_20"] == 0.25


def test_knowledge_of_no_events_is_undefined(sessions_of: Build) -> None:
    metrics = evaluate(TableScorer(THREE), sessions_of([[0]]), batch_size=8).metrics()
    assert all(math.isnan(metrics[name]) for name in KNOWLEDGE)


def ranks_by_mode(found: dict[str, Evaluation]) -> dict[str, list[float]]:
    return {mode: evaluation.ranks.tolist() for mode, evaluation in found.items()}


def test_tie_modes_are_counted_by_hand(sessions_of: Build) -> None:
    table = [[5, 5, 5, 5, 9], [1, 2, 3, 2, 2], [0, 0, 0, 7, 0], [4, 3, 2, 1, 0], [0, 0, 0, 0, 0]]
    found = evaluate_ties(TableScorer(table), sessions_of([[0, 10, 30], [20, 30, 40, 40]]), batch_size=8)
    # 10 after 0: 40 is above, three others equal; 30 after 10: 20 above, two equal; 30 after 20: best alone;
    # 40 after 30: last alone; 40 after 40: all five equal
    assert ranks_by_mode(found) == {
        "conservative": [5, 4, 1, 5, 5],
        "standard": [2, 2, 1, 5, 1],
        "median": [3.5, 3, 1, 5, 3],
    }
    assert found["median"].recall_at(1) == pytest.approx(1 / 5)
    assert found["median"].mrr_at(5) == pytest.approx((1 / 3.5 + 1 / 3 + 1 + 1 / 5 + 1 / 3) / 5)
    assert {evaluation.n_events for evaluation in found.values()} == {5}


def test_a_half_rank_beyond_the_cut_off_counts_nothing(sessions_of: Build) -> None:
    found = evaluate_ties(TableScorer([[1, 1, 0]] * 3), sessions_of([[0, 10]]), batch_size=8)["median"]
    assert found.ranks.tolist() == [1.5]
    assert (found.recall_at(1), found.mrr_at(1)) == (0, 0)
    assert (found.recall_at(5), found.mrr_at(5)) == (1, pytest.approx(2 / 3))


def test_nan_is_above_the_target_in_each_tie_mode(sessions_of: Build) -> None:
    nan = float("nan")
    found = evaluate_ties(
        TableScorer([[nan, 2, 2, 1], [nan] * 4, [2, 2, nan, 3], [0] * 4]), sessions_of([[0, 10, 20]]), batch_size=8
    )
    assert ranks_by_mode(found) == {"conservative": [3, 4], "standard": [2, 4], "median": [2.5, 4]}


def test_what_cannot_be_ranked_is_unranked_in_each_tie_mode(sessions_of: Build) -> None:
    found = evaluate_ties(TableScorer(np.zeros((3, 3))), sessions_of([[99, 0, 98, 10]]), batch_size=8)
    assert ranks_by_mode(found) == {
        "conservative": [UNRANKED, UNRANKED, 3],
        "standard": [UNRANKED, UNRANKED, 1],
        "median": [UNRANKED, UNRANKED, 2],
    }


@given(table=arrays(np.float32, (4, 4), elements=st.sampled_from([0, 0.5, 1])), walk=st.lists(st.integers(0, 3), min_size=2))
def test_tie_modes_are_what_their_definitions_say(table: Any, walk: list[int]) -> None:
    clicks = np.array(walk) * 10
    sessions = Sessions.of_ids(np.array([0, len(walk)]), clicks)
    found = evaluate_ties(TableScorer(table), sessions, batch_size=8)
    for event, (last, target) in enumerate(pairwise(walk)):
        above = sum(score > table[last, target] for score in table[last])
        equal = sum(score == table[last, target] for score in table[last])
        assert found["conservative"].ranks[event] == above + equal
        assert found["standard"].ranks[event] == above + 1
        assert found["median"].ranks[event] == above + 1 + (equal - 1) / 2
    assert found["conservative"].ranks.tolist() == evaluate(TableScorer(table), sessions, batch_size=8).ranks.tolist()


def test_tie_modes_report_all_events_as_progress(sessions_of: Build) -> None:
    done: list[int] = []
    sessions = sessions_of([[0, 10, 20], [10], [20, 10], [0, 0]])
    found = evaluate_ties(TableScorer(THREE), sessions, batch_size=2, on_progress=done.append)
    assert done == [3, 1]
    assert list(found) == list(TIE_MODES)
    assert evaluate_ties(TableScorer(THREE), sessions_of([]), batch_size=2)["median"].n_events == 0


def test_model_of_integer_ids_scores_the_same_on_sessions_of_string_ids(sessions_of: Build) -> None:
    sessions = sessions_of([[0, 10, 20, 99], [20, 10]])
    texts = np.array([str(one) for one in sessions.item_ids], dtype=object)
    as_text = Sessions.of_ids(sessions.offsets, texts)
    expected = evaluate(TableScorer(THREE), sessions, batch_size=8).metrics()
    assert evaluate(TableScorer(THREE), as_text, batch_size=8).metrics() == expected
    assert expected["recall_at_20"] > 0
