import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.scorer import best_items, score_session
from sbr_tasks.gru4rec import export as under_test
from sbr_tasks.gru4rec.ask_saved_model import ask
from sbr_tasks.gru4rec.export import check_saved_model, export_saved_model
from sbr_tasks.gru4rec.model import Model
from sbr_tasks.gru4rec.weights import GRU4RecWeights, array_shapes
from sbr_tasks.readout import CoVisits, Mixture, PlacementRule
from sbr_tasks.readout.mixture import Shares
from sbr_tasks.readout.recent import N_RECENT
from sbr_tasks.settings import ModelSettings, OwnItems
from sbr_tasks.window.sessions import ItemIndex

pytestmark = pytest.mark.slow

N_ITEMS = 50
INTEGERS = np.random.default_rng(3).permutation(N_ITEMS) * 10**15
STRINGS = np.array([f"sku-{i}ü" for i in INTEGERS], object)
IDS = {"integer": INTEGERS, "string": STRINGS}
PADDING = {"integer": -1, "string": ""}
UNKNOWN = {"integer": 7, "string": "sku"}
SHAPES: dict[str, dict[str, Any]] = {
    "one layer": {"layers": (8,)},
    "two layers, own embedding": {"layers": (8, 6), "constrained_embedding": False, "embedding": 5},
    "no embedding": {"layers": (8, 6), "constrained_embedding": False},
}
MIXTURE = Mixture(
    temperature=1.4,
    biases=tuple(np.linspace(1.5, -0.5, N_RECENT)),
    own_items=tuple(np.linspace(0.1, 0.01, N_RECENT)),
    shares=(Shares(gru4rec=0.6, covisits=0.4, own_items=0), Shares(gru4rec=0.5, covisits=0.3, own_items=0.2)),
    n_events=100,
)


def model_of(ids: np.ndarray = INTEGERS, *, seed: int = 1, readout: str = "plain", **hyperparameters: Any) -> Model:
    """A random model; items 5 and 6 always score the same, and support has many ties."""
    model = ModelSettings(**{"layers": (8,), **hyperparameters})
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in array_shapes(model, N_ITEMS).items()}
    arrays["output_table"][5:7] = 0
    arrays["output_bias"][5:7] = 4
    weights = GRU4RecWeights.from_arrays(model, ItemIndex(ids, rng.integers(1, 4, N_ITEMS)), arrays)
    if readout == "plain":
        return Model(weights)
    neighbours = np.array([rng.permutation(np.r_[0:5, 7:N_ITEMS])[:6] for _ in range(N_ITEMS)], np.int32)
    covisits = CoVisits(neighbours, rng.random((N_ITEMS, 6), np.float32) * (np.arange(N_ITEMS)[:, None] != 40))
    return Model(weights, covisits, MIXTURE)


def load(folder: Path) -> Any:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures["serving_default"]
    function.keep = loaded
    return function


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("readout", ["plain", "mixture"])
def test_answers_equal_the_numpy_scorer_and_fall_back_to_popular_items(
    ids: str, shape: str, readout: str, tmp_path: Path
) -> None:
    import tensorflow as tf

    model, pad, unknown = model_of(IDS[ids], readout=readout, **SHAPES[shape]), PADDING[ids], UNKNOWN[ids]
    export_saved_model(model, tmp_path)
    a, b, c, d = IDS[ids][[3, 40, 41, 5]].tolist()
    batch = [
        [a, b, c, d],
        [pad, pad, a, b],
        [a, b, pad, pad],
        [a, pad, pad, b],
        [unknown, a, unknown, b],
        [a, a, a, pad],
        [pad, pad, pad, pad],
        [unknown, pad, unknown, pad],
    ]
    answer = load(tmp_path)(item_ids=tf.constant(batch))
    assert {name: array.dtype for name, array in answer.items()} == {"item_ids": tf.constant(batch).dtype, "scores": tf.float32}
    found = [[x.decode() if isinstance(x, bytes) else x for x in row] for row in answer["item_ids"].numpy().tolist()]
    for session, items, scores in zip(batch, found, answer["scores"].numpy(), strict=True):
        clicks = [item for item in session if item not in (pad, unknown)]
        expected, is_known = score_session(model.scorer(), model.index.encode(np.array(clicks, IDS[ids].dtype)))
        best = best_items(expected, 20)
        assert is_known == bool(clicks)
        assert items == model.index.decode(best).tolist()
        np.testing.assert_allclose(scores, expected[best], rtol=1e-4, atol=1e-5)
    assert found[1] == found[2] == found[3] == found[4]
    ties = [found[1].index(tied) for tied in IDS[ids][5:7].tolist()]
    assert ties[1] == ties[0] + 1
    assert found[-1] == found[-2]
    assert (answer["scores"].numpy()[-1] == np.sort(model.index.support)[::-1][:20]).all()


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("own_items", ["allow", "hide_current", "hide"])
@pytest.mark.parametrize("n_excluded", [0, 3, N_ITEMS - 2])
def test_answers_under_a_rule_equal_the_numpy_scorer_and_unused_places_are_last(
    ids: str, own_items: OwnItems, n_excluded: int, tmp_path: Path
) -> None:
    import tensorflow as tf

    model, pad, unknown = model_of(IDS[ids], readout="mixture"), PADDING[ids], UNKNOWN[ids]
    excluded = IDS[ids][2 : 2 + n_excluded].tolist()
    rule = PlacementRule(own_items=own_items, excluded=tuple(map(str, excluded)))
    export_saved_model(model, tmp_path, k=N_ITEMS, rule=rule)
    a, b, c = IDS[ids][[0, 1, 40]].tolist()
    batch = [[a, b, c], [a, a, pad], [unknown, b, pad], [pad, a, unknown], [pad, pad, pad]]
    answer = load(tmp_path)(item_ids=tf.constant(batch))
    for session, items, answered in zip(batch, answer["item_ids"].numpy().tolist(), answer["scores"].numpy(), strict=True):
        scores, _ = rule.session_scores(model.scorer(), model.index.encode(np.array(session, IDS[ids].dtype)))
        best = best_items(scores, N_ITEMS)
        found = [x.decode() if isinstance(x, bytes) else x for x in items]
        assert found == [*model.index.decode(best).tolist(), *[pad] * (N_ITEMS - len(best))]
        np.testing.assert_allclose(answered[: len(best)], scores[best], rtol=1e-4, atol=1e-5)
        assert (answered[len(best) :] == np.finfo(np.float32).min).all()
        clicks = [item for item in session if item not in (pad, unknown)]
        own = {"allow": [], "hide_current": clicks[-1:], "hide": clicks}[own_items]
        assert {*found} - {pad} == {*IDS[ids].tolist()} - {*own, *excluded}


def test_any_number_of_sessions_and_steps_is_answered_and_k_ends_with_the_catalogue(tmp_path: Path) -> None:
    import tensorflow as tf

    export_saved_model(model_of(), tmp_path, k=1000)
    recommend = load(tmp_path)
    for shape in [(0, 0), (0, 3), (2, 0), (1, 1), (3, 70)]:
        answer = recommend(item_ids=tf.fill(shape, tf.constant(INTEGERS[0])))
        assert answer["item_ids"].shape == answer["scores"].shape == (shape[0], N_ITEMS)
        assert all(sorted(row) == sorted(INTEGERS) for row in answer["item_ids"].numpy())


def test_an_export_is_accepted_in_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    folder, model = tmp_path / "a b[x]*'?#1", model_of(STRINGS)
    export_saved_model(model, folder)
    sessions, here = [STRINGS[:3], ["never seen", STRINGS[9]], ["never seen"]], Path.cwd()
    check_saved_model(folder, model, sessions)
    check_saved_model(folder, model, sessions, is_apart=False)
    assert Path.cwd() == here


def test_a_damaged_export_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    export_saved_model(model_of(), tmp_path)
    (file,) = (tmp_path / "variables").glob("*.data-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        ask(str(tmp_path), [])
    # How a process that ends so is reported, without the seconds that it takes to import TensorFlow.
    python = tmp_path / "python"
    for script, match in [
        ("echo DataLossError: Checksum >&2; exit 1", "can't be loaded or run: DataLossError: Checksum. Export it again"),
        ("exit 3", "exit code 3"),
        ("exec sleep 60", r"took more than 0\.5 s"),
    ]:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        monkeypatch.setattr(under_test, "_TIMEOUT_S", 0.5)
        with pytest.raises(RegistryError, match=match):
            check_saved_model(tmp_path, model_of(), [])


def test_an_export_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_ask", lambda folder, sessions: ask(str(folder), sessions))
    model, sessions = model_of(), [INTEGERS[:4].tolist(), [7]]
    export_saved_model(model, tmp_path)
    check_saved_model(tmp_path, model, sessions)
    for other, match in [
        (model_of(seed=2), r"for the session \[.+\] expected item \d+ with score .* at rank \d+, found \d+ with"),
        (model_of(INTEGERS[::-1]), "expected item"),
    ]:
        with pytest.raises(RegistryError, match=match):
            check_saved_model(tmp_path, other, sessions)
    with pytest.raises(RegistryError, match="expected 10 items, found 20"):
        check_saved_model(tmp_path, model, sessions, k=10)


def answers(
    scores: np.ndarray, *, swap: tuple[int, int] | None = None, repeat: int | None = None
) -> tuple[list[Any], list[Any]]:
    """Item ids and scores as they should be, with two neighbours swapped or one item given twice."""
    best = best_items(scores, 20)
    if swap:
        best[list(swap)] = best[list(swap[::-1])]
    if repeat is not None:
        best[repeat + 1] = best[repeat]
    return INTEGERS[best].tolist(), scores[best].tolist()


def check(monkeypatch: pytest.MonkeyPatch, model: Model, given: Sequence[tuple[list[Any], list[Any]]]) -> None:
    asked = {"item_ids": [items for items, _ in given], "scores": [scores for _, scores in given]}
    monkeypatch.setattr(under_test, "_ask", lambda *_: asked)
    check_saved_model(Path("staged"), model, [INTEGERS[:1]])


def test_items_may_swap_places_only_where_scores_are_all_but_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    scores, _ = score_session(model.scorer(), np.array([0], np.int32))
    popular = model.index.support.astype(np.float32)
    tie = best_items(scores, 20).tolist().index(5)
    right = answers(popular)
    check(monkeypatch, model, [answers(scores), right])
    check(monkeypatch, model, [answers(scores, swap=(tie, tie + 1)), right])
    check(monkeypatch, model, [answers(scores * np.float32(1 + 1e-5)), right])
    far = 0 if tie > 1 else 5
    for wrong in (answers(scores, swap=(far, far + 1)), answers(scores, repeat=tie), answers(scores * np.float32(1.01))):
        with pytest.raises(RegistryError, match=f"session \\[{INTEGERS[0]}\\]"):
            check(monkeypatch, model, [wrong, right])
    strange = ([-5, *answers(scores)[0][1:]], answers(scores)[1])
    with pytest.raises(RegistryError, match="at rank 1, found -5"):
        check(monkeypatch, model, [strange, right])
    with pytest.raises(RegistryError, match="nan"):
        check(monkeypatch, model, [(answers(scores)[0], [float("nan")] * 20), right])
    with pytest.raises(RegistryError, match=r"session \[\]"):  # popular items of equal support
        check(monkeypatch, model, [answers(scores), answers(popular, swap=(0, 1))])
