"""What the page of a version shows: all that the store knows of it. It is the report of its run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.clicks.ledger import Ledger
from sbr_tasks.errors import DamagedError, RegistryError, SbrError
from sbr_tasks.evaluation.slices import LENGTHS
from sbr_tasks.registry.gate import Metrics
from sbr_tasks.registry.log import Decision, Entry, LogState, PromotionLog, fold
from sbr_tasks.registry.staleness import Staleness, staleness
from sbr_tasks.registry.versions import ModelVersion, load_version, parameters_of
from sbr_tasks.report.changes import Changes, RunRecords, changes_between, previous_run
from sbr_tasks.report.profile.build import Profile, find_profile, profile_of_window
from sbr_tasks.report.stored import window_of
from sbr_tasks.store import Json, Store, kinds
from sbr_tasks.window.coverage import describe_cleansing
from sbr_tasks.window.record import Window

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionPage:
    """A version and its run.

    Attributes:
        name: The version.
        entries: The promotion log.
        decision: The last decision on it, or the verdict of a run that wasn't to promote; None where there is neither.
        version: Its record; None where it can't be read.
        fault: Why it can't be read.
        window: The window that it was trained and decided on; None where its record is lost.
        days: What the catalog knows of each day.
        profile: The data profile of its window; None where there is none.
        before: The decision that it is compared with; None where there is no earlier one.
        changes: What changed since then.
        ledger: What became of the lines that its run read, where that is worth showing.
        stale: Which clicks changed since it was trained; None if that wasn't checked.
    """

    name: str
    entries: Sequence[Entry]
    decision: Decision | None
    version: ModelVersion | None
    fault: str | None
    window: Window | None
    days: Mapping[date, DayState]
    profile: Profile | None
    before: Decision | None
    changes: Changes | None
    ledger: Ledger | None
    stale: Staleness | None

    @property
    def day(self) -> date:
        """The day of its run."""
        return date.fromisoformat(self.name[:10])

    @property
    def state(self) -> LogState:
        """What the log says now."""
        return fold(self.entries)

    @property
    def other_entries(self) -> list[Entry]:
        """The other entries that decided on the version, or moved the champion to or away from it, newest first."""
        return [
            entry
            for entry in reversed(self.entries)
            if entry != self.decision
            and (entry.version == self.name or (entry.before == self.name and entry.champion != self.name))
        ]

    @property
    def revisions(self) -> Mapping[date, str]:
        """By day, the revision of the clicks that it was trained and tested on."""
        return self.version.lineage.revisions if self.version else {}

    @property
    def settings(self) -> dict[str, Mapping[str, Json]]:
        """Its settings, by section."""
        if self.version is None:
            return {}
        made = {
            "model and training": parameters_of(self.version),
            "window": self.version.lineage.settings.window.model_dump(mode="json"),
        }
        return {section: values for section, values in made.items() if values}

    @property
    def by_length(self) -> list[tuple[str, list[tuple[str, Metrics]]]]:
        """For each length of session, what challenger and champion scored."""
        if self.decision is None:
            return []
        columns = (("challenger", self.decision.version), ("champion", self.decision.opponent or ""))
        scored = {who: self.decision.by_length[name] for who, name in columns if name in self.decision.by_length}
        rows = [(length, [(who, scores[length]) for who, scores in scored.items() if length in scores]) for length in LENGTHS]
        return [(length, scores) for length, scores in rows if scores]

    @property
    def warnings(self) -> dict[date, tuple[str, ...]]:
        """What validation found odd about the clicks of the window, by day."""
        by_day = {day: self._state_of(day).warnings_of(rev) for day, rev in sorted(self.revisions.items())}
        return {day: warnings for day, warnings in by_day.items() if warnings}

    @property
    def data_docs(self) -> dict[date, str]:
        """The days of the window that have Data Docs, each with its revision."""
        return {day: rev for day, rev in sorted(self.revisions.items()) if rev in self._state_of(day).decided}

    @property
    def cleansing(self) -> str:
        """What cleansing kept, in a sentence; empty where the window is lost."""
        return describe_cleansing(self.window) if self.window else ""

    @property
    def odd_validation_day(self) -> date | None:
        """The validation day, where it isn't the day before."""
        validated = self.window.validation_day if self.window else None
        return None if validated == self.day - timedelta(days=1) else validated

    @property
    def stored_clicks(self) -> dict[date, int]:
        """The clicks that the store has of each day."""
        return {day: state.last.rows for day, state in self.days.items() if state.last}

    def _state_of(self, day: date) -> DayState:
        return self.days.get(day, DayState())


def version_page(store: Store, name: str, *, decision: Decision | None = None, is_written: bool = False) -> VersionPage:
    """What the page of a version shows now.

    Args:
        store: Has the records.
        name: The version.
        decision: The decision to show; None: the last one, or the verdict of a run that wasn't to promote.
        is_written: Whether this is the page that the run writes: then a missing profile is built, and late clicks
            are looked for. Both may take seconds.

    Raises:
        RegistryError: Neither the store nor the log knows such a version.
        DamagedError: The log can't be read.
    """
    entries = PromotionLog(store).entries()
    state = fold(entries)
    if name not in state.days:
        load_version(store, name)
    version, fault = read_version(store, name)
    decision = decision or state.decisions.get(name) or _verdict(store, name)
    window = _window_of(store, version, decision)
    catalog = ClickCatalog(store)
    days = catalog.days()
    profile = _profile(store, window, is_made=is_written) if window else None
    before = previous_run(entries, decision) if decision else None
    ledger = catalog.ledger_of(date.fromisoformat(name[:10]))
    return VersionPage(
        name=name,
        entries=entries,
        decision=decision,
        version=version,
        fault=fault,
        window=window,
        days=days,
        profile=profile,
        before=before,
        changes=changes_between(_records_of(store, before), RunRecords(decision, window, version))
        if before and decision
        else None,
        ledger=ledger if ledger and ledger.is_worth_showing else None,
        stale=staleness(store, [name], days).get(name) if is_written else None,
    )


def read_version(store: Store, name: str) -> tuple[ModelVersion | None, str | None]:
    """The record of a version, and None; or None, and the sentence that says why it can't be read."""
    try:
        return load_version(store, name), None
    except SbrError as error:
        return None, str(error)


def keep_verdict(store: Store, verdict: Decision) -> None:
    """Keeps what the gate said of a version that nothing was decided on, for its page."""
    store.replace_record(_verdict_key(verdict.version), verdict.as_dict())


def _verdict(store: Store, name: str) -> Decision | None:
    key = _verdict_key(name)
    return store.get_record(key, Decision) if store.exists(key) else None


def _verdict_key(name: str) -> str:
    return kinds.VERDICT.key(day=name[:10], version=name)


def _window_of(store: Store, version: ModelVersion | None, decision: Decision | None) -> Window | None:
    if decision:
        return window_of(store, decision.day, decision.window)
    return window_of(store, version.day, version.window) if version else None


def _profile(store: Store, window: Window, *, is_made: bool) -> Profile | None:
    """The profile of the window's clicks; None if they were removed, as for an old run."""
    try:
        if is_made:
            return profile_of_window(store, window)
        return find_profile(store, window)
    except DamagedError as error:
        logger.warning("The page of %s has no profile of the data: %s", window.day, error)
        return None


def _records_of(store: Store, decision: Decision) -> RunRecords:
    """What is still known of an earlier run, whose records may be lost or removed."""
    version: ModelVersion | None = None
    try:
        version = load_version(store, decision.version)
    except (DamagedError, RegistryError) as error:
        logger.warning("Some of what changed since the run of %s is unknown: %s", decision.day, error)
    return RunRecords(decision, window_of(store, decision.day, decision.window), version)
