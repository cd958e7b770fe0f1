"""The weights of a trained model: as NumPy arrays, and as files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.errors import RegistryError
from sbr_tasks.settings import ModelSettings
from sbr_tasks.store import from_parquet, to_json, to_npz
from sbr_tasks.window.sessions import ItemIndex

Floats = npt.NDArray[np.float32]

TABLES = ("output_table", "output_bias", "input_table")
"""Names of the arrays with one row per item; all others belong to the layers."""

_FORMAT = 1
_WEIGHTS, _ITEMS, _CONFIG = "weights.npz", "items.parquet", "config.json"
_DAMAGE = (ValueError, KeyError, TypeError, OSError, EOFError, pa.ArrowException, zipfile.BadZipFile)


@dataclass(frozen=True)
class GRULayer:
    """Weights of one GRU layer with `d` units, for the update gate z, the reset gate r and the candidate, in this order.

    The reset gate is applied after the matrix product, as in cuDNN and in Keras with `reset_after=True`, but without a
    recurrent bias: candidate = tanh(x W + b + r * (h U)), h' = z * h + (1 - z) * candidate.

    Attributes:
        kernel: Shape `(d_in, 3 * d)`; None in the first layer of a model without an embedding: its input is already `x W`.
        recurrent: Shape `(d, 3 * d)`.
        bias: Shape `(3 * d,)`.
    """

    kernel: Floats | None
    recurrent: Floats
    bias: Floats

    @property
    def units(self) -> int:
        return len(self.recurrent)


@dataclass(frozen=True)
class GRU4RecWeights:
    """A trained GRU4Rec. All arrays are float32.

    Attributes:
        model: The hyperparameters it was trained with.
        index: The items it knows; item i has row i of each table.
        output_table: Shape `(n_items, d)`, where `d` is the number of units of the last layer. With `constrained_embedding`, it
            is also the input table.
        output_bias: Shape `(n_items,)`.
        input_table: Shape `(n_items, d_in)`, or `(n_items, 3 * d)` with `d` units in the first layer if there is no embedding.
            None with `constrained_embedding`.
        layers: The GRU layers, first layer first.
    """

    model: ModelSettings
    index: ItemIndex
    output_table: Floats
    output_bias: Floats
    input_table: Floats | None
    layers: tuple[GRULayer, ...]

    @property
    def embedding(self) -> Floats:
        """The table that the first layer's inputs come from: the shared one, or `input_table`."""
        return self.output_table if self.input_table is None else self.input_table

    def to_files(self) -> dict[str, bytes]:
        """Serializes the model as files by name; equal models give equal bytes."""
        items = pa.table({Columns.ITEM: _id_array(self.index), "support": pa.array(self.index.support, pa.int64())})
        parquet = io.BytesIO()
        pq.write_table(items, parquet, compression="zstd")
        return {
            _WEIGHTS: to_npz(self.arrays()),
            _ITEMS: parquet.getvalue(),
            _CONFIG: to_json({"format": _FORMAT, "model": self.model.model_dump(mode="json")}),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> GRU4RecWeights:
        """Reads what `to_files` wrote.

        Raises:
            RegistryError: A file is missing, damaged or in another format, or the files don't belong together.
        """
        missing = {_WEIGHTS, _ITEMS, _CONFIG} - files.keys()
        if missing:
            raise RegistryError(f"A GRU4Rec model needs {min(missing)}; found {sorted(files)}. Restore it or retrain.")
        try:
            config = json.loads(files[_CONFIG])
            if config["format"] != _FORMAT:
                raise RegistryError(
                    f"{_CONFIG} is of format {config['format']!r}, expected {_FORMAT}: written by another version; retrain."
                )
            model = ModelSettings.model_validate(config["model"])
            items = from_parquet(files[_ITEMS])
            index = ItemIndex(_ids(items[Columns.ITEM]), items["support"].to_numpy())
            with np.load(io.BytesIO(files[_WEIGHTS]), allow_pickle=False) as arrays:
                weights = {name: arrays[name] for name in arrays.files}
        except _DAMAGE as error:
            raise RegistryError(f"The files of a GRU4Rec model are damaged ({error}); restore them or retrain.") from error
        _check(weights, model, len(index))
        return cls.from_arrays(model, index, weights)

    @classmethod
    def from_arrays(cls, model: ModelSettings, index: ItemIndex, arrays: Mapping[str, Floats]) -> GRU4RecWeights:
        """Builds weights from arrays as `arrays` returns them; shapes as in `array_shapes`."""
        layers = (
            GRULayer(arrays.get(f"gru{i}_kernel"), arrays[f"gru{i}_recurrent"], arrays[f"gru{i}_bias"])
            for i in range(len(model.layers))
        )
        table, bias = arrays["output_table"], arrays["output_bias"]
        return cls(model, index, table, bias, arrays.get("input_table"), tuple(layers))

    def arrays(self) -> dict[str, Floats]:
        """All arrays by name."""
        arrays = {"output_table": self.output_table, "output_bias": self.output_bias}
        if self.input_table is not None:
            arrays["input_table"] = self.input_table
        for i, layer in enumerate(self.layers):
            if layer.kernel is not None:
                arrays[f"gru{i}_kernel"] = layer.kernel
            arrays |= {f"gru{i}_recurrent": layer.recurrent, f"gru{i}_bias": layer.bias}
        return arrays


def has_embedding(model: ModelSettings) -> bool:
    """Whether the first layer multiplies an embedding by a kernel. If not, each item has a row of the kernel of its own."""
    return model.constrained_embedding or model.embedding != 0


def input_width(model: ModelSettings) -> int:
    """Width of the first layer's input for one item."""
    if model.constrained_embedding:
        return model.layers[-1]
    if model.embedding == "layersize":
        return model.layers[0]
    return model.embedding or 3 * model.layers[0]


def array_shapes(model: ModelSettings, n_items: int) -> dict[str, tuple[int, ...]]:
    """Shape of each array of a model, by name."""
    shapes: dict[str, tuple[int, ...]] = {"output_table": (n_items, model.layers[-1]), "output_bias": (n_items,)}
    if not model.constrained_embedding:
        shapes["input_table"] = (n_items, input_width(model))
    width = input_width(model)
    for i, units in enumerate(model.layers):
        if i or has_embedding(model):
            shapes[f"gru{i}_kernel"] = (width, 3 * units)
        shapes |= {f"gru{i}_recurrent": (units, 3 * units), f"gru{i}_bias": (3 * units,)}
        width = units
    return shapes


def _check(arrays: Mapping[str, npt.NDArray[Any]], model: ModelSettings, n_items: int) -> None:
    expected = array_shapes(model, n_items)
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != expected or any(array.dtype != np.float32 for array in arrays.values()):
        raise RegistryError(
            f"{_WEIGHTS} doesn't fit {_CONFIG} and {_ITEMS}: expected float32 arrays {expected}, found {shapes}. "
            "Restore it or retrain."
        )


def _id_array(index: ItemIndex) -> pa.Array:
    is_integer = np.issubdtype(index.ids.dtype, np.integer)
    return pa.array(index.ids.tolist(), pa.int64() if is_integer else pa.string())


def _ids(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy(), np.int64)
    return np.array(column.to_pylist(), dtype=object)
