"""A process that decides on versions that were never trained: what each scores follows from its name."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date
from multiprocessing.synchronize import Barrier

from benchmarks.records import version_record_of, window_record_of
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.registry import promotion
from sbr_tasks.registry.gate import COMPARED, Metrics
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.scoring import BASELINES, Score
from sbr_tasks.registry.versions import load_version
from sbr_tasks.settings import Settings
from sbr_tasks.store import FileRecord, Store
from sbr_tasks.window.record import Window
from sbr_tasks.wish import Wish

WAIT_S = 120
FIRST_DAY = date(2020, 1, 1)

_together: Barrier
_is_first_look = False


def start(barrier: Barrier) -> None:
    """Makes this process one of those that meet at the barrier before each decision."""
    global _together  # noqa: PLW0603 - what a pool gives its processes
    _together = barrier
    promotion.score_models = _score_models
    promotion.compare_scores = _compare_scores
    promotion.check_serving = lambda *_: None


def decide(settings: Settings, name: str) -> None:
    """Decides on a version; all processes have looked at the log before the first of them writes to it."""
    global _is_first_look  # noqa: PLW0603
    store = Store.open(settings)
    MlflowProjection(store, settings).show_version(load_version(store, name))
    _is_first_look = True
    promotion.commit_decision(store, settings, window_of(name), name, Wish(actor=f"run of {name}"))


def write_version(store: Store, name: str) -> None:
    """Puts a version into the store; no model is in its files."""
    files = {"saved_model.pb": f"graph of {name}", "variables/variables.index": f"variables of {name}"}
    version = version_record_of(
        name,
        files={"weights": store.publish(f"models/{name}/weights", name.encode())},
        optimizer=store.publish(f"models/{name}/optimizer.npz", name.encode()),
        saved_model={file: store.publish(f"models/{name}/{file}", text.encode()) for file, text in files.items()},
    )
    store.create_record(f"models/{name}/manifest.json", version.as_dict())


def window_of(name: str) -> Window:
    """The window that a version was trained on, whose test has no click that anything could be noted on."""
    return window_record_of(date.fromisoformat(name[:10]), name)


def metrics_of(name: str, on: str) -> Metrics:
    """What a version or baseline scores on the test day of another version's window.

    Newer versions tend to be better, so that the champion changes often. About one version in ten meets too few events, and
    some are below the baselines.
    """
    draw = random.Random(name)
    if name in BASELINES:
        metrics = dict.fromkeys(COMPARED, 0.2)
    else:
        trend = 0.03 * (date.fromisoformat(name[:10]) - FIRST_DAY).days
        metrics = {metric: trend + draw.uniform(0.1, 0.3) for metric in COMPARED}
    n_events = random.Random(on).choice([50] + 9 * [900])
    return metrics | {"n_events": n_events, "n_sessions": n_events}


def differences(new: Metrics, old: Metrics) -> dict[str, Difference]:
    """By how much one scores more than the other."""
    gains = {metric: new[metric] - old[metric] for metric in COMPARED}
    return {metric: Difference(gain, gain, gain, 0.5) for metric, gain in gains.items()}


def _score_models(_store: Store, _settings: Settings, window: Window, names: Iterable[str]) -> dict[str, Score]:
    global _is_first_look  # noqa: PLW0603
    if _is_first_look:
        _is_first_look = False
        _together.wait(WAIT_S)
    nothing = FileRecord(key="", size=0, sha256="")
    return {
        name: Score(metrics=metrics_of(name, window.fingerprint), by_length={}, ranks=nothing) for name in (*names, *BASELINES)
    }


def _compare_scores(_store: Store, _settings: Settings, _window: Window, new: Score, old: Score) -> dict[str, Difference]:
    return differences(new.metrics, old.metrics)
