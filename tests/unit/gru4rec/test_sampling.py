import numpy as np
import pytest

from sbr_tasks.gru4rec.sampling import NegativeSampler

SUPPORT = np.array([1, 4, 9, 16, 400])


@pytest.mark.parametrize(("alpha", "weights"), [(0.0, [1, 1, 1, 1, 1]), (0.5, [1, 2, 3, 4, 20]), (1.0, [1, 4, 9, 16, 400])])
def test_items_are_drawn_in_proportion_to_support_to_the_alpha(alpha: float, weights: list[float]) -> None:
    sampler = NegativeSampler(SUPPORT, alpha, seed=7)
    p = np.array(weights) / sum(weights)
    np.testing.assert_allclose(np.exp(sampler.log_p), p)
    n_draws = 400_000
    drawn = np.bincount(sampler.draw(2000, epoch=1, first_step=0, n_steps=200).ravel(), minlength=5)
    assert (np.abs(drawn - n_draws * p) <= 5 * np.sqrt(n_draws * p * (1 - p)) + 1).all()


def test_a_steps_draws_depend_on_seed_epoch_and_step_alone() -> None:
    sampler = NegativeSampler(SUPPORT, 0.5, seed=7)
    all_steps = sampler.draw(13, epoch=2, first_step=0, n_steps=9)
    np.testing.assert_array_equal(sampler.draw(13, epoch=2, first_step=4, n_steps=3), all_steps[4:7])
    np.testing.assert_array_equal(NegativeSampler(SUPPORT, 0.5, seed=7).draw(13, epoch=2, first_step=0, n_steps=9), all_steps)
    assert (sampler.draw(13, epoch=3, first_step=0, n_steps=9) != all_steps).any()
    assert (NegativeSampler(SUPPORT, 0.5, seed=8).draw(13, epoch=2, first_step=0, n_steps=9) != all_steps).any()
    assert (all_steps[0] != all_steps[1]).any()


def test_no_sample_gives_no_column() -> None:
    assert NegativeSampler(SUPPORT, 0.5, seed=7).draw(0, epoch=1, first_step=0, n_steps=3).shape == (3, 0)


def test_a_single_item_is_always_drawn() -> None:
    assert (NegativeSampler(np.array([3]), 0.7, seed=0).draw(5, epoch=1, first_step=0, n_steps=2) == 0).all()
