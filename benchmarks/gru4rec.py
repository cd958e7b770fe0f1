"""Speed of GRU4Rec's training and evaluation, compared with the usual notebook and with the machine's limit.

    python -m benchmarks.gru4rec [--train FILE] [--rounds 3] [--only speed,evaluation,validation,memory,growth]

Contenders take turns, each in a process of its own; the median of the rounds counts. Cross-entropy, `layers=[100]`,
`n_sample=2048`, `constrained_embedding`.

- `notebook`: one-hot input, stateful Keras GRU, dense softmax over all items, `train_on_batch`; a few hundred steps.
- `ours`: one epoch of `sbr_tasks.gru4rec.training.train` as the daily run does it, after one that compiles.
- `sgemm`: the three products of a step's score matrix and the six of its GRU layer alone, in a loop within TensorFlow. Its
  events per second are what arithmetic alone would allow: 6 * 100 * (2048 + batch) + 36 * 100 * 100 floating-point
  operations an event.

Evaluation takes turns with its product within one process. Validation scores the last thirtieth of the sessions after an epoch
over all of them: a day of a 30-day window. Growth is measured on a first epoch without its first chunk, which
compiles; `total s` is everything, including the generation of the clicks.

The clicks are synthetic (as many items and transitions as `bolcom-serenade`) unless `--train` names a file in GRU4Rec's
format.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.contenders import peak_mb, run_contender
from sbr_tasks.experiments.offline import apply_protocol, read_sessions
from sbr_tasks.gru4rec.training import EpochProgress, Trained, train
from sbr_tasks.settings import EvaluationSettings, ModelSettings, SourceSettings, TrainingSettings
from sbr_tasks.window.sessions import ItemIndex, Sessions, no_sessions

UNITS = 100
N_SAMPLE = 2048
BATCHES = (144, 32)
TRANSITIONS, ITEMS = 89_848, 18_009
NOTEBOOK_STEPS = {144: 150, 32: 300}

PARTS = ("speed", "evaluation", "validation", "memory", "growth")


def main() -> None:
    """Measures and prints the tables, or, with `--contender`, runs one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="Clicks in GRU4Rec's format; synthetic ones by default.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help="Which parts, by comma.")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", default="{}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        found = CONTENDERS[options.contender](**json.loads(options.arguments))
        print(json.dumps(found | {"peak_mb": peak_mb()}))
        return
    clicks = {"train": str(options.train)} if options.train else {"n_transitions": TRANSITIONS, "n_items": ITEMS}
    parts = {"speed": speed, "evaluation": evaluation, "validation": validation, "memory": memory, "growth": growth}
    for name in options.only.split(","):
        parts[name](clicks, options.rounds)


def speed(clicks: dict[str, Any], rounds: int) -> None:
    """Training events per second, and how much of the machine's arithmetic they use."""
    names = ("notebook", "ours", "sgemm")
    measured: dict[tuple[str, int], list[float]] = {(name, batch): [] for batch in BATCHES for name in names}
    for _ in range(rounds):
        for (name, batch), rates in measured.items():
            rates.append(run(name, batch=batch, clicks=clicks)["events_per_second"])
    rows = []
    for batch in BATCHES:
        notebook, ours, sgemm = (median(measured[name, batch]) for name in names)
        flops = 6 * UNITS * (N_SAMPLE + batch) + 36 * UNITS**2
        rows.append([batch, notebook, ours, ours / notebook, sgemm, sgemm * flops / 1e9, ours / sgemm])
    headers = ["batch", "notebook /s", "ours /s", "x notebook", "sgemm /s", "GFLOP/s", "share of sgemm"]
    print(tabulate(rows, headers=headers, floatfmt=("", ",.0f", ",.0f", ".1f", ",.0f", ".0f", ".2f")), end="\n\n")


def evaluation(_clicks: dict[str, Any], rounds: int) -> None:
    """Predictions per second under full ranking, and how many the score matrix product alone allows."""
    measured = [run("ranking") for _ in range(rounds)]
    figures = [median(one[name] for one in measured) for name in ("events_per_second", "product_per_second", "share")]
    headers = ["items", "predictions /s", "product alone /s", "share", "peak MB"]
    rows = [[20_000, *figures, max(one["peak_mb"] for one in measured)]]
    print(tabulate(rows, headers=headers, floatfmt=("", ",.0f", ",.0f", ".2f", ".0f")), end="\n\n")


def validation(clicks: dict[str, Any], rounds: int) -> None:
    """What the validation after an epoch costs."""
    measured = [run("validated_epoch", batch=64, clicks=clicks) for _ in range(rounds)]
    epoch, share = (median(one[name] for one in measured) for name in ("epoch_s", "share"))
    rows = [[int(measured[0]["n_events"]), epoch, share]]
    print(tabulate(rows, headers=["validation events", "epoch s", "share of it"], floatfmt=("", ".2f", ".3f")), end="\n\n")


def memory(_clicks: dict[str, Any], _rounds: int) -> None:
    """Peak memory of training, imports included."""
    found = run("ours", batch=144, clicks={"n_transitions": 1_000_000, "n_items": 20_000})
    print(
        tabulate([["20,000 items, 1 M transitions", found["peak_mb"]]], headers=["training", "peak MB"], floatfmt=".0f"),
        end="\n\n",
    )


def growth(_clicks: dict[str, Any], rounds: int) -> None:
    """What more transitions and more items cost."""
    sizes = [(n * 1_000_000, 20_000) for n in (1, 2, 4, 8)] + [(1_000_000, 200_000)]
    measured: dict[tuple[int, int], list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for (n, n_items), ones in measured.items():
            ones.append(run("first_epoch", batch=144, clicks={"n_transitions": n, "n_items": n_items}))
    step_ms, total_s = (
        {size: median(one[name] for one in ones) for size, ones in measured.items()} for name in ("step_ms", "total_s")
    )
    rows = [
        [f"{n:,}", f"{n_items:,}", step_ms[n, n_items], step_ms[n, n_items] / step_ms[sizes[0]], total_s[n, n_items]]
        for n, n_items in sizes
    ]
    headers = ["transitions", "items", "ms a step", "x the first", "total s"]
    print(tabulate(rows, headers=headers, floatfmt=("", "", ".2f", ".2f", ".0f"), disable_numparse=[0, 1]), end="\n\n")


def run(contender: str, **arguments: Any) -> dict[str, float]:
    """What a contender measured in a process of its own."""
    return run_contender("gru4rec", "--contender", contender, "--arguments", json.dumps(arguments))


def synthetic(n_transitions: int, n_items: int, seed: int = 1) -> tuple[Sessions, ItemIndex]:
    """Random sessions of about 4.8 clicks over items whose popularity falls as 1 / rank**0.8; every item is clicked."""
    rng = np.random.default_rng(seed)
    lengths = 1 + rng.geometric(1 / 3.8, n_transitions)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths - 1), n_transitions) + 1]
    lengths[-1] -= (lengths - 1).sum() - n_transitions
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    popularity = 1 / np.arange(1, n_items + 1) ** 0.8
    items = rng.choice(n_items, offsets[-1], p=popularity / popularity.sum())
    items[rng.choice(len(items), n_items, replace=False)] = np.arange(n_items)
    support = np.bincount(items, minlength=n_items)
    return Sessions.of_ids(offsets, items.astype(np.int64)), ItemIndex(np.arange(n_items), support)


def clicks_of(train: str | None = None, **size: int) -> tuple[Sessions, ItemIndex]:
    """Sessions of a file, or synthetic ones."""
    if train is None:
        return synthetic(**size)
    found = read_sessions([train], SourceSettings(format="gru4rec"), "--train")
    sessions, _, index = apply_protocol(found, no_sessions(found))
    return sessions, index


def hyperparameters(batch: int, *, n_epochs: int = 2) -> ModelSettings:
    """The published setting whose speed is compared."""
    return ModelSettings(
        layers=(UNITS,), batch_size=batch, n_sample=N_SAMPLE, n_epochs=n_epochs, dropout_p_embed=0.0, dropout_p_hidden=0.0
    )


def ours(batch: int, clicks: dict[str, Any]) -> dict[str, float]:
    """The second epoch of two."""
    last = trained(batch, clicks, n_epochs=2).curve[-1]
    return {"events_per_second": last.events_per_second, "seconds": last.took_s}


def first_epoch(batch: int, clicks: dict[str, Any]) -> dict[str, float]:
    """The steps of one epoch after its first chunk, and all that it took."""
    started, seen = time.perf_counter(), list[tuple[float, int]]()
    trained(batch, clicks, n_epochs=1, on_progress=lambda at: seen.append((time.perf_counter(), at.events_done)))
    (compiled, first), (ended, last) = seen[0], seen[-1]
    return {"step_ms": 1000 * (ended - compiled) / (last - first) * batch, "total_s": time.perf_counter() - started}


def trained(
    batch: int, clicks: dict[str, Any], *, n_epochs: int, on_progress: Callable[[EpochProgress], None] | None = None
) -> Trained:
    """A model of the clicks."""
    sessions, index = clicks_of(**clicks)
    return train(
        sessions,
        index,
        no_sessions(sessions),
        model=hyperparameters(batch, n_epochs=n_epochs),
        training=TrainingSettings(),
        evaluation=EvaluationSettings(),
        on_progress=on_progress,
    )


def validated_epoch(batch: int, clicks: dict[str, Any]) -> dict[str, float]:
    """Seconds of the second epoch of two, and the share of them that scoring the last thirtieth of the sessions takes."""
    from sbr_tasks.evaluation.ranking import evaluate
    from sbr_tasks.gru4rec.scorer import GRU4RecScorer

    sessions, _ = clicks_of(**clicks)
    found = trained(batch, clicks, n_epochs=2)
    last = sessions.take(np.arange(sessions.n_sessions - sessions.n_sessions // 30, sessions.n_sessions))
    took = []
    for _ in range(3):
        started = time.perf_counter()
        n_events = evaluate(GRU4RecScorer(found.weights), last, batch_size=EvaluationSettings().batch_size).n_events
        took.append(time.perf_counter() - started)
    epoch_s = found.curve[-1].took_s
    return {"n_events": n_events, "epoch_s": epoch_s, "share": median(took) / epoch_s}


def notebook(batch: int, clicks: dict[str, Any]) -> dict[str, float]:
    """Session-parallel batches as one-hot vectors, a stateful GRU, a softmax over all items."""
    import keras

    sessions, index = clicks_of(**clicks)
    items, offsets, n_items = index.codes_of(sessions), sessions.offsets, len(index)
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(batch, 1, n_items)),
            keras.layers.GRU(UNITS, stateful=True),
            keras.layers.Dense(n_items, activation="softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.Adagrad(0.1))
    gru = model.layers[0]
    at, session, following = offsets[:batch].copy(), np.arange(batch), batch
    warm_up, started = 5, 0.0
    for step in range(warm_up + NOTEBOOK_STEPS[batch]):
        if step == warm_up:
            started = time.perf_counter()
        inputs = keras.utils.to_categorical(items[at], n_items)[:, None, :]
        model.train_on_batch(inputs, keras.utils.to_categorical(items[at + 1], n_items))
        at += 1
        ended = np.flatnonzero(at + 1 >= offsets[session + 1])
        if len(ended):
            state = np.array(gru.states[0])
            for lane in ended:
                session[lane], at[lane], state[lane] = following, offsets[following], 0
                following += 1
            gru.states[0].assign(state)
    took = time.perf_counter() - started
    return {"events_per_second": NOTEBOOK_STEPS[batch] * batch / took, "seconds": took, "steps": NOTEBOOK_STEPS[batch]}


def sgemm(batch: int, clicks: dict[str, Any]) -> dict[str, float]:
    """The products of a training step, and nothing else."""
    del clicks
    import tensorflow as tf

    rng, columns = np.random.default_rng(1), N_SAMPLE + batch

    def matrix(*shape: int) -> Any:
        return tf.constant(rng.normal(size=shape), tf.float32)

    rows, d_scores = matrix(columns, UNITS), matrix(batch, columns)
    ends = [(matrix(batch, UNITS), matrix(batch, 3 * UNITS), matrix(UNITS, 3 * UNITS)) for _ in ("input", "state")]

    def chained(n_steps: Any) -> Any:
        def turn(t: Any, x: Any, used: Any) -> Any:
            of_scores = [tf.matmul(x, rows, transpose_b=True), d_scores @ rows, tf.matmul(d_scores, x, transpose_a=True)]
            of_layer = [
                product
                for a, d, kernel in ends
                for product in (a @ kernel, tf.matmul(d, kernel, transpose_b=True), tf.matmul(a, d, transpose_a=True))
            ]
            # One number of each product is used, or TensorFlow would optimise it away.
            used += tf.add_n([product[0, 0] for product in of_scores + of_layer])
            return t + 1, x, used

        state = (tf.constant(0), ends[0][0], tf.constant(0.0))
        return tf.while_loop(lambda t, *_: t < n_steps, turn, state, parallel_iterations=1)

    products, steps = tf.function(chained), 400
    products(tf.constant(20))
    started = time.perf_counter()
    products(tf.constant(steps))
    took = time.perf_counter() - started
    return {"events_per_second": steps * batch / took, "seconds": took, "steps": steps}


def ranking() -> dict[str, float]:
    """`sbr_tasks.evaluation` over random sessions and a random model, in turns with as many rows of the product alone: hidden
    states and the item table, 512 predictions at a time.
    """
    from sbr_tasks.evaluation.ranking import evaluate
    from sbr_tasks.gru4rec.scorer import GRU4RecScorer
    from sbr_tasks.gru4rec.weights import GRU4RecWeights, array_shapes

    sessions, index = synthetic(30_000, 20_000)
    model, rng = hyperparameters(144), np.random.default_rng(2)
    arrays = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in array_shapes(model, len(index)).items()}
    scorer = GRU4RecScorer(GRU4RecWeights.from_arrays(model, index, arrays))
    hidden = rng.normal(size=(512, UNITS)).astype(np.float32)
    table, scores = arrays["output_table"].T, np.empty((512, len(index)), np.float32)

    def took_by_product(n_events: int) -> float:
        started = time.perf_counter()
        for _ in range(round(n_events / len(hidden))):
            np.matmul(hidden, table, out=scores)
        return time.perf_counter() - started

    took_by_product(2 * len(hidden))
    rates, product_rates = [], []
    for _ in range(5):
        started = time.perf_counter()
        found = evaluate(scorer, sessions, batch_size=EvaluationSettings().batch_size)
        rates.append(found.n_events / (time.perf_counter() - started))
        product_rates.append(found.n_events / took_by_product(found.n_events))
    share = median(rate / product for rate, product in zip(rates, product_rates, strict=True))
    return {"events_per_second": median(rates), "product_per_second": median(product_rates), "share": share}


CONTENDERS: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": ours,
    "first_epoch": first_epoch,
    "validated_epoch": validated_epoch,
    "notebook": notebook,
    "sgemm": sgemm,
    "ranking": ranking,
}


if __name__ == "__main__":
    main()
