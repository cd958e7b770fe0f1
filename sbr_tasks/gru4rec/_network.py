"""The training step of GRU4Rec in TensorFlow. Only `training.train` imports this module: importing TensorFlow takes seconds.

A step touches a *block* of a few thousand rows of the item tables (see `batches`). The rows are gathered, one program compiled
by XLA computes loss, gradients and updated rows, and the rows are written back. The loop over the steps of a chunk is a plain
TensorFlow loop: XLA would copy the whole tables in every turn.

Gradients are written out by hand: there is no gradient through time, so each is a few lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf  # noqa: TID253 - imported lazily as a whole, see above

from sbr_tasks.gru4rec.batches import Chunk
from sbr_tasks.gru4rec.weights import TABLES, Floats, array_shapes, has_embedding, input_width
from sbr_tasks.settings import ModelSettings

Tensor = Any
Slots = list[Tensor]
"""A parameter and the optimiser's memory of it, in one shape: value, squared gradients, and velocity if there is momentum."""

_EPSILON = 1e-6
_BPR_EPSILON = 1e-24


@dataclass(frozen=True)
class _LayerPass:
    """One step of a layer: what went in, what came out, and what the gradients need in between."""

    x: Tensor
    h: Tensor
    update: Tensor
    reset: Tensor
    candidate: Tensor
    state_candidate: Tensor
    keep: Tensor | None
    out: Tensor


class Network:
    """Weights, optimiser and hidden states, and the steps that change them."""

    def __init__(self, model: ModelSettings, n_items: int, n_lanes: int, *, seed: int, compiled: bool) -> None:
        """
        Args:
            model: The hyperparameters.
            n_items: Items in the tables.
            n_lanes: Sessions side by side.
            seed: Initial weights and dropout are drawn from it.
            compiled: Compile the step with XLA: several times faster, after one or two seconds.
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
                self._tables[name] = [tf.Variable(slot) for slot in self._slots(np.concatenate([array, spare_row]))]
            else:
                self._dense[name] = [tf.constant(slot) for slot in self._slots(array)]
        self._hidden = [tf.zeros((n_lanes, units)) for units in model.layers]
        self._run = tf.function(self._loop, autograph=False)
        self._step = tf.function(self._one_step, autograph=False, jit_compile=compiled)

    def train(self, chunk: Chunk, *, epoch: int) -> npt.NDArray[np.float32]:
        """Trains the steps of a chunk.

        Returns:
            Shape `(n_steps,)`; the loss of each step, summed over its events.
        """
        arrays = [tf.constant(array) for array in chunk[:-1]]
        first = tf.constant(chunk.first_step, tf.int64)
        self._hidden, self._dense, losses = self._run(self._hidden, self._dense, arrays, first, tf.constant(epoch, tf.int64))
        return np.asarray(losses.numpy())

    def slots(self) -> dict[str, Floats]:
        """A copy of every parameter and of the optimiser's memory: all that the next epoch depends on; see `slots`."""
        parameters = self._tables | self._dense
        return {f"{name}.{i}": slot.numpy() for name, slots in parameters.items() for i, slot in enumerate(slots)}

    def restore(self, slots: Mapping[str, Floats]) -> None:
        """Takes over what `slots` of an equally shaped network gave."""
        for name, variables in self._tables.items():
            for i, variable in enumerate(variables):
                variable.assign(slots[f"{name}.{i}"])
        self._dense = {name: [tf.constant(slots[f"{name}.{i}"]) for i in range(self._n_slots)] for name in self._dense}

    def dropout_masks(self, epoch: Tensor, step: Tensor) -> list[Tensor | None]:
        """What a step's dropout multiplies the input and each layer's state with: 0, or 1 / (1 - p).

        Args:
            epoch: From 1, int64.
            step: Within the epoch, from 0, int64.

        Returns:
            `(B, width)` for the input, then for each layer; None where nothing is dropped.
        """
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

    def _loop(self, hidden: list[Tensor], dense: dict[str, Slots], arrays: list[Tensor], first: Tensor, epoch: Tensor) -> Any:
        """All steps of a chunk; `arrays` are a `Chunk`'s. Returns hidden states, dense slots, loss by step."""
        n_steps = tf.shape(arrays[0])[0]
        n_columns = arrays[1].shape[1]

        def turn(t: Tensor, hidden: list[Tensor], dense: dict[str, Slots], losses: Tensor) -> Any:
            rows, *batch = (array[t] for array in arrays)
            parts = {"output_table": rows, "output_bias": rows[:n_columns]}
            if "input_table" in self._tables:
                parts = {"output_table": rows[:n_columns], "output_bias": rows[:n_columns], "input_table": rows[n_columns:]}
            block = {name: [tf.gather(slot, part) for slot in self._tables[name]] for name, part in parts.items()}
            # Drawn here, because XLA draws other numbers from the same seed.
            masks = self.dropout_masks(epoch, first + tf.cast(t, tf.int64))
            hidden, dense, block, loss = self._step(hidden, dense, block, batch, masks)
            # The rows are distinct, but for the spare one, whose copies all write what was there: no order matters.
            for name, part in parts.items():
                for slot, value in zip(self._tables[name], block[name], strict=True):
                    slot.scatter_update(tf.IndexedSlices(value, part))
            return t + 1, hidden, dense, losses.write(t, loss)

        losses = tf.TensorArray(tf.float32, n_steps)
        state = (tf.constant(0), hidden, dense, losses)
        _, hidden, dense, losses = tf.while_loop(lambda t, *_: t < n_steps, turn, state, parallel_iterations=1)
        return hidden, dense, losses.stack()

    def _one_step(
        self,
        hidden: list[Tensor],
        dense: dict[str, Slots],
        block: dict[str, Slots],
        batch: list[Tensor],
        masks: list[Tensor | None],
    ) -> tuple[list[Tensor], dict[str, Slots], dict[str, Slots], Tensor]:
        """Loss and update of one step.

        Args:
            hidden: `(B, units)` a layer, before the step.
            dense: Slots of the layers' parameters, by name.
            block: Slots of the gathered rows of each table.
            batch: `offsets (C,)`, `inputs (B,)`, `targets (B,)`, `target_offsets (B,)`, `starts_session (B,)` of a `Chunk`.
            masks: Of `dropout_masks`.

        Returns:
            Hidden states, dense slots and block after the step, and the loss summed over the lanes.
        """
        offsets, inputs, targets, target_offsets, starts_session = batch
        n_columns = offsets.shape[0]
        shared = "input_table" not in block
        input_slots = block["output_table"] if shared else block["input_table"]
        input_rows = inputs if shared else inputs - n_columns
        output_rows, output_bias = block["output_table"][0][:n_columns], block["output_bias"][0]

        x = _times(tf.gather(input_slots[0], input_rows), masks[0])
        passes: list[_LayerPass] = []
        for i, before in enumerate(hidden):
            h = tf.where(starts_session[:, None], 0.0, before)
            passes.append(gru_forward(x, h, _values_of_layer(dense, i), masks[1 + i]))
            x = passes[-1].out

        scores = tf.matmul(x, output_rows, transpose_b=True) + output_bias
        scale = 1 / self._model.batch_size
        if self._model.loss == "bpr-max":
            loss, d_scores = _bpr_max(scores, offsets, targets, scale, self._model.bpreg, self._model.elu_param)
        else:
            loss, d_scores = _cross_entropy(scores + offsets, targets, target_offsets, scale)

        d_out = d_scores @ output_rows
        d_dense: dict[str, Tensor] = {}
        for i, layer in reversed(list(enumerate(passes))):
            d_out, d_layer = gru_backward(layer, d_out, _values_of_layer(dense, i))
            d_dense |= {f"gru{i}_{name}": gradient for name, gradient in d_layer.items()}
        d_input, places = _times(d_out, masks[0]), input_rows[:, None]

        d_output = tf.matmul(d_scores, x, transpose_a=True)
        gradients = {"output_table": d_output, "output_bias": tf.reduce_sum(d_scores, 0)}
        if shared:
            d_output = tf.pad(d_output, [[0, self._n_lanes], [0, 0]])
            gradients["output_table"] = tf.tensor_scatter_nd_add(d_output, places, d_input)
        else:
            gradients["input_table"] = tf.scatter_nd(places, d_input, input_slots[0].shape)
        return (
            [layer.out for layer in passes],
            {name: self._update(slots, d_dense[name]) for name, slots in dense.items()},
            {name: self._update(slots, gradients[name]) for name, slots in block.items()},
            loss,
        )

    def _update(self, slots: Slots, gradient: Tensor) -> Slots:
        """One step of Adagrad, with momentum if there is any."""
        value, squares, *velocity = slots
        squares += gradient * gradient
        change = -self._model.learning_rate * gradient * tf.math.rsqrt(squares + _EPSILON)
        if velocity:
            change += self._model.momentum * velocity[0]
            return [value + change, squares, change]
        return [value + change, squares]


def initial_arrays(model: ModelSettings, n_items: int, *, seed: int) -> dict[str, Floats]:
    """Weights before training: uniform within +-sqrt(6 / (in + out)), each gate's block on its own; biases 0."""
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
    """Cross-entropy over a step's columns.

    Args:
        scores: `(B, C)`, with the columns' offsets.
        targets: `(B,)`; column of each lane's target, -1 in lanes that have run out.
        target_offsets: `(B,)`; added to the target's own score.
        scale: What the gradient is multiplied with.

    Returns:
        The loss summed over the lanes, and `scale` times its gradient with respect to `scores`.
    """
    is_active = targets >= 0
    is_target = tf.range(scores.shape[1])[None, :] == targets[:, None]
    highest = tf.reduce_max(scores, 1, keepdims=True)
    weights = tf.exp(scores - highest)
    total = tf.reduce_sum(weights, 1, keepdims=True)
    own = tf.gather(scores, tf.maximum(targets, 0), batch_dims=1) + target_offsets
    losses = tf.where(is_active, tf.math.log(total[:, 0]) + highest[:, 0] - own, 0.0)
    row_scale = tf.where(is_active, scale, 0.0)[:, None] / total
    return tf.reduce_sum(losses), weights * row_scale - tf.where(is_target, scale, 0.0)


def _bpr_max(
    scores: Tensor, offsets: Tensor, targets: Tensor, scale: float, bpreg: float, elu_param: float
) -> tuple[Tensor, Tensor]:
    """BPR-max over a step's columns, with score regularisation (Hidasi & Karatzoglou 2018, section 3).

    A lane's negatives are all targets and samples of the batch but its own target; what stands there m times counts m times.

    Args:
        scores: `(B, C)`.
        offsets: `(C,)`; log of how often each column's item stands in the batch.
        targets: `(B,)`; column of each lane's target, -1 in lanes that have run out.
        scale: What the gradient is multiplied with.
        bpreg: Weight of the regularisation.
        elu_param: Alpha of the ELU that the scores go through first; 0 for none.

    Returns:
        The loss summed over the lanes, and `scale` times its gradient with respect to `scores`.
    """
    is_active = targets >= 0
    is_target = tf.range(scores.shape[1])[None, :] == targets[:, None]
    r = tf.where(scores >= 0, scores, elu_param * tf.math.expm1(tf.minimum(scores, 0.0))) if elu_param else scores
    own = tf.reduce_sum(tf.where(is_target, r, 0.0), 1, keepdims=True)
    n_negatives = tf.exp(offsets) - tf.cast(is_target, tf.float32)
    highest = tf.reduce_max(tf.where(n_negatives > 0, r, r.dtype.min), 1, keepdims=True)
    weights = n_negatives * tf.exp(tf.minimum(r - highest, 0.0))
    p = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, 1, keepdims=True))
    beats = tf.sigmoid(own - r)
    mean_beats = tf.reduce_sum(p * beats, 1, keepdims=True)
    mean_square = tf.reduce_sum(p * r * r, 1, keepdims=True)
    losses = bpreg * mean_square - tf.math.log(mean_beats + _BPR_EPSILON)

    d_mean_beats = -1 / (mean_beats + _BPR_EPSILON)
    d_own = d_mean_beats * tf.reduce_sum(p * beats * (1 - beats), 1, keepdims=True)
    d_r = p * (d_mean_beats * (beats * beats - mean_beats) + bpreg * (r * (r + 2) - mean_square))
    d_r += tf.where(is_target, d_own, 0.0)
    d_scores = tf.where(scores >= 0, d_r, d_r * (r + elu_param)) if elu_param else d_r
    return tf.reduce_sum(tf.where(is_active, losses[:, 0], 0.0)), d_scores * tf.where(is_active, scale, 0.0)[:, None]


def gru_forward(x: Tensor, h: Tensor, params: Mapping[str, Tensor], keep: Tensor | None) -> _LayerPass:
    """One step of a GRU layer, `(B, d_in)` and `(B, d)` in; see `weights.GRULayer` for equations and parameters."""
    from_input = (x @ params["kernel"] if "kernel" in params else x) + params["bias"]
    from_state = h @ params["recurrent"]
    in_z, in_r, in_c = tf.split(from_input, 3, 1)
    st_z, st_r, st_c = tf.split(from_state, 3, 1)
    z, r = tf.sigmoid(in_z + st_z), tf.sigmoid(in_r + st_r)
    c = tf.tanh(in_c + r * st_c)
    return _LayerPass(x, h, z, r, c, st_c, keep, _times(z * h + (1 - z) * c, keep))


def gru_backward(layer: _LayerPass, d_out: Tensor, params: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of one step with respect to the layer's input, and to its parameters."""
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


def _values_of_layer(dense: Mapping[str, Slots], i: int) -> dict[str, Tensor]:
    prefix = f"gru{i}_"
    return {name.removeprefix(prefix): slots[0] for name, slots in dense.items() if name.startswith(prefix)}


def _times(values: Tensor, keep: Tensor | None) -> Tensor:
    return values if keep is None else values * keep
