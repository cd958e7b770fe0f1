from collections.abc import Callable

import numpy as np
import pytest

from sbr_tasks.errors import TrainingError
from sbr_tasks.evaluation.baselines import Popularity
from sbr_tasks.evaluation.ranking import evaluate
from sbr_tasks.gru4rec import training as under_test
from sbr_tasks.gru4rec.schedule import plan_batches
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.slots import Parent
from sbr_tasks.gru4rec.training import EpochProgress, Trained, train
from sbr_tasks.settings import EvaluationSettings, ModelSettings, TrainingSettings
from sbr_tasks.window.sessions import ItemIndex, Sessions

pytestmark = pytest.mark.slow

Build = Callable[..., Sessions]
N_ITEMS = 30
SMALL = {"layers": (16,), "batch_size": 8, "n_sample": 16, "n_epochs": 2}


def cycle(build: Build, n_sessions: int, *, seed: int = 0) -> Sessions:
    """Sessions that walk round the items 0, 1, ..., N - 1, 0, ... from a random start: the next item follows from the last."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, N_ITEMS, n_sessions), rng.integers(2, 8, n_sessions)
    return build([[int(item) % N_ITEMS for item in range(s, s + n)] for s, n in zip(starts, lengths, strict=True)])


def index_of(sessions: Sessions) -> ItemIndex:
    return ItemIndex(*np.unique(sessions.item_ids, return_counts=True))


def run(
    sessions: Sessions,
    validation: Sessions,
    *,
    seed: int = 1,
    patience: int = 3,
    validation_events: int = 1_000,
    min_validation_events: int = 1,
    **hyperparameters: object,
) -> Trained:
    return train(
        sessions,
        index_of(sessions),
        validation,
        model=ModelSettings(**{**SMALL, **hyperparameters}),
        training=TrainingSettings(
            seed=seed,
            patience=patience,
            validation_events=validation_events,
            min_validation_events=min_validation_events,
        ),
        evaluation=EvaluationSettings(batch_size=64),
    )


def test_learns_what_popularity_cannot(sessions_of: Build) -> None:
    sessions, test = cycle(sessions_of, 300), cycle(sessions_of, 50, seed=1)
    hyperparameters = {"n_epochs": 12, "dropout_p_embed": 0.0, "dropout_p_hidden": 0.0, "learning_rate": 0.2}
    trained = run(sessions, sessions_of([]), **hyperparameters)
    assert evaluate(GRU4RecScorer(trained.weights), test, batch_size=64).recall_at(1) > 0.97
    assert evaluate(Popularity(trained.weights.index), test, batch_size=64).recall_at(1) < 0.2
    assert trained.curve[-1].loss < trained.curve[0].loss


@pytest.mark.parametrize("compiled", [False, True])
def test_equal_arguments_give_bitwise_equal_weights(
    compiled: bool, sessions_of: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiled:
        monkeypatch.setattr(under_test, "_MIN_EVENTS_TO_COMPILE", 0)
    sessions = cycle(sessions_of, 60)
    files = [run(sessions, sessions_of([]), momentum=0.1).weights.to_files() for _ in range(2)]
    assert files[0] == files[1]


def test_training_with_a_parent_begins_where_it_ended(sessions_of: Build) -> None:
    sessions, nothing = cycle(sessions_of, 300), sessions_of([])
    parent = run(sessions, nothing, n_epochs=8)
    drifted = sessions_of([[100, *session] for session in np.split(sessions.item_ids, sessions.offsets[1:-1])])
    child, fresh = (
        train(
            drifted,
            index_of(drifted),
            nothing,
            model=ModelSettings(**{**SMALL, "n_epochs": 1}),
            training=TrainingSettings(),
            evaluation=EvaluationSettings(),
            parent=start,
        )
        for start in (Parent(parent.weights, parent.squares), None)
    )
    assert child.curve[0].loss < 0.7 * fresh.curve[0].loss


def test_seeds_give_different_models(sessions_of: Build) -> None:
    sessions = cycle(sessions_of, 20)
    one, other = (run(sessions, sessions_of([]), seed=seed, n_epochs=1).weights for seed in (1, 2))
    assert (one.output_table != other.output_table).mean() > 0.9


def test_curve_counts_every_transition_once_an_epoch(sessions_of: Build) -> None:
    trained = run(sessions_of([[1, 2, 3], [4], [2, 1], [3, 1, 2, 1]]), sessions_of([]))
    assert trained.n_events == 6
    assert [epoch.number for epoch in trained.curve] == [1, 2]
    # Untrained scores are close to 0, so that the first loss is near that of guessing among the columns.
    assert 0 < trained.curve[0].loss < 10
    assert all(epoch.took_s > 0 and epoch.events_per_second > 0 for epoch in trained.curve)


def test_without_validation_events_all_epochs_run_and_the_last_is_kept(sessions_of: Build) -> None:
    trained = run(cycle(sessions_of, 20), sessions_of([[1], [2]]), n_epochs=5, patience=1)
    assert trained.best_epoch == len(trained.curve) == 5
    assert {(epoch.validation_recall_at_20, epoch.validation_mrr_at_20) for epoch in trained.curve} == {(None, None)}


class _Found:
    """A stub of an evaluation with a given Recall@20."""

    n_events = 1

    def __init__(self, recall: float) -> None:
        self.recall = recall

    def recall_at(self, k: int) -> float:
        assert k == 20
        return self.recall

    def mrr_at(self, k: int) -> float:
        return self.recall / 2


@pytest.mark.parametrize(
    ("recalls", "patience", "n_epochs", "best"),
    [
        ([0.2, 0.5, 0.4, 0.5, 0.9], 2, 4, 2),  # an equal epoch isn't better
        ([0.2, 0.5, 0.4, 0.6, 0.1], 2, 5, 4),  # a better epoch renews the patience
        ([0.0, 0.0, 0.0, 0.0, 0.0], 3, 4, 1),
    ],
)
def test_early_stopping_keeps_the_best_epochs_weights(
    recalls: list[float], patience: int, n_epochs: int, best: int, sessions_of: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def scripted(scorer: GRU4RecScorer, *_: object, **__: object) -> _Found:
        seen.append(scorer._weights)
        return _Found(recalls[len(seen) - 1])

    monkeypatch.setattr(under_test, "evaluate", scripted)
    trained = run(cycle(sessions_of, 20), sessions_of([[1, 2]]), n_epochs=5, patience=patience)
    assert len(trained.curve) == n_epochs
    assert trained.best_epoch == best
    assert trained.weights.to_files() == seen[best - 1].to_files()
    assert trained.weights.to_files()["weights.npz"] != seen[-1].to_files()["weights.npz"] or best == n_epochs
    assert [epoch.validation_recall_at_20 for epoch in trained.curve] == recalls[:n_epochs]


@pytest.mark.parametrize(("n_events", "best"), [(99, 4), (100, 1)])
def test_few_validation_events_choose_no_epoch_and_stop_nothing(
    n_events: int, best: int, sessions_of: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def falling(scorer: GRU4RecScorer, *_: object, **__: object) -> _Found:
        seen.append(scorer._weights)
        return _Found(1 / len(seen))

    monkeypatch.setattr(under_test, "evaluate", falling)
    validation = sessions_of([[1, 2]] * n_events)
    trained = run(cycle(sessions_of, 20), validation, n_epochs=4, patience=2, min_validation_events=100)
    assert trained.best_epoch == best
    assert len(trained.curve) == len(seen) == (4 if best == 4 else 3)
    assert trained.weights.to_files() == seen[best - 1].to_files()


def test_validation_is_scored_by_real_ranking(sessions_of: Build) -> None:
    sessions, validation = cycle(sessions_of, 40), cycle(sessions_of, 10, seed=2)
    trained = run(sessions, validation)
    found = evaluate(GRU4RecScorer(trained.weights), validation, batch_size=3)
    epoch = trained.curve[trained.best_epoch - 1]
    assert epoch.validation_recall_at_20 == pytest.approx(found.recall_at(20))
    assert epoch.validation_mrr_at_20 == pytest.approx(found.mrr_at(20))


def test_a_large_validation_is_thinned_evenly(sessions_of: Build, caplog: pytest.LogCaptureFixture) -> None:
    sessions = cycle(sessions_of, 40)
    validation = sessions_of([[1, 2, 3] if n % 4 else [3, 1, 2] for n in range(100)])
    with caplog.at_level("INFO"):
        trained = run(sessions, validation, validation_events=50)
    assert "Choosing the best epoch by 50 of 200 validation events (training.validation_events)" in caplog.text
    fourth = validation.where(np.arange(100) % 4 == 0)
    found = evaluate(GRU4RecScorer(trained.weights), fourth, batch_size=3)
    epoch = trained.curve[trained.best_epoch - 1]
    assert epoch.validation_mrr_at_20 == pytest.approx(found.mrr_at(20))
    assert found.mrr_at(20) != pytest.approx(evaluate(GRU4RecScorer(trained.weights), validation, batch_size=3).mrr_at(20))


@pytest.mark.parametrize(("most", "n_events"), [(200, 200), (199, 198), (1, 2)])
def test_a_validation_is_thinned_to_one_session_at_most(
    sessions_of: Build, caplog: pytest.LogCaptureFixture, most: int, n_events: int
) -> None:
    with caplog.at_level("INFO"):
        run(cycle(sessions_of, 40), sessions_of([[1, 2, 3]] * 100), validation_events=most, n_epochs=1)
    assert (f"Choosing the best epoch by {n_events} of 200" in caplog.text) == (most < 200)


def test_diverging_loss_stops_with_what_to_lower(sessions_of: Build) -> None:
    with pytest.raises(TrainingError, match=r"step \d+ in epoch 1 .*Lower model.learning_rate=1e\+38 or model.momentum=0.9"):
        run(cycle(sessions_of, 60), sessions_of([]), learning_rate=1e38, momentum=0.9)


def test_nothing_to_train_on_is_refused_with_a_way_out(sessions_of: Build) -> None:
    with pytest.raises(TrainingError, match=r"none of the 2 training sessions has 2 clicks.*window\.days"):
        run(sessions_of([[1], [2]]), sessions_of([]))


def test_items_outside_the_index_are_a_callers_mistake(sessions_of: Build) -> None:
    index = ItemIndex(np.array([1, 2]), np.array([1, 1]))
    settings = {"model": ModelSettings(), "training": TrainingSettings(), "evaluation": EvaluationSettings()}
    with pytest.raises(ValueError, match="77"):
        train(sessions_of([[1, 77, 2]]), index, sessions_of([]), **settings)


def test_progress_is_reported_within_and_at_the_end_of_every_epoch(sessions_of: Build) -> None:
    sessions = cycle(sessions_of, 600)
    reports: list[EpochProgress] = []
    train(
        sessions,
        index_of(sessions),
        sessions_of([]),
        model=ModelSettings(**{**SMALL, "batch_size": 4}),
        training=TrainingSettings(),
        evaluation=EvaluationSettings(),
        on_progress=reports.append,
    )
    n_events = sessions.n_clicks - sessions.n_sessions
    for epoch in (1, 2):
        done = [report.events_done for report in reports if report.epoch == epoch]
        assert len(done) > 1
        assert done == sorted(done)
        assert done[-1] == n_events
        steps = [report.steps_done for report in reports if report.epoch == epoch]
        assert steps == sorted(set(steps))
        assert steps[-1] == reports[-1].n_steps == plan_batches(sessions.offsets, 4).n_steps
    assert {(report.n_epochs, report.n_events) for report in reports} == {(2, n_events)}
    assert all(report.loss > 0 and report.events_per_second > 0 for report in reports)
