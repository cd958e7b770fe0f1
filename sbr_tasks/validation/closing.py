"""Days that will never have clicks, on a person's word: no run waits for them, and no window misses them."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.errors import DayError
from sbr_tasks.store import Store

logger = logging.getLogger(__name__)


def close_day(store: Store, day: date, *, reason: str, actor: str) -> None:
    """Records that a day will never have clicks. Clicks that arrive later (`sbr ingest`) reopen it.

    Raises:
        DayError: The reason is blank, or the day has clicks.
    """
    if not reason.strip():
        raise DayError("Closing a day needs a reason, for whoever asks later why it has no clicks; it was blank.")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    ClickCatalog(store).commit_closing(day, actor=actor, reason=reason.strip(), at=at)
    logger.info("%s is closed by %s: %s.", day, actor, reason.strip())


def require_open(day: date, state: DayState) -> None:
    """Checks that a day may have a run.

    Raises:
        DayError: It is closed.
    """
    if state.status == "closed" and state.closed:
        raise DayError(
            f"{day} is closed, so it has no clicks and no run ({state.closed['actor']} on {state.closed['at'][:10]}: "
            f"{state.closed['reason']}). If it has clicks after all, `sbr ingest` them: that reopens the day."
        )
