import numpy as np
import pytest

from sbr_tasks.gru4rec.batches import Batches, Chunk
from sbr_tasks.gru4rec.sampling import NegativeSampler
from sbr_tasks.gru4rec.schedule import plan_batches
from sbr_tasks.settings import ModelSettings

ITEMS = np.array([0, 1, 2, 1, 3, 1, 1, 2, 0, 4], np.int32)
OFFSETS = np.array([0, 4, 7, 10])
SUPPORT = np.array([2, 4, 2, 1, 1, 30, 30, 30])
SPARE = len(SUPPORT)


def batches(**hyperparameters: object) -> Batches:
    model = ModelSettings(batch_size=2, **hyperparameters)
    return Batches(plan_batches(OFFSETS, 2), ITEMS, SUPPORT, model, seed=5)


def only_chunk(of: Batches, epoch: int = 1) -> Chunk:
    (chunk,) = of.epoch(epoch)
    return chunk


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("n_sample", [0, 6])
def test_places_lead_to_the_items_of_the_schedule(n_sample: int, constrained: bool) -> None:
    of = batches(n_sample=n_sample, constrained_embedding=constrained)
    chunk = only_chunk(of)
    for t in range(of.schedule.n_steps):
        clicks = of.schedule.clicks[slice(*of.schedule.step_offsets[t : t + 2])]
        n = len(clicks)
        np.testing.assert_array_equal(chunk.rows[t][chunk.inputs[t, :n]], ITEMS[clicks])
        np.testing.assert_array_equal(chunk.rows[t][chunk.targets[t, :n]], ITEMS[clicks + 1])
        assert (chunk.targets[t, n:] == -1).all()
        assert (chunk.rows[t][chunk.inputs[t, n:]] == SPARE).all()
        if not constrained:
            assert (chunk.inputs[t] >= chunk.offsets.shape[1]).all()


@pytest.mark.parametrize("constrained", [True, False])
def test_no_row_of_a_table_is_twice_in_a_block(constrained: bool) -> None:
    chunk = only_chunk(batches(n_sample=6, constrained_embedding=constrained))
    n_columns = chunk.offsets.shape[1]
    for rows in chunk.rows:
        for table in [rows] if constrained else [rows[:n_columns], rows[n_columns:]]:
            owned = table[table != SPARE]
            assert len(set(owned.tolist())) == len(owned)


@pytest.mark.parametrize("logq", [0.0, 0.6, 1.0])
def test_a_column_weighs_as_much_as_all_its_occurrences(logq: float) -> None:
    of = batches(n_sample=6, sample_alpha=0.5, logq=logq)
    chunk = only_chunk(of, epoch=3)
    p_target, p_sample = SUPPORT.astype(float), np.sqrt(SUPPORT)
    samples = NegativeSampler(SUPPORT, 0.5, seed=5).draw(6, epoch=3, first_step=0, n_steps=of.schedule.n_steps)
    for t in range(of.schedule.n_steps):
        targets = ITEMS[of.schedule.clicks[slice(*of.schedule.step_offsets[t : t + 2])] + 1]
        weights = np.zeros(SPARE)
        np.add.at(weights, targets, p_target[targets] ** -logq)
        np.add.at(weights, samples[t], p_sample[samples[t]] ** -logq)
        columns = chunk.rows[t, : chunk.offsets.shape[1]]
        used = columns != SPARE
        assert set(columns[used].tolist()) == set(np.flatnonzero(weights).tolist())
        np.testing.assert_allclose(np.exp(chunk.offsets[t, used]), weights[columns[used]], rtol=1e-5)
        assert (chunk.offsets[t, ~used] == -np.inf).all()
        own = chunk.offsets[t, chunk.targets[t, : len(targets)]] + chunk.target_offsets[t, : len(targets)]
        np.testing.assert_allclose(own, -logq * np.log(p_target[targets]), rtol=1e-5, atol=1e-6)


def test_full_softmax_has_one_uncorrected_column_an_item() -> None:
    chunk = only_chunk(batches(n_sample=0))
    assert (chunk.rows[:, :SPARE] == np.arange(SPARE)).all()
    assert (chunk.offsets == 0).all()
    assert (chunk.target_offsets == 0).all()


def test_large_epochs_come_in_chunks_that_follow_each_other() -> None:
    lengths = np.full(400, 3)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = (np.arange(offsets[-1]) % SPARE).astype(np.int32)
    of = Batches(plan_batches(offsets, 2), items, SUPPORT, ModelSettings(batch_size=2, n_sample=4), seed=5)
    chunks = list(of.epoch(1))
    assert len(chunks) > 1
    assert [chunk.first_step for chunk in chunks] == np.cumsum([0, *(len(chunk.rows) for chunk in chunks[:-1])]).tolist()
    assert sum((chunk.targets >= 0).sum() for chunk in chunks) == of.schedule.n_events == 800
