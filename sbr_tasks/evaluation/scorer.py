"""The interface of every model that ranks items, for the evaluation, `sbr recommend` and the reports."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sbr_tasks.window.sessions import UNKNOWN, ItemIndex

Indices = npt.NDArray[np.int32]
"""Positions of items in a scorer's `ItemIndex`, or `UNKNOWN`."""

Rows = npt.NDArray[np.intp]
"""Distinct row numbers of sessions in a state."""

Scores = npt.NDArray[np.float32]

State = Any
"""The state of sessions so far; its type is up to the scorer. `advance` changes it in place."""


class Scorer(Protocol):
    """Scores all items as the next click of sessions, which it reads click by click.

    Example:
        state = scorer.start(1)
        scorer.advance(state, scorer.index.encode(np.array([214_000_001])), np.array([0]))
        scores = scorer.scores(state, np.array([0]))  # shape (1, n_items)
    """

    @property
    def index(self) -> ItemIndex:
        """The items that the model knows, in the order of the columns of `scores`."""

    def start(self, n_sessions: int) -> State:
        """The state of `n_sessions` sessions before their first click."""

    def advance(self, state: State, items: Indices, rows: Rows) -> None:
        """Feeds one click to some sessions.

        Args:
            state: Changed in place.
            items: Shape `(n,)`; `UNKNOWN` leaves its session unchanged.
            rows: Shape `(n,)`; the session of each item.
        """

    def scores(self, state: State, rows: Rows) -> Scores:
        """Scores of all items as the next click.

        Args:
            state: Not changed.
            rows: Shape `(n,)`; the sessions to score. Scores for a session without a known click are unspecified, but
                computing them must not raise.

        Returns:
            Shape `(n, n_items)`, float32; higher is better. A new array, or a view, which must not be written to.
        """


def known_only(items: Indices, rows: Rows) -> tuple[Indices, Rows]:
    """The clicks whose item isn't `UNKNOWN`."""
    is_known = items >= 0
    return (items, rows) if is_known.all() else (items[is_known], rows[is_known])


def score_session(scorer: Scorer, items: Indices) -> tuple[Scores, bool]:
    """Scores of all items after one whole session, and whether the session had a known item.

    Args:
        scorer: The model.
        items: Shape `(n_clicks,)`, oldest first; `UNKNOWN` is skipped.

    Returns:
        Shape `(n_items,)`, float32, and True. Without a known item: each item's support, and False.
    """
    if not (items >= 0).any():
        return scorer.index.support.astype(np.float32), False
    row = np.zeros(1, np.intp)
    state = scorer.start(1)
    for item in items:
        scorer.advance(state, np.array([item], np.int32), row)
    return scorer.scores(state, row)[0], True


def best_items(scores: Scores, k: int) -> Indices:
    """The `k` items with the highest scores, best first, ties by index; int32.

    Fewer if there are fewer than `k` items. An item that is hidden (its score is -inf) is never among them.
    """
    best = np.argsort(-scores, kind="stable")[:k].astype(np.int32)
    return best[~np.isneginf(scores[best])]


class LastItemState:
    """Base of scorers that use only the last known item of a session."""

    def start(self, n_sessions: int) -> Indices:
        """The last known item of each session: `UNKNOWN`, shape `(n_sessions,)`."""
        return np.full(n_sessions, UNKNOWN, np.int32)

    def advance(self, state: Indices, items: Indices, rows: Rows) -> None:
        """Remembers the items that are known."""
        items, rows = known_only(items, rows)
        state[rows] = items


def faint_popularity(index: ItemIndex) -> Scores:
    """Each item's share of all clicks, scaled below any score that counts (at most 1e-20).

    It orders the items that a scorer gives no score. Ties count against a model, so without it a baseline would look weaker
    than it is.

    Returns:
        Shape `(n_items,)`, float32.
    """
    share: Scores = (1e-20 * index.support / max(1, index.support.sum())).astype(np.float32)
    return share
