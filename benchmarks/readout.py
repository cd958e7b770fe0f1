"""What the read-out costs: in evaluation, in answers, and in counting and fitting, each beside its peer in the same run.

    python -m benchmarks.readout [--rounds 5] [--only evaluation,recommend,saved_model,training] [--transitions 4300000]

Weights and clicks are synthetic.

    evaluation      ranking with the read-out against plain GRU4Rec: 30,000 events among 20,000 items, in turns
    recommend       one session of ten clicks in NumPy, among 200,000 items
    saved_model     a batch of 64 sessions of ten clicks in TensorFlow, among 20,000 items
    training        counting co-visits and fitting the numbers, against one epoch of training on the same clicks
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.gru4rec import hyperparameters, synthetic
from sbr_tasks.evaluation.ranking import evaluate
from sbr_tasks.evaluation.scorer import best_items, score_session
from sbr_tasks.gru4rec.model import Model
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.weights import GRU4RecWeights, array_shapes
from sbr_tasks.readout import count_covisits, fit_mixture
from sbr_tasks.settings import EvaluationSettings, TrainingSettings
from sbr_tasks.window.sessions import ItemIndex, Sessions, no_sessions

BATCH_SIZE = EvaluationSettings().batch_size


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="evaluation,recommend,saved_model,training")
    parser.add_argument("--transitions", type=int, default=4_300_000, help="Of `training`; 4,300,000 are 5.5 million clicks.")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for part in options.only.split(","):
        if part == "training":
            print(training_cost(options.transitions), flush=True)
        else:
            print(PARTS[part](options.rounds), flush=True)


@cache
def model_of(n_items: int) -> tuple[Model, Sessions]:
    """Random weights with a read-out, and sessions."""
    sessions, index = synthetic(max(30_000, 2 * n_items), n_items)
    weights = random_weights(index)
    mixture = fit_mixture(GRU4RecScorer(weights), count_covisits(sessions, index), sessions, batch_size=BATCH_SIZE)
    return Model.of(weights, sessions, mixture), sessions


def random_weights(index: ItemIndex) -> GRU4RecWeights:
    """Untrained weights."""
    model, rng = hyperparameters(144), np.random.default_rng(2)
    arrays = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in array_shapes(model, len(index)).items()}
    return GRU4RecWeights.from_arrays(model, index, arrays)


def milliseconds(work: Callable[[], Any], rounds: int) -> float:
    """The median time of some work, after one run that doesn't count."""
    work()
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - started))
    return median(took)


def evaluation(rounds: int) -> str:
    """Events per second with and without the read-out."""
    model, sessions = model_of(20_000)
    scorers = {"plain": GRU4RecScorer(model.weights), "read-out": model.scorer()}
    took: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(rounds):
        for name, scorer in scorers.items():
            started = time.perf_counter()
            n_events = evaluate(scorer, sessions, batch_size=BATCH_SIZE).n_events
            took[name].append(time.perf_counter() - started)
    ratio = median(b / a for a, b in zip(took["plain"], took["read-out"], strict=True))
    rates = ", ".join(f"{name} {n_events / median(times):,.0f} events/s" for name, times in took.items())
    return f"evaluation: {rates}; the read-out takes {ratio:.2f} x the time"


def recommend(rounds: int) -> str:
    """Time of one answer."""
    model, _ = model_of(200_000)
    scorer, session = model.scorer(), np.arange(10, dtype=np.int32) * 1000
    took = milliseconds(lambda: best_items(score_session(scorer, session)[0], 20), rounds)
    return f"recommend: {took:.1f} ms for a session of 10 clicks, among 200,000 items"


def saved_model(rounds: int) -> str:
    """Time of one batch."""
    from sbr_tasks.gru4rec._tensorflow import tf
    from sbr_tasks.gru4rec.export import export_saved_model

    model, _ = model_of(20_000)
    plain = Model(model.weights)
    item_ids = tf.constant(np.random.default_rng(1).integers(0, 20_000, (64, 10)), tf.int64)
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, exported in (("plain", plain), ("read-out", model)):
            export_saved_model(exported, Path(folder) / name)
            loaded = tf.saved_model.load(str(Path(folder) / name))
            times[name] = milliseconds(partial(loaded.signatures["serving_default"], item_ids=item_ids), rounds)
    listed = ", ".join(f"{name} {took:.1f} ms" for name, took in times.items())
    return f"saved_model: {listed} for 64 sessions of 10 clicks, among 20,000 items"


def training_cost(n_transitions: int) -> str:
    """Seconds of counting, of fitting, and of an epoch."""
    from sbr_tasks.gru4rec.training import train

    sessions, index = synthetic(n_transitions, 28_600)
    started = time.perf_counter()
    covisits = count_covisits(sessions, index)
    counting = time.perf_counter() - started
    n_last = sessions.n_sessions // 30
    last = sessions.take(np.arange(sessions.n_sessions - n_last, sessions.n_sessions))
    trained = train(
        sessions,
        index,
        no_sessions(sessions),
        model=hyperparameters(64, n_epochs=1),
        training=TrainingSettings(),
        evaluation=EvaluationSettings(),
    )
    started = time.perf_counter()
    fit_mixture(GRU4RecScorer(trained.weights), covisits, last, batch_size=BATCH_SIZE)
    fitting = time.perf_counter() - started
    epoch = trained.curve[0].took_s
    return (
        f"training: {sessions.n_clicks:,} clicks; counting {counting:.1f} s, fitting {fitting:.1f} s, an epoch {epoch:.1f} s; "
        f"{(counting + fitting) / epoch:.1%} of one epoch"
    )


PARTS: dict[str, Callable[[int], str]] = {"evaluation": evaluation, "recommend": recommend, "saved_model": saved_model}


if __name__ == "__main__":
    main()
