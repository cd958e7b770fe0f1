"""The day a run is for, and half-open UTC intervals of days.

A day is a calendar day of one time zone (UTC unless the `timezone` setting names another). Instants are microseconds since
1970 in UTC, as in the Parquet files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import numpy as np
import numpy.typing as npt

from sbr_tasks.errors import DayError

_DAY = re.compile(r"(19[7-9]\d|2[01]\d\d)-\d\d-\d\d")  # clicks are between 1970 and 2199
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTERVAL_RUNS = frozenset({"scheduled", "backfill"})


def parse_day(text: str) -> date:
    """Parses a day from `YYYY-MM-DD`.

    Raises:
        DayError: `text` isn't a calendar day in that form.
    """
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise DayError(f"Expected a day as YYYY-MM-DD, such as 2020-06-30; found {text!r}.") from None


def as_day(day: date | str) -> date:
    """Converts a date or `YYYY-MM-DD` to a date.

    Raises:
        DayError: The text isn't a calendar day in that form.
    """
    return day if isinstance(day, date) else parse_day(day)


def resolve_day(*, day: str | None, run_type: str, interval_start: datetime | None, zone: tzinfo) -> date:
    """The day whose clicks are new to a run.

    Args:
        day: The run's `day` parameter. It takes precedence, except in a backfill, where each run has its own day.
        run_type: Airflow's run type ("scheduled", "backfill", "manual", ...).
        interval_start: Start of the run's data interval, with a zone.
        zone: The zone whose midnights separate days.

    Raises:
        DayError: The run has no day: it is a manual run without `day`, or has no data interval. Or it has two days: all runs
            of a backfill got the same `day`.
    """
    own = interval_start.astimezone(zone).date() if interval_start else None
    if day and run_type == "backfill" and own and parse_day(day) != own:
        raise DayError(
            f"This run of a backfill is for {own}, but its parameter 'day' says {day}, for which all its runs would then "
            "train. Start the backfill again with 'day' empty and 'Override parameters on existing runs' (--dag-run-conf) set."
        )
    if day:
        return parse_day(day)
    if run_type not in _INTERVAL_RUNS:
        raise DayError(
            f"A {run_type} run needs the parameter 'day' (YYYY-MM-DD): the day whose clicks are new. "
            'It was not given; trigger the DAG again with, for example, {"day": "2020-06-30"}.'
        )
    if own is None:
        raise DayError(f"This {run_type} run has no data interval, so its day is unknown; give the parameter 'day'.")
    return own


def days_between(first: date, last: date) -> list[date]:
    """All days from `first` to `last`, both included; empty if `last` is earlier."""
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def window_days(day: date, n_days: int) -> list[date]:
    """The `n_days` days that end with `day`, oldest first."""
    return days_between(day - timedelta(days=n_days - 1), day)


def day_start(day: date, zone: tzinfo) -> datetime:
    """The first instant of `day`, in UTC. A day ends where the next one starts, so it may have 23 or 25 hours."""
    return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)


def to_us(instant: datetime) -> int:
    """Microseconds since 1970 of an instant with a zone."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """The UTC instant `us` microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=us)


def day_interval_us(day: date, zone: tzinfo) -> tuple[int, int]:
    """The half-open interval `[start, end)` of `day`, in microseconds since 1970."""
    return to_us(day_start(day, zone)), to_us(day_start(day + timedelta(days=1), zone))


def day_numbers(clicked_at_us: npt.NDArray[np.int64], zone: tzinfo) -> npt.NDArray[np.int32]:
    """The day of each instant, as days since 1970-01-01 in `zone`.

    Args:
        clicked_at_us: Shape `(n,)`, microseconds since 1970 in UTC.
        zone: The zone whose midnights separate days.

    Returns:
        Shape `(n,)`; empty for empty input.
    """
    if not len(clicked_at_us):
        return np.empty(0, np.int32)
    margin = timedelta(days=1)
    first = from_us(int(clicked_at_us.min())).date() - margin
    last = from_us(int(clicked_at_us.max())).date() + margin
    starts = np.array([to_us(day_start(day, zone)) for day in days_between(first, last)], np.int64)
    day_us = 86_400_000_000
    if (np.diff(starts) == day_us).all():
        position: npt.NDArray[np.int64] = (clicked_at_us - starts[0]) // day_us
    else:
        position = np.searchsorted(starts, clicked_at_us, side="right") - 1
    numbers: npt.NDArray[np.int32] = (position + (first - date(1970, 1, 1)).days).astype(np.int32)
    return numbers


def number_to_day(number: int) -> date:
    """The day that is `number` days after 1970-01-01."""
    return date(1970, 1, 1) + timedelta(days=int(number))


def day_in_words(day: date) -> str:
    """A day as people write it in a sentence: `30 June 2020`."""
    return f"{day.day} {day:%B %Y}"


def day_ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """The first and last day of each run of consecutive days, oldest first; empty without days."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(days):
        if ranges and day - ranges[-1][1] == timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def as_intervals(days: Iterable[date]) -> list[str]:
    """Days for records: single days, and runs of consecutive days as `2020-06-01/2020-06-03`."""
    return [str(first) if first == last else f"{first}/{last}" for first, last in day_ranges(days)]


def days_of_intervals(intervals: Iterable[str]) -> Iterator[date]:
    """The days of intervals as `as_intervals` returns them."""
    for text in intervals:
        first, _, last = text.partition("/")
        yield from days_between(date.fromisoformat(first), date.fromisoformat(last or first))


def describe_days(days: Sequence[date], most: int = 6) -> str:
    """A short list of days for messages.

    Args:
        days: The days, in any order.
        most: Maximum number of runs of consecutive days to name; the others are counted.

    Example:
        >>> describe_days([date(2020, 6, 7), date(2020, 6, 1), date(2020, 6, 2)])
        '2020-06-01 to 2020-06-02, 2020-06-07'
    """
    ranges = day_ranges(days)
    named = [str(first) if first == last else f"{first} to {last}" for first, last in ranges[:most]]
    n_others = sum((last - first).days + 1 for first, last in ranges[most:])
    return ", ".join(named) + (f" and {n_others} more days" if n_others else "")
