"""What a placement may show: items hidden by hand in a small catalogue."""

from collections.abc import Callable

import numpy as np
import pytest

from sbr_tasks.evaluation.metrics import UNRANKED
from sbr_tasks.evaluation.ranking import evaluate
from sbr_tasks.evaluation.scorer import LastItemState, best_items
from sbr_tasks.readout.placement import SHOW_ALL, PlacementRule, RuledScorer
from sbr_tasks.settings import OwnItems
from sbr_tasks.window.sessions import ItemIndex, Sessions

N_ITEMS = 5


class Fixed(LastItemState):
    """Scores 5, 4, 3, 2, 1 for the items 10, 11, 12, 13, 14, in every session; read-only, as scores may be."""

    def __init__(self, ids: list[int] | list[str] | None = None) -> None:
        self.index = ItemIndex(np.array(ids or range(10, 10 + N_ITEMS), object if ids else np.int64), np.arange(N_ITEMS))

    def scores(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.arange(N_ITEMS, 0, -1, dtype=np.float32), (len(rows), N_ITEMS))


def shown(rule: PlacementRule, session: list[int], k: int = N_ITEMS, scorer: Fixed | None = None) -> list[int]:
    scores, _ = rule.session_scores(scorer or Fixed(), np.array(session, np.int32))
    return best_items(scores, k).tolist()


@pytest.mark.parametrize(
    ("own_items", "excluded", "expected"),
    [
        ("allow", (), [0, 1, 2, 3, 4]),
        ("hide_current", (), [0, 1, 3, 4]),
        ("hide", (), [3, 4]),
        ("allow", ("10", "14"), [1, 2, 3]),
        ("hide_current", ("10", "14"), [1, 3]),
        ("hide", ("10", "14"), [3]),
        ("hide", ("13", "14"), []),
    ],
)
def test_answers_by_hand(own_items: OwnItems, excluded: tuple[str, ...], expected: list[int]) -> None:
    session = [1, 0, -1, 0, 2, -1]
    rule = PlacementRule(own_items=own_items, excluded=excluded)
    assert shown(rule, session) == expected
    assert shown(rule, session, k=2) == expected[:2]


def test_popular_items_in_place_of_an_unknown_session_are_never_excluded_ones() -> None:
    rule = PlacementRule(own_items="hide", excluded=("14", "12"))
    assert shown(rule, [-1]) == [3, 1, 0]
    assert shown(SHOW_ALL, []) == [4, 3, 2, 1, 0]


def test_ids_are_looked_up_as_text() -> None:
    rule = PlacementRule(excluded=("011", "12", "never seen"))
    assert shown(rule, [0]) == [0, 1, 3, 4]
    assert shown(rule, [0], scorer=Fixed(["10", "011", "012", "13", "14"])) == [0, 2, 3, 4]


def test_sessions_are_apart_and_long_ones_stay_hidden_whole() -> None:
    scorer = RuledScorer(Fixed(), PlacementRule(own_items="hide"))
    state = scorer.start(3)
    for step in range(40):
        scorer.advance(state, np.array([(0, 3, 1)[min(step, 2)], 2, -1], np.int32), np.array([2, 0, 1]))
    hidden = np.isneginf(scorer.scores(state, np.array([1, 2, 0])))
    assert [np.flatnonzero(row).tolist() for row in hidden] == [[], [0, 1, 3], [2]]
    assert hidden.sum() == np.isneginf(scorer.scores(state, np.arange(3))).sum(), "scoring changes no state"


def test_a_rule_that_hides_nothing_is_the_scorer_itself() -> None:
    scorer = Fixed()
    assert SHOW_ALL.applied_to(scorer) is scorer
    assert PlacementRule().hides_nothing
    assert not PlacementRule(own_items="hide").hides_nothing
    assert not PlacementRule(excluded=("1",)).hides_nothing


def test_a_hidden_target_is_unranked_and_the_others_move_up(sessions_of: Callable[..., Sessions]) -> None:
    sessions = sessions_of([[10, 10, 11, 10, 14]])

    def ranks(own_items: OwnItems, *excluded: str) -> list[int]:
        scorer = PlacementRule(own_items=own_items, excluded=excluded).applied_to(Fixed())
        return evaluate(scorer, sessions, batch_size=4).ranks.tolist()

    assert ranks("allow") == [1, 2, 1, 5]
    assert ranks("hide_current") == [UNRANKED, 1, 1, 4]
    assert ranks("hide") == [UNRANKED, 1, UNRANKED, 3]
    assert ranks("allow", "10") == [UNRANKED, 1, UNRANKED, 4]


def test_fingerprints_follow_the_rule_and_the_content_of_the_list() -> None:
    rules = [
        SHOW_ALL,
        PlacementRule(own_items="hide"),
        PlacementRule(excluded=("1",)),
        PlacementRule(excluded=("1", "2")),
        PlacementRule(excluded=("12",)),
    ]
    assert len({rule.fingerprint for rule in rules}) == len(rules)
