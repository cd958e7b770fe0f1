"""What a placement may show: whether a session's own items are recommended again, and which items never are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sbr_tasks.evaluation.scorer import Indices, Rows, Scorer, Scores, State, known_only, score_session
from sbr_tasks.settings import OwnItems
from sbr_tasks.store import Record, fingerprint
from sbr_tasks.window.sessions import UNKNOWN, ItemIndex

HIDDEN = np.float32(-np.inf)
"""The score of an item that isn't shown."""


class PlacementRule(Record):
    """Which items a placement hides.

    Attributes:
        own_items: allow: none of the session's own items; hide_current: its last one; hide: all of them.
        excluded: Ids of items that are never shown, as text, sorted and distinct.
    """

    own_items: OwnItems = "allow"
    excluded: tuple[str, ...] = ()

    @property
    def hides_nothing(self) -> bool:
        """Whether every item may always be shown."""
        return self.own_items == "allow" and not self.excluded

    @property
    def fingerprint(self) -> str:
        """Identifies the rule with the content of its list."""
        return fingerprint(self.as_dict())

    def is_excluded(self, index: ItemIndex) -> npt.NDArray[np.bool_]:
        """Which items of an index are never shown, shape `(n_items,)`. Ids are looked up as text (`ItemIndex.encode`)."""
        is_excluded = np.zeros(len(index), bool)
        if self.excluded:
            codes = index.encode(np.array(self.excluded, object))
            is_excluded[codes[codes != UNKNOWN]] = True
        return is_excluded

    def applied_to(self, scorer: Scorer) -> Scorer:
        """The scorer under this rule; the same one if the rule hides nothing."""
        return scorer if self.hides_nothing else RuledScorer(scorer, self)

    def session_scores(self, scorer: Scorer, items: Indices) -> tuple[Scores, bool]:
        """As `score_session`, with `HIDDEN` for the items that aren't shown, also in place of an excluded item's support."""
        scores, is_known = score_session(self.applied_to(scorer), items)
        if not is_known:
            scores[self.is_excluded(scorer.index)] = HIDDEN
        return scores, is_known

    def __str__(self) -> str:
        """The rule as settings and a count."""
        return f"recommend.own_items = {self.own_items}; {len(self.excluded):,} item ids in recommend.exclude"


SHOW_ALL = PlacementRule()
"""The rule that hides nothing."""


@dataclass
class RuledState:
    """The state of sessions: the scorer's own, and the items to hide.

    Attributes:
        model: The state of the scorer.
        own: Shape `(n_sessions, n)`, filled up with `UNKNOWN`: a session's known clicks, or only its last one.
        n_own: Shape `(n_sessions,)`; how many items of a row are in use.
    """

    model: State
    own: Indices
    n_own: npt.NDArray[np.intp]


class RuledScorer:
    """A `Scorer` that gives the items that a rule hides the score `HIDDEN`, which ranks last."""

    def __init__(self, scorer: Scorer, rule: PlacementRule) -> None:
        """
        Args:
            scorer: Scores the items.
            rule: Hides some of them.
        """
        self._scorer = scorer
        self._own_items = rule.own_items
        self._excluded = np.flatnonzero(rule.is_excluded(scorer.index))

    @property
    def index(self) -> ItemIndex:
        """The items of the scorer."""
        return self._scorer.index

    def start(self, n_sessions: int) -> RuledState:
        """Sessions before their first click."""
        own = np.full((n_sessions, 1), UNKNOWN, np.int32)
        return RuledState(self._scorer.start(n_sessions), own, np.zeros(n_sessions, np.intp))

    def advance(self, state: RuledState, items: Indices, rows: Rows) -> None:
        """Feeds one item to each of the sessions `rows`; `UNKNOWN` leaves a session as it is."""
        self._scorer.advance(state.model, items, rows)
        if self._own_items == "allow":
            return
        items, rows = known_only(items, rows)
        place = state.n_own[rows] if self._own_items == "hide" else np.zeros_like(rows)
        width = state.own.shape[1]
        if place.max(initial=0) == width:
            state.own = np.pad(state.own, ((0, 0), (0, width)), constant_values=UNKNOWN)
        state.own[rows, place] = items
        state.n_own[rows] = place + 1

    def scores(self, state: RuledState, rows: Rows) -> Scores:
        """The scorer's scores, and `HIDDEN` where the rule hides an item; shape `(len(rows), n_items)`."""
        scores: Scores = np.array(self._scorer.scores(state.model, rows), np.float32)
        scores[:, self._excluded] = HIDDEN
        own = state.own[rows]
        session, place = np.nonzero(own != UNKNOWN)
        scores[session, own[session, place]] = HIDDEN
        return scores
