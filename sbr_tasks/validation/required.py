"""The days that a window needs: enough of them must be accepted, and messages say why the others aren't."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sbr_tasks.clicks.catalog import DayState
from sbr_tasks.days import describe_days, window_days
from sbr_tasks.errors import DayError
from sbr_tasks.settings import Settings
from sbr_tasks.validation.closing import require_open

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DaysOfWindow:
    """The state of a window's days.

    Attributes:
        validation_day: The newest day with accepted clicks before the test day.
        missing: Days without accepted clicks: empty, in quarantine or never ingested. Closed days don't count as missing.
    """

    validation_day: date
    missing: tuple[date, ...]


def require_days(days: Mapping[date, DayState], settings: Settings, day: date) -> DaysOfWindow:
    """Checks that a window has enough accepted days to train, validate and test on; logs a warning for each missing day.

    Raises:
        DayError: `day` is closed or has no accepted clicks, fewer than two days before it have accepted clicks, more than
            `window.max_missing_days` days are missing, or days were removed and not ingested again.
    """
    window = window_days(day, settings.window.days)
    states = {day: days.get(day, DayState()) for day in window}
    require_open(day, states[day])
    if states[day].status != "accepted":
        raise DayError(f"The model of {day} is tested on {day}, but {_why_missing([day], states[day])}")
    removed = [day for day, state in states.items() if state.status == "removed"]
    if removed:
        raise DayError(
            f"The clicks of {describe_days(removed)} were removed (`sbr store gc` or `forget`), and the window of {day} "
            "needs them. Run the day again, from ingest_clicks on, or `sbr ingest` and `sbr validate`: they come from the "
            "source again."
        )
    missing = tuple(day for day, state in states.items() if state.accepted is None and state.status != "closed")
    for sentence in _why_not_accepted(states):
        logger.warning("%s", sentence)
    if len(missing) > settings.window.max_missing_days:
        raise DayError(
            f"{len(missing)} of the {len(window)} days of the window are missing ({describe_days(missing)}); "
            f"at most {settings.window.max_missing_days} may be. Ingest them, or raise window.max_missing_days."
        )
    return DaysOfWindow(_validation_day(states, day), missing)


def _validation_day(states: Mapping[date, DayState], day: date) -> date:
    """The newest day with accepted clicks before `day`. There must be one more before it, to train on."""
    earlier = sorted(other for other, state in states.items() if state.accepted and other < day)
    if len(earlier) < 2:
        accepted = f"only {earlier[0]}" if earlier else "none"
        raise DayError(
            f"Expected two or more accepted days from {min(states)} to {day - timedelta(days=1)}, to train and validate the "
            f"model of {day} on; found {accepted}. Ingest earlier days, or lengthen the window (window.days)."
        )
    if earlier[-1] != day - timedelta(days=1):
        between = [other for other in states if earlier[-1] < other < day]
        logger.warning(
            "The model of %s is validated on %s, the newest accepted day before it: %s %s no accepted clicks.",
            day, earlier[-1], describe_days(between), "has" if len(between) == 1 else "have",
        )  # fmt: skip
    return earlier[-1]


def _why_not_accepted(states: Mapping[date, DayState]) -> list[str]:
    """Why days aren't accepted: one sentence for all days with the same status and failures."""
    alike: dict[tuple[str, ...], list[date]] = {}
    for day, state in states.items():
        if state.status not in ("accepted", "closed"):
            alike.setdefault((state.status, *state.failures), []).append(day)
    return [_why_missing(days, states[days[0]]) for days in alike.values()]


def _why_missing(days: Sequence[date], state: DayState) -> str:
    named, is_one = describe_days(days), len(days) == 1
    has, was, files = ("has", "was", "its file was") if is_one else ("have", "were", "their files were")
    reasons = {
        "empty": f"{named} {has} no clicks in the source. Check that {files} delivered, then run the day again.",
        "unknown": f"{named} {was} never ingested. Run the day again, or ingest with `sbr ingest`.",
        "incoming": f"{named} {was} ingested but not validated yet. Run `sbr validate`, or the day again.",
        "removed": f"the clicks of {named} were removed (`sbr store gc` or `forget`). Run the day again to ingest them.",
        "quarantined": f"{named} {'is' if is_one else 'are'} in quarantine: {'; '.join(state.failures)}. "
        f"Correct the source and run the day again; `sbr quarantine show {days[0]}` says more.",
    }
    return reasons.get(state.status, f"{named}: {state.status}.")
