"""Pages of the store, by version or by day."""

from __future__ import annotations

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.days import parse_day
from sbr_tasks.errors import DayError
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.versions import load_version
from sbr_tasks.store import Store, kinds


def report_of(store: Store, version: str) -> bytes:
    """The page of the last decision on a version; of its run, where nothing was decided.

    Raises:
        RegistryError: Neither the log nor the store knows such a version.
        DamagedError: Its page isn't there.
    """
    decided = PromotionLog(store).state().decisions.get(version)  # known even where the version's files are lost
    if decided:
        return store.get(decided.page)
    return store.get(kinds.UNDECIDED_PAGE.key(day=load_version(store, version).as_of, version=version))


def data_docs_of(store: Store, day: str) -> bytes:
    """The Data Docs of the revision of a day that was validated last.

    Raises:
        DayError: `day` is none, or none of its clicks was validated.
        DamagedError: The page isn't there.
    """
    state = ClickCatalog(store).days().get(parse_day(day), DayState())
    last = state.quarantined or state.accepted
    if last is None:
        raise DayError(f"There are no Data Docs of {day}: its clicks were never validated, or were removed. Run the day first.")
    return store.get(state.decided[last.rev].data_docs)
