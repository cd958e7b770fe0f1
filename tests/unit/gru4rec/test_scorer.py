import numpy as np
import pytest

from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.weights import GRU4RecWeights, array_shapes
from sbr_tasks.settings import ModelSettings
from sbr_tasks.window.sessions import ItemIndex

N_ITEMS = 11


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        {"layers": (5,)},
        {"layers": (6, 4), "constrained_embedding": False, "embedding": 3},
        {"layers": (6, 4), "constrained_embedding": False},
    ],
)
def test_numpy_scores_equal_the_forward_pass_of_training(shape: dict[str, object]) -> None:
    import tensorflow as tf

    from sbr_tasks.gru4rec._network import gru_forward

    model = ModelSettings(**shape)
    rng = np.random.default_rng(4)
    arrays = {name: rng.normal(size=s).astype(np.float32) for name, s in array_shapes(model, N_ITEMS).items()}
    index = ItemIndex(np.arange(N_ITEMS), np.ones(N_ITEMS, np.int64))
    weights = GRU4RecWeights.from_arrays(model, index, arrays)
    scorer = GRU4RecScorer(weights)
    clicks = rng.integers(0, N_ITEMS, (4, 6)).astype(np.int32)
    state, hidden = scorer.start(4), [tf.zeros((4, units)) for units in model.layers]
    for items in clicks.T:
        scorer.advance(state, items, np.arange(4))
        x = tf.constant(weights.embedding[items])
        for i, layer in enumerate(weights.layers):
            params = {name: array for name, array in vars(layer).items() if array is not None}
            hidden[i] = x = gru_forward(x, hidden[i], params, None).out
        expected = x @ weights.output_table.T + weights.output_bias
        np.testing.assert_allclose(scorer.scores(state, np.arange(4)), expected, rtol=1e-4, atol=1e-5)


def test_large_activations_do_not_overflow() -> None:
    model = ModelSettings(layers=(3,))
    arrays = {name: np.full(s, 100, np.float32) for name, s in array_shapes(model, 2).items()}
    scorer = GRU4RecScorer(GRU4RecWeights.from_arrays(model, ItemIndex(np.arange(2), np.ones(2, np.int64)), arrays))
    state = scorer.start(1)
    with np.errstate(all="raise"):
        scorer.advance(state, np.array([0], np.int32), np.array([0]))
    assert np.isfinite(scorer.scores(state, np.array([0]))).all()
