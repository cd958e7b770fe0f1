"""One training step against a plain double-precision model whose gradients are taken numerically."""

from collections.abc import Callable

import numpy as np
import pytest

from sbr_tasks.gru4rec.batches import Batches
from sbr_tasks.gru4rec.sampling import NegativeSampler
from sbr_tasks.gru4rec.schedule import plan_batches
from sbr_tasks.gru4rec.slots import weights_of
from sbr_tasks.settings import ModelSettings
from sbr_tasks.window.sessions import ItemIndex

pytestmark = pytest.mark.slow

SEED = 11
OFFSETS = np.array([0, 4, 7, 10, 12])
ITEMS = np.array([0, 1, 2, 1, 3, 1, 1, 2, 0, 4, 4, 1], np.int32)
SUPPORT = np.array([2, 5, 2, 1, 2, 30])
INDEX = ItemIndex(np.arange(len(SUPPORT)), SUPPORT)
Arrays = dict[str, np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def states(arrays: Arrays, hidden: list[np.ndarray], items: np.ndarray, masks: list[np.ndarray]) -> list[np.ndarray]:
    """Hidden states after one click; `masks` are what dropout multiplies the input and each state with."""
    x = arrays.get("input_table", arrays["output_table"])[items] * masks[0]
    after = []
    for i, h in enumerate(hidden):
        d = h.shape[1]
        x = x @ arrays[f"gru{i}_kernel"] if f"gru{i}_kernel" in arrays else x
        from_input, from_state = x + arrays[f"gru{i}_bias"], h @ arrays[f"gru{i}_recurrent"]
        z = sigmoid(from_input[:, :d] + from_state[:, :d])
        r = sigmoid(from_input[:, d : 2 * d] + from_state[:, d : 2 * d])
        c = np.tanh(from_input[:, 2 * d :] + r * from_state[:, 2 * d :])
        x = (z * h + (1 - z) * c) * masks[1 + i]
        after.append(x)
    return after


def summed_loss(model: ModelSettings, arrays: Arrays, top: np.ndarray, targets: np.ndarray, samples: np.ndarray) -> float:
    """The loss with one column an occurrence: the targets of the batch, then the samples."""
    columns = np.concatenate([targets, samples]) if model.n_sample else np.arange(len(SUPPORT))
    scores = top @ arrays["output_table"][columns].T + arrays["output_bias"][columns]
    lanes = np.arange(len(targets))
    own = lanes if model.n_sample else targets
    if model.loss == "bpr-max":
        return sum(bpr_max(model, scores[lane], own[lane]) for lane in lanes)
    if model.n_sample:
        correction = np.concatenate([np.log(SUPPORT[targets]), model.sample_alpha * np.log(SUPPORT[samples])])
        scores = scores - model.logq * correction
    return float((np.log(np.exp(scores).sum(axis=1)) - scores[lanes, own]).sum())


def bpr_max(model: ModelSettings, scores: np.ndarray, own: int) -> float:
    r = np.where(scores >= 0, scores, model.elu_param * np.expm1(scores)) if model.elu_param else scores
    negatives = np.delete(r, own)
    p = np.exp(negatives) / np.exp(negatives).sum()
    return float(model.bpreg * (p * negatives**2).sum() - np.log((p * sigmoid(r[own] - negatives)).sum() + 1e-24))


def numerical_gradient(loss: Callable[[Arrays], float], arrays: Arrays) -> Arrays:
    gradients = {name: np.zeros_like(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        for place in np.ndindex(array.shape):
            kept, values = array[place], []
            for shift in (1e-5, -1e-5):
                array[place] = kept + shift
                values.append(loss(arrays))
            array[place] = kept
            gradients[name][place] = (values[0] - values[1]) / 2e-5
    return gradients


CASES = {
    "shared table": {"momentum": 0.3, "dropout_p_embed": 0.4, "dropout_p_hidden": 0.25},
    "shared table, compiled": {"momentum": 0.3, "dropout_p_embed": 0.4},
    "separate tables, stacked": {"constrained_embedding": False, "embedding": 4, "layers": (3, 2), "dropout_p_hidden": 0.3},
    "no embedding, stacked, compiled": {"constrained_embedding": False, "layers": (3, 2), "dropout_p_embed": 0.4},
    "bpr-max": {"loss": "bpr-max", "bpreg": 0.7, "dropout_p_embed": 0.4, "momentum": 0.2},
    "bpr-max without ELU, compiled": {"loss": "bpr-max", "elu_param": 0.0, "bpreg": 1.9},
    "bpr-max over all items": {"loss": "bpr-max", "n_sample": 0, "constrained_embedding": False, "embedding": "layersize"},
    "full softmax, no correction": {"n_sample": 0, "logq": 0.0},
    "full softmax, separate tables": {"n_sample": 0, "constrained_embedding": False, "momentum": 0.2},
}


@pytest.mark.parametrize("case", CASES)
def test_steps_equal_a_plain_model_with_numerical_gradients(case: str) -> None:
    from sbr_tasks.gru4rec._network import Network, initial_arrays

    base = {"layers": (3,), "batch_size": 2, "n_sample": 7, "dropout_p_embed": 0.0, "dropout_p_hidden": 0.0}
    model = ModelSettings(**{**base, "learning_rate": 0.2, **CASES[case]})
    schedule = plan_batches(OFFSETS, model.batch_size)
    network = Network(model, len(SUPPORT), schedule.n_lanes, seed=SEED, compiled="compiled" in case)
    (chunk,) = Batches(schedule, ITEMS, SUPPORT, model, seed=SEED).epoch(1)
    losses = network.train(chunk, epoch=1)

    arrays = {name: a.astype(float) for name, a in initial_arrays(model, len(SUPPORT), seed=SEED).items()}
    squares = {name: np.zeros_like(array) for name, array in arrays.items()}
    velocity = {name: np.zeros_like(array) for name, array in arrays.items()}
    hidden = [np.zeros((schedule.n_lanes, units)) for units in model.layers]
    all_samples = NegativeSampler(SUPPORT, model.sample_alpha, seed=SEED)
    for t in range(schedule.n_steps):
        events = slice(*schedule.step_offsets[t : t + 2])
        clicks, starts = schedule.clicks[events], schedule.starts_session[events]
        n = len(clicks)
        inputs, targets = ITEMS[clicks], ITEMS[clicks + 1]
        samples = all_samples.draw(model.n_sample, epoch=1, first_step=t, n_steps=1)[0]
        before = [np.where(starts[:, None], 0, h[:n]) for h in hidden]
        masks = [np.ones(1) if m is None else m.numpy()[:n].astype(float) for m in network.dropout_masks(1, t)]

        def loss(
            a: Arrays,
            before: list[np.ndarray] = before,
            inputs: np.ndarray = inputs,
            targets: np.ndarray = targets,
            samples: np.ndarray = samples,
            masks: list[np.ndarray] = masks,
        ) -> float:
            return summed_loss(model, a, states(a, before, inputs, masks)[-1], targets, samples)

        assert losses[t] == pytest.approx(loss(arrays), rel=1e-4)
        hidden = states(arrays, before, inputs, masks)
        touched = {
            "output_table": np.concatenate([targets, samples, inputs if model.constrained_embedding else []]).astype(int),
            "output_bias": np.concatenate([targets, samples]),
            "input_table": inputs,
        }
        for name, gradient in numerical_gradient(loss, arrays).items():
            rows = np.unique(touched[name]) if name in touched and (model.n_sample or name == "input_table") else slice(None)
            g = gradient[rows] / model.batch_size  # also in the tail, where the batch is smaller
            squares[name][rows] += g**2
            change = model.momentum * velocity[name][rows] - model.learning_rate * g / np.sqrt(squares[name][rows] + 1e-6)
            velocity[name][rows] = change
            arrays[name][rows] += change

    assert schedule.n_steps > 3
    for name, array in weights_of(network.slots(), model, INDEX).arrays().items():
        np.testing.assert_allclose(array, arrays[name], rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("compiled", [False, True])
def test_an_epoch_in_chunks_of_unequal_length_gives_the_same_weights(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from sbr_tasks.gru4rec._network import Network

    model = ModelSettings(layers=(3,), batch_size=2, n_sample=7)
    schedule = plan_batches(OFFSETS, 2)
    found = []
    for n_steps in (256, 3):
        monkeypatch.setattr("sbr_tasks.gru4rec.batches._MAX_STEPS_PER_CHUNK", n_steps)
        network = Network(model, len(SUPPORT), schedule.n_lanes, seed=SEED, compiled=compiled)
        chunks = list(Batches(schedule, ITEMS, SUPPORT, model, seed=SEED).epoch(1))
        losses = np.concatenate([network.train(chunk, epoch=1) for chunk in chunks])
        found.append({"losses": losses, **network.slots()})
    assert len(chunks) > 1
    assert len(chunks[-1].rows) < len(chunks[0].rows)
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name], err_msg=name)


def test_initial_weights_fill_the_glorot_range_of_each_gate_block() -> None:
    from sbr_tasks.gru4rec._network import initial_arrays

    model = ModelSettings(layers=(50, 20), constrained_embedding=False, embedding=30)
    arrays = initial_arrays(model, 400, seed=1)
    no_embedding = initial_arrays(model.model_copy(update={"embedding": 0}), 400, seed=1)["input_table"]
    assert np.abs(no_embedding).max() == pytest.approx(np.sqrt(6 / (400 + 50)), rel=0.02)
    limits = {"output_table": (400, 20), "input_table": (400, 30), "gru0_kernel": (30, 50), "gru0_recurrent": (50, 50)}
    limits |= {"gru1_kernel": (50, 20), "gru1_recurrent": (20, 20)}
    for name, (n_in, n_out) in limits.items():
        limit = np.sqrt(6 / (n_in + n_out))
        assert 0.98 * limit < np.abs(arrays[name]).max() <= limit
        assert abs(arrays[name].mean()) < 0.1 * limit
    for name in ("output_bias", "gru0_bias", "gru1_bias"):
        assert not arrays[name].any()
    assert (initial_arrays(model, 400, seed=2)["gru0_kernel"] != arrays["gru0_kernel"]).all()


def test_dropout_drops_its_share_and_scales_up_the_rest() -> None:
    from sbr_tasks.gru4rec._network import Network

    model = ModelSettings(layers=(40, 40), dropout_p_embed=0.4, dropout_p_hidden=0.2)
    network = Network(model, 5, 100, seed=SEED, compiled=False)
    steps = [[m.numpy() for m in network.dropout_masks(e, t)] for e, t in [(1, 0), (1, 1), (2, 0)]]
    for masks in steps:
        for mask, p in zip(masks, [0.4, 0.2, 0.2], strict=True):
            assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / (1 - p))}
            assert (mask == 0).mean() == pytest.approx(p, abs=0.04)
        assert (masks[1] != masks[2]).any(), "each layer has its own"
    assert all((a[0] != b[0]).any() for i, a in enumerate(steps) for b in steps[:i]), "each epoch and step has its own"


def test_without_dropout_nothing_is_drawn() -> None:
    from sbr_tasks.gru4rec._network import Network

    network = Network(ModelSettings(layers=(4,), dropout_p_embed=0, dropout_p_hidden=0), 5, 3, seed=SEED, compiled=False)
    assert network.dropout_masks(1, 0) == [None, None]


def test_bpr_max_of_far_apart_scores_is_finite_and_without_a_negative_there_is_nothing_to_learn() -> None:
    import tensorflow as tf

    from sbr_tasks.gru4rec._network import _bpr_max

    scores, targets = tf.constant([[200.0, -200.0], [-200.0, 200.0], [100.0, 0.0]]), tf.constant([0, 0])
    loss, gradient = _bpr_max(scores, tf.zeros(3), targets, 1.0, 0.0, 0.0)
    assert float(loss) == pytest.approx(-np.log(1e-24), rel=1e-4)
    assert np.isfinite(gradient.numpy()).all()
    loss, gradient = _bpr_max(scores, tf.constant([0.0, -np.inf, -np.inf]), targets, 1.0, 1.0, 0.5)
    assert not gradient.numpy().any()
