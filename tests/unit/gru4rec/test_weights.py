import io
import time

import numpy as np
import pytest

from sbr_tasks.errors import RegistryError
from sbr_tasks.gru4rec.weights import GRU4RecWeights, array_shapes
from sbr_tasks.settings import ModelSettings
from sbr_tasks.window.sessions import ItemIndex

INTEGERS = np.array([7, 2**62, 0], np.int64)
STRINGS = np.array(["b", "ä", ""], object)


def weights(ids: np.ndarray = INTEGERS, **hyperparameters: object) -> GRU4RecWeights:
    model = ModelSettings(**{"layers": (2,), **hyperparameters})
    rng = np.random.default_rng(1)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in array_shapes(model, 3).items()}
    return GRU4RecWeights.from_arrays(model, ItemIndex(ids, np.array([5, 1, 2])), arrays)


@pytest.mark.parametrize("ids", [INTEGERS, STRINGS], ids=["integer", "string"])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"layers": (2, 4), "constrained_embedding": False, "embedding": 3},
        {"layers": (2, 4), "constrained_embedding": False},
    ],
    ids=["one", "two", "no embedding"],
)
def test_files_give_back_the_model(ids: np.ndarray, shape: dict[str, object]) -> None:
    before = weights(ids, **shape)
    after = GRU4RecWeights.from_files(before.to_files())
    assert after.model == before.model
    assert after.index.ids.dtype == ids.dtype
    assert after.index.ids.tolist() == ids.tolist()
    assert after.index.support.tolist() == [5, 1, 2]
    assert after.index.encode(ids[::-1]).tolist() == [2, 1, 0]
    assert after.arrays().keys() == before.arrays().keys()
    for name, array in after.arrays().items():
        np.testing.assert_array_equal(array, before.arrays()[name])


def test_equal_models_give_equal_bytes_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    files = weights().to_files()
    later = time.localtime(time.time() + 400 * 24 * 3600)
    monkeypatch.setattr(time, "localtime", lambda *_: later)
    assert weights().to_files() == files
    assert weights(layers=(3,)).to_files() != files


@pytest.mark.parametrize("name", ["weights.npz", "items.parquet", "config.json"])
def test_damaged_or_absent_files_are_refused(name: str) -> None:
    files = weights().to_files()
    with pytest.raises(RegistryError, match="damaged"):
        GRU4RecWeights.from_files({**files, name: files[name][: len(files[name]) // 2]})
    del files[name]
    with pytest.raises(RegistryError, match=name):
        GRU4RecWeights.from_files(files)


def test_files_of_different_models_are_refused() -> None:
    files = weights().to_files()
    with pytest.raises(RegistryError, match="doesn't fit"):
        GRU4RecWeights.from_files({**files, "weights.npz": weights(layers=(3,)).to_files()["weights.npz"]})


def test_pickled_arrays_are_refused() -> None:

    archive = io.BytesIO()
    np.savez(archive, output_table=np.array([object()], dtype=object))
    with pytest.raises(RegistryError, match="damaged"):
        GRU4RecWeights.from_files({**weights().to_files(), "weights.npz": archive.getvalue()})
