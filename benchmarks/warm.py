"""What a training gains that goes on from yesterday's model: accuracy and seconds over some days, cold against warm.

    python -m benchmarks.warm [--clicks FILE --format gru4rec] [--days 10] [--seed 42] [--set KEY=VALUE]

Without `--clicks`, clicks are synthetic (`sbr demo-clicks`): a shop whose items drift. For each of the last days of the clicks
the daily window is built, cleansed and split as the daily run does it. `cold` trains from random weights for up to
`model.n_epochs`; `warm` goes on, for up to `training.warm_epochs`, from its own model of the day before, with Adagrad's sums of
squared gradients forgotten (decay 0), shrunk or kept (1). All start from the cold model of the day before the first. Both stop
early and keep their best epoch by the validation day. Metrics are means over the events of all days, seconds are the median
day's, of training alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
from tabulate import tabulate

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.demo import write_demo_clicks
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.days import parse_day
from sbr_tasks.evaluation.ranking import Evaluation, evaluate
from sbr_tasks.gru4rec import training
from sbr_tasks.gru4rec.progress import train_shown
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.slots import Parent
from sbr_tasks.gru4rec.training import Trained
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.store import Store
from sbr_tasks.validation.checkpoint import validate_pending
from sbr_tasks.window.build import WindowData, build_window, read_window

DECAYS = (0.0, 0.1, 1.0)


def main() -> None:
    """Trains day by day, each way, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", help="A file or glob; synthetic clicks by default.")
    parser.add_argument("--format", default="yoochoose")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        clicks = options.clicks or str(Path(folder) / "clicks.dat")
        if not options.clicks:
            write_demo_clicks(Path(clicks), end=parse_day("2014-09-30"), days=45, sessions_per_day=1500, seed=options.seed)
        source = [f"store={folder}/store", f"source.path={Path(clicks).absolute()}", f"source.format={options.format}"]
        settings = load_settings([*options.set, *source, f"training.seed={options.seed}"])
        windows = _windows(settings, options.days + 1)
    before, *windows = windows
    start = _train(before, settings, None)
    rows = []
    for name, decay in [("cold", None), *((f"warm, decay {decay:g}", decay) for decay in DECAYS)]:
        found, seconds, epochs, parent = list[Evaluation](), list[float](), list[int](), start
        for data in windows:
            with mock.patch.object(training, "_DECAY", decay):
                trained = _train(data, settings, None if decay is None else parent)
            parent = trained
            found.append(evaluate(GRU4RecScorer(trained.weights), data.test, batch_size=settings.evaluation.batch_size))
            seconds.append(sum(epoch.took_s for epoch in trained.curve))
            epochs.append(len(trained.curve))
        rows.append([name, *_means(found), median(seconds), np.mean(epochs)])
        print(f"{name}: done", flush=True)
    headers = ["training", "Recall@20", "MRR@20", "seconds", "epochs"]
    n_new = np.mean([_share_of_new(a, b) for a, b in zip([before, *windows], windows, strict=False)])
    print(f"\n{len(windows)} days, {sum(one.n_events for one in found):,} test events, {n_new:.1%} of a day's items are new:\n")
    print(tabulate(rows, headers=headers, floatfmt=("", ".4f", ".4f", ".1f", ".1f")))


def _windows(settings: Settings, n_days: int) -> list[WindowData]:
    """The windows that end with the last days of the clicks, oldest first."""
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    last = max(ClickCatalog(store).days())
    days = [last - timedelta(days=i) for i in reversed(range(n_days))]
    return [read_window(store, build_window(store, settings, day), settings.zone) for day in days]


def _train(data: WindowData, settings: Settings, parent: Trained | None) -> Trained:
    given = Parent(parent.weights, parent.squares) if parent else None
    return train_shown(data.train, data.index, data.validation, settings, parent=given)


def _means(found: Sequence[Evaluation]) -> tuple[float, float]:
    """Recall@20 and MRR@20 over the events of all days."""
    together = replace(
        found[0],
        ranks=np.concatenate([one.ranks for one in found]),
        session=np.concatenate([one.session for one in found]),
    )
    return together.recall_at(20), together.mrr_at(20)


def _share_of_new(before: WindowData, after: WindowData) -> float:
    return float(np.mean(~np.isin(after.index.ids, before.index.ids)))


if __name__ == "__main__":
    main()
