"""The numbers of a data profile: what a modeller asks of the clicks of some days before training on them.

Days are added one at a time; of each only counts by item, and counts and times by session are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, tzinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbr_tasks.days import day_interval_us, from_us
from sbr_tasks.store import Json

QUANTILES = (0.5, 0.99, 0.999)
LONG_HOURS = 24
"""Sessions that last longer are counted: see `validation.max_session_hours`, whose default this is."""

_HOUR_US = 3_600_000_000

_SLOT_US = 15 * 60 * 1_000_000
"""Clocks change at, and zones differ by, multiples of a quarter of an hour."""

_MOST_POINTS = 200
"""Points of a curve over ranks or counts, which are closer together at its start."""

Ints = npt.NDArray[np.int64]


class ProfileBuilder:
    """Adds up days, oldest first."""

    def __init__(self, zone: tzinfo) -> None:
        """
        Args:
            zone: The zone of the hours, at whose midnights days were cut.
        """
        self._zone = zone
        self._days: list[date] = []
        self._sessions: list[pa.Table] = []
        self._items: list[pa.Table] = []
        self._hours = np.zeros(24, np.int64)

    def add(self, day: date, clicks: pa.Table) -> None:
        """Adds the clicks of a day, later than those before: session_id, item_id and clicked_at."""
        self._days.append(day)
        clicks = clicks.set_column(2, "at_us", clicks.column("clicked_at").cast(pa.int64()))
        self._sessions.append(clicks.group_by("session_id").aggregate([([], "count_all"), ("at_us", "min"), ("at_us", "max")]))
        self._items.append(clicks.group_by("item_id").aggregate([([], "count_all")]))
        at_us = clicks.column("at_us").to_numpy()
        self._hours += np.bincount(_hours_of(at_us, day, self._zone), minlength=24)

    def numbers(self) -> Json:
        """All numbers of the days that were added; at least one, with at least one click.

        Returns:
            `clicks`, `sessions` and `items` in all; `days`: the same by day, a session over midnight counting on
            both, with `new_items` (never clicked on an earlier one of these days; the first day has none to compare with:
            None) and `clicks_on_new_items`; `session_length`; `session_span` in hours; `popularity` by rank;
            `support`; `hours`: clicks by hour of day.
        """
        _, session, session_clicks = _stacked(self._sessions, "session_id")
        day, item, item_clicks = _stacked(self._items, "item_id")
        lengths = np.bincount(session, session_clicks).astype(np.int64)
        support = np.bincount(item, item_clicks).astype(np.int64)
        first_row = np.unique(item, return_index=True)[1]
        is_new = np.zeros(len(item), bool)
        is_new[first_row] = True  # rows are in order of days, and an item has one a day
        n_days = len(self._days)
        columns: Mapping[str, Ints] = {
            "clicks": np.bincount(day, item_clicks, n_days).astype(np.int64),
            "sessions": np.array([len(table) for table in self._sessions]),
            "items": np.array([len(table) for table in self._items]),
            "new_items": np.bincount(day[is_new], minlength=n_days),
            "clicks_on_new_items": np.bincount(day[is_new], item_clicks[is_new], n_days).astype(np.int64),
        }
        days: list[Json] = [
            {"day": str(one), **{name: int(column[i]) for name, column in columns.items()}} for i, one in enumerate(self._days)
        ]
        days[0] |= {"new_items": None, "clicks_on_new_items": None}
        return {
            "clicks": int(support.sum()),
            "sessions": len(lengths),
            "items": len(support),
            "days": days,
            "session_length": _session_length(lengths),
            "session_span": _session_span(session, self._sessions),
            "popularity": _popularity(support),
            "support": _support(support),
            "hours": self._hours.tolist(),
        }


def _stacked(tables: list[pa.Table], column: str) -> tuple[Ints, Ints, Ints]:
    """Of counts by day and id: the number of the day, the id's code and the count; ordered by day."""
    day = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    stacked = pa.concat_tables(tables)
    codes = stacked.column(column).combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()
    return day, codes.astype(np.int64), stacked.column("count_all").to_numpy()


def _hours_of(at_us: Ints, day: date, zone: tzinfo) -> Ints:
    """The hour of day, 0 to 23, of each instant of a day, which may have 23 or 25 hours."""
    start, end = day_interval_us(day, zone)
    local = [from_us(us).astimezone(zone).hour for us in range(start, end, _SLOT_US)]
    slots = np.clip((at_us - start) // _SLOT_US, 0, len(local) - 1)
    return np.array(local, np.int64)[slots]


def _session_length(lengths: Ints) -> Json:
    """Sessions by number of clicks; a quantile q is the least length that a share q or more of sessions don't exceed."""
    counts = np.bincount(lengths)
    values = np.flatnonzero(counts)
    sessions = counts[values]
    share_of_sessions = np.cumsum(sessions) / len(lengths)
    share_of_clicks = np.cumsum(sessions * values) / lengths.sum()
    needed = [int(np.ceil(round(q * len(lengths), 6))) for q in QUANTILES]
    quantiles = values[np.searchsorted(np.cumsum(sessions), needed)]
    return {
        "mean": float(lengths.mean()),
        "longest": int(values[-1]),
        "quantiles": {str(q): int(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        "share_of_one_click": float((lengths == 1).mean()),
        "clicks": values.tolist(),
        "sessions": sessions.tolist(),
        "share_of_sessions": share_of_sessions.tolist(),
        "share_of_clicks": share_of_clicks.tolist(),
    }


def _session_span(session: Ints, tables: list[pa.Table]) -> Json:
    """From the first to the last click of a session, in hours: quantiles, and the share of sessions that last for days.

    Args:
        session: Code of each row's session.
        tables: The rows: the first and last click of a session on a day.
    """
    first, last = np.full(session.max() + 1, np.iinfo(np.int64).max), np.zeros(session.max() + 1, np.int64)
    np.minimum.at(first, session, np.concatenate([table.column("at_us_min").to_numpy() for table in tables]))
    np.maximum.at(last, session, np.concatenate([table.column("at_us_max").to_numpy() for table in tables]))
    hours = np.sort(last - first) / _HOUR_US
    needed = [int(np.ceil(round(q * len(hours), 6))) - 1 for q in QUANTILES]
    return {
        "quantiles_hours": {str(q): round(float(hours[i]), 3) for q, i in zip(QUANTILES, needed, strict=True)},
        f"share_over_{LONG_HOURS}_hours": float(np.mean(hours > LONG_HOURS)),
    }


def _popularity(support: Ints) -> Json:
    """Share of clicks by rank: the most clicked item has rank 1."""
    falling = np.sort(support)[::-1]
    ranks = _spaced(len(falling))
    cumulative = np.cumsum(falling) / falling.sum()
    top = {str(percent): float(cumulative[max(len(falling) * percent // 100, 1) - 1]) for percent in (1, 10)}
    return {
        "rank": ranks.tolist(),
        "share": (falling[ranks - 1] / falling.sum()).tolist(),
        "cumulative_share": cumulative[ranks - 1].tolist(),
        "share_of_top_percent": top,
    }


def _support(support: Ints) -> Json:
    """How many items have at least so many clicks, and which share of clicks goes to those."""
    rising = np.sort(support)
    at_least = _spaced(int(rising[-1]))
    below = np.searchsorted(rising, at_least)
    clicks_below = np.concatenate([[0], np.cumsum(rising)])[below]
    return {
        "at_least": at_least.tolist(),
        "items": (len(rising) - below).tolist(),
        "share_of_clicks": (1 - clicks_below / rising.sum()).tolist(),
    }


def _spaced(n: int) -> Ints:
    """Whole numbers from 1 to n: all of the small ones, ever fewer of the large ones."""
    return np.unique(np.geomspace(1, n, _MOST_POINTS).round().astype(np.int64))
