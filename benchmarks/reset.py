"""Whether it matters on which side of the matrix product GRU4Rec's reset gate acts.

    python -m benchmarks.reset --train FILE --test FILE [--test FILE] [--seeds 5] [--set KEY=VALUE]

The product has the gate after the product, as cuDNN does: candidate = tanh(x W + b + r * (h U)). Here the same training is also
run with the gate before it, as Cho et al. 2014 have it: candidate = tanh(x W + b + (r * h) U). Both start from the same
weights, see the same batches, and are tested under the protocol of `sbr evaluate`; files are in GRU4Rec's format.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.accuracy import parser_of, prepared, scores, table
from sbr_tasks.gru4rec import scorer
from sbr_tasks.gru4rec.weights import Floats, GRULayer

Tensor = Any


def main() -> None:
    """Trains with both conventions, seed by seed, and prints what they score."""
    options = parser_of(__doc__ or "").parse_args()
    settings, split = prepared(options, [])
    found: dict[str, list[tuple[float, float]]] = {"after the product": [], "before the product": []}
    for seed in range(options.seeds):
        found["after the product"].append(scores(*split, settings, seed))
        with reset_before_product():
            found["before the product"].append(scores(*split, settings, seed))
    rows = [[name, *np.mean(pairs, axis=0), *np.std(pairs, axis=0, ddof=1)] for name, pairs in found.items()]
    print(table(rows, "reset gate", options.seeds, split[1]))


def reset_before_product() -> Any:
    """Puts the other convention in place of the product's, in training and in scoring."""
    import tensorflow as tf

    from sbr_tasks.gru4rec import _network

    def forward(x: Tensor, h: Tensor, params: Mapping[str, Tensor], keep: Tensor | None) -> Any:
        from_input = (x @ params["kernel"] if "kernel" in params else x) + params["bias"]
        d = params["recurrent"].shape[0]
        z, r = tf.split(tf.sigmoid(from_input[:, : 2 * d] + h @ params["recurrent"][:, : 2 * d]), 2, 1)
        c = tf.tanh(from_input[:, 2 * d :] + (r * h) @ params["recurrent"][:, 2 * d :])
        new = z * h + (1 - z) * c
        return _network._LayerPass(x, h, z, r, c, r * h, keep, new if keep is None else new * keep)

    def backward(layer: Any, d_out: Tensor, params: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        z, r, c, h, d = layer.update, layer.reset, layer.candidate, layer.h, params["recurrent"].shape[0]
        d_new = d_out if layer.keep is None else d_out * layer.keep
        d_z = d_new * (h - c) * z * (1 - z)
        d_c = d_new * (1 - z) * (1 - c * c)
        d_reset_state = tf.matmul(d_c, params["recurrent"][:, 2 * d :], transpose_b=True)
        d_gates = tf.concat([d_z, d_reset_state * h * r * (1 - r)], 1)
        d_input = tf.concat([d_gates, d_c], 1)
        of_gates, of_candidate = tf.matmul(h, d_gates, transpose_a=True), tf.matmul(r * h, d_c, transpose_a=True)
        found = {"recurrent": tf.concat([of_gates, of_candidate], 1), "bias": tf.reduce_sum(d_input, 0)}
        if "kernel" not in params:
            return d_input, found
        found["kernel"] = tf.matmul(layer.x, d_input, transpose_a=True)
        return tf.matmul(d_input, params["kernel"], transpose_b=True), found

    def step(x: Floats, h: Floats, layer: GRULayer) -> Floats:
        d = layer.units
        from_input = (x if layer.kernel is None else x @ layer.kernel) + layer.bias
        gates = scorer._sigmoid(from_input[:, : 2 * d] + h @ layer.recurrent[:, : 2 * d])
        z, r = gates[:, :d], gates[:, d:]
        out: Floats = z * h + (1 - z) * np.tanh(from_input[:, 2 * d :] + (r * h) @ layer.recurrent[:, 2 * d :])
        return out

    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (_network, "gru_forward", forward),
        (_network, "gru_backward", backward),
        (scorer, "_gru", step),
    ]
    stack = contextlib.ExitStack()
    for module, name, function in replaced:
        stack.enter_context(mock.patch.object(module, name, function))
    return stack


if __name__ == "__main__":
    main()
