"""GRU4Rec's forward pass in NumPy: scores sessions without TensorFlow."""

from __future__ import annotations

import numpy as np

from sbr_tasks.evaluation.scorer import Indices, Rows, Scores, known_only
from sbr_tasks.gru4rec.weights import Floats, GRU4RecWeights, GRULayer

Hidden = list[Floats]
"""Hidden state of each layer, shape `(n_sessions, units)` each."""


class GRU4RecScorer:
    """A `Scorer` over trained weights: the same scores as the trained network, without dropout and logQ correction."""

    def __init__(self, weights: GRU4RecWeights) -> None:
        self.index = weights.index
        self._weights = weights
        # The bias is an extra column, multiplied by a constant 1 in the state: adding it needs no second pass over the scores.
        self._output = np.concatenate([weights.output_table, weights.output_bias[:, None]], axis=1)

    def start(self, n_sessions: int) -> Hidden:
        """Zero hidden states."""
        return [np.zeros((n_sessions, layer.units), np.float32) for layer in self._weights.layers]

    def advance(self, state: Hidden, items: Indices, rows: Rows) -> None:
        """Feeds one item to each of the sessions `rows`; `UNKNOWN` leaves a session as it is."""
        items, rows = known_only(items, rows)
        x = self._weights.embedding[items]
        for hidden, layer in zip(state, self._weights.layers, strict=True):
            x = _gru(x, hidden[rows], layer)
            hidden[rows] = x

    def scores(self, state: Hidden, rows: Rows) -> Scores:
        """Scores of all items after the sessions' clicks so far, shape `(len(rows), n_items)`."""
        hidden = np.concatenate([state[-1][rows], np.ones((len(rows), 1), np.float32)], axis=1)
        scores: Scores = hidden @ self._output.T
        return scores


def _gru(x: Floats, h: Floats, layer: GRULayer) -> Floats:
    """One step of a GRU; see `GRULayer` for the equations. Shapes `(n, d_in)`, `(n, d)`; returns `(n, d)`."""
    d = layer.units
    from_input = (x if layer.kernel is None else x @ layer.kernel) + layer.bias
    from_state = h @ layer.recurrent
    gates = _sigmoid(from_input[:, : 2 * d] + from_state[:, : 2 * d])
    z, r = gates[:, :d], gates[:, d:]
    candidate = np.tanh(from_input[:, 2 * d :] + r * from_state[:, 2 * d :])
    out: Floats = z * h + (1 - z) * candidate
    return out


def _sigmoid(x: Floats) -> Floats:
    half: Floats = np.tanh(np.float32(0.5) * x)  # unlike exp(-x), this can't overflow
    return np.float32(0.5) * half + np.float32(0.5)
