"""Scoring of model versions on a window's test day; each version is scored once per window, code and placement rule."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import get_args

import numpy as np
import pyarrow as pa

from sbr_tasks.evaluation.baselines import Markov, Popularity
from sbr_tasks.evaluation.comparison import Difference, resampled_differences
from sbr_tasks.evaluation.ranking import Evaluation, evaluate, event_clicks
from sbr_tasks.evaluation.scorer import Scorer
from sbr_tasks.evaluation.slices import metrics_by_length
from sbr_tasks.progress import Progress
from sbr_tasks.readout import PlacementRule, counted_scorer
from sbr_tasks.registry.exclusions import served_rule
from sbr_tasks.registry.gate import Metrics
from sbr_tasks.registry.versions import load_model, load_version
from sbr_tasks.settings import Baseline, Settings
from sbr_tasks.store import FileRecord, Record, Store, code_version, fingerprint, kinds
from sbr_tasks.window.data import WindowData, read_window
from sbr_tasks.window.record import Window
from sbr_tasks.window.sessions import Sessions

logger = logging.getLogger(__name__)

COVISITS: Baseline = "covisits"
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


class Score(Record):
    """What a model scored on the test day of a window.

    Attributes:
        metrics: Recall and MRR at each K, `n_events` and `n_sessions`, and what the model knows (`metrics.KNOWLEDGE`); without
            events only the counts.
        by_length: Recall@20, MRR@20 and `n_events` by length of the session.
        ranks: The Parquet file with the rank of each event.
    """

    metrics: Metrics
    by_length: Mapping[str, Metrics]
    ranks: FileRecord


def score_models(store: Store, settings: Settings, window: Window, names: list[str]) -> dict[str, Score]:
    """Scores versions and the baselines on the test day of a window, all on the same events and under the rule that is served.

    What was scored before isn't scored again, unless its files are damaged. The rank of each event is kept as Parquet beside
    the metrics.

    Returns:
        Scores by version name, and by the names of `BASELINES`.

    Raises:
        RegistryError: A version is unknown.
        DamagedError: Files of a version are missing or damaged.
        SettingsError: The list of excluded items can't be read.
    """
    rule = served_rule(settings)
    by = fingerprint({"code": code_version("evaluation", "gru4rec", "readout"), "rule": rule.as_dict()})
    data = read_window(store, window, settings.zone)

    def score(name: str) -> Score:
        key = kinds.SCORE.key(window=window.fingerprint, by=by, model=name)

        def make() -> Score:
            evaluation = _evaluate(store, name, data, settings, rule)
            logger.info("%s on %s: %s", name, window.day, describe_metrics(evaluation.metrics()))
            return _publish(store, key, evaluation, data.test)

        return store.once(key, Score, make, check=lambda score: store.read(score.ranks))

    return {name: score(name) for name in (*names, *BASELINES)}


def compare_scores(
    store: Store, settings: Settings, window: Window, challenger: Score, champion: Score
) -> dict[str, Difference]:
    """Challenger minus champion with bootstrap intervals; the draws follow from the window, so a repetition gives the same."""
    return resampled_differences(
        _read_ranks(store, challenger),
        _read_ranks(store, champion),
        confidence=settings.gate.confidence,
        seed=int(window.fingerprint[:8], 16),
    )


def describe_metrics(metrics: Metrics) -> str:
    """The two metrics that count, and the number of events, as text."""
    if not metrics["n_events"]:
        return "no events"
    return f"Recall@20 {metrics['recall_at_20']:.4f}, MRR@20 {metrics['mrr_at_20']:.4f} on {int(metrics['n_events']):,} events"


def _evaluate(store: Store, name: str, data: WindowData, settings: Settings, rule: PlacementRule) -> Evaluation:
    scorer: Scorer
    if name == "popularity":
        scorer = Popularity(data.refit_index)
    elif name == "markov":
        scorer = Markov(data.refit, data.refit_index)
    elif name == COVISITS:
        fit = (data.train, data.index, data.validation)
        scorer = counted_scorer(data.refit, data.refit_index, fit, batch_size=settings.evaluation.batch_size)
    else:
        scorer = load_model(store, load_version(store, name)).scorer()
    with Progress(f"Scoring {name}", len(event_clicks(data.test)), "events", logger) as progress:
        return evaluate(
            rule.applied_to(scorer), data.test, batch_size=settings.evaluation.batch_size, on_progress=progress.advance
        )


def _publish(store: Store, key: str, evaluation: Evaluation, test: Sessions) -> Score:
    ranks = pa.table(
        {
            "session": pa.array(evaluation.session),
            "session_clicks": pa.array(test.lengths[evaluation.session]),
            "target_item_id": test.catalog.array.take(pa.array(test.items[event_clicks(test)])),
            "rank": pa.array(evaluation.ranks),
            "knows_target": pa.array(evaluation.knows_target),
            "knows_input": pa.array(evaluation.knows_input),
        }
    )
    return Score(
        metrics={name: value for name, value in evaluation.metrics().items() if not math.isnan(value)},
        by_length=metrics_by_length(evaluation, test),
        ranks=store.publish_table(key.removesuffix(".json") + ".parquet", ranks),
    )


def _read_ranks(store: Store, score: Score) -> Evaluation:
    table = store.read_table(score.ranks, ["session", "rank"])
    return Evaluation(table.column("rank").to_numpy().astype(np.int32), table.column("session").to_numpy())
