"""Session-based nearest neighbours: the items of the past sessions that are most like the current one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sbr_tasks.evaluation.scorer import Indices, Rows, Scores, faint_popularity, known_only
from sbr_tasks.window.ragged import rows_of_runs
from sbr_tasks.window.sessions import ItemIndex, Sessions

Clicks = list[int]
"""The known items of a session so far, in order."""

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

_US_PER_DAY = 24 * 60 * 60 * 1_000_000


@dataclass(frozen=True)
class _Matches:
    """Past sessions that share an item with the current one, from the least to the most recent; all of shape `(n,)`.

    Attributes:
        session: Number of the past session.
        similarity: Of the past session to the current one.
        back: Clicks from the most recent shared item to the current session's last click; 0 if it is the last click.
        click: Where that item was clicked in the past session.
    """

    session: Ints
    similarity: Floats
    back: Ints
    click: Ints

    def at(self, chosen: slice | Ints) -> _Matches:
        return _Matches(self.session[chosen], self.similarity[chosen], self.back[chosen], self.click[chosen])


class _PastSessions:
    """Training sessions as sets of items, numbered from the least to the most recent; an item is where it was clicked last.

    Recent is what ended late or, where times are not known, began late. Clicks are those on known items, numbered through all
    sessions.

    Attributes:
        ended_us: Shape `(n_sessions,)`: the time of each session's last click, or None.
        n_clicks: Shape `(n_sessions,)`: clicks of each.
        idf: Shape `(n_items,)`: log(sessions / sessions that hold the item).
    """

    def __init__(self, sessions: Sessions, index: ItemIndex) -> None:
        from scipy.sparse import coo_array

        recency = np.arange(sessions.n_sessions)
        ended_us = sessions.last_click_us
        if ended_us is not None:
            order = np.argsort(ended_us, kind="stable")
            recency[order] = np.arange(sessions.n_sessions)
            ended_us = ended_us[order]
        self.ended_us = ended_us

        items = index.encode(sessions.item_ids)
        known = items >= 0
        items, session = items[known], np.repeat(recency, sessions.lengths)[known]
        self.n_clicks = np.bincount(session, minlength=sessions.n_sessions)
        _, from_end = np.unique((session * max(1, len(index)) + items)[::-1], return_index=True)
        clicks = len(items) - 1 - from_end
        shape = (sessions.n_sessions, len(index))
        self._by_session = coo_array((clicks, (session[clicks], items[clicks])), shape).tocsr()
        self._by_item = self._by_session.tocsc()
        n_holding = np.diff(self._by_item.indptr)
        self.idf: Floats = np.log(max(1, sessions.n_sessions) / np.maximum(1, n_holding))

    def matches(self, items: Ints, back: Ints, weights: Floats, at_most: int) -> _Matches:
        """The most recent sessions that hold one of some items, with the sum of the weights of those that they hold.

        Args:
            items: Shape `(n,)`, distinct, at least one; the most recent last.
            back: Shape `(n,)`, falling; clicks since each item.
            weights: Shape `(n,)`.
            at_most: Most sessions.
        """
        first, end = self._by_item.indptr[items], self._by_item.indptr[items + 1]
        # The most recent sessions with any of the items are among the most recent ones with each.
        first = np.maximum(first, end - at_most)
        entries, nth = _ranges(first, end)
        session, which = np.unique(self._by_item.indices[entries], return_inverse=True)
        similarity: Floats = np.bincount(which, weights[nth], len(session)).astype(np.float64)
        match = np.empty(len(session), np.intp)
        match[which] = np.arange(len(which))  # of a session's shared items, the last write stays: the most recent one
        found = _Matches(session, similarity, back[nth[match]], self._by_item.data[entries[match]])
        return found.at(slice(max(0, len(session) - at_most), None))

    def items_of(self, sessions: Ints) -> tuple[Ints, Ints, Ints]:
        """All items of some sessions laid end to end, the click on each, and which of the sessions it is of."""
        entries, nth = _ranges(self._by_session.indptr[sessions], self._by_session.indptr[sessions + 1])
        return self._by_session.indices[entries], self._by_session.data[entries], nth


class _SessionKNN(ABC):
    """What the nearest-neighbour models share.

    score(i | s) = idf(i) * (sum of sim(s, n) * weight(i | s, n) over the neighbours n that hold i)
    sim(s, n) = factor(n) * (sum of weight(j | s) over the items j that both hold) / sqrt(clicks of n)

    A session is the set of its items, an item is where it was clicked last. Neighbours of s are the `k` most similar of the
    `sample_size` most recent training sessions that hold one of its items; of equally similar ones, the more recent. What no
    neighbour holds ranks below all else, by support.
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
        """Weights of the current session's items that were clicked `back` clicks ago; an item of weight 0 isn't looked up."""

    @abstractmethod
    def _factors(self, sessions: Ints) -> Floats | float:
        """What the similarity to each past session is multiplied by; sessions from the least to the most recent."""

    @abstractmethod
    def _item_weights(self, neighbours: _Matches, clicks: Ints, nth: Ints) -> Floats:
        """Weights of items in neighbours: what was clicked at `clicks` in the neighbours `nth`, all of one shape."""

    def start(self, n_sessions: int) -> list[Clicks]:
        """Sessions without a click."""
        return [[] for _ in range(n_sessions)]

    def advance(self, state: list[Clicks], items: Indices, rows: Rows) -> None:
        """Appends the items that are known."""
        items, rows = known_only(items, rows)
        for item, row in zip(items.tolist(), rows.tolist(), strict=True):
            state[row].append(item)

    def scores(self, state: list[Clicks], rows: Rows) -> Scores:
        """The score of each item, shape `(len(rows), n_items)`."""
        found = np.tile(self._faint_popularity, (len(rows), 1))
        for scores, row in zip(found, rows.tolist(), strict=True):
            if state[row]:
                np.maximum(scores, self._scores_of(state[row]), out=scores, casting="same_kind")
        return found

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
        looked_up = weights > 0
        matches = self._past.matches(items[looked_up], back[looked_up], weights[looked_up], self._sample_size)
        similarity = matches.similarity * self._factors(matches.session) / np.sqrt(self._past.n_clicks[matches.session])
        return replace(matches, similarity=similarity).at(np.lexsort((-matches.session, -similarity))[: self._k])


class VSkNN(_SessionKNN):
    """V-SkNN, vector multiplication session-based kNN.

    score(i | s) = idf(i) * (sum of sim(s, n) * decay(b_n) over the neighbours n that hold i)
    sim(s, n) = (sum of decay(b_j) over the items j of both s and n) / sqrt(clicks of n)
    decay(b) = max(0, 1 - b / 10), idf(i) = log(training sessions / training sessions that hold i)

    b_j is the number of clicks from item j to the last click of s, b_n that of the most recent item of both s and n.

    V-SkNN is of Ludewig & Jannach 2018, *Evaluation of Session-based Recommendation Algorithms*: a similarity with weights that
    fall linearly from the last click. The paper leaves the slope open and has neither divisor, b_n nor idf. This is the variant
    that grew of it, which Ludewig et al. 2021, *Empirical Analysis of Session-based Recommendation Algorithms*, compare: b_n is
    S-SkNN's of the paper of 2018; the slope and the idf are those of Kersbergen et al. 2022, *Serenade*; the divisor is the
    cosine's of SkNN (Jannach & Ludewig 2017, *When Recurrent Neural Networks meet the Neighborhood*), with lengths as in STAN.
    What is the same for all neighbours of s, such as its own length, is left out.

    Neighbours and ties: see `_SessionKNN`.
    """

    def __init__(self, sessions: Sessions, index: ItemIndex, *, k: int = 500, sample_size: int = 1000) -> None:
        """
        Args:
            sessions: The training sessions. Items that the index doesn't hold are left out.
            index: The items to rank.
            k: Most neighbours.
            sample_size: Most recent sessions among which they are looked for.
        """
        super().__init__(sessions, index, k, sample_size)

    def _click_weights(self, back: Ints) -> Floats:
        return np.maximum(0, 10 - back) / 10

    def _factors(self, sessions: Ints) -> float:
        return 1.0

    def _item_weights(self, neighbours: _Matches, clicks: Ints, nth: Ints) -> Floats:
        return self._click_weights(neighbours.back)[nth]


@dataclass(frozen=True)
class VSTANParameters:
    """Parameters of VSTAN, under the names of session-rec, the framework of Ludewig et al.; the lambdas' and `sample_size`'s
    defaults are the framework's as well.

    For YooChoose, Ludewig et al. found by search, for Recall: k 2000, sample_size 10000, lambda_spw 4, lambda_snh 20,
    lambda_inh 0.5, lambda_ipw 1, lambda_idf 2; for MRR: 1500, 10000, 0.5, 5, 2, 2, 2 (session-rec,
    `conf/save/rsc15/window/window_rsc15_vstan.yml`).

    Attributes:
        k: Most neighbours; session-rec has no default and searches 100 to 2000.
        sample_size: Most recent sessions among which they are looked for.
        lambda_spw: Decay of an item's weight in the similarity, in clicks before the last one of the current session (STAN's
            lambda 1).
        lambda_snh: Decay of a past session's weight, in days before the most recent one (STAN's lambda 2).
        lambda_inh: Decay of an item's weight in a neighbour, in clicks from the match (STAN's lambda 3).
        lambda_ipw: Decay of a neighbour's weight in the score, in clicks from the match to the last click of the current
            session.
        lambda_idf: Weight of the inverse document frequency; 0 for none.
    """

    k: int = 500
    sample_size: int = 5000
    lambda_spw: float = 1.02
    lambda_snh: float = 5.0
    lambda_inh: float = 2.05
    lambda_ipw: float = 1.02
    lambda_idf: float = 5.0


class VSTAN(_SessionKNN):
    """VSTAN: STAN with the weighted scores and the idf of V-SkNN.

    score(i | s) = (1 + lambda_idf * log(training sessions / training sessions that hold i))
        * (sum of sim(s, n) * exp(-b_n / lambda_ipw) * exp(-d(i, n) / lambda_inh) over the neighbours n that hold i)
    sim(s, n) = exp(-age(n) / lambda_snh) * (sum of exp(-b_j / lambda_spw) over the items j of both s and n) / sqrt(clicks of n)

    b_j is the number of clicks from item j to the last click of s, and b_n that of the match, the most recent item of both; d
    is the number of clicks between item i and the match in n.

    VSTAN is of Ludewig, Mauro, Latifi & Jannach 2021, *Empirical Analysis of Session-based Recommendation Algorithms*; STAN of
    Garg et al. 2019, *Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN*. STAN counts the age of n's
    last click from the last click of s. A scorer isn't told the time of that, so it is counted from the end of the most recent
    of the sessions compared: all scores of s change by the same factor, and their order is STAN's. Training sessions without
    times are all of age 0.

    Neighbours and ties: see `_SessionKNN`.
    """

    def __init__(self, sessions: Sessions, index: ItemIndex, parameters: VSTANParameters | None = None) -> None:
        """
        Args:
            sessions: The training sessions. Items that the index doesn't hold are left out.
            index: The items to rank.
            parameters: The defaults if None.
        """
        self.parameters = parameters or VSTANParameters()
        super().__init__(sessions, index, self.parameters.k, self.parameters.sample_size)
        self._idf = 1 + self.parameters.lambda_idf * self._idf

    def _click_weights(self, back: Ints) -> Floats:
        return np.exp(-back / self.parameters.lambda_spw)

    def _factors(self, sessions: Ints) -> Floats | float:
        ended_us = self._past.ended_us
        if ended_us is None:
            return 1.0
        age_days = (ended_us[sessions[-1:]] - ended_us[sessions]) / _US_PER_DAY
        factors: Floats = np.exp(-age_days / self.parameters.lambda_snh)
        return factors

    def _item_weights(self, neighbours: _Matches, clicks: Ints, nth: Ints) -> Floats:
        weights = np.exp(-neighbours.back / self.parameters.lambda_ipw)
        apart = np.abs(clicks - neighbours.click[nth])
        decayed: Floats = weights[nth] * np.exp(-apart / self.parameters.lambda_inh)
        return decayed


def _ranges(first: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The numbers of the ranges `[first, end)` laid end to end, and which of the ranges each is of."""
    n = end - first
    return rows_of_runs(first, n).astype(np.intp), np.repeat(np.arange(len(n)), n)
