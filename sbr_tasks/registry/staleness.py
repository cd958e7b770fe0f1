"""Whether clicks came late: which days of a window have other accepted clicks now than when the window was built."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date

from sbr_tasks.clicks.catalog import DayState
from sbr_tasks.days import describe_days, window_days
from sbr_tasks.errors import DamagedError, RegistryError
from sbr_tasks.registry.versions import ModelVersion, load_version
from sbr_tasks.store import Store

logger = logging.getLogger(__name__)

Catalog = Mapping[date, DayState]

_READ_AT_ONCE = 16


@dataclass(frozen=True)
class Staleness:
    """What a version doesn't know because it came later.

    Attributes:
        days: Days of its own window whose accepted clicks were replaced since.
        ancestors: The same for the versions that its training started from; only those that are stale themselves.
    """

    days: list[date] = field(default_factory=list)
    ancestors: dict[str, list[date]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.days or self.ancestors)

    def in_words(self) -> str:
        """A few words for a table; empty if nothing is stale."""
        of_ancestors = [f"{describe_days(days)} (ancestor {name})" for name, days in self.ancestors.items()]
        return "; ".join(([describe_days(self.days)] if self.days else []) + of_ancestors)


def stale_days(revisions: Mapping[date, str], days: Catalog, *, day: date, n_days: int | None = None) -> list[date]:
    """Days of a window whose accepted revision is another one than the window was built from, oldest first.

    A day that the window had to do without and that was accepted since counts; one whose newest revision is in quarantine
    doesn't, as windows still read the one before.

    Args:
        revisions: By day, the revision that the window was built from.
        days: The catalog's state of days.
        day: The day that the window ends with.
        n_days: Length of the window; None: only days that have a revision are looked at.
    """
    looked_at = revisions.keys() | set(window_days(day, n_days) if n_days else ())
    accepted = {day: state.accepted.rev for day in looked_at if (state := days.get(day)) and state.accepted}
    return sorted(day for day, rev in accepted.items() if rev != revisions.get(day))


def staleness(store: Store, names: Sequence[str], days: Catalog) -> dict[str, Staleness]:
    """Whether versions or their ancestors were trained on clicks that were replaced since, by name.

    A version whose manifest is lost or damaged is left out, with a warning; if it is an ancestor, those before it are unknown.
    """
    versions: dict[str, ModelVersion | None] = {}
    missing = set(names)
    while missing:
        with ThreadPoolExecutor(min(_READ_AT_ONCE, len(missing))) as pool:
            versions |= dict(zip(missing, pool.map(lambda name: _load(store, name), missing), strict=True))
        missing = {parent for version in versions.values() if version and (parent := version.inputs.parent)} - versions.keys()
    own = {name: _own_stale_days(version, days) for name, version in versions.items() if version}
    by_name = {}
    for name in names:
        version, ancestors = versions[name], {}
        while version and (parent := version.inputs.parent):
            if own.get(parent):
                ancestors[parent] = own[parent]
            version = versions[parent]
        if name in own:
            by_name[name] = Staleness(own[name], ancestors)
    return by_name


def _load(store: Store, name: str) -> ModelVersion | None:
    try:
        return load_version(store, name)
    except (RegistryError, DamagedError) as error:
        logger.warning("Whether %s is stale isn't known: %s", name, error)
        return None


def _own_stale_days(version: ModelVersion, days: Catalog) -> list[date]:
    lineage = version.lineage
    return stale_days(lineage.revisions, days, day=version.day, n_days=lineage.settings.window.days)
