"""Accuracy of GRU4Rec with settings whose figures are published, over several seeds.

    python -m benchmarks.accuracy --train FILE --test FILE [--seeds 5] [--only "batch 64,bpr-max"] [--set KEY=VALUE]

Under the protocol of `sbr evaluate`; files are in GRU4Rec's format; several `--test` form one set. `--set` applies to every
setting. `--only given` measures the current settings with `--set`.
"""

from __future__ import annotations

import argparse
import logging
import os

import numpy as np
from tabulate import tabulate

from sbr_tasks.evaluation.ranking import evaluate
from sbr_tasks.experiments.offline import apply_protocol, read_sessions
from sbr_tasks.gru4rec.progress import train_shown
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.settings import Settings, load_settings, parse_overrides
from sbr_tasks.window.sessions import ItemIndex, Sessions, no_sessions

_COMMON = ["model.layers=[100]", "model.n_epochs=10", "model.learning_rate=0.1", "model.n_sample=2048", "model.momentum=0"]
PUBLISHED = {
    "batch 64": ["model.batch_size=64", "model.dropout_p_embed=0.4", "model.dropout_p_hidden=0.1", "model.sample_alpha=0.5"],
    "batch 32": ["model.batch_size=32", "model.dropout_p_embed=0.1", "model.dropout_p_hidden=0", "model.sample_alpha=0.75"],
    "bpr-max": [
        "model.loss=bpr-max", "model.batch_size=32", "model.dropout_p_embed=0", "model.dropout_p_hidden=0",
        "model.momentum=0.1", "model.sample_alpha=0.2", "model.bpreg=0.5", "model.elu_param=0.5",
    ],
}  # fmt: skip
"""The settings with published figures, on top of `_COMMON`."""


def main() -> None:
    """Trains each setting with each seed and prints the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True, action="append")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PUBLISHED))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.disable(logging.INFO)
    rows = []
    for name in options.only.split(","):
        published = [] if name == "given" else [*_COMMON, *PUBLISHED[name]]
        settings = load_settings(parse_overrides([*published, *options.set, "source.format=gru4rec"]))
        train = read_sessions([options.train], settings.source, "--train")
        test = read_sessions(options.test, settings.source, "--test")
        split = apply_protocol(train, test)
        found = [scores(*split, settings, seed) for seed in range(options.seeds)]
        rows.append([name, *np.mean(found, axis=0), *(np.std(found, axis=0, ddof=1) if len(found) > 1 else (None, None))])
        print(f"{name}: done", flush=True)
    n_events = int(split[1].lengths.sum() - split[1].n_sessions)
    headers = ["setting", "Recall@20", "MRR@20", "deviation", "deviation"]
    print(f"Mean of {options.seeds} seeds, {n_events:,} events:\n")
    print(tabulate(rows, headers=headers, floatfmt=".4f", missingval="-"))


def scores(sessions: Sessions, test: Sessions, index: ItemIndex, settings: Settings, seed: int) -> tuple[float, float]:
    """Recall@20 and MRR@20 of one training."""
    seeded = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
    trained = train_shown(sessions, index, no_sessions(sessions), seeded)
    found = evaluate(GRU4RecScorer(trained.weights), test, batch_size=settings.evaluation.batch_size)
    return found.recall_at(20), found.mrr_at(20)


if __name__ == "__main__":
    main()
