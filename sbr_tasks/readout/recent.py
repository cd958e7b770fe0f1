"""The last distinct items of sessions, which the read-out adds to a model's own state."""

from __future__ import annotations

import numpy as np

from sbr_tasks.evaluation.scorer import Indices, Rows
from sbr_tasks.window.sessions import UNKNOWN

N_RECENT = 10
"""How many distinct items of a session are remembered."""


def no_recent(n_sessions: int) -> Indices:
    """The last distinct items of sessions before their first click: `UNKNOWN`, shape `(n_sessions, N_RECENT)`."""
    return np.full((n_sessions, N_RECENT), UNKNOWN, np.int32)


def advance_recent(recent: Indices, items: Indices, rows: Rows) -> None:
    """Puts the item clicked in each of the sessions `rows` first; an item that was there moves.

    Args:
        recent: Shape `(n_sessions, N_RECENT)`, the newest item first, filled up with `UNKNOWN`; changed in place.
        items: Shape `(n,)`; none may be `UNKNOWN`.
        rows: Shape `(n,)`; the session of each item.

    Example:
        >>> recent = no_recent(1)
        >>> for item in (7, 5, 7):
        ...     advance_recent(recent, np.array([item]), np.array([0]))
        >>> recent[0, :3]
        array([ 7,  5, -1], dtype=int32)
    """
    before = recent[rows]
    is_same = before == items[:, None]
    was_at = np.where(is_same.any(axis=1), is_same.argmax(axis=1), N_RECENT)
    moves = np.arange(1, N_RECENT) <= was_at[:, None]
    recent[rows, 1:] = np.where(moves, before[:, :-1], before[:, 1:])
    recent[rows, 0] = items
