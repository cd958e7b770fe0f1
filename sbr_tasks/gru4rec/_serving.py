"""GRU4Rec as a TensorFlow program that takes and returns raw item ids. Only `export` imports this module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sbr_tasks.gru4rec._network import Tensor, gru_forward
from sbr_tasks.gru4rec._tensorflow import tf
from sbr_tasks.gru4rec.answers import UNUSED_SCORE, unused_id
from sbr_tasks.gru4rec.model import Model
from sbr_tasks.readout.covisits import CoVisits, recent_decay
from sbr_tasks.readout.mixture import Mixture, mixture_arrays
from sbr_tasks.readout.placement import HIDDEN, PlacementRule
from sbr_tasks.readout.recent import N_RECENT
from sbr_tasks.window.sessions import UNKNOWN, ItemIndex


def serving_module(model: Model, k: int, rule: PlacementRule) -> Any:
    """A `tf.Module` that holds the model; its function `recommend` returns the `k` best items of each session.

    See `export.export_saved_model` for inputs and outputs.
    """
    weights, index, k = model.weights, model.index, min(k, len(model.index))
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

    hide = _hider(module, index, rule)
    rank_by = _readout(module, model.covisits, model.mixture) if model.covisits and model.mixture else lambda scores, _: scores

    def recommend(item_ids: Tensor) -> dict[str, Tensor]:
        items = module.index_of.lookup(item_ids)
        is_known = items != UNKNOWN
        n_sessions, n_steps = tf.unstack(tf.shape(items))

        def advance(step: Tensor, hidden: list[Tensor], recent: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
            x, after = tf.gather(module.embedding, tf.maximum(items[:, step], 0)), []
            for before, layer in zip(hidden, module.layers, strict=True):
                x = gru_forward(x, before, layer, None).out
                after.append(tf.where(is_known[:, step, None], x, before))
            return step + 1, after, _advance_recent(recent, items[:, step])

        start = (
            tf.constant(0),
            [tf.zeros((n_sessions, layer.units)) for layer in weights.layers],
            tf.fill((n_sessions, N_RECENT), tf.constant(UNKNOWN, tf.int64)),
        )
        _, hidden, recent = tf.while_loop(lambda step, *_: step < n_steps, advance, start)
        scores = tf.matmul(hidden[-1], module.output_table, transpose_b=True) + module.output_bias
        scores = rank_by(scores, recent)
        scores = tf.where(tf.reduce_any(is_known, 1, keepdims=True), scores, module.support)
        best = tf.math.top_k(hide(scores, items, recent), k)  # of equal scores, the lower index first
        is_shown = best.values > HIDDEN
        return {
            "item_ids": tf.where(is_shown, tf.gather(module.ids, best.indices), unused_id(index)),
            "scores": tf.where(is_shown, best.values, UNUSED_SCORE),
        }

    sessions = tf.TensorSpec([None, None], id_type, name="item_ids")
    module.recommend = tf.function(recommend, input_signature=[sessions], autograph=False)
    return module


def _hider(module: tf.Module, index: ItemIndex, rule: PlacementRule) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """As `RuledScorer.scores`: a function of scores, `(n, n_items)`, the sessions' items, `(n, n_steps)`, and recent items."""
    is_excluded = rule.is_excluded(index)
    module.excluded = _frozen(is_excluded) if is_excluded.any() else None

    def hide(scores: Tensor, items: Tensor, recent: Tensor) -> Tensor:
        if module.excluded is not None:
            scores = tf.where(module.excluded, HIDDEN, scores)
        if rule.own_items == "allow":
            return scores
        own = recent[:, :1] if rule.own_items == "hide_current" else items
        n_sessions, n_items = tf.unstack(tf.shape(scores, tf.int64))
        places = tf.range(n_sessions)[:, None] * n_items + tf.maximum(own, 0)
        limits = tf.where(own == UNKNOWN, -HIDDEN, HIDDEN)
        flat = tf.tensor_scatter_nd_min(tf.reshape(scores, [-1]), tf.reshape(places, (-1, 1)), tf.reshape(limits, [-1]))
        return tf.reshape(flat, (n_sessions, n_items))

    return hide


def _advance_recent(recent: Tensor, items: Tensor) -> Tensor:
    """As `readout.recent.advance_recent`, for all sessions; an unknown item leaves its session unchanged."""
    is_same = recent == items[:, None]
    is_there = tf.reduce_any(is_same, 1, keepdims=True)
    was_at = tf.where(is_there, tf.argmax(tf.cast(is_same, tf.int32), 1)[:, None], N_RECENT)
    shifted = tf.concat([items[:, None], recent[:, :-1]], 1)
    moved = tf.where(tf.range(N_RECENT, dtype=tf.int64) <= was_at, shifted, recent)
    return tf.where(items[:, None] == UNKNOWN, recent, moved)


def _readout(module: tf.Module, covisits: CoVisits, mixture: Mixture) -> Callable[[Tensor, Tensor], Tensor]:
    """As `MixtureScorer.scores`: a function of the model's scores, `(n, n_items)`, and the recent items, `(n, N_RECENT)`."""
    module.neighbours, module.covisits = _frozen(covisits.neighbours.astype(np.int64)), _frozen(covisits.weights)
    numbers = mixture_arrays(mixture)
    decay = recent_decay()

    def rank_by(scores: Tensor, recent: Tensor) -> Tensor:
        n_sessions, n_items = tf.unstack(tf.shape(scores, tf.int64))
        is_own = recent != UNKNOWN
        n_distinct = tf.reduce_sum(tf.cast(is_own, tf.int32), 1)
        shares = tf.gather(numbers.shares, tf.clip_by_value(n_distinct, 1, len(numbers.shares)) - 1)
        row = tf.range(n_sessions)[:, None]
        own_items = tf.maximum(recent, 0)

        scores = tf.exp((scores - tf.reduce_max(scores, 1, keepdims=True)) * numbers.inverse_temperature)
        own_scores = tf.gather(scores, own_items, batch_dims=1)
        extra = tf.where(is_own, own_scores * tf.math.expm1(numbers.biases * numbers.inverse_temperature), 0.0)
        softmax = shares[:, :1] / (tf.reduce_sum(scores, 1, keepdims=True) + tf.reduce_sum(extra, 1, keepdims=True))
        own = tf.where(is_own, numbers.own_items, 0.0)
        own = tf.math.divide_no_nan(own, tf.reduce_sum(own, 1, keepdims=True)) * shares[:, 2:] + extra * softmax

        used = own_items[:, : len(decay)]
        weights = tf.gather(module.covisits, used) * tf.where(is_own[:, : len(decay)], decay, 0.0)[:, :, None]
        weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, (1, 2), keepdims=True)) * shares[:, 1, None, None]
        neighbours = tf.gather(module.neighbours, used)

        places = tf.concat([row * n_items + own_items, tf.reshape(row[:, :, None] * n_items + neighbours, (n_sessions, -1))], 1)
        added = tf.concat([own, tf.reshape(weights, (n_sessions, -1))], 1)
        flat = tf.reshape(scores * softmax, [-1])
        flat = tf.tensor_scatter_nd_add(flat, tf.reshape(places, (-1, 1)), tf.reshape(added, [-1]))
        return tf.reshape(flat, (n_sessions, n_items))

    return rank_by


def _frozen(array: Any) -> Tensor:
    return tf.Variable(array, trainable=False)
