"""What every model that ranks items offers to the evaluation, to `sbr recommend` and to the reports."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sbr_tasks.window.sessions import UNKNOWN, ItemIndex

Indices = npt.NDArray[np.int32]
"""Positions of items in a scorer's `ItemIndex`, or `UNKNOWN`."""

Rows = npt.NDArray[np.intp]
"""Distinct numbers of sessions within a state."""

Scores = npt.NDArray[np.float32]

State = Any
"""What a scorer remembers of the sessions so far: its own business, changed in place by `advance`."""


class Scorer(Protocol):
    """Scores all items as the next click of sessions that are fed click by click."""

    @property
    def index(self) -> ItemIndex:
        """The items it knows; columns of `scores`."""

    def start(self, n_sessions: int) -> State:
        """The state of `n_sessions` sessions without a click."""

    def advance(self, state: State, items: Indices, rows: Rows) -> None:
        """Feeds one click to some sessions.

        Args:
            state: Changed in place.
            items: Shape `(n,)`; `UNKNOWN` leaves its session as it is.
            rows: Shape `(n,)`; the session of each item.
        """

    def scores(self, state: State, rows: Rows) -> Scores:
        """Scores of all items as the next click.

        Args:
            state: Not changed.
            rows: Shape `(n,)`; the sessions that are asked for. What comes out for a session without a known click is
                finite or not, but never an error; the evaluation doesn't ask.

        Returns:
            Shape `(n, n_items)`, float32; higher is better. Not to be written to: it may be a view.
        """


def known_only(items: Indices, rows: Rows) -> tuple[Indices, Rows]:
    """Those of the clicks whose item is known."""
    known = items >= 0
    return (items, rows) if known.all() else (items[known], rows[known])


class LastItemState:
    """The state of scorers that look at nothing but the last known item of a session."""

    def start(self, n_sessions: int) -> Indices:
        """The last known item of each session."""
        return np.full(n_sessions, UNKNOWN, np.int32)

    def advance(self, state: Indices, items: Indices, rows: Rows) -> None:
        """Remembers the items that are known."""
        items, rows = known_only(items, rows)
        state[rows] = items


def faint_popularity(index: ItemIndex) -> Scores:
    """Each item's share of all clicks, made smaller than any score that counts (1e-20 and less).

    It ranks what a scorer gives no score: ties count against the model, so a baseline that leaves them is weaker than it is.

    Returns:
        Shape `(n_items,)`.
    """
    share: Scores = (1e-20 * index.support / max(1, index.support.sum())).astype(np.float32)
    return share
