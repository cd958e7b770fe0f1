"""Paired bootstrap over sessions: is one model better than another on the same events, beyond chance?

Events of a session are correlated, so sessions are drawn, not events, and both models are scored on the same draw
(Efron & Tibshirani 1993, *An Introduction to the Bootstrap*, chapters 6, 13 and 16; Sakai 2006, for rankings).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from sbr_tasks.evaluation.metrics import Ranks, reciprocal_ranks
from sbr_tasks.evaluation.ranking import Evaluation

N_RESAMPLES = 1000
INTERVAL = 0.95
"""Coverage of the two-sided interval that is shown."""


@dataclass(frozen=True)
class Difference:
    """By how much the challenger is better than the champion in one metric.

    Attributes:
        value: The difference on all events; positive if the challenger is better.
        lower: Lower end of the two-sided 95% interval (`INTERVAL`): the quantile 0.025 of the resampled differences.
        upper: Its upper end, the quantile 0.975.
        probability: Share of the resamples in which the challenger is better; equal ones count half.
        gate_bound: The one-sided lower bound for `gate.confidence`: the quantile 1 - confidence. None if that isn't set.
    """

    value: float
    lower: float
    upper: float
    probability: float
    gate_bound: float | None = None

    def as_dict(self) -> dict[str, float]:
        """The numbers by name, without `gate_bound` if it is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def resampled_differences(
    challenger: Evaluation,
    champion: Evaluation,
    *,
    k: int = 20,
    confidence: float | None,
    seed: int,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, Difference]:
    """Compares two evaluations of the same events.

    Args:
        challenger: Ranks of the new model.
        champion: Ranks of the model to compare with, for the same events in the same order.
        k: Cut-off of both metrics.
        confidence: Level of the gate's one-sided bound, above 0.5 and below 1; None leaves it out.
        seed: Random seed; the same arguments give the same numbers.
        n_resamples: Number of resamples.

    Returns:
        `recall_at_K` and `mrr_at_K`; empty without events.

    Raises:
        ValueError: The evaluations are of different events.
    """
    if not np.array_equal(challenger.session, champion.session):
        raise ValueError(
            f"both models must be scored on the same events; got {challenger.n_events} and {champion.n_events}, "
            "or events of other sessions"
        )
    if not challenger.n_events:
        return {}
    _, session = np.unique(challenger.session, return_inverse=True)
    gains = {
        f"recall_at_{k}": _hits(challenger.ranks, k) - _hits(champion.ranks, k),
        f"mrr_at_{k}": reciprocal_ranks(challenger.ranks, k) - reciprocal_ranks(champion.ranks, k),
    }
    sums = np.stack([np.bincount(session, gain) for gain in gains.values()], axis=1).astype(np.float64)
    events = np.bincount(session).astype(np.float64)
    drawn = _resample(sums, events, seed, n_resamples)
    return {name: _difference(float(sums[:, i].sum() / events.sum()), drawn[:, i], confidence) for i, name in enumerate(gains)}


def _hits(ranks: Ranks, k: int) -> npt.NDArray[np.float64]:
    return (ranks <= k).astype(np.float64)


def _resample(
    sums: npt.NDArray[np.float64], events: npt.NDArray[np.float64], seed: int, n_resamples: int
) -> npt.NDArray[np.float64]:
    """Mean gain per event of each resample, `(n_resamples, n_metrics)`."""
    rng = np.random.default_rng(seed)
    n_sessions = len(events)
    columns = np.column_stack([sums, events])
    totals = np.empty((n_resamples, columns.shape[1]))
    for total in totals:
        times_drawn = np.bincount(rng.integers(0, n_sessions, n_sessions, dtype=np.int32), minlength=n_sessions)
        total[:] = times_drawn.astype(np.float64) @ columns
    result: npt.NDArray[np.float64] = totals[:, :-1] / totals[:, -1:]
    return result


def _difference(value: float, drawn: npt.NDArray[np.float64], confidence: float | None) -> Difference:
    lower, upper = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    better = np.mean(drawn > 0) + np.mean(drawn == 0) / 2
    gate_bound = None if confidence is None else float(np.quantile(drawn, 1 - confidence))
    return Difference(value, float(lower), float(upper), float(better), gate_bound)
