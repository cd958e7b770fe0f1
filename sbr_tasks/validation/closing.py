"""Closed days: a person declares that a day will never have clicks, so no run waits for it and no window misses it."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.errors import DayError
from sbr_tasks.store import Json, Store

_MAX_AHEAD = timedelta(days=366)
"""People close next year's holidays; a day further ahead is a typing error."""


def commit_closing(store: Store, day: date, *, reason: str, actor: str, now: datetime) -> None:
    """Records that a day will never have clicks; closing it again for the same reason changes nothing.

    Args:
        store: The store.
        day: The day; at most a year ahead.
        reason: Why it has no clicks.
        actor: Who closes it.
        now: The current time, with a zone.

    Raises:
        DayError: The reason is blank, or the day has clicks, is closed for another reason, or is too far ahead.
    """
    _require_reason(reason, "Closing")
    last = now.date() + _MAX_AHEAD
    if day > last:
        raise DayError(f"Expected a day up to {last}, a year ahead; found {day}. Check the year.")
    ClickCatalog(store).commit_closing(day, actor=actor, reason=reason.strip(), at=now.isoformat(timespec="seconds"))


def commit_opening(store: Store, day: date, *, reason: str, actor: str, now: datetime) -> None:
    """Reopens a closed day: the next run that needs it looks for it in the source.

    Raises:
        DayError: The reason is blank, or the day isn't closed.
    """
    _require_reason(reason, "Opening")
    ClickCatalog(store).commit_opening(day, actor=actor, reason=reason.strip(), at=now.isoformat(timespec="seconds"))


def day_rows(store: Store) -> list[Json]:
    """All days in the store, oldest first: `day`, `status`, `clicks`, `closed` (`actor`, `at`, `reason`; or None)."""
    return [
        {
            "day": str(day),
            "status": state.status,
            "clicks": state.last.rows if state.last else None,
            "closed": state.closed.as_dict() if state.closed and state.status == "closed" else None,
        }
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


def _require_reason(reason: str, what: str) -> None:
    if not reason.strip():
        raise DayError(f"{what} a day needs a reason, which is kept in the record; found a blank one.")
