"""A look at a source before anything is stored: its days, and how many clicks each has."""

from __future__ import annotations

from collections import Counter
from datetime import date

import numpy as np
import pyarrow as pa

from sbr_tasks.clicks.ingest import read_source
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.days import day_numbers, number_to_day, window_days
from sbr_tasks.errors import DayError, SourceError
from sbr_tasks.settings import Settings


def clicks_by_day(settings: Settings) -> dict[date, int]:
    """Clicks of each day of the source, oldest day first.

    Raises:
        SourceError: The source is absent or empty, or its lines don't parse.
    """
    counts: Counter[int] = Counter()
    for table in read_source(settings.source, Rejects(settings.ingest.max_rejected)):
        numbers = day_numbers(table.column("clicked_at").cast(pa.int64()).to_numpy(), settings.zone)
        found, clicks = np.unique(numbers, return_counts=True)
        counts.update(dict(zip(found.tolist(), clicks.tolist(), strict=True)))
    if not counts:
        raise SourceError(f"Expected clicks in {settings.source.path}, found none: the files hold no line.")
    return {number_to_day(number): counts[number] for number in sorted(counts)}


def require_windows(counts: dict[date, int], days: list[date], settings: Settings) -> None:
    """Checks that the source reaches back far enough for the windows of some days.

    Raises:
        DayError: A window would miss more days than `window.max_missing_days`.
    """
    n_days, most = settings.window.days, settings.window.max_missing_days
    for day in days:
        present = sum(one in counts for one in window_days(day, n_days))
        if n_days - present > most:
            raise DayError(
                f"{settings.source.path} has clicks on {len(counts)} days from {min(counts)} to {max(counts)}. The window of "
                f"{day} needs {n_days - most} or more days with clicks among its {n_days}, found {present}. "
                "Shorten the window (window.days, SBR_WINDOW__DAYS), or allow more days to be missing "
                "(window.max_missing_days, SBR_WINDOW__MAX_MISSING_DAYS)."
            )
