"""A network's slots as NumPy arrays: each parameter with its optimiser state, and how a warm start carries them over.

Slot `name.0` is the parameter, `name.1` Adagrad's sum of squared gradients, `name.2` the velocity where there is momentum.
Tables end with one spare row that belongs to no item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sbr_tasks.gru4rec.weights import TABLES, Floats, GRU4RecWeights
from sbr_tasks.settings import ModelSettings
from sbr_tasks.window.sessions import UNKNOWN, ItemIndex

Slots = Mapping[str, Floats]

_VALUE, _SQUARES = "0", "1"


@dataclass(frozen=True)
class Parent:
    """The model that a warm start begins with.

    Attributes:
        weights: The model.
        squares: Adagrad's sums of squared gradients, with the names and shapes of the weights' arrays.
    """

    weights: GRU4RecWeights
    squares: Slots

    def fits(self, model: ModelSettings) -> bool:
        """Whether a model with these hyperparameters can start from this one: it has the same layers, tables and loss."""
        own, other = (
            {name: getattr(settings, name) for name in ("layers", "constrained_embedding", "embedding", "loss")}
            for settings in (self.weights.model, model)
        )
        return own == other


def weights_of(slots: Slots, model: ModelSettings, index: ItemIndex) -> GRU4RecWeights:
    """The model that a network's slots hold."""
    return GRU4RecWeights.from_arrays(model, index, _arrays(slots, _VALUE))


def squares_of(slots: Slots) -> dict[str, Floats]:
    """Adagrad's sums of squared gradients, with the names and shapes of the model's arrays."""
    return _arrays(slots, _SQUARES)


def carry_over(slots: Slots, parent: Parent, index: ItemIndex, *, decay: float) -> dict[str, Floats]:
    """Slots of a new network that starts from a parent.

    Items that both know keep their rows of the parent; new items keep their initial rows; items of the parent that aren't in
    `index` are dropped. Velocities start at zero.

    Args:
        slots: The new network's, as initialised.
        parent: A model that fits the new one.
        index: The items of the new network.
        decay: Factor for the parent's squared gradients. With 0, the first steps are as large as those of a new model.
    """
    row_in_parent = parent.weights.index.encode(index.ids)
    shared = np.flatnonzero(row_in_parent != UNKNOWN)
    carried = dict(slots)
    for name, array in parent.weights.arrays().items():
        for slot, values in ((_VALUE, array), (_SQUARES, np.float32(decay) * parent.squares[name])):
            key = f"{name}.{slot}"
            carried[key] = values
            if name in TABLES:
                carried[key] = slots[key].copy()
                carried[key][shared] = values[row_in_parent[shared]]
    return carried


def _arrays(slots: Slots, slot: str) -> dict[str, Floats]:
    named = {key.removesuffix(f".{slot}"): array for key, array in slots.items() if key.endswith(f".{slot}")}
    return {name: array[:-1] if name in TABLES else array for name, array in named.items()}
