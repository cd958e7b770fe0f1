"""What the store still has of earlier runs."""

from __future__ import annotations

import logging
from datetime import date

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.days import parse_day
from sbr_tasks.errors import DayError, StoreError
from sbr_tasks.store import Store
from sbr_tasks.window.record import Window, window_record

logger = logging.getLogger(__name__)


def window_of(store: Store, day: date, key: str) -> Window | None:
    """The record of a window; None, with a warning, where it is lost."""
    try:
        return window_record(store, day, key)
    except StoreError as error:
        logger.warning("The window of %s can't be shown: %s", day, error)
        return None


def data_docs_of(store: Store, day: str, rev: str | None = None) -> bytes:
    """The Data Docs of a day.

    Args:
        store: Has the pages.
        day: The day.
        rev: The revision of its clicks; None: the one that was validated last.

    Raises:
        DayError: `day` isn't a day, or there is no such page.
    """
    state = ClickCatalog(store).days().get(parse_day(day), DayState())
    last = state.quarantined or state.accepted
    judgement = state.decided.get(rev or (last.rev if last else ""))
    if judgement is None or not store.exists(judgement.data_docs):
        raise DayError(
            f"There are no Data Docs of {day}: its clicks were never validated, or their record was removed. Run the day first."
        )
    return store.get(judgement.data_docs)
