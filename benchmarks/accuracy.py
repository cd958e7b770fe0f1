"""How accurate GRU4Rec is with settings whose figures are known, over several seeds.

    python -m benchmarks.accuracy --train FILE --test FILE [--seeds 5] [--only "batch 64,bpr-max"] [--set KEY=VALUE]

Under the protocol of `sbr evaluate`; files are in GRU4Rec's format, several `--test` are one set. `--set` changes all settings
alike. `--only given` measures the settings in force and `--set`.
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
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.window.sessions import ItemIndex, Sessions, no_sessions

Split = tuple[Sessions, Sessions, ItemIndex]

_COMMON = ["model.layers=[100]", "model.n_epochs=10", "model.learning_rate=0.1", "model.n_sample=2048", "model.momentum=0"]
PUBLISHED = {
    "batch 64": ["model.batch_size=64", "model.dropout_p_embed=0.4", "model.dropout_p_hidden=0.1", "model.sample_alpha=0.5"],
    "batch 32": ["model.batch_size=32", "model.dropout_p_embed=0.1", "model.dropout_p_hidden=0", "model.sample_alpha=0.75"],
    "bpr-max": [
        "model.loss=bpr-max", "model.batch_size=32", "model.dropout_p_embed=0", "model.dropout_p_hidden=0",
        "model.momentum=0.1", "model.sample_alpha=0.2", "model.bpreg=0.5", "model.elu_param=0.5",
    ],
}  # fmt: skip
"""The settings whose figures are known, on top of `_COMMON`."""


def main() -> None:
    """Trains each setting with each seed and prints the means."""
    options = parser_of(__doc__ or "", "--only").parse_args()
    rows = []
    for name in (options.only or ",".join(PUBLISHED)).split(","):
        settings, split = prepared(options, [] if name == "given" else [*_COMMON, *PUBLISHED[name]])
        found = [scores(*split, settings, seed) for seed in range(options.seeds)]
        rows.append([name, *np.mean(found, axis=0), *(np.std(found, axis=0, ddof=1) if len(found) > 1 else (None, None))])
        print(f"{name}: done", flush=True)
    print(table(rows, "setting", options.seeds, split[1]))


def parser_of(text: str, *options: str) -> argparse.ArgumentParser:
    """The options of a benchmark that trains on one set and tests on another, and further ones that take a text."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True, action="append")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    for option in options:
        parser.add_argument(option)
    return parser


def prepared(options: argparse.Namespace, overrides: list[str]) -> tuple[Settings, Split]:
    """Settings, and the sessions that the protocol leaves."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.disable(logging.INFO)
    settings = load_settings([*overrides, *options.set, "source.format=gru4rec"])
    given = [read_sessions([options.train], settings.source, "--train"), read_sessions(options.test, settings.source, "--test")]
    return settings, apply_protocol(*given)


def scores(sessions: Sessions, test: Sessions, index: ItemIndex, settings: Settings, seed: int) -> tuple[float, float]:
    """Recall@20 and MRR@20 of one training."""
    seeded = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
    trained = train_shown(sessions, index, no_sessions(sessions), seeded)
    found = evaluate(GRU4RecScorer(trained.weights), test, batch_size=settings.evaluation.batch_size)
    return found.recall_at(20), found.mrr_at(20)


def table(rows: list[list[object]], what: str, n_seeds: int, test: Sessions) -> str:
    """Name, means and deviations, for people."""
    headers = [what, "Recall@20", "MRR@20", "deviation", "deviation"]
    n_events = int(test.lengths.sum() - test.n_sessions)
    return f"Mean of {n_seeds} seeds, {n_events:,} events:\n\n{tabulate(rows, headers=headers, floatfmt='.4f', missingval='-')}"


if __name__ == "__main__":
    main()
