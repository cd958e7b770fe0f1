"""Previews a source before anything is stored: its days, and the number of clicks of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import pyarrow as pa

from sbr_tasks.clicks.catalog import DayState
from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.ingest import no_clicks_at_all, read_source
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.days import day_numbers, number_to_day, window_days
from sbr_tasks.errors import DayError, SourceError
from sbr_tasks.settings import Settings


def clicks_by_day(settings: Settings, rejects: Rejects) -> dict[date, int]:
    """Clicks of each day of the source, oldest day first.

    Args:
        settings: `source` and `timezone` are used.
        rejects: Counts all lines and the rejected ones.

    Raises:
        SourceError: The source is absent or empty, or too many of its lines don't parse.
    """
    counts: Counter[int] = Counter()
    for table in read_source(settings.source, rejects):
        numbers = day_numbers(table.column(Columns.TIME).cast(pa.int64()).to_numpy(), settings.zone)
        distinct, clicks = np.unique(numbers, return_counts=True)
        counts.update(dict(zip(distinct.tolist(), clicks.tolist(), strict=True)))
    if not counts:
        raise SourceError(no_clicks_at_all(settings.source, rejects))
    return {number_to_day(number): counts[number] for number in sorted(counts)}


def require_windows(
    counts: Mapping[date, int], states: Mapping[date, DayState], days: Sequence[date], settings: Settings
) -> int:
    """Checks that source and store have enough days for the windows of some days.

    Args:
        counts: Clicks of each day of the source.
        states: The store's days: days with clicks count as present, and closed days don't count as missing.
        days: The last days of the windows.
        settings: `window` is used.

    Returns:
        The number of clicks of the largest window.

    Raises:
        DayError: A window would miss more days than `window.max_missing_days`.
    """
    n_days, max_missing = settings.window.days, settings.window.max_missing_days
    stored = {day: state.last.rows for day, state in states.items() if state.last}
    present = {**stored, **counts}
    closed = {day for day, state in states.items() if state.status == "closed"}
    for day in days:
        window = window_days(day, n_days)
        n_present, n_open = len(present.keys() & set(window)), n_days - len(closed.difference(present).intersection(window))
        if n_open - n_present > max_missing:
            raise DayError(
                f"{settings.source.path} has clicks on {len(counts)} days from {min(counts)} to {max(counts)}. The window of "
                f"{day} needs {n_open - max_missing} or more days with clicks among its {n_days}, found {n_present}. "
                "Shorten the window (window.days, SBR_WINDOW__DAYS), or allow more days to be missing "
                "(window.max_missing_days, SBR_WINDOW__MAX_MISSING_DAYS)."
            )
    return max(sum(present.get(each, 0) for each in window_days(day, n_days)) for day in days)
