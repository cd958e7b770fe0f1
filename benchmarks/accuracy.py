"""Accuracy of GRU4Rec and its read-out: under the protocol of papers over several seeds, and in daily tests.

    python -m benchmarks.accuracy --train FILE --test FILE [--seeds 5] [--only "batch 64,bpr-max,readout"] [--set KEY=VALUE]
    python -m benchmarks.accuracy --daily FILE [--days 7] [--training-days 21] [--set KEY=VALUE]

Files are in GRU4Rec's format; several `--test` form one set. `--set` applies to every setting.

With `--train`, models are tested as by `sbr evaluate`. `--only given` measures plain GRU4Rec with the current settings and
`--set`; `readout` measures it with and without the read-out and its parts, all fitted on the last day of `--train`.

With `--daily`, the last days of the clicks are tested one after the other, on all events of a day, by

    through D-2     plain GRU4Rec as validation leaves it: trained through D-2, its best epoch chosen by D-1
    through D-1     the version of `sbr retrain`, without its read-out
    version         the version of `sbr retrain`, with its read-out
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import numpy as np
from tabulate import tabulate

from sbr_tasks.evaluation.ranking import Evaluation, evaluate
from sbr_tasks.evaluation.scorer import Scorer
from sbr_tasks.experiments.offline import apply_protocol, fitted_readouts, read_sessions
from sbr_tasks.gru4rec.progress import train_shown
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.registry.versions import load_model, load_version
from sbr_tasks.settings import Settings, load_settings, parse_overrides
from sbr_tasks.window.data import read_window
from sbr_tasks.window.record import load_window
from sbr_tasks.window.sessions import ItemIndex, Sessions, no_sessions
from sbr_tasks.workspace import Workspace

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
    """Trains and tests, and prints the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train")
    parser.add_argument("--test", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default=",".join([*PUBLISHED, "readout"]))
    parser.add_argument("--daily", metavar="FILE")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--training-days", type=int, default=21)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.disable(logging.WARNING)
    if options.daily:
        daily_tests(Path(options.daily).absolute(), options.days, options.training_days, options.set)
    elif options.train and options.test:
        papers(options)
    else:
        parser.error("expected --train with --test, or --daily")


def papers(options: argparse.Namespace) -> None:
    """Measures settings under the protocol of papers."""
    measured = defaultdict[str, list[tuple[float, float]]](list)
    for name in options.only.split(","):
        published = [*_COMMON, *PUBLISHED[name]] if name in PUBLISHED else []
        settings = load_settings(parse_overrides([*published, *options.set, "source.format=gru4rec"]))
        train = read_sessions([options.train], settings.source, "--train")
        test = read_sessions(options.test, settings.source, "--test")
        sessions, test, index = apply_protocol(train, test)
        for seed in range(options.seeds):
            for label, scorer in trained_scorers(name, sessions, index, with_seed(settings, seed)).items():
                scored = evaluate(scorer, test, batch_size=settings.evaluation.batch_size)
                measured[label].append((scored.recall_at(20), scored.mrr_at(20)))
        print(f"{name}: done", flush=True)
    deviation = (lambda scores: np.std(scores, axis=0, ddof=1)) if options.seeds > 1 else (lambda _: (None, None))
    rows = [[label, *np.mean(scores, axis=0), *deviation(scores)] for label, scores in measured.items()]
    n_events = test.n_clicks - test.n_sessions
    headers = ["model", "Recall@20", "MRR@20", "deviation", "deviation"]
    print(f"Mean of {options.seeds} seeds, {n_events:,} events:\n")
    print(tabulate(rows, headers=headers, floatfmt=".4f", missingval="-"))


def with_seed(settings: Settings, seed: int) -> Settings:
    """The settings with another random seed."""
    return settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})


def trained_scorers(name: str, sessions: Sessions, index: ItemIndex, settings: Settings) -> dict[str, Scorer]:
    """The models of one setting and seed, by the name of their row."""
    weights = train_shown(sessions, index, no_sessions(sessions), settings).weights
    plain = GRU4RecScorer(weights)
    return {"plain": plain, **fitted_readouts(weights, sessions, settings)} if name == "readout" else {name: plain}


def daily_tests(clicks: Path, n_days: int, training_days: int, overrides: list[str]) -> None:
    """Tests the last days of some clicks, and prints the means, weighted by events."""
    scores = defaultdict[str, list[tuple[float, float]]](list)
    seconds = defaultdict[str, float](float)
    events = []
    with tempfile.TemporaryDirectory() as folder:
        source = [f"store={folder}/store", f"source.path={clicks}", "source.format=gru4rec"]
        window_days = [f"window.days={training_days + 2}", "window.least_click=1"]
        workspace = Workspace.open(parse_overrides([*source, *window_days, *overrides]))
        settings, batch_size = workspace.settings, workspace.settings.evaluation.batch_size
        workspace.ingest(holds_back=False)
        last = max(workspace.catalog.days())
        for day in [last - timedelta(days=i) for i in reversed(range(n_days))]:
            done = workspace.retrain(day, holds_back=False)
            data = read_window(workspace.store, load_window(workspace.store, day, done.build_window.window), settings.zone)
            version = load_version(workspace.store, done.train_gru4rec.model_version)
            model = load_model(workspace.store, version)
            started = time.monotonic()
            before = train_shown(data.train, data.index, data.validation, settings)
            seconds["through D-2"] += time.monotonic() - started
            seconds["version"] += version.took_s
            contenders: dict[str, Scorer] = {
                "through D-2": GRU4RecScorer(before.weights),
                "through D-1": GRU4RecScorer(model.weights),
                "version": model.scorer(),
            }
            evaluations: dict[str, Evaluation] = {
                name: evaluate(scorer, data.test, batch_size=batch_size) for name, scorer in contenders.items()
            }
            events.append(evaluations["version"].n_events)
            for name, scored in evaluations.items():
                scores[name].append((scored.recall_at(20), scored.mrr_at(20)))
            shown = ", ".join(f"{name} {recall[-1][0]:.4f} / {recall[-1][1]:.4f}" for name, recall in scores.items())
            print(f"{day}: {events[-1]:,} events, {version.choice.n_epochs} epochs; {shown}", flush=True)
    means = {name: np.average(of_days, axis=0, weights=events) for name, of_days in scores.items()}
    base = means["through D-2"]
    rows = [[name, *mean, *(mean / base - 1), seconds.get(name)] for name, mean in means.items()]
    headers = ["model", "Recall@20", "MRR@20", "change", "change", "training s"]
    print(tabulate(rows, headers=headers, floatfmt=("", ".4f", ".4f", "+.1%", "+.1%", ".0f"), missingval="-"))


if __name__ == "__main__":
    main()
