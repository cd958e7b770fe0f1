"""Session-parallel mini-batches: which transition is trained in which step and lane (Hidasi et al. 2016, section 3.1.1).

A batch has lanes. Each lane walks through one session, one transition a step, and takes the next session when its own ends.
The schedule is computed before training starts, so training is a plain loop over arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapreplace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Schedule:
    """Every transition of the sessions exactly once, ordered by step, then by lane.

    The active lanes of a step are always lanes 0, 1, ... without a gap: lanes are numbered by how long they stay busy.

    Attributes:
        n_lanes: Lanes of the widest step; 0 without any transition.
        step_offsets: Shape `(n_steps + 1,)`, int64; the events of step t are `[step_offsets[t], step_offsets[t + 1])`, and the
            k-th of them runs in lane k.
        clicks: Shape `(n_events,)`, int64; position of each event's input click. The target is the click after it.
        starts_session: Shape `(n_events,)`, bool; the lane's hidden state is zeroed before this event.
    """

    n_lanes: int
    step_offsets: npt.NDArray[np.int64]
    clicks: npt.NDArray[np.int64]
    starts_session: npt.NDArray[np.bool_]

    @property
    def n_steps(self) -> int:
        return len(self.step_offsets) - 1

    @property
    def n_events(self) -> int:
        return len(self.clicks)


def plan_batches(offsets: npt.NDArray[np.int64], batch_size: int) -> Schedule:
    """Assigns sessions to lanes, in the given order.

    Args:
        offsets: Shape `(n_sessions + 1,)`, int64; session i has the clicks `[offsets[i], offsets[i + 1])`. Sessions
            shorter than 2 clicks have no transition and are left out.
        batch_size: Maximum number of lanes; fewer sessions make fewer lanes.

    Returns:
        The schedule; without steps if no session has 2 clicks. When a session ends, its lane takes the next session in the
        next step (of several free lanes, the lowest one comes first). When no sessions remain, the batch shrinks.
    """
    n_transitions = np.diff(offsets) - 1
    kept = np.flatnonzero(n_transitions > 0)
    n_transitions = n_transitions[kept]
    n_lanes = min(batch_size, len(kept))
    if not n_lanes:
        empty = np.empty(0, np.int64)
        return Schedule(0, np.zeros(1, np.int64), empty, empty.astype(bool))
    first_step, lane = _assign(n_transitions, n_lanes)

    session = np.repeat(np.arange(len(kept)), n_transitions)
    nth = np.arange(len(session)) - np.repeat(np.cumsum(n_transitions) - n_transitions, n_transitions)
    step = first_step[session] + nth
    order = np.argsort(step * n_lanes + _by_busy_time(lane, n_transitions, n_lanes)[session])
    return Schedule(
        n_lanes,
        np.concatenate([[0], np.cumsum(np.bincount(step))]),
        (offsets[kept][session] + nth)[order],
        (nth == 0)[order],
    )


def _assign(n_transitions: npt.NDArray[np.int64], n_lanes: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First step and lane of each session."""
    free = list(range(n_lanes))  # heap of `step * n_lanes + lane`: when each lane is free again
    taken = [heapreplace(free, free[0] + n * n_lanes) for n in n_transitions.tolist()]
    first_step, lane = np.divmod(np.array(taken, np.int64), n_lanes)
    return first_step, lane


def _by_busy_time(lane: npt.NDArray[np.int64], n_transitions: npt.NDArray[np.int64], n_lanes: int) -> npt.NDArray[np.int64]:
    """The lanes of the sessions, renumbered so that the lane that stays busy longest is lane 0."""
    busy = np.bincount(lane, weights=n_transitions, minlength=n_lanes)
    number = np.empty(n_lanes, np.int64)
    number[np.argsort(-busy, kind="stable")] = np.arange(n_lanes)
    return number[lane]
