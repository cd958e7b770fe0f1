"""Closed days: a person declares that a day will never have clicks, so no run waits for it and no window misses it."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sbr_tasks.clicks.catalog import ClickCatalog, Closed, DayState
from sbr_tasks.errors import DayError
from sbr_tasks.store import Store
from sbr_tasks.summary import Result
from sbr_tasks.wish import require_reason

_MAX_AHEAD = timedelta(days=366)
"""People close next year's holidays; a day further ahead is a typing error."""


class DayRow(Result):
    """A day that the store knows.

    Attributes:
        day: The day.
        status: Its status, such as `accepted`.
        clicks: The number of its clicks; None if it has none.
        closed: Who closed it, when and why; None if it is open.
    """

    day: date
    status: str
    clicks: int | None
    closed: Closed | None


def commit_closing(store: Store, day: date, *, reason: str, actor: str, now: datetime) -> None:
    """Records that a day will never have clicks; closing it again for the same reason changes nothing.

    Args:
        store: The store.
        day: The day; at most a year ahead.
        reason: Why it has no clicks.
        actor: Who closes it.
        now: The current time, with a zone.

    Raises:
        DayError: The day has clicks, is closed for another reason, or is too far ahead.
        ReasonError: The reason is blank.
    """
    reason = require_reason(reason, "Closing a day")
    last = now.date() + _MAX_AHEAD
    if day > last:
        raise DayError(f"Expected a day up to {last}, a year ahead; found {day}. Check the year.")
    ClickCatalog(store).commit_closing(day, actor=actor, reason=reason, at=now.isoformat(timespec="seconds"))


def commit_opening(store: Store, day: date, *, reason: str, actor: str, now: datetime) -> None:
    """Reopens a closed day: the next run that needs it looks for it in the source.

    Raises:
        DayError: The day isn't closed.
        ReasonError: The reason is blank.
    """
    reason = require_reason(reason, "Opening a day")
    ClickCatalog(store).commit_opening(day, actor=actor, reason=reason, at=now.isoformat(timespec="seconds"))


def day_rows(store: Store) -> list[DayRow]:
    """All days in the store, oldest first."""
    return [
        DayRow(
            day=day,
            status=state.status,
            clicks=state.last.rows if state.last else None,
            closed=state.closed if state.status == "closed" else None,
        )
        for day, state in ClickCatalog(store).days().items()
    ]


def require_open(day: date, state: DayState) -> None:
    """Checks that a day isn't closed.

    Raises:
        DayError: The day is closed.
    """
    if state.status == "closed":
        raise DayError(
            f"{day} is closed, so it has no clicks and no run ({state.closed}). If it has clicks after all, open it with "
            f"`sbr days open {day} --reason REASON` and run it again."
        )
