"""Session-based nearest neighbours: recommends items of the past sessions that are most similar to the current one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sbr_tasks.evaluation.scorer import Indices, Rows, Scores, faint_popularity, known_only
from sbr_tasks.settings import VSkNNSettings, VSTANSettings
from sbr_tasks.window.ragged import rows_of_runs
from sbr_tasks.window.sessions import ItemIndex, Sessions

Clicks = list[int]
"""The known items of a session so far, in order."""

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

_US_PER_DAY = 24 * 60 * 60 * 1_000_000


@dataclass(frozen=True)
class _Matches:
    """Past sessions that share an item with the current one, oldest first; all arrays have shape `(n,)`.

    Attributes:
        session: Number of the past session.
        similarity: Similarity of the past session to the current one.
        back: Clicks from the most recent shared item to the current session's last click; 0 if it is the last click.
        click: Position of that item's click in the past session.
    """

    session: Ints
    similarity: Floats
    back: Ints
    click: Ints

    def at(self, chosen: slice | Ints) -> _Matches:
        return _Matches(self.session[chosen], self.similarity[chosen], self.back[chosen], self.click[chosen])


class _PastSessions:
    """Training sessions as sets of items, numbered from the oldest to the newest. Of an item's clicks, the last one counts.

    Sessions are ordered by their end. Clicks on unknown items are ignored; the others are numbered across all sessions.

    Attributes:
        ended_us: Shape `(n_sessions,)`; time of each session's last click in microseconds since 1970.
        n_clicks: Shape `(n_sessions,)`; clicks of each session.
        idf: Shape `(n_items,)`; log(sessions / sessions with the item).
    """

    def __init__(self, sessions: Sessions, index: ItemIndex) -> None:
        from scipy.sparse import coo_array

        recency = np.empty(sessions.n_sessions, np.intp)
        order = np.argsort(sessions.last_click_us, kind="stable")
        recency[order] = np.arange(sessions.n_sessions)
        self.ended_us = sessions.last_click_us[order]

        items = index.codes_of(sessions)
        is_known = items >= 0
        items, session = items[is_known], np.repeat(recency, sessions.lengths)[is_known]
        self.n_clicks = np.bincount(session, minlength=sessions.n_sessions)
        _, from_end = np.unique((session * max(1, len(index)) + items)[::-1], return_index=True)
        clicks = len(items) - 1 - from_end
        shape = (sessions.n_sessions, len(index))
        self._by_session = coo_array((clicks, (session[clicks], items[clicks])), shape).tocsr()
        self._by_item = self._by_session.tocsc()
        n_holding = np.diff(self._by_item.indptr)
        self.idf: Floats = np.log(max(1, sessions.n_sessions) / np.maximum(1, n_holding))

    def matches(self, items: Ints, back: Ints, weights: Floats, max_sessions: int) -> _Matches:
        """The most recent sessions with at least one of the items; their similarity is the sum of the weights of shared items.

        Args:
            items: Shape `(n,)`, distinct, at least one; the most recent last.
            back: Shape `(n,)`, decreasing; clicks since each item.
            weights: Shape `(n,)`.
            max_sessions: Maximum number of sessions.
        """
        first, end = self._by_item.indptr[items], self._by_item.indptr[items + 1]
        # The most recent sessions with any of the items are among the most recent ones with each.
        first = np.maximum(first, end - max_sessions)
        entries, nth = _ranges(first, end)
        session, which = np.unique(self._by_item.indices[entries], return_inverse=True)
        similarity: Floats = np.bincount(which, weights[nth], len(session)).astype(np.float64)
        match = np.empty(len(session), np.intp)
        match[which] = np.arange(len(which))  # the last write wins: the most recent of the shared items
        matches = _Matches(session, similarity, back[nth[match]], self._by_item.data[entries[match]])
        return matches.at(slice(max(0, len(session) - max_sessions), None))

    def items_of(self, sessions: Ints) -> tuple[Ints, Ints, Ints]:
        """All items of some sessions, concatenated; the click on each; and the position of its session in `sessions`."""
        entries, nth = _ranges(self._by_session.indptr[sessions], self._by_session.indptr[sessions + 1])
        return self._by_session.indices[entries], self._by_session.data[entries], nth


class _SessionKNN(ABC):
    """Base of the nearest-neighbour models.

    score(i | s) = idf(i) * (sum of sim(s, n) * weight(i | s, n) over the neighbours n with item i)
    sim(s, n) = factor(n) * (sum of weight(j | s) over the shared items j) / sqrt(clicks of n)

    A session is the set of its items; of an item's clicks, the last one counts. The neighbours of s are the `k` most similar of
    the `sample_size` most recent training sessions that share an item with s; of equally similar ones, the more recent. Items
    that no neighbour has rank below all others, by support.
    """

    def __init__(self, sessions: Sessions, index: ItemIndex, k: int, sample_size: int) -> None:
        self.index = index
        self._past = _PastSessions(sessions, index)
        self._idf = self._past.idf
        self._k = k
        self._sample_size = sample_size
        self._faint_popularity = faint_popularity(index)

    @abstractmethod
    def _click_weights(self, back: Ints) -> Floats:
        """Weights of the current session's items, which were clicked `back` clicks ago; items of weight 0 are ignored."""

    @abstractmethod
    def _factors(self, sessions: Ints) -> Floats | float:
        """Factors for the similarity to each past session; sessions are sorted oldest first."""

    @abstractmethod
    def _item_weights(self, neighbours: _Matches, clicks: Ints, nth: Ints) -> Floats:
        """Weights of the items clicked at `clicks` in the neighbours `nth`; all arrays have the same shape."""

    def start(self, n_sessions: int) -> list[Clicks]:
        """Empty lists, one per session."""
        return [[] for _ in range(n_sessions)]

    def advance(self, state: list[Clicks], items: Indices, rows: Rows) -> None:
        """Appends the known items."""
        items, rows = known_only(items, rows)
        for item, row in zip(items.tolist(), rows.tolist(), strict=True):
            state[row].append(item)

    def scores(self, state: list[Clicks], rows: Rows) -> Scores:
        """The score of each item, shape `(len(rows), n_items)`."""
        scores = np.tile(self._faint_popularity, (len(rows), 1))
        for session_scores, row in zip(scores, rows.tolist(), strict=True):
            if state[row]:
                np.maximum(session_scores, self._scores_of(state[row]), out=session_scores, casting="same_kind")
        return scores

    def _scores_of(self, clicks: Clicks) -> Floats:
        neighbours = self._neighbours(clicks)
        items, clicked_at, nth = self._past.items_of(neighbours.session)
        weights = neighbours.similarity[nth] * self._item_weights(neighbours, clicked_at, nth)
        return self._idf * np.bincount(items, weights, len(self.index))

    def _neighbours(self, clicks: Clicks) -> _Matches:
        last = {item: at for at, item in enumerate(clicks)}
        items = np.array(sorted(last, key=last.__getitem__))
        back = len(clicks) - 1 - np.array(sorted(last.values()))
        weights = self._click_weights(back)
        counts = weights > 0
        matches = self._past.matches(items[counts], back[counts], weights[counts], self._sample_size)
        similarity = matches.similarity * self._factors(matches.session) / np.sqrt(self._past.n_clicks[matches.session])
        return replace(matches, similarity=similarity).at(np.lexsort((-matches.session, -similarity))[: self._k])


class VSkNN(_SessionKNN):
    """V-SkNN, vector multiplication session-based kNN.

    score(i | s) = idf(i) * (sum of sim(s, n) * decay(b_n) over the neighbours n with i)
    sim(s, n) = (sum of decay(b_j) over the items j in both s and n) / sqrt(clicks of n)
    decay(b) = max(0, 1 - b / 10), idf(i) = log(training sessions / training sessions with i)

    b_j is the number of clicks from item j to the last click of s, b_n that of the most recent item in both s and n.

    Ludewig & Jannach 2018, *Evaluation of Session-based Recommendation Algorithms*, define V-SkNN by a similarity with weights
    that decrease linearly from the last click. The paper leaves the slope open, and has no divisor, b_n or idf. This is the
    later variant that Ludewig et al. 2021, *Empirical Analysis of Session-based Recommendation Algorithms*, compare: b_n is
    from S-SkNN in the paper of 2018; slope and idf are from Kersbergen et al. 2022, *Serenade*; the divisor is that of the
    cosine in SkNN (Jannach & Ludewig 2017, *When Recurrent Neural Networks meet the Neighborhood*), with lengths as in STAN.
    Factors that are equal for all neighbours of s, such as its own length, are left out.

    Neighbours and ties: see `_SessionKNN`.
    """

    def __init__(self, sessions: Sessions, index: ItemIndex, parameters: VSkNNSettings | None = None) -> None:
        """
        Args:
            sessions: The training sessions. Items that aren't in the index are ignored.
            index: The items to rank.
            parameters: None uses the defaults.
        """
        parameters = parameters or VSkNNSettings()
        super().__init__(sessions, index, parameters.k, parameters.sample_size)

    def _click_weights(self, back: Ints) -> Floats:
        return np.maximum(0, 10 - back) / 10

    def _factors(self, sessions: Ints) -> float:
        return 1.0

    def _item_weights(self, neighbours: _Matches, clicks: Ints, nth: Ints) -> Floats:
        return self._click_weights(neighbours.back)[nth]


class VSTAN(_SessionKNN):
    """VSTAN: STAN with the weighted scores and the idf of V-SkNN.

    score(i | s) = (1 + lambda_idf * log(training sessions / training sessions with i))
        * (sum of sim(s, n) * exp(-b_n / lambda_ipw) * exp(-d(i, n) / lambda_inh) over the neighbours n with i)
    sim(s, n) = exp(-age(n) / lambda_snh) * (sum of exp(-b_j / lambda_spw) over the items j in both s and n) / sqrt(clicks of n)

    b_j is the number of clicks from item j to the last click of s, and b_n that of the match, the most recent shared item; d
    is the number of clicks between item i and the match in n.

    VSTAN is of Ludewig, Mauro, Latifi & Jannach 2021, *Empirical Analysis of Session-based Recommendation Algorithms*; STAN of
    Garg et al. 2019, *Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN*. STAN measures the age of n
    from the last click of s. A scorer doesn't know when that was, so age is measured from the end of the most recent of the
    compared sessions: this multiplies all scores of s by the same factor and keeps their order.

    Neighbours and ties: see `_SessionKNN`.
    """

    def __init__(self, sessions: Sessions, index: ItemIndex, parameters: VSTANSettings | None = None) -> None:
        """
        Args:
            sessions: The training sessions. Items that aren't in the index are ignored.
            index: The items to rank.
            parameters: None uses the defaults.
        """
        self.parameters = parameters or VSTANSettings()
        super().__init__(sessions, index, self.parameters.k, self.parameters.sample_size)
        self._idf = 1 + self.parameters.lambda_idf * self._idf

    def _click_weights(self, back: Ints) -> Floats:
        return np.exp(-back / self.parameters.lambda_spw)

    def _factors(self, sessions: Ints) -> Floats:
        ended_us = self._past.ended_us
        age_days = (ended_us[sessions[-1:]] - ended_us[sessions]) / _US_PER_DAY
        factors: Floats = np.exp(-age_days / self.parameters.lambda_snh)
        return factors

    def _item_weights(self, neighbours: _Matches, clicks: Ints, nth: Ints) -> Floats:
        weights = np.exp(-neighbours.back / self.parameters.lambda_ipw)
        apart = np.abs(clicks - neighbours.click[nth])
        decayed: Floats = weights[nth] * np.exp(-apart / self.parameters.lambda_inh)
        return decayed


def _ranges(first: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The numbers of the ranges `[first, end)`, concatenated, and the position of the range that each one belongs to."""
    n = end - first
    return rows_of_runs(first, n).astype(np.intp), np.repeat(np.arange(len(n)), n)
