"""Full ranking: the target of every event is ranked among all items, and ties count against the model.

Sampled candidates change the order of models, and optimistic ties make a collapsed model look perfect (Hidasi & Czapp 2023,
*Widespread Flaws in Offline Evaluation of Recommender Systems*), so no decision relies on either.
`evaluate_ties` counts ties in other ways too, for comparison with papers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sbr_tasks.evaluation.metrics import (
    CUT_OFFS,
    KNOWN_INPUTS,
    KNOWN_TARGETS,
    RECALL_AMONG_KNOWN,
    UNRANKED,
    Ranks,
    mrr_at,
    recall_at,
)
from sbr_tasks.evaluation.scorer import Indices, Rows, Scorer, Scores, State
from sbr_tasks.window.sessions import Sessions

TIE_MODES = ("conservative", "standard", "median")

_Bools = npt.NDArray[np.bool_]
_Counts = npt.NDArray[np.int32]
Clicks = npt.NDArray[np.int64]
"""Positions of clicks or sessions in `Sessions`."""
_Count = Callable[[Scores, Indices], _Counts]
"""Ranks one item in each row of scores; returns shape `(n,)`, or `(n, n_counts)` if it counts ties as well."""

_SCORES_AT_ONCE = 8_000_000
"""Cells of a score matrix (32 MB), to bound memory for any number of items. Above 32 MiB the allocator asks the system for new
memory each time, which takes 10% longer; fewer rows make the matrix product slower."""


@dataclass(frozen=True)
class Evaluation:
    """The rank of every event's target.

    Events are in the order of the sessions and their clicks, so evaluations of the same sessions can be compared row by row.

    Attributes:
        ranks: Shape `(n_events,)`; 1 is best, `UNRANKED` if the target can't be ranked. int32, or float64
            in the tie mode `median`, where ranks may be halves.
        session: Shape `(n_events,)`, int64; the session of each event.
        knows_target: Shape `(n_events,)`, bool; whether the scorer knows the target. None: not recorded.
        knows_input: Shape `(n_events,)`, bool; whether it knows the click just before the target. None: not recorded.
    """

    ranks: Ranks
    session: npt.NDArray[np.int64]
    knows_target: _Bools | None = None
    knows_input: _Bools | None = None

    @property
    def n_events(self) -> int:
        return len(self.ranks)

    @property
    def n_sessions(self) -> int:
        """Sessions with at least one event."""
        return len(np.unique(self.session))

    def recall_at(self, k: int) -> float:
        """See `metrics.recall_at`."""
        return recall_at(self.ranks, k)

    def mrr_at(self, k: int) -> float:
        """See `metrics.mrr_at`."""
        return mrr_at(self.ranks, k)

    def metrics(self) -> dict[str, float]:
        """Metrics by name; NaN if there are no events to average.

        Returns:
            `recall_at_K` and `mrr_at_K` for K = 1, 5, 10, 20; `n_events` and `n_sessions`; and `metrics.KNOWLEDGE`, if
            `knows_target` and `knows_input` are recorded.
        """
        recalls = {f"recall_at_{k}": self.recall_at(k) for k in CUT_OFFS}
        mrrs = {f"mrr_at_{k}": self.mrr_at(k) for k in CUT_OFFS}
        return {**recalls, **mrrs, "n_events": self.n_events, "n_sessions": self.n_sessions, **self._knowledge()}

    def _knowledge(self) -> dict[str, float]:
        if self.knows_target is None or self.knows_input is None:
            return {}
        return {
            KNOWN_TARGETS: float(np.mean(self.knows_target)) if self.n_events else float("nan"),
            KNOWN_INPUTS: float(np.mean(self.knows_input)) if self.n_events else float("nan"),
            RECALL_AMONG_KNOWN: recall_at(self.ranks[self.knows_target], 20),
        }


def evaluate(
    scorer: Scorer, sessions: Sessions, *, batch_size: int, on_progress: Callable[[int], None] | None = None
) -> Evaluation:
    """Ranks the target of every event among all items of the scorer.

    An event is a transition whose target click has `is_target`. Earlier clicks only warm up the state. No event is dropped
    because of an item that the scorer doesn't know: an unknown target is `UNRANKED`, an unknown input is skipped, and before a
    session's first known input every target is `UNRANKED`.

    Args:
        scorer: The model; every session starts from a fresh state.
        sessions: The sessions to predict.
        batch_size: Sessions scored in parallel; it bounds memory and doesn't change the ranks.
        on_progress: Called with the number of events ranked since the last call.
    """
    return Evaluation(*_count_events(scorer, sessions, batch_size, conservative_ranks, UNRANKED, on_progress))


def evaluate_ties(
    scorer: Scorer, sessions: Sessions, *, batch_size: int, on_progress: Callable[[int], None] | None = None
) -> dict[str, Evaluation]:
    """Like `evaluate`, but for all tie modes, from one pass over the scores.

    Args:
        scorer: The model; every session starts from a fresh state.
        sessions: The sessions to predict.
        batch_size: Sessions scored in parallel.
        on_progress: Called with the number of events ranked since the last call.

    Returns:
        An evaluation for each of `TIE_MODES`. Other items with the target's score rank before it (`conservative`, as in
            `evaluate`), after it (`standard`), or half of them before it (`median`). NaN counts against the model in each.
    """
    counts, session, *_ = _count_events(scorer, sessions, batch_size, _ranks_and_ties, (UNRANKED, 0), on_progress)
    ranks, ties = counts[:, 0], counts[:, 1]
    by_mode: dict[str, Ranks] = {"conservative": ranks, "standard": ranks - ties, "median": ranks - ties / 2}
    return {mode: Evaluation(by_mode[mode], session) for mode in TIE_MODES}


def event_clicks(sessions: Sessions) -> npt.NDArray[np.int64]:
    """The target click of each event, `(n_events,)`: the clicks with `is_target` that aren't the first of their session."""
    is_event = np.ones(sessions.n_clicks, bool) if sessions.is_target is None else sessions.is_target.copy()
    is_event[sessions.offsets[:-1][sessions.lengths > 0]] = False
    return np.flatnonzero(is_event)


def sample_events(sessions: Sessions, max_events: int) -> Sessions:
    """The sessions, or an evenly spaced sample of them with about `max_events` events."""
    n_events, n_sessions = len(event_clicks(sessions)), sessions.n_sessions
    if n_events <= max_events:
        return sessions
    n_kept = max(1, n_sessions * max_events // n_events)
    return sessions.take(np.arange(n_kept) * n_sessions // n_kept)


def visit_events(
    scorer: Scorer,
    sessions: Sessions,
    *,
    batch_size: int,
    visit: Callable[[State, Rows, Indices, Clicks], None],
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Feeds sessions to a scorer click by click, and calls `visit` with the events that can be ranked.

    These are the events whose target the scorer knows, after a session's first known input.

    Args:
        scorer: The model; every session starts from a fresh state.
        sessions: The sessions.
        batch_size: Sessions fed in parallel.
        visit: Called with the state, the rows of some sessions in it, the known targets that follow, and the positions of their
            clicks. A score matrix of these rows has at most `_SCORES_AT_ONCE` cells, or one row.
        on_progress: Called with the number of events passed since the last call, rankable or not.
    """
    clicks = event_clicks(sessions)
    is_event = np.zeros(sessions.n_clicks, np.bool_)
    is_event[clicks] = True
    session = session_of(sessions, clicks)
    items = scorer.index.codes_of(sessions)
    last_event = np.full(sessions.n_sessions, -1, np.int64)
    last_event[session] = clicks  # the last write wins: each session's last event
    n_steps = np.where(last_event >= 0, last_event - sessions.offsets[:-1], 0)
    n_events = np.bincount(session, minlength=sessions.n_sessions)
    # Sessions of similar length run in parallel, longest first, so the sessions still running are always a prefix.
    order = np.argsort(-n_steps, kind="stable")[: np.count_nonzero(n_steps)]
    at_once = max(1, _SCORES_AT_ONCE // max(1, len(scorer.index)))
    for start in range(0, len(order), batch_size):
        block = order[start : start + batch_size]
        first_clicks, steps = sessions.offsets[block], n_steps[block]
        state = scorer.start(len(block))
        warm = np.zeros(len(block), bool)
        for step in range(int(steps[0])):
            rows = np.arange(np.searchsorted(-steps, -step, side="left"))  # sessions with more steps
            inputs, targets = items[first_clicks[rows] + step], first_clicks[rows] + step + 1
            scorer.advance(state, inputs, rows)
            warm[rows] |= inputs >= 0
            scored = rows[warm[rows] & is_event[targets] & (items[targets] >= 0)]
            for piece in np.array_split(scored, max(1, -(-len(scored) // at_once))):
                visit(state, piece, items[targets[piece]], targets[piece])
        if on_progress:
            on_progress(int(n_events[block].sum()))


def session_of(sessions: Sessions, clicks: Clicks) -> Clicks:
    """The session of each click, shape as `clicks`."""
    return np.searchsorted(sessions.offsets, clicks, side="right") - 1


def _count_events(
    scorer: Scorer,
    sessions: Sessions,
    batch_size: int,
    count: _Count,
    unranked: int | tuple[int, ...],
    on_progress: Callable[[int], None] | None = None,
) -> tuple[_Counts, Clicks, _Bools, _Bools]:
    """The result of `count` for each event (`unranked` if the target can't be ranked), and the other fields of `Evaluation`."""
    counts = np.full((sessions.n_clicks, *np.shape(unranked)), unranked, np.int32)

    def visit(state: State, rows: Rows, targets: Indices, clicks: Clicks) -> None:
        counts[clicks] = count(scorer.scores(state, rows), targets)

    visit_events(scorer, sessions, batch_size=batch_size, visit=visit, on_progress=on_progress)
    clicks = event_clicks(sessions)
    is_known = scorer.index.codes_of(sessions) >= 0
    return counts[clicks], session_of(sessions, clicks), is_known[clicks], is_known[clicks - 1]


def conservative_ranks(scores: Scores, targets: Indices) -> _Counts:
    """The rank of one item in each row; everything that it doesn't beat ranks before it.

    rank = n_items - #(scores < target's score): ties, and anything compared with NaN, count against the model. A model that
    gives every item the same score, or NaN, ranks every target last. A hidden target (its score is -inf) is `UNRANKED`.

    Args:
        scores: Shape `(n, n_items)`.
        targets: Shape `(n,)`, known items.

    Returns:
        Shape `(n,)`, int32.

    Example:
        >>> conservative_ranks(np.array([[0.5, 0.9, 0.5]], np.float32), np.array([0], np.int32))
        array([3], dtype=int32)
    """
    # Row by row, so that a row stays in the cache while it is compared and counted.
    beaten = [np.count_nonzero(row < row[target]) for row, target in zip(scores, targets, strict=True)]
    ranks: _Counts = scores.shape[1] - np.array(beaten, np.int32)
    ranks[np.isneginf(scores[np.arange(len(targets)), targets])] = UNRANKED
    return ranks


def _ranks_and_ties(scores: Scores, targets: Indices) -> _Counts:
    """Conservative ranks, and how many other items have the target's score; shape `(n, 2)`."""
    equal = [np.count_nonzero(row == row[target]) for row, target in zip(scores, targets, strict=True)]
    ties = np.maximum(np.array(equal, np.int32) - 1, 0)  # NaN doesn't even equal itself
    return np.stack([conservative_ranks(scores, targets), ties], axis=1)
