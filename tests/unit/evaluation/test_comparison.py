from __future__ import annotations

from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest

from sbr_tasks.evaluation.comparison import resampled_differences
from sbr_tasks.evaluation.metrics import UNRANKED
from sbr_tasks.evaluation.ranking import Evaluation


def evaluation(ranks: list[int] | np.ndarray, session: list[int] | np.ndarray) -> Evaluation:
    return Evaluation(np.asarray(ranks, np.int32), np.asarray(session, np.int64))


def simulate(rng: np.random.Generator, recalls: dict[str, float], session: np.ndarray) -> dict[str, Evaluation]:
    """Models that hit with a given probability. As real ones do, they find the same sessions hard and agree on most events."""
    easy = rng.normal(0, 0.15, session.max() + 1)[session]
    shared = rng.random((2, len(session)))
    found = {}
    for name, recall in recalls.items():
        luck, place = np.where(rng.random(len(session)) < 0.85, shared, rng.random((2, len(session))))
        found[name] = evaluation(np.where(luck < recall + easy, 1 + (20 * place).astype(int), UNRANKED), session)
    return found


def test_difference_is_that_of_the_metrics() -> None:
    new, old = evaluation([1, 4, UNRANKED, 30], [3, 3, 5, 8]), evaluation([2, 40, 1, UNRANKED], [3, 3, 5, 8])
    found = resampled_differences(new, old, confidence=0.95, seed=1)
    assert found["recall_at_20"].value == pytest.approx(0.0)
    assert found["mrr_at_20"].value == pytest.approx((1 + 1 / 4 - 1 / 2 - 1) / 4)


def test_one_session_leaves_no_doubt() -> None:
    found = resampled_differences(evaluation([1, 1], [0, 0]), evaluation([1, 2], [0, 0]), confidence=0.95, seed=1)["mrr_at_20"]
    assert (found.lower, found.upper, found.probability) == (0.25, 0.25, 1.0)


def test_equal_models_are_as_likely_better_as_worse() -> None:
    same = evaluation([1, 5, 30], [0, 1, 2])
    found = resampled_differences(same, same, confidence=0.9, seed=1)["recall_at_20"]
    assert (found.value, found.lower, found.upper, found.probability) == (0, 0, 0, 0.5)


def test_same_seed_gives_the_same_intervals() -> None:
    rng = np.random.default_rng(5)
    new, old = simulate(rng, {"new": 0.5, "old": 0.5}, np.repeat(np.arange(300), 3)).values()
    assert resampled_differences(new, old, confidence=0.95, seed=7) == resampled_differences(new, old, confidence=0.95, seed=7)
    assert resampled_differences(new, old, confidence=0.95, seed=7) != resampled_differences(new, old, confidence=0.95, seed=8)


def test_other_events_are_refused() -> None:
    with pytest.raises(ValueError, match="same events; got 2 and 2"):
        resampled_differences(evaluation([1, 2], [0, 1]), evaluation([1, 2], [0, 0]), confidence=0.95, seed=1)


def test_nothing_compares_to_nothing() -> None:
    assert resampled_differences(evaluation([], []), evaluation([], []), confidence=0.95, seed=1) == {}


def test_interval_is_two_sided_and_the_bound_of_the_gate_one_sided() -> None:
    rng = np.random.default_rng(11)
    new, old = simulate(rng, {"new": 0.52, "old": 0.5}, np.repeat(np.arange(4000), 2)).values()
    found = resampled_differences(new, old, confidence=0.95, seed=3, n_resamples=4000)["recall_at_20"]
    spread = (found.upper - found.lower) / (2 * NormalDist().inv_cdf(0.975))
    assert found.gate_bound is not None
    assert found.value - found.gate_bound == pytest.approx(NormalDist().inv_cdf(0.95) * spread, rel=0.05)
    assert (
        "gate_bound" not in resampled_differences(new, old, confidence=None, seed=3, n_resamples=50)["recall_at_20"].as_dict()
    )


@pytest.mark.slow
def test_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2020)
    n_comparisons, covered = 400, 0
    for _ in range(n_comparisons):
        models = simulate(rng, {"old": 0.5, "equal": 0.5}, np.repeat(np.arange(800), 2))
        found = resampled_differences(
            models["equal"], models["old"], confidence=None, seed=int(rng.integers(2**31)), n_resamples=300
        )
        covered += found["recall_at_20"].lower <= 0 <= found["recall_at_20"].upper
    assert 0.92 <= covered / n_comparisons <= 0.98


@pytest.mark.slow
def test_bound_is_passed_by_chance_as_often_as_it_says_and_by_a_better_model_almost_always() -> None:
    rng = np.random.default_rng(2018)
    n_comparisons = 400
    passed: Counter[tuple[str, str]] = Counter()
    for _ in range(n_comparisons):
        models = simulate(rng, {"old": 0.5, "equal": 0.5, "better": 0.55}, np.repeat(np.arange(1500), rng.integers(1, 6, 1500)))
        for model in ("equal", "better"):
            seed = int(rng.integers(2**31))
            found = resampled_differences(models[model], models["old"], confidence=0.95, seed=seed, n_resamples=300)
            passed.update((model, metric) for metric, difference in found.items() if (difference.gate_bound or 0) > 0)
    for metric in ("recall_at_20", "mrr_at_20"):
        assert 0.02 <= passed["equal", metric] / n_comparisons <= 0.09
        assert passed["better", metric] / n_comparisons > 0.95
