"""Entries of a promotion log that no gate and no person wrote."""

from __future__ import annotations

from datetime import date
from typing import Any

from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, LogState, Rollback


def decision_after(state: LogState, version: str, day: date, outcome: Outcome, **changes: Any) -> Decision:
    """The next decision of a log, without scores unless `changes` has some."""
    fields: dict[str, Any] = {
        "number": state.n_entries + 1,
        "version": version,
        "day": day,
        "outcome": outcome,
        "reasons": ("because",),
        "opponent": state.opponent_for(day),
        "before": state.champion,
        "champion": version if outcome.moves_champion else state.champion,
        "challenger_metrics": {},
        "opponent_metrics": None,
        "differences": {},
        "baselines": {},
        "window": "w",
        "actor": "test",
        "at": "2020-07-01T00:00:00+00:00",
    }
    return Decision.model_validate(fields | changes)


def rollback_to(version: str, day: date, before: str, **changes: Any) -> Rollback:
    """A rollback as the third entry of a log, unless `changes` says otherwise."""
    fields: dict[str, Any] = {"number": 3, "reason": "worse in the shop", "actor": "test", "at": "2020-07-01T00:00:00+00:00"}
    return Rollback.model_validate({"version": version, "day": day, "before": before} | fields | changes)
