"""GRU4Rec as a TensorFlow program that takes and returns raw item ids. Only `export` imports this module."""

from __future__ import annotations

from typing import Any

import numpy as np

from sbr_tasks.gru4rec._network import Tensor, gru_forward
from sbr_tasks.gru4rec._tensorflow import tf
from sbr_tasks.gru4rec.weights import GRU4RecWeights
from sbr_tasks.window.sessions import UNKNOWN


def serving_module(weights: GRU4RecWeights, k: int) -> Any:
    """A `tf.Module` that holds the model; its function `recommend` returns the `k` best items of each session.

    See `export.export_saved_model` for inputs and outputs.
    """
    index, k = weights.index, min(k, len(weights.index))
    id_type = tf.int64 if np.issubdtype(index.ids.dtype, np.integer) else tf.string
    module = tf.Module()
    # Variables, because a SavedModel's graph, which holds its constants, must stay below 2 GB.
    module.ids = _frozen(tf.constant(index.ids.tolist(), id_type))
    module.support = _frozen(index.support.astype(np.float32))
    module.output_table, module.output_bias = _frozen(weights.output_table), _frozen(weights.output_bias)
    module.embedding = module.output_table if weights.input_table is None else _frozen(weights.input_table)
    module.layers = [
        {name: _frozen(array) for name, array in vars(layer).items() if array is not None} for layer in weights.layers
    ]
    # No integer id is negative and no string id is empty, so padding is looked up as an unknown item.
    pairs = tf.lookup.KeyValueTensorInitializer(module.ids.read_value(), tf.range(len(index), dtype=tf.int64))
    module.index_of = tf.lookup.StaticHashTable(pairs, UNKNOWN)

    def recommend(item_ids: Tensor) -> dict[str, Tensor]:
        items = module.index_of.lookup(item_ids)
        is_known = items != UNKNOWN
        n_sessions, n_steps = tf.unstack(tf.shape(items))

        def advance(step: Tensor, hidden: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            x, after = tf.gather(module.embedding, tf.maximum(items[:, step], 0)), []
            for before, layer in zip(hidden, module.layers, strict=True):
                x = gru_forward(x, before, layer, None).out
                after.append(tf.where(is_known[:, step, None], x, before))
            return step + 1, after

        hidden = [tf.zeros((n_sessions, layer.units)) for layer in weights.layers]
        _, hidden = tf.while_loop(lambda step, _: step < n_steps, advance, (tf.constant(0), hidden))
        scores = tf.matmul(hidden[-1], module.output_table, transpose_b=True) + module.output_bias
        scores = tf.where(tf.reduce_any(is_known, 1, keepdims=True), scores, module.support)
        best = tf.math.top_k(scores, k)  # of equal scores, the lower index first
        return {"item_ids": tf.gather(module.ids, best.indices), "scores": best.values}

    sessions = tf.TensorSpec([None, None], id_type, name="item_ids")
    module.recommend = tf.function(recommend, input_signature=[sessions], autograph=False)
    return module


def _frozen(array: Any) -> Tensor:
    return tf.Variable(array, trainable=False)
