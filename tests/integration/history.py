"""What tests check of a promotion log, whoever wrote it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.registry.gate import Contender, Opponent, decide
from sbr_tasks.registry.log import Decision, Entry, PromotionLog, fold
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.serving import served
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.store import Store
from sbr_tasks.window.coverage import coverage_notes
from sbr_tasks.window.record import load_window


def assert_explained(entries: Sequence[Entry], settings: Settings, windows: Store | None = None) -> None:
    """Each decision is what the gate says of the scores in it, against the champion that the entries before it tell.

    Args:
        entries: The log.
        settings: Those of the gate.
        windows: Where the windows are that decisions may have notes on; None: there are none to note anything on.
    """
    for n, entry in enumerate(entries):
        state = fold(entries[:n])
        assert (entry.number, entry.before) == (n + 1, state.champion)
        if not isinstance(entry, Decision):
            continue
        assert entry.opponent == state.opponent_for(entry.day)
        champion = None
        if entry.opponent:
            differences = {metric: Difference(**found) for metric, found in entry.differences.items()}
            champion = Opponent(entry.opponent, entry.opponent_metrics, differences)
        decision = decide(
            Contender(entry.version, entry.day, entry.challenger_metrics),
            champion,
            baselines={baseline: entry.baselines[baseline] for baseline in settings.gate.baselines},
            live_day=state.champion_day,
            settings=settings.gate,
        )
        notes = coverage_notes(load_window(windows, entry.day, entry.window)) if windows else ()
        assert (entry.outcome, entry.reasons) == (decision.outcome, (*decision.reasons, *notes))
        assert entry.champion == (entry.version if decision.outcome.moves_champion else state.champion)


def assert_projections_follow(store: Store, settings: Settings) -> None:
    """MLflow's alias and the serving copy are what the last entry of the log that moved the champion says."""
    state = PromotionLog(store).state()
    assert MlflowProjection(store, settings).champion() == state.champion
    assert served(store) == ((state.champion_entry, state.champion) if state.champion else None)


def contents_of(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What the entries say, without who wrote them and when."""
    return [{name: value for name, value in entry.as_dict().items() if name not in ("actor", "at")} for entry in entries]


def entries_of(folder: Path) -> list[Entry]:
    """The log of a shop's store."""
    return PromotionLog(store_of(folder)).entries()


def store_of(folder: Path) -> Store:
    """The store of a shop."""
    return Store.open(load_settings(cwd=folder))


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
