"""The Models page's first view: the live champion and every decision, from the promotion log alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.errors import SbrError
from sbr_tasks.registry.gate import COMPARED
from sbr_tasks.registry.log import Decision, Entry, LogState, Pin, PromotionLog, Rollback, fold, outcome_of
from sbr_tasks.registry.staleness import staleness
from sbr_tasks.registry.versions import load_version
from sbr_tasks.report.words import OUTCOMES
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Store


@lru_cache(maxsize=4)
def _open(url: str, options: tuple[tuple[str, str], ...]) -> Store:
    return Store(url, dict(options))


def shared_store(settings: Settings) -> Store:
    """The store that the settings name, opened once a process: it reads each log entry once, however often it is asked."""
    return _open(settings.store, tuple(sorted(settings.store_options.items())))


def overview(store: Store, today: date) -> Json:
    """What the page shows first.

    Returns:
        `champion` (None while there is none) and `decisions`, one a log entry, newest first; see `champion_facts` and
        `decision_rows`. `log`: where they were looked for.

    Raises:
        DamagedError: The log can't be read.
    """
    entries = PromotionLog(store).entries()
    return {
        "champion": champion_facts(store, entries, today),
        "decisions": decision_rows(entries),
        "log": store.where("promotions"),
    }


def decision_rows(entries: Sequence[Entry]) -> list[Json]:
    """One row a log entry, newest first.

    Each has an `outcome`, with the `label` and `tone` that `report.words` gives it. Each metric of a decision has `challenger`,
    `champion` and `difference` (challenger minus champion with its interval, see `evaluation.comparison.Difference`), the
    latter two None without an opponent. A rollback and a pin have no metrics.
    """
    state = fold(entries)
    return [_row(entry, state) for entry in reversed(entries)]


def _row(entry: Entry, state: LogState) -> Json:
    outcome = outcome_of(entry)
    row: Json = {
        "outcome": outcome,
        "label": OUTCOMES[outcome].label,
        "tone": OUTCOMES[outcome].tone,
        "entry": entry.number,
        "at": entry.at,
        "day": str(entry.as_of),
        "version": entry.version,
        "before": entry.before,
        "champion": entry.champion,
        "run": entry.run,
        "is_retired": entry.version in state.retired,
    }
    if isinstance(entry, Pin):
        return row | {"moves_champion": False, "reasons": [entry.reason] if entry.reason else []}
    if isinstance(entry, Rollback):
        reasons = [entry.reason, *(["The champion was pinned."] if entry.pin else [])]
        return row | {"moves_champion": True, "reasons": reasons, "opponent": None}
    return row | {
        "moves_champion": entry.outcome.moves_champion,
        "reasons": list(entry.reasons),
        "opponent": entry.opponent,
        "n_events": entry.challenger_metrics.get("n_events"),
        **{metric: _scores(entry, metric) for metric in COMPARED},
    }


def _scores(entry: Decision, metric: str) -> Json:
    return {
        "challenger": entry.challenger_metrics.get(metric),
        "champion": (entry.opponent_metrics or {}).get(metric),
        "difference": dict(entry.differences[metric]) if metric in entry.differences else None,
    }


def champion_facts(store: Store, entries: Sequence[Entry], today: date) -> Json | None:
    """The live version: since when and why, what it scored, what it was made of, and which versions may take its place.

    Args:
        store: Has its manifest.
        entries: The log.
        today: The day from which its age is counted.

    Returns:
        None while there is no champion. `pin` is None where it isn't pinned. `facts` is None, and `fault` says why, where its
        manifest can't be read.
    """
    state = fold(entries)
    if state.champion is None:
        return None
    entry = entries[state.champion_entry - 1]
    decision = state.decisions.get(state.champion)
    facts, fault = describe(store, state.champion)
    return {
        "version": state.champion,
        "day": str(entry.as_of),
        "days_old": (today - entry.as_of).days,
        "since": entry.at,
        "entry": entry.number,
        "outcome": outcome_of(entry),
        "label": OUTCOMES[outcome_of(entry)].label,
        "reasons": list(entry.reasons) if isinstance(entry, Decision) else [entry.reason],
        "run": entry.run,
        "before": entry.before,
        "metrics": dict(decision.challenger_metrics) if decision else {},
        "facts": facts,
        "fault": fault,
        "may_return": may_return(state),
        "pin": _pin(state.pin) if state.pin else None,
    }


def _pin(pin: Pin | Rollback) -> Json:
    return {"entry": pin.number, "at": pin.at, "run": pin.run, "outcome": outcome_of(pin), "reason": pin.reason}


def may_return(state: LogState) -> list[str]:
    """The versions that the champion may be rolled back to, newest day first."""
    return sorted(state.were_champion - state.retired - {state.champion or ""}, reverse=True)


def describe(store: Store, name: str) -> tuple[Json | None, str | None]:
    """What a version was made of, and None; or None, and the sentence that says why its manifest can't be read."""
    try:
        version = load_version(store, name)
    except SbrError as error:
        return None, str(error)
    lineage = version.lineage
    return {
        "trained_at": version.trained_at,
        "took_s": version.took_s,
        "n_events": version.n_events,
        "n_items": version.n_items,
        "parent": version.inputs.parent,
        "window": version.window,
        "window_days": [str(day) for day in sorted(lineage.revisions)],
        "git_revision": lineage.git_revision,
        "python": lineage.python,
        "packages": dict(lineage.packages),
    }, None


def stale_in_words(store: Store, name: str) -> Json:
    """Days of a version's window, or of its ancestors', whose clicks are others now, as `stale`: empty if none are.

    It reads the manifests of all ancestors, so the page asks for it apart. None where it isn't known.
    """
    found = staleness(store, [name], ClickCatalog(store).days()).get(name)
    return {"stale": found.in_words() if found is not None else None}
