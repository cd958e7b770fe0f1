"""Versions and log entries as lists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.registry.gate import Metrics
from sbr_tasks.registry.log import Decision, Entry, PromotionLog, fold, outcome_of
from sbr_tasks.registry.staleness import Staleness, staleness
from sbr_tasks.registry.versions import ModelVersion, load_version, version_names
from sbr_tasks.store import Json, Store
from sbr_tasks.summary import Result


class _MaybeStale(Result):
    """A version that may be stale. As JSON, `stale` and `stale_ancestors` list the days; they are null if that isn't known.

    Attributes:
        staleness: What it doesn't know because it came later; None if its manifest can't be read.
    """

    staleness: Staleness | None = Field(exclude=True)

    @model_serializer(mode="wrap")
    def _with_stale_days(self, fields_of: SerializerFunctionWrapHandler) -> Json:
        days, ancestors = (None, None) if self.staleness is None else (self.staleness.days, self.staleness.ancestors)
        return {**fields_of(self), "stale": days, "stale_ancestors": ancestors}


class ModelRow(_MaybeStale):
    """A version of the store or the log.

    Attributes:
        version: Its name.
        day: Its day.
        recall_at_20: What it scored on its test day; None where nothing was decided.
        mrr_at_20: Likewise.
        n_events: Likewise.
        outcome: That of the last decision on it.
        champion: Whether it is live.
        pinned: Whether it is live and pinned.
        retired: Whether it was rolled back from.
        lost: Whether the log names it and the store doesn't hold it.
    """

    version: str
    day: date
    recall_at_20: float | None
    mrr_at_20: float | None
    n_events: int | None
    outcome: str | None
    champion: bool
    pinned: bool
    retired: bool
    lost: bool

    @property
    def stale_in_words(self) -> str:
        """The days that it is stale by, for a table; empty if by none."""
        return "unknown" if self.staleness is None else self.staleness.in_words()


class LogRow(Result):
    """An entry of the promotion log.

    Attributes:
        entry: Its number.
        at: When, ISO-8601.
        day: The day of the version.
        version: The version that it is about.
        outcome: The outcome of a decision; else `rollback`, `pin` or `unpin`.
        before: The champion before it, `from` in JSON.
        champion: The champion after it, `to` in JSON.
        actor: The run that decided, or who.
        reasons: Why, in sentences.
        by_length: What a challenger and its opponent scored by length of the session, by version.
        neural_gain: What GRU4Rec adds to the baseline `covisits`, with intervals, by metric; empty where it wasn't measured.
    """

    entry: int
    at: str
    day: date
    version: str
    outcome: str
    before: str | None = Field(serialization_alias="from")
    champion: str | None = Field(serialization_alias="to")
    actor: str
    reasons: tuple[str, ...]
    by_length: Mapping[str, Mapping[str, Metrics]]
    neural_gain: Mapping[str, Mapping[str, float]]


class VersionDetails(_MaybeStale):
    """All that is known of a version. As JSON, the fields of its record come first.

    Attributes:
        record: Its record.
        champion: Whether it is live.
        retired: Whether it was rolled back from.
        log: Entries that are about it or replaced it, in order.
    """

    record: ModelVersion = Field(exclude=True)
    champion: bool
    retired: bool
    log: tuple[LogRow, ...]

    @model_serializer(mode="wrap")
    def _with_record(self, fields_of: SerializerFunctionWrapHandler) -> Json:
        return {**self.record.as_dict(), **self._with_stale_days(fields_of)}


def model_rows(store: Store) -> list[ModelRow]:
    """One row a version of the store or the log, oldest day first: what it scored on its test day, the outcome, what it is."""
    state = PromotionLog(store).state()
    rows = []
    stored = version_names(store)
    stale = staleness(store, stored, ClickCatalog(store).days())
    for name in sorted({*stored, *state.days}):
        decision = state.decisions.get(name)
        metrics = decision.challenger_metrics if decision else {}
        rows.append(
            ModelRow(
                version=name,
                day=date.fromisoformat(name[:10]),
                recall_at_20=metrics.get("recall_at_20"),
                mrr_at_20=metrics.get("mrr_at_20"),
                n_events=metrics.get("n_events"),
                outcome=decision.outcome.value if decision else None,
                champion=name == state.champion,
                pinned=name == state.champion and state.pin is not None,
                retired=name in state.retired,
                lost=name not in stored,
                staleness=stale.get(name),
            )
        )
    return rows


def log_rows(store: Store) -> list[LogRow]:
    """One row a log entry, in order."""
    return [_log_row(entry) for entry in PromotionLog(store).entries()]


def pin_row(store: Store) -> LogRow | None:
    """The entry that pinned the champion, with the champion of now; None where it isn't pinned.

    A rollback leaves a pin in force, for another champion than that of its entry.
    """
    state = PromotionLog(store).state()
    return _log_row(state.pin).model_copy(update={"version": state.champion}) if state.pin else None


def describe_version(store: Store, name: str) -> VersionDetails:
    """All that is known of a version: its record, its decisions, and whether it is champion, retired or stale.

    Raises:
        RegistryError: There is no such version.
    """
    version = load_version(store, name)
    entries = PromotionLog(store).entries()
    state = fold(entries)
    return VersionDetails(
        record=version,
        champion=name == state.champion,
        retired=name in state.retired,
        staleness=staleness(store, [name], ClickCatalog(store).days()).get(name),
        log=tuple(_log_row(entry) for entry in entries if name in (entry.version, entry.before)),
    )


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


def _log_row(entry: Entry) -> LogRow:
    return LogRow(
        entry=entry.number,
        at=entry.at,
        day=entry.day,
        version=entry.version,
        outcome=outcome_of(entry),
        before=entry.before,
        champion=entry.champion,
        actor=entry.actor,
        reasons=entry.reasons,
        by_length=entry.by_length if isinstance(entry, Decision) else {},
        neural_gain=entry.neural_gain if isinstance(entry, Decision) else {},
    )


def _flat(tree: Json, prefix: str = "") -> Json:
    flat: Json = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
