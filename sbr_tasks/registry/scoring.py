"""Scoring of model versions on a window's test day; each version is scored once per window and code."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping

import pyarrow as pa

from sbr_tasks.errors import AlreadyExistsError
from sbr_tasks.evaluation.baselines import Markov, Popularity
from sbr_tasks.evaluation.ranking import Evaluation, evaluate
from sbr_tasks.registry.gate import Metrics
from sbr_tasks.registry.versions import load_scorer, load_version
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Store, code_version, to_json
from sbr_tasks.window.build import Window, WindowData, read_window

logger = logging.getLogger(__name__)

BASELINES = ("popularity", "markov")


def score_models(store: Store, settings: Settings, window: Window, names: list[str]) -> dict[str, Metrics]:
    """Scores versions and the baselines on the test day of a window, all on the same events.

    What was scored before isn't scored again. The rank of each event is kept as Parquet beside the metrics.

    Returns:
        Metrics by version name, and by the names of `BASELINES`; without events only the counts.

    Raises:
        RegistryError: A version is unknown.
        StoreError: Files of a version are missing or damaged.
    """
    folder = f"evaluations/on={window.fingerprint}/by={code_version('evaluation', 'gru4rec')}"
    found: dict[str, Metrics] = {}
    data: WindowData | None = None
    for name in [*names, *BASELINES]:
        key = f"{folder}/{name}.json"
        if store.exists(key):
            found[name] = json.loads(store.get(key))["metrics"]
            continue
        data = data or read_window(store, window, settings.zone)
        found[name] = _record(store, key, _score(store, name, data, settings), window)
        logger.info("%s on %s: %s", name, window.as_of, describe_metrics(found[name]))
    return found


def describe_metrics(metrics: Metrics) -> str:
    """The two metrics that count, and the number of events, as text."""
    if not metrics["n_events"]:
        return "no events"
    return f"Recall@20 {metrics['recall_at_20']:.4f}, MRR@20 {metrics['mrr_at_20']:.4f} on {int(metrics['n_events']):,} events"


def _score(store: Store, name: str, data: WindowData, settings: Settings) -> Evaluation:
    if name == "popularity":
        return evaluate(Popularity(data.index), data.test, batch_size=settings.evaluation.batch_size)
    if name == "markov":
        return evaluate(Markov(data.train, data.index), data.test, batch_size=settings.evaluation.batch_size)
    scorer = load_scorer(store, load_version(store, name))
    return evaluate(scorer, data.test, batch_size=settings.evaluation.batch_size)


def _record(store: Store, key: str, evaluation: Evaluation, window: Window) -> Mapping[str, float]:
    ranks = pa.table({"session": pa.array(evaluation.session), "rank": pa.array(evaluation.ranks)})
    metrics = {name: value for name, value in evaluation.metrics().items() if not math.isnan(value)}
    body: Json = {
        "window": window.fingerprint,
        "metrics": metrics,
        "ranks": store.publish_table(key.removesuffix(".json") + ".parquet", ranks).as_dict(),
    }
    try:
        store.put_new(key, to_json(body))
    except AlreadyExistsError:
        logger.info("Another run recorded %s meanwhile.", key)
    return metrics
