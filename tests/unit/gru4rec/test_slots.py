import numpy as np
import pytest

from sbr_tasks.gru4rec.slots import Parent, carry_over, squares_of, weights_of
from sbr_tasks.gru4rec.weights import TABLES, array_shapes
from sbr_tasks.settings import ModelSettings
from sbr_tasks.window.sessions import ItemIndex

MODEL = ModelSettings(layers=(3,), momentum=0.1)


def index_of(*ids: int) -> ItemIndex:
    return ItemIndex(np.array(ids), np.ones(len(ids), np.int64))


def slots_of(n_items: int, seed: int, model: ModelSettings = MODEL) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        name: (n_items + 1, *shape[1:]) if name in TABLES else shape for name, shape in array_shapes(model, n_items).items()
    }
    return {f"{name}.{i}": rng.random(shape).astype(np.float32) for name, shape in shapes.items() for i in range(3)}


def test_known_items_and_layers_are_taken_over_new_items_stay_fresh_and_vanished_ones_go() -> None:
    old, new = index_of(7, 3, 9), index_of(3, 5, 7)
    kept, fresh = slots_of(3, seed=1), slots_of(3, seed=2)
    parent = Parent(weights_of(kept, MODEL, old), squares_of(kept))
    carried = carry_over(fresh, parent, new, decay=0.5)
    for name, share in (("output_table.0", 1), ("output_bias.0", 1), ("output_table.1", 0.5), ("output_bias.1", 0.5)):
        np.testing.assert_array_equal(carried[name][[0, 2]], np.float32(share) * kept[name][[1, 0]])
        np.testing.assert_array_equal(carried[name][[1, 3]], fresh[name][[1, 3]])
    np.testing.assert_array_equal(carried["gru0_kernel.0"], kept["gru0_kernel.0"])
    np.testing.assert_array_equal(carried["gru0_bias.1"], np.float32(0.5) * kept["gru0_bias.1"])
    for name in (name for name in fresh if name.endswith(".2")):
        np.testing.assert_array_equal(carried[name], fresh[name])


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"n_epochs": 1, "learning_rate": 0.3, "batch_size": 7}, True),
        ({"layers": (4,)}, False),
        ({"constrained_embedding": False}, False),
        ({"loss": "bpr-max"}, False),
    ],
)
def test_parent_fits_models_with_its_layers_tables_and_loss(change: dict[str, object], fits: bool) -> None:
    slots = slots_of(2, seed=1)
    parent = Parent(weights_of(slots, MODEL, index_of(1, 2)), squares_of(slots))
    assert parent.fits(ModelSettings(**{**MODEL.model_dump(), **change})) is fits
