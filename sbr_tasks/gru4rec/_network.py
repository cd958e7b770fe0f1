"""The training step of GRU4Rec in TensorFlow. Only `training.train` imports this module: importing TensorFlow takes seconds.

A step touches a *block* of a few thousand rows of the item tables (see `batches`): it gathers them, computes loss, gradients
and updated rows, and writes them back. All steps of a chunk are one program, compiled by XLA. XLA updates a table in place as
long as a step has only one operation that writes to it; with two, it copied the whole table.

Gradients are written by hand: there is no backpropagation through time, so each takes a few lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sbr_tasks.gru4rec._tensorflow import tf
from sbr_tasks.gru4rec.batches import Chunk
from sbr_tasks.gru4rec.weights import TABLES, Floats, array_shapes, has_embedding, input_width
from sbr_tasks.settings import ModelSettings

Tensor = Any
Slots = list[Tensor]
"""A parameter and its optimiser state, all of one shape: value, sum of squared gradients, and velocity if there is momentum."""

State = tuple[list[Tensor], dict[str, Slots], dict[str, Slots]]
"""What a step updates: hidden states by layer, slots of the layers' parameters by name, slots of the tables by name."""

_EPSILON = 1e-6
_BPR_EPSILON = 1e-24


@dataclass(frozen=True)
class _LayerPass:
    """One step of a layer: its input, its output, and the intermediate values that the gradients need."""

    x: Tensor
    h: Tensor
    update: Tensor
    reset: Tensor
    candidate: Tensor
    state_candidate: Tensor
    keep: Tensor | None
    out: Tensor


class Network:
    """Weights, optimiser state and hidden states, and the training steps that update them."""

    def __init__(self, model: ModelSettings, n_items: int, n_lanes: int, *, seed: int, compiled: bool) -> None:
        """
        Args:
            model: The hyperparameters.
            n_items: Items in the tables.
            n_lanes: Sessions trained in parallel.
            seed: Seed of the initial weights and of dropout.
            compiled: Compile the loop over the steps with XLA: it takes one or two seconds, and steps are several times faster.
        """
        self._model = model
        self._n_lanes = n_lanes
        self._seed = seed
        self._n_slots = 3 if model.momentum else 2
        self._tables: dict[str, Slots] = {}
        self._dense: dict[str, Slots] = {}
        for name, array in initial_arrays(model, n_items, seed=seed).items():
            if name in TABLES:
                spare_row = np.zeros((1, *array.shape[1:]), np.float32)
                self._tables[name] = [tf.constant(slot) for slot in self._slots(np.concatenate([array, spare_row]))]
            else:
                self._dense[name] = [tf.constant(slot) for slot in self._slots(array)]
        self._hidden = [tf.zeros((n_lanes, units)) for units in model.layers]
        self._max_steps = 0
        self._run = tf.function(self._loop, autograph=False, jit_compile=compiled)
        self._masks = tf.function(self._draw_masks, autograph=False, jit_compile=compiled)

    def train(self, chunk: Chunk, *, epoch: int) -> npt.NDArray[np.float32]:
        """Trains the steps of a chunk.

        Returns:
            Shape `(n_steps,)`; the loss of each step, summed over its events.
        """
        n_steps = len(chunk.rows)
        # Each new length would trigger a compilation, so chunks are padded to the longest one.
        self._max_steps = max(self._max_steps, n_steps)
        arrays = [tf.constant(np.pad(a, [(0, self._max_steps - n_steps), *[(0, 0)] * (a.ndim - 1)])) for a in chunk[:-1]]
        numbers = (tf.constant(n_steps), tf.constant(chunk.first_step, tf.int64), tf.constant(epoch, tf.int64))
        state = (self._hidden, self._dense, self._tables)
        (self._hidden, self._dense, self._tables), losses = self._run(state, arrays, *numbers)
        return np.asarray(losses.numpy()[:n_steps])

    def slots(self) -> dict[str, Floats]:
        """A copy of all parameters and optimiser state: everything that the next epoch depends on; see the module `slots`."""
        parameters = self._tables | self._dense
        return {f"{name}.{i}": slot.numpy() for name, slots in parameters.items() for i, slot in enumerate(slots)}

    def restore(self, slots: Mapping[str, Floats]) -> None:
        """Loads the slots of a network of the same shape."""
        for parameters in (self._tables, self._dense):
            for name in parameters:
                parameters[name] = [tf.constant(slots[f"{name}.{i}"]) for i in range(self._n_slots)]

    def dropout_masks(self, epoch: int, step: int) -> list[Tensor | None]:
        """Dropout masks of a step, by which the input and each layer's state are multiplied: 0, or 1 / (1 - p).

        Args:
            epoch: From 1.
            step: Within the epoch, from 0.

        Returns:
            Masks of shape `(B, width)` for the input, then for each layer; None without dropout.
        """
        masks: list[Tensor | None] = self._masks(tf.constant(epoch, tf.int64), tf.constant(step, tf.int64))
        return masks

    def _draw_masks(self, epoch: Tensor, step: Tensor) -> list[Tensor | None]:
        rates = [self._model.dropout_p_embed, *[self._model.dropout_p_hidden] * len(self._model.layers)]
        widths = [input_width(self._model), *self._model.layers]
        masks: list[Tensor | None] = []
        for place, (p, width) in enumerate(zip(rates, widths, strict=True)):
            seed = tf.stack([epoch * 2**31 + self._seed, step + (place << 40)])
            uniform = tf.random.stateless_uniform((self._n_lanes, width), seed, alg="philox") if p else None
            masks.append(None if uniform is None else tf.where(uniform < p, 0.0, 1 / (1 - p)))
        return masks

    def _slots(self, array: Floats) -> list[Floats]:
        return [array] + [np.zeros_like(array)] * (self._n_slots - 1)

    def _loop(self, state: State, arrays: list[Tensor], n_steps: Tensor, first: Tensor, epoch: Tensor) -> tuple[State, Tensor]:
        """The first `n_steps` steps of a chunk; `arrays` are a `Chunk`'s. Returns the state after them, and loss by step."""

        def turn(t: Tensor, state: State, losses: Tensor) -> Any:
            masks = self._draw_masks(epoch, first + tf.cast(t, tf.int64))
            state, loss = self._step(state, [array[t] for array in arrays], masks)
            return t + 1, state, losses.write(t, loss)

        losses = tf.TensorArray(tf.float32, arrays[0].shape[0], element_shape=())
        _, state, losses = tf.while_loop(
            lambda t, *_: t < n_steps, turn, (tf.constant(0), state, losses), parallel_iterations=1
        )
        return state, losses.stack()

    def _step(self, state: State, batch: list[Tensor], masks: list[Tensor | None]) -> tuple[State, Tensor]:
        """One step; `batch` is a step of a `Chunk`. Returns the state after it, and the loss summed over the lanes."""
        hidden, dense, tables = state
        rows, *lanes = batch
        n_columns = lanes[0].shape[0]
        parts = {"output_table": rows, "output_bias": rows[:n_columns]}
        if "input_table" in tables:
            parts = {"output_table": rows[:n_columns], "output_bias": rows[:n_columns], "input_table": rows[n_columns:]}
        block = {name: [tf.gather(slot, part) for slot in tables[name]] for name, part in parts.items()}
        values = {name: slots[0] for name, slots in (dense | block).items()}
        hidden, gradients, loss = self._gradients(hidden, values, lanes, masks)
        dense = {name: self._update(slots, gradients[name]) for name, slots in dense.items()}
        # Rows are distinct except for the spare row, whose value never changes, so the order of writes doesn't matter.
        tables = {
            name: [
                tf.tensor_scatter_nd_update(slot, part[:, None], after)
                for slot, after in zip(tables[name], self._update(block[name], gradients[name]), strict=True)
            ]
            for name, part in parts.items()
        }
        return (hidden, dense, tables), loss

    def _gradients(
        self, hidden: list[Tensor], values: dict[str, Tensor], batch: list[Tensor], masks: list[Tensor | None]
    ) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
        """Gradients of a step.

        Args:
            hidden: `(B, units)` for each layer, before the step.
            values: The layers' parameters, and the block's rows of each table, by name.
            batch: `offsets (C,)`, `inputs (B,)`, `targets (B,)`, `target_offsets (B,)`, `starts_session (B,)` of a `Chunk`.
            masks: As `dropout_masks` returns them.

        Returns:
            Hidden states after the step, gradients shaped and named as `values`, and the loss summed over the lanes.
        """
        offsets, inputs, targets, target_offsets, starts_session = batch
        n_columns, model = offsets.shape[0], self._model
        shared = "input_table" not in values
        input_rows = inputs if shared else inputs - n_columns
        x = _times(tf.gather(values["output_table" if shared else "input_table"], input_rows), masks[0])
        passes: list[_LayerPass] = []
        for i, before in enumerate(hidden):
            h = tf.where(starts_session[:, None], 0.0, before)
            passes.append(gru_forward(x, h, _params_of_layer(values, i), masks[1 + i]))
            x = passes[-1].out

        rows = values["output_table"][:n_columns]
        # Scores have shape (C, B): XLA multiplies such matrices faster than their transposes.
        scores = tf.matmul(rows, x, transpose_b=True) + values["output_bias"][:, None]
        scale = 1 / model.batch_size
        if model.loss == "bpr-max":
            loss, d_scores = _bpr_max(scores, offsets, targets, scale, model.bpreg, model.elu_param)
        else:
            loss, d_scores = _cross_entropy(scores + offsets[:, None], targets, target_offsets, scale)

        d_out = tf.matmul(d_scores, rows, transpose_a=True)
        gradients: dict[str, Tensor] = {}
        for i, layer in reversed(list(enumerate(passes))):
            d_out, d_layer = gru_backward(layer, d_out, _params_of_layer(values, i))
            gradients |= {f"gru{i}_{name}": gradient for name, gradient in d_layer.items()}
        d_input, places = _times(d_out, masks[0]), input_rows[:, None]

        d_rows = d_scores @ x
        if shared:
            d_rows = tf.tensor_scatter_nd_add(tf.pad(d_rows, [[0, self._n_lanes], [0, 0]]), places, d_input)
        else:
            gradients["input_table"] = tf.scatter_nd(places, d_input, values["input_table"].shape)
        return (
            [layer.out for layer in passes],
            gradients | {"output_table": d_rows, "output_bias": tf.reduce_sum(d_scores, 1)},
            loss,
        )

    def _update(self, slots: Slots, gradient: Tensor) -> Slots:
        """One step of Adagrad, with momentum if it is set."""
        value, squares, *velocity = slots
        squares += gradient * gradient
        change = -self._model.learning_rate * gradient * tf.math.rsqrt(squares + _EPSILON)
        if velocity:
            change += self._model.momentum * velocity[0]
            return [value + change, squares, change]
        return [value + change, squares]


def initial_arrays(model: ModelSettings, n_items: int, *, seed: int) -> dict[str, Floats]:
    """Initial weights: uniform within +-sqrt(6 / (in + out)) (Glorot & Bengio 2010), separately for each gate; biases are 0."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    arrays = {}
    for name, shape in array_shapes(model, n_items).items():
        if len(shape) == 1:
            arrays[name] = np.zeros(shape, np.float32)
            continue
        is_gates = name not in TABLES or (name == "input_table" and not has_embedding(model))
        n_out = shape[1] // 3 if is_gates else shape[1]
        limit = np.sqrt(6 / (shape[0] + n_out))
        arrays[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return arrays


def _cross_entropy(scores: Tensor, targets: Tensor, target_offsets: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy of `n` lanes over a step's columns.

    Args:
        scores: `(C, n)`, with the columns' offsets added.
        targets: `(n,)`; column of each lane's target, -1 in lanes that have run out.
        target_offsets: `(n,)`; added to the target's own score.
        scale: Factor for the gradient.

    Returns:
        The loss summed over the lanes, and `scale` times its gradient with respect to `scores`.
    """
    is_active = targets >= 0
    highest = tf.reduce_max(scores, 0)
    weights = tf.exp(scores - highest)
    total = tf.reduce_sum(weights, 0)
    own = tf.gather_nd(scores, tf.stack([tf.maximum(targets, 0), tf.range(scores.shape[1])], 1)) + target_offsets
    losses = tf.where(is_active, tf.math.log(total) + highest - own, 0.0)
    d_scores = weights * (tf.where(is_active, scale, 0.0) / total) - tf.where(_is_target(scores, targets), scale, 0.0)
    return tf.reduce_sum(losses), d_scores


def _bpr_max(
    scores: Tensor, offsets: Tensor, targets: Tensor, scale: float, bpreg: float, elu_param: float
) -> tuple[Tensor, Tensor]:
    """BPR-max of `n` lanes over a step's columns, with score regularisation (Hidasi & Karatzoglou 2018, section 3).

    A lane's negatives are all targets and samples of the batch but its own target; an item that occurs m times counts m times.

    Args:
        scores: `(C, n)`.
        offsets: `(C,)`; log of how often each column's item occurs in the batch.
        targets: `(n,)`; column of each lane's target, -1 in lanes that have run out.
        scale: Factor for the gradient.
        bpreg: Weight of the regularisation.
        elu_param: Alpha of the ELU applied to the scores; 0 for none.

    Returns:
        The loss summed over the lanes, and `scale` times its gradient with respect to `scores`.
    """
    is_active = targets >= 0
    is_target = _is_target(scores, targets)
    r = tf.where(scores >= 0, scores, elu_param * tf.math.expm1(tf.minimum(scores, 0.0))) if elu_param else scores
    own = tf.reduce_sum(tf.where(is_target, r, 0.0), 0)
    n_negatives = tf.exp(offsets)[:, None] - tf.cast(is_target, tf.float32)
    highest = tf.reduce_max(tf.where(n_negatives > 0, r, r.dtype.min), 0)
    weights = n_negatives * tf.exp(tf.minimum(r - highest, 0.0))
    p = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, 0))
    beats = tf.sigmoid(own - r)
    mean_beats = tf.reduce_sum(p * beats, 0)
    mean_square = tf.reduce_sum(p * r * r, 0)
    losses = bpreg * mean_square - tf.math.log(mean_beats + _BPR_EPSILON)

    d_mean_beats = -1 / (mean_beats + _BPR_EPSILON)
    d_own = d_mean_beats * tf.reduce_sum(p * beats * (1 - beats), 0)
    d_r = p * (d_mean_beats * (beats * beats - mean_beats) + bpreg * (r * (r + 2) - mean_square))
    d_r += tf.where(is_target, d_own, 0.0)
    d_scores = tf.where(scores >= 0, d_r, d_r * (r + elu_param)) if elu_param else d_r
    return tf.reduce_sum(tf.where(is_active, losses, 0.0)), d_scores * tf.where(is_active, scale, 0.0)


def _is_target(scores: Tensor, targets: Tensor) -> Tensor:
    return tf.range(scores.shape[0])[:, None] == targets


def gru_forward(x: Tensor, h: Tensor, params: Mapping[str, Tensor], keep: Tensor | None) -> _LayerPass:
    """One step of a GRU layer; `x` is `(B, d_in)`, `h` is `(B, d)`. See `weights.GRULayer` for equations and parameters."""
    from_input = (x @ params["kernel"] if "kernel" in params else x) + params["bias"]
    from_state = h @ params["recurrent"]
    in_z, in_r, in_c = tf.split(from_input, 3, 1)
    st_z, st_r, st_c = tf.split(from_state, 3, 1)
    z, r = tf.sigmoid(in_z + st_z), tf.sigmoid(in_r + st_r)
    c = tf.tanh(in_c + r * st_c)
    return _LayerPass(x, h, z, r, c, st_c, keep, _times(z * h + (1 - z) * c, keep))


def gru_backward(layer: _LayerPass, d_out: Tensor, params: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of one step with respect to the layer's input `(B, d_in)`, and to its parameters by name."""
    z, r, c = layer.update, layer.reset, layer.candidate
    d_new = _times(d_out, layer.keep)
    d_z = d_new * (layer.h - c) * z * (1 - z)
    d_c = d_new * (1 - z) * (1 - c * c)
    d_r = d_c * layer.state_candidate * r * (1 - r)
    d_input, d_state = tf.concat([d_z, d_r, d_c], 1), tf.concat([d_z, d_r, d_c * r], 1)
    d_params = {"recurrent": tf.matmul(layer.h, d_state, transpose_a=True), "bias": tf.reduce_sum(d_input, 0)}
    if "kernel" not in params:
        return d_input, d_params
    d_params["kernel"] = tf.matmul(layer.x, d_input, transpose_a=True)
    return tf.matmul(d_input, params["kernel"], transpose_b=True), d_params


def _params_of_layer(dense: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
    prefix = f"gru{i}_"
    return {name.removeprefix(prefix): value for name, value in dense.items() if name.startswith(prefix)}


def _times(values: Tensor, keep: Tensor | None) -> Tensor:
    return values if keep is None else values * keep
