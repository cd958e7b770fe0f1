"""Offline comparison under the literature's protocol, for figures that are comparable with papers (`sbr evaluate`).

GRU4Rec is trained on one set of sessions and tested on another (Hidasi et al. 2016, section 4). Unlike the daily test, which
drops nothing, this protocol drops test clicks on items without training clicks.
"""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from tabulate import tabulate

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.ingest import read_files
from sbr_tasks.clicks.sources import find_files
from sbr_tasks.days import day_interval_us, from_us
from sbr_tasks.errors import EvaluationError, SourceError
from sbr_tasks.evaluation.baselines import Markov, Popularity
from sbr_tasks.evaluation.metrics import CUT_OFFS, METRICS
from sbr_tasks.evaluation.neighbours import VSTAN, VSkNN
from sbr_tasks.evaluation.ranking import TIE_MODES, Evaluation, evaluate_ties
from sbr_tasks.evaluation.rules import SequentialRules
from sbr_tasks.evaluation.scorer import Scorer
from sbr_tasks.gru4rec.progress import train_shown
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.weights import GRU4RecWeights
from sbr_tasks.progress import Progress
from sbr_tasks.readout import CoVisits, MixtureScorer, PlacementRule, count_covisits, counted_scorer, fit_mixture
from sbr_tasks.settings import Settings, SourceSettings
from sbr_tasks.window.cleanse import MIN_CLICKS
from sbr_tasks.window.coded import Coder
from sbr_tasks.window.memory import in_order_coded
from sbr_tasks.window.sessions import UNKNOWN, ItemIndex, Sessions, no_sessions

logger = logging.getLogger(__name__)

_MASKED = PlacementRule(own_items="hide_current")
BASELINES: Mapping[str, Callable[[Sessions, ItemIndex, Settings], Scorer]] = {
    "popularity": lambda _, index, __: Popularity(index),
    "markov": lambda sessions, index, _: Markov(sessions, index),
    "sequential_rules": lambda sessions, index, _: SequentialRules(sessions, index),
    "vsknn": lambda sessions, index, settings: VSkNN(sessions, index, settings.vsknn),
    "vsknn_masked": lambda sessions, index, settings: _MASKED.applied_to(VSkNN(sessions, index, settings.vsknn)),
    "vstan": lambda sessions, index, settings: VSTAN(sessions, index, settings.vstan),
    "vstan_masked": lambda sessions, index, settings: _MASKED.applied_to(VSTAN(sessions, index, settings.vstan)),
}
"""Baselines by name: functions of the training sessions, their item index and the settings. The masked ones leave out the
current item, which V-SkNN and VSTAN rank first although it is hardly ever clicked next."""

ByTies = Mapping[str, Evaluation]
"""An evaluation for each of `TIE_MODES`."""


@dataclass(frozen=True)
class Comparison:
    """GRU4Rec and the baselines, evaluated on the same events.

    Attributes:
        gru4rec: Plain GRU4Rec after the last epoch.
        readout: GRU4Rec with its read-out, and the same without one of its parts, by name; empty if the training clicks are of
            one day, so that no day is left to fit on.
        baselines: The baselines by name.
        n_train_events: Training events per epoch.
        epoch_seconds: Mean training time per epoch; the first epoch includes compilation.
        peak_rss_mb: Peak memory of this process up to the evaluation of GRU4Rec, in MB of 2**20 bytes.
    """

    gru4rec: ByTies
    readout: Mapping[str, ByTies]
    baselines: Mapping[str, ByTies]
    n_train_events: int
    epoch_seconds: float
    peak_rss_mb: float

    @property
    def n_events(self) -> int:
        """Number of test events, the same for all models."""
        return self.gru4rec[TIE_MODES[0]].n_events

    @property
    def train_events_per_second(self) -> float:
        return self.n_train_events / self.epoch_seconds

    def as_dict(self) -> dict[str, Any]:
        """GRU4Rec's metrics by tie mode, `n_events`, speed and memory, and those of `readout` and `baselines` by name."""
        return {
            **_as_dict(self.gru4rec),
            "train_events_per_second": round(self.train_events_per_second, 1),
            "epoch_seconds": round(self.epoch_seconds, 4),
            "peak_rss_mb": round(self.peak_rss_mb, 1),
            "readout": {name: _as_dict(by_ties) for name, by_ties in self.readout.items()},
            "baselines": {name: _as_dict(by_ties) for name, by_ties in self.baselines.items()},
        }


def compare_offline(train_path: str, test_paths: Sequence[str], settings: Settings) -> Comparison:
    """Trains GRU4Rec and the baselines on one set of sessions, and tests them on another.

    The model is tested after all `model.n_epochs` epochs: the protocol has no validation, so `training.patience` is ignored,
    and so are the settings of the window. The read-out is fitted on the last day of the training clicks, with a model that is
    trained without it, and tested with the model that is trained on all of them.

    Args:
        train_path: A file, folder or glob of clicks.
        test_paths: One or more of these, which form the test set together.
        settings: `source` (except its path), `timezone`, `model`, `training.seed`, `evaluation`, `vsknn` and `vstan` are
            used.

    Raises:
        SourceError: Clicks are missing or can't be read.
        EvaluationError: Nothing remains to train or test on.
        TrainingError: The loss or a weight is no longer finite.
    """
    raw = read_sessions([train_path], settings.source, "--train"), read_sessions(test_paths, settings.source, "--test")
    sessions, test, index = apply_protocol(*raw)
    _require_sessions(*raw, sessions, test, index, (train_path, ", ".join(test_paths)))
    trained = train_shown(sessions, index, no_sessions(sessions), settings)
    gru4rec = _score("gru4rec", GRU4RecScorer(trained.weights), test, settings)
    peak_rss_mb = _peak_rss_mb()
    readout = {
        name: _score(name, scorer, test, settings)
        for name, scorer in fitted_readouts(trained.weights, sessions, settings).items()
    }
    return Comparison(
        gru4rec=gru4rec,
        readout=readout,
        n_train_events=trained.n_events,
        epoch_seconds=sum(epoch.took_s for epoch in trained.curve) / len(trained.curve),
        peak_rss_mb=peak_rss_mb,
        baselines={name: _score(name, make(sessions, index, settings), test, settings) for name, make in BASELINES.items()},
    )


def fitted_readouts(weights: GRU4RecWeights, sessions: Sessions, settings: Settings) -> dict[str, Scorer]:
    """A model with its read-out, and ablations: the same without one of its parts, fitted alike.

    Args:
        weights: The model, trained on all sessions.
        sessions: The training sessions.
        settings: As for `compare_offline`.
    """
    earlier, last_day = _without_last_day(sessions, settings)
    if not earlier.n_sessions:
        return {}
    index = ItemIndex.of_sessions(earlier)
    batch_size = settings.evaluation.batch_size
    model = GRU4RecScorer(train_shown(earlier, index, no_sessions(earlier), settings).weights)
    counted, none = count_covisits(earlier, index), CoVisits.none(len(index))
    fits = {
        "readout": fit_mixture(model, counted, last_day, batch_size=batch_size),
        "readout, no co-visits": fit_mixture(model, none, last_day, batch_size=batch_size),
        "readout, no own items": fit_mixture(model, counted, last_day, batch_size=batch_size, has_own_items=False),
    }
    plain, covisits = GRU4RecScorer(weights), count_covisits(sessions, weights.index)
    scorers: dict[str, Scorer] = {
        name: MixtureScorer(plain, covisits, mixture) for name, mixture in fits.items() if mixture is not None
    }
    without_gru4rec = counted_scorer(sessions, weights.index, (earlier, index, last_day), batch_size=batch_size)
    return {**scorers, "readout, no gru4rec": without_gru4rec}


def _without_last_day(sessions: Sessions, settings: Settings) -> tuple[Sessions, Sessions]:
    """The sessions that ended before the last day, and those that ended on it."""
    last_day = from_us(int(sessions.last_click_us.max())).astimezone(settings.zone).date()
    is_last = sessions.last_click_us >= day_interval_us(last_day, settings.zone)[0]
    return sessions.where(~is_last), sessions.where(is_last)


def read_sessions(paths: Sequence[str], source: SourceSettings, named_by: str) -> Sessions:
    """All clicks of some files as sessions; clicks of the same second stay in the order of the files.

    Args:
        paths: Files, folders or globs; a session id in several of them is one session.
        source: How the clicks are laid out; its path is ignored.
        named_by: The option that names the paths, for errors.

    Raises:
        SourceError: The clicks are missing or can't be read, or a click has no id or time.
    """
    files = [file for path in paths for file in find_files(str(Path(path).expanduser().absolute()), named_by=named_by)]
    tables = [table.select(Columns.CLICK) for table in read_files(files, source)]
    where = ", ".join(map(str, files))
    if not tables:
        raise SourceError(f"Expected clicks in {where}, found none: the files hold no line. Check the path ({named_by}).")
    for name in Columns.CLICK:
        if missing := sum(table.column(name).null_count for table in tables):
            raise SourceError(f"Expected {name} in each click of {where}, found {missing:,} clicks without it. Fill them in.")
    coder = Coder()
    for table in tables:
        coder.add(table)
    return in_order_coded(coder.finish())


def apply_protocol(train: Sessions, test: Sessions) -> tuple[Sessions, Sessions, ItemIndex]:
    """Applies the literature's protocol: keeps training sessions of two or more clicks, and test clicks on their items.

    Test clicks on other items are dropped first, then test sessions with fewer than two clicks. Nothing else is cleansed.

    Returns:
        Training sessions, test sessions, and the index of the training items, most clicked first (ties: by id).
    """
    train = train.where(train.lengths >= MIN_CLICKS)
    index = ItemIndex.of_sessions(train)
    test = test.where_clicks(index.codes_of(test) != UNKNOWN)
    return train, test.where(test.lengths >= MIN_CLICKS), index


def comparison_table(comparison: Comparison) -> str:
    """A table of the models for people; tie modes with equal figures share a row."""
    rows = []
    for name, by_ties in {"gru4rec": comparison.gru4rec, **comparison.readout, **comparison.baselines}.items():
        modes_of: dict[tuple[float, ...], list[str]] = {}
        for mode in TIE_MODES:
            modes_of.setdefault(tuple(_metrics(by_ties[mode]).values()), []).append(mode)
        rows += [
            [name, "all" if len(modes) == len(TIE_MODES) else ", ".join(modes), *values] for values, modes in modes_of.items()
        ]
    headers = ["model", "ties", *(f"{metric}@{k}" for metric in ("R", "MRR") for k in CUT_OFFS)]
    return (
        f"{tabulate(rows, headers=headers, floatfmt='.4f')}\n\n"
        f"Tested on {comparison.n_events:,} events. Trained on {comparison.n_train_events:,} events an epoch: "
        f"{comparison.epoch_seconds:.2f} s an epoch, {comparison.train_events_per_second:,.0f} events/s, "
        f"peak memory {comparison.peak_rss_mb:,.0f} MB."
    )


def _require_sessions(
    given_train: Sessions, given_test: Sessions, train: Sessions, test: Sessions, index: ItemIndex, where: tuple[str, str]
) -> None:
    train_path, test_path = where
    if not train.n_sessions:
        raise EvaluationError(
            f"Expected sessions of 2 or more clicks to train on in {train_path}, found {given_train.n_clicks:,} clicks in "
            f"{given_train.n_sessions:,} sessions of one. Check that its session ids are read from the right column (--format)."
        )
    n_known = int((index.codes_of(given_test) != UNKNOWN).sum())
    if not n_known:
        raise EvaluationError(
            f"Expected clicks on the {len(index):,} items of {train_path} in {test_path}, found none among its "
            f"{given_test.n_clicks:,} clicks. Give a test set of the same items, with ids that are written alike."
        )
    if not test.n_sessions:
        raise EvaluationError(
            f"Expected sessions with 2 or more clicks on items of {train_path} in {test_path}, found none among its "
            f"{given_test.n_sessions:,} sessions ({n_known:,} of {given_test.n_clicks:,} clicks are on such items). "
            "Give a larger test set."
        )


def _score(name: str, scorer: Scorer, test: Sessions, settings: Settings) -> ByTies:
    started = perf_counter()
    with Progress(f"Scoring {name}", test.n_clicks - test.n_sessions, "events", logger) as progress:
        by_ties = evaluate_ties(scorer, test, batch_size=settings.evaluation.batch_size, on_progress=progress.advance)
    shown = by_ties["conservative"]
    logger.info(
        "%s: Recall@20 %.4f, MRR@20 %.4f on %d events, scored in %.1f s",
        name, shown.recall_at(20), shown.mrr_at(20), shown.n_events, perf_counter() - started,
    )  # fmt: skip
    return by_ties


def _as_dict(by_ties: ByTies) -> dict[str, Any]:
    return {**{mode: _metrics(by_ties[mode]) for mode in TIE_MODES}, "n_events": by_ties[TIE_MODES[0]].n_events}


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    metrics = evaluation.metrics()
    return {name: metrics[name] for name in METRICS}


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, else KiB
