"""Fits the numbers of a read-out on validation events, by maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sbr_tasks.evaluation.ranking import Clicks, Evaluation, evaluate, sample_events, visit_events
from sbr_tasks.evaluation.scorer import Indices, Rows, Scorer
from sbr_tasks.readout.covisits import CoVisits
from sbr_tasks.readout.mixture import Mixture, MixtureScorer, MixtureState, Shares, own_probabilities, shares_group
from sbr_tasks.readout.recent import N_RECENT
from sbr_tasks.window.sessions import Sessions

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

Doubles = npt.NDArray[np.float64]

MAX_EVENTS = 20_000
"""Events to fit on, of evenly chosen sessions: more of them change no digit that counts."""
_INVERSE_TEMPERATURES = np.linspace(0.3, 2.0, 9)
_MAX_BIAS = 6.0
_BIAS_DEVIATION = 2.0
"""Biases are expected to be this far from 0: the deviation of a normal prior, so that places seen rarely get small ones."""
_N_SHARES = 5
_PRIOR_EVENTS = 20.0
_EM_ROUNDS = 200


@dataclass(frozen=True)
class Observed:
    """What the likelihood of a mixture depends on, for `n` events whose target the model knows.

    Attributes:
        recent: Shape `(n, N_RECENT)`, the last distinct items before the target.
        target: Shape `(n,)`, its score, relative to the highest one.
        own: Shape `(n, N_RECENT)`, the scores of the last distinct items, relative to the highest one.
        log_sum: Shape `(n, n_temperatures)`, the logarithm of the softmax's denominator at each of `_INVERSE_TEMPERATURES`.
        is_target: Shape `(n, N_RECENT)`, whether a last distinct item is the target.
        covisits: Shape `(n,)`, the target's probability by co-visits.
    """

    recent: Indices
    target: Doubles
    own: Doubles
    log_sum: Doubles
    is_target: npt.NDArray[np.bool_]
    covisits: Doubles

    def sums(self, inverse: float) -> tuple[Doubles, Doubles]:
        """`log_sum` at any inverse temperature, by a cubic spline, and its slope there; shape `(n,)` each."""
        return self._spline(inverse), self._spline(inverse, 1)

    @cached_property
    def _spline(self) -> CubicSpline:
        from scipy.interpolate import CubicSpline

        return CubicSpline(_INVERSE_TEMPERATURES, self.log_sum, axis=1)

    @property
    def is_own(self) -> npt.NDArray[np.bool_]:
        """Which places hold an item."""
        return self.recent >= 0


def fit_mixture(
    model: Scorer, covisits: CoVisits, sessions: Sessions, *, batch_size: int, has_own_items: bool = True
) -> Mixture | None:
    """Fits temperature and biases by maximum likelihood of the softmax, then the shares by expectation maximization.

    Biases are kept only if, fitted on half of the sessions, they raise the sum of Recall@20 and MRR@20 on the other half.

    Args:
        model: A model whose scores are logits. It must not have been trained on `sessions`, nor `covisits` counted in them.
        covisits: Of the model's items.
        sessions: The sessions to fit on; about `MAX_EVENTS` events are used.
        batch_size: Sessions scored in parallel.
        has_own_items: Whether the mixture has a part for the session's own items.

    Returns:
        The numbers; None if the model knows no target of an event.
    """
    sessions = sample_events(sessions, MAX_EVENTS)
    halves = _halves(sessions)
    fitted, held_out = (observe(model, covisits, half, batch_size=batch_size) for half in halves)
    everything = _joined(fitted, held_out)
    if not len(everything.target):
        return None

    def merit(has_biases: bool) -> float:
        mixture = maximize_likelihood(fitted, has_biases=has_biases, has_own_items=has_own_items)
        scored = evaluate(MixtureScorer(model, covisits, mixture), halves[1], batch_size=batch_size)
        return scored.recall_at(20) + scored.mrr_at(20)

    has_biases = has_own_items and bool(len(fitted.target) and len(held_out.target)) and merit(True) > merit(False)
    return maximize_likelihood(everything, has_biases=has_biases, has_own_items=has_own_items)


def cross_fitted(model: Scorer, covisits: CoVisits, sessions: Sessions, *, batch_size: int) -> Evaluation | None:
    """Evaluates a model with a read-out on sessions that are also needed to fit it: each half with the numbers of the other.

    Returns:
        The ranks of all events, those of every second session first; None if a half has nothing to fit on.
    """
    halves = _halves(sessions)
    mixtures = [fit_mixture(model, covisits, half, batch_size=batch_size) for half in reversed(halves)]
    scored = [
        evaluate(MixtureScorer(model, covisits, mixture), half, batch_size=batch_size)
        for half, mixture in zip(halves, mixtures, strict=True)
        if mixture
    ]
    if len(scored) < len(halves):
        return None
    first, second = scored
    sessions_of_both = np.concatenate([2 * first.session, 2 * second.session + 1])
    return Evaluation(np.concatenate([first.ranks, second.ranks]), sessions_of_both)


def _halves(sessions: Sessions) -> tuple[Sessions, Sessions]:
    """Every second session, and the others."""
    is_odd = np.arange(sessions.n_sessions) % 2 == 1
    return sessions.where(~is_odd), sessions.where(is_odd)


def observe(model: Scorer, covisits: CoVisits, sessions: Sessions, *, batch_size: int) -> Observed:
    """Scores the events of some sessions and keeps what a fit needs; events whose target is unknown are left out."""
    pieces: list[Observed] = []
    observer = MixtureScorer(model, covisits, _NEUTRAL)

    def visit(state: MixtureState, rows: Rows, targets: Indices, clicks: Clicks) -> None:
        recent = state.recent[rows]
        scores = model.scores(state.model, rows)
        scores = scores - scores.max(axis=1, keepdims=True)
        sums = [np.exp(scores * np.float32(inverse)).sum(axis=1, dtype=np.float64) for inverse in _INVERSE_TEMPERATURES]
        items, probabilities = covisits.probabilities(recent)
        pieces.append(
            Observed(
                recent=recent,
                target=scores[np.arange(len(rows)), targets].astype(np.float64),
                own=np.take_along_axis(scores, np.maximum(recent, 0).astype(np.intp), axis=1).astype(np.float64),
                log_sum=np.log(np.stack(sums, axis=1)),
                is_target=recent == targets[:, None],
                covisits=np.where(items == targets[:, None], probabilities, 0).sum(axis=1, dtype=np.float64),
            )
        )

    visit_events(observer, sessions, batch_size=batch_size, visit=visit)
    return _joined(*pieces)


_NEUTRAL = Mixture(
    temperature=1.0,
    biases=(),
    own_items=(1.0,) * N_RECENT,
    shares=(Shares(gru4rec=1.0, covisits=0.0, own_items=0.0),),
    n_events=0,
)


def _joined(*pieces: Observed) -> Observed:
    if not pieces:
        places, none = np.empty((0, N_RECENT)), np.empty(0)
        sums = np.empty((0, len(_INVERSE_TEMPERATURES)))
        return Observed(places.astype(np.int32), none, places, sums, places.astype(bool), none)
    fields = Observed.__dataclass_fields__
    return Observed(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in fields})


def maximize_likelihood(observed: Observed, *, has_biases: bool, has_own_items: bool = True) -> Mixture:
    """The numbers under which the observed targets are most likely; at least one event is needed."""
    inverse, biases = _fit_softmax(observed, has_biases=has_biases)
    hits, seen = observed.is_target.sum(axis=0), observed.is_own.sum(axis=0)
    rates = hits / np.maximum(1, seen)
    own = np.where(observed.is_target, own_probabilities(rates, observed.is_own), 0).sum(axis=1) * has_own_items
    softmax = np.exp(_log_softmax(observed, inverse, biases)[0])
    shares = _fit_shares(np.stack([softmax, observed.covisits, own], axis=1), shares_group(observed.is_own, _N_SHARES))
    return Mixture(
        temperature=1 / inverse,
        biases=tuple(biases.tolist()) if has_biases else (),
        own_items=tuple(rates.tolist()),
        shares=tuple(Shares(gru4rec=a, covisits=b, own_items=c) for a, b, c in shares.tolist()),
        n_events=len(observed.target),
    )


def _fit_softmax(observed: Observed, *, has_biases: bool) -> tuple[float, Doubles]:
    """The inverse temperature and the biases, which are 0 without `has_biases`."""
    from scipy.optimize import minimize

    def loss(x: Doubles) -> tuple[float, Doubles]:
        likelihood, slopes = _log_softmax(observed, x[0], x[1:])
        prior = np.square(x[1:] / _BIAS_DEVIATION).sum() / 2
        slopes[1:] -= x[1:] / _BIAS_DEVIATION**2
        return (prior - likelihood.sum()) / len(likelihood), -slopes / len(likelihood)

    limit = _MAX_BIAS if has_biases else 0
    bounds = [(_INVERSE_TEMPERATURES[0], _INVERSE_TEMPERATURES[-1])] + [(-limit, limit)] * N_RECENT
    best = minimize(loss, np.array([1.0] + [0.0] * N_RECENT), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(best[0]), best[1:]


def _log_softmax(observed: Observed, inverse: float, biases: Doubles) -> tuple[Doubles, Doubles]:
    """The target's log-probability under the tempered and biased softmax, and the slopes of its sum.

    A bias changes only the terms of the session's own items, so the sum over all items needn't be taken again.

    Returns:
        Shape `(n,)`; and shape `(1 + N_RECENT,)`, the derivatives by the inverse temperature and the biases.
    """
    log_sum, log_sum_slope = observed.sums(inverse)
    unbiased = np.where(observed.is_own, np.exp(observed.own * inverse), 0)
    sum_of_all = np.exp(log_sum)
    total = np.maximum(sum_of_all + unbiased @ np.expm1(biases), np.finfo(np.float64).tiny)
    likelihood = observed.target * inverse + observed.is_target @ biases - np.log(total)
    own_slope = np.where(observed.is_own, observed.own * unbiased, 0) @ np.expm1(biases)
    by_inverse = observed.target - (sum_of_all * log_sum_slope + own_slope) / total
    by_biases = observed.is_target.sum(axis=0) - (unbiased * np.exp(biases) / total[:, None]).sum(axis=0)
    return likelihood, np.concatenate([[by_inverse.sum()], by_biases])


def _fit_shares(parts: Doubles, group: npt.NDArray[np.int64]) -> Doubles:
    """The parts' shares in each group, by expectation maximization; shape `(_N_SHARES, n_parts)`.

    Shares of all events together come first. They count as `_PRIOR_EVENTS` further events of each group, so that a group with
    few events gets sensible ones.

    Args:
        parts: Shape `(n, n_parts)`, the target's probability by each part.
        group: Shape `(n,)`.
    """
    n_parts = parts.shape[1]
    shares = np.full(n_parts, 1 / n_parts)
    for _ in range(_EM_ROUNDS):
        shares = _responsibilities(parts, shares).mean(axis=0)
        shares /= shares.sum()
    by_group = np.tile(shares, (_N_SHARES, 1))
    for number in range(_N_SHARES):
        of_group = parts[group == number]
        for _ in range(_EM_ROUNDS):
            events = _responsibilities(of_group, by_group[number]).sum(axis=0) + _PRIOR_EVENTS * shares
            by_group[number] = events / events.sum()
    return by_group


def _responsibilities(parts: Doubles, shares: Doubles) -> Doubles:
    """How likely each event's target came from each part, shape as `parts`."""
    joint = parts * shares
    total = joint.sum(axis=1, keepdims=True)
    shares_of: Doubles = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)
    return shares_of
