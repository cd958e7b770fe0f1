"""The model versions as a list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.registry.log import Decision, Entry, PromotionLog, fold, outcome_of
from sbr_tasks.registry.staleness import Staleness, staleness
from sbr_tasks.registry.versions import load_version, version_names
from sbr_tasks.store import Json, Store


def model_rows(store: Store) -> list[Json]:
    """One row a version of the store or the log, oldest day first: what it scored on its test day, the outcome, what it is.

    `stale` names the days of its window whose accepted clicks were replaced since, `stale_ancestors` those of the versions
    that its training started from; both are None if that isn't known.
    """
    state = PromotionLog(store).state()
    rows = []
    stored = version_names(store)
    stale = staleness(store, stored, ClickCatalog(store).days())
    for name in sorted({*stored, *state.days}):
        decision = state.decisions.get(name)
        metrics = decision.challenger_metrics if decision else {}
        rows.append(
            {
                "version": name,
                "day": name[:10],
                "recall_at_20": metrics.get("recall_at_20"),
                "mrr_at_20": metrics.get("mrr_at_20"),
                "n_events": metrics.get("n_events"),
                "outcome": decision.outcome.value if decision else None,
                "champion": name == state.champion,
                "pinned": name == state.champion and state.pin is not None,
                "retired": name in state.retired,
                "lost": name not in stored,
                **_stale(stale.get(name)),
            }
        )
    return rows


def staleness_in_words(row: Json) -> str:
    """The days that a row of `model_rows` is stale by, for a table; empty if by none."""
    if row["stale"] is None:
        return "unknown"
    ancestors = {name: _days(days) for name, days in row["stale_ancestors"].items()}
    return Staleness(_days(row["stale"]), ancestors).in_words()


def log_rows(store: Store) -> list[Json]:
    """One row a log entry, in order."""
    return [_log_row(entry) for entry in PromotionLog(store).entries()]


def pin_row(store: Store) -> Json | None:
    """The entry that pinned the champion, as in `log_rows`, with the champion of now; None where it isn't pinned.

    A rollback leaves a pin in force, for another champion than that of its entry.
    """
    state = PromotionLog(store).state()
    return _log_row(state.pin) | {"version": state.champion} if state.pin else None


def describe_version(store: Store, name: str) -> Json:
    """All that is known of a version: its record, its decisions, and whether it is champion, retired or stale.

    Raises:
        RegistryError: There is no such version.
    """
    version = load_version(store, name)
    entries = PromotionLog(store).entries()
    state = fold(entries)
    return {
        **version.as_dict(),
        "champion": name == state.champion,
        "retired": name in state.retired,
        **_stale(staleness(store, [name], ClickCatalog(store).days()).get(name)),
        "log": [_log_row(entry) for entry in entries if name in (entry.version, entry.before)],
    }


def version_differences(store: Store, first: str, second: str) -> dict[str, tuple[Any, Any]]:
    """What differs between two versions: settings, data, code, lineage and scores, by dotted name.

    Raises:
        RegistryError: There is no such version.
    """
    state = PromotionLog(store).state()
    facts = []
    for name in (first, second):
        compared = {"day", "window", "inputs", "choice", "n_events", "n_items", "lineage"}
        fact: Json = load_version(store, name).model_dump(mode="json", include=compared)
        decision = state.decisions.get(name)
        if decision:
            fact["test"] = dict(decision.challenger_metrics)
            fact["outcome"] = decision.outcome.value
        facts.append(_flat(fact))
    names = sorted(facts[0].keys() | facts[1].keys())
    return {name: (facts[0].get(name), facts[1].get(name)) for name in names if facts[0].get(name) != facts[1].get(name)}


def _stale(stale: Staleness | None) -> Json:
    if stale is None:
        return {"stale": None, "stale_ancestors": None}
    ancestors = {name: [str(day) for day in days] for name, days in stale.ancestors.items()}
    return {"stale": [str(day) for day in stale.days], "stale_ancestors": ancestors}


def _days(texts: Sequence[str]) -> list[date]:
    return [date.fromisoformat(text) for text in texts]


def _log_row(entry: Entry) -> Json:
    return {
        "entry": entry.number,
        "at": entry.at,
        "day": str(entry.day),
        "version": entry.version,
        "outcome": outcome_of(entry),
        "from": entry.before,
        "to": entry.champion,
        "actor": entry.actor,
        "reasons": list(entry.reasons),
        "by_length": dict(entry.by_length) if isinstance(entry, Decision) else {},
    }


def _flat(tree: Json, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
