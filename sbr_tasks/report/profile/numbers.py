"""The numbers of a data profile: what a modeller wants to know about some days' clicks before training on them.

Days are added one at a time; of each only counts by item, and counts and times by session are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, tzinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.days import day_interval_us, from_us
from sbr_tasks.store import Record

QUANTILES = (0.5, 0.99, 0.999)
LONG_HOURS = 24
"""Sessions that last longer are counted: see `validation.max_session_hours`, whose default this is."""

_HOUR_US = 3_600_000_000

_SLOT_US = 15 * 60 * 1_000_000
"""Clocks change at, and zones differ by, multiples of a quarter of an hour."""

_MAX_POINTS = 200
"""Points of a curve over ranks or counts, denser at its start."""

Ints = npt.NDArray[np.int64]


class DayNumbers(Record):
    """Counts of one day; a session that continues past midnight counts on both days.

    Attributes:
        new_items: Items that were never clicked on an earlier one of these days; None of the first day, which has none.
        clicks_on_new_items: None of the first day.
    """

    day: date
    clicks: int
    sessions: int
    items: int
    new_items: int | None
    clicks_on_new_items: int | None


class SessionLength(Record):
    """Sessions by number of clicks.

    Attributes:
        quantiles: By q: the least length that a share q or more of sessions don't exceed.
        clicks: The lengths that occur, rising.
        sessions: How many sessions have each.
        share_of_sessions: Cumulative share of the sessions.
        share_of_clicks: Cumulative share of the clicks.
    """

    mean: float
    longest: int
    quantiles: Mapping[str, int]
    share_of_one_click: float
    clicks: tuple[int, ...]
    sessions: tuple[int, ...]
    share_of_sessions: tuple[float, ...]
    share_of_clicks: tuple[float, ...]


class SessionSpan(Record):
    """From the first to the last click of a session, in hours."""

    quantiles_hours: Mapping[str, float]
    share_over_24_hours: float


class Popularity(Record):
    """Share of clicks by rank (the most clicked item has rank 1), and that of the top so many percent of items."""

    rank: tuple[int, ...]
    share: tuple[float, ...]
    cumulative_share: tuple[float, ...]
    share_of_top_percent: Mapping[str, float]


class Support(Record):
    """How many items have at least so many clicks, and which share of clicks goes to those."""

    at_least: tuple[int, ...]
    items: tuple[int, ...]
    share_of_clicks: tuple[float, ...]


class CleansedLevel(Record):
    """What cleansing keeps with one value of `least_click`."""

    least_click: int
    clicks: int
    items: int


class Cleansed(Record):
    """Clicks and items to train on, and what cleansing keeps of them."""

    clicks: int
    items: int
    levels: tuple[CleansedLevel, ...]


class Numbers(Record):
    """What a modeller wants to know about some days' clicks.

    Attributes:
        clicks: All clicks.
        sessions: Distinct sessions.
        items: Distinct items.
        days: The same by day, oldest first.
        session_length: Sessions by number of clicks.
        session_span: Sessions by duration.
        popularity: Clicks by rank of the item.
        support: Items by number of clicks.
        hours: Clicks by hour of day.
        cleansing: What cleansing keeps; None where it wasn't counted.
    """

    clicks: int
    sessions: int
    items: int
    days: tuple[DayNumbers, ...]
    session_length: SessionLength
    session_span: SessionSpan
    popularity: Popularity
    support: Support
    hours: tuple[int, ...]
    cleansing: Cleansed | None = None


class ProfileBuilder:
    """Adds up days, oldest first."""

    def __init__(self, zone: tzinfo) -> None:
        """
        Args:
            zone: The time zone of the hours, at whose midnights days begin.
        """
        self._zone = zone
        self._days: list[date] = []
        self._sessions: list[pa.Table] = []
        self._items: list[pa.Table] = []
        self._hours = np.zeros(24, np.int64)

    def add(self, day: date, clicks: pa.Table) -> None:
        """Adds the clicks of a day, later than those before: session_id, item_id and clicked_at."""
        self._days.append(day)
        clicks = clicks.set_column(2, "at_us", clicks.column(Columns.TIME).cast(pa.int64()))
        self._sessions.append(
            clicks.group_by(Columns.SESSION).aggregate([([], "count_all"), ("at_us", "min"), ("at_us", "max")])
        )
        self._items.append(clicks.group_by(Columns.ITEM).aggregate([([], "count_all")]))
        at_us = clicks.column("at_us").to_numpy()
        self._hours += np.bincount(_hours_of(at_us, day, self._zone), minlength=24)

    def numbers(self) -> Numbers:
        """All numbers of the days that were added; at least one, with at least one click."""
        _, session, session_clicks = _stacked(self._sessions, Columns.SESSION)
        day, item, item_clicks = _stacked(self._items, Columns.ITEM)
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
        first, *later = (
            DayNumbers(day=calendar_day, **{name: int(column[i]) for name, column in columns.items()})
            for i, calendar_day in enumerate(self._days)
        )
        return Numbers(
            clicks=int(support.sum()),
            sessions=len(lengths),
            items=len(support),
            days=(first.model_copy(update={"new_items": None, "clicks_on_new_items": None}), *later),
            session_length=_session_length(lengths),
            session_span=_session_span(session, self._sessions),
            popularity=_popularity(support),
            support=_support(support),
            hours=tuple(self._hours.tolist()),
        )


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


def _session_length(lengths: Ints) -> SessionLength:
    counts = np.bincount(lengths)
    values = np.flatnonzero(counts)
    sessions = counts[values]
    share_of_sessions = np.cumsum(sessions) / len(lengths)
    share_of_clicks = np.cumsum(sessions * values) / lengths.sum()
    needed = [int(np.ceil(round(q * len(lengths), 6))) for q in QUANTILES]
    quantiles = values[np.searchsorted(np.cumsum(sessions), needed)]
    return SessionLength(
        mean=float(lengths.mean()),
        longest=int(values[-1]),
        quantiles={str(q): int(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        share_of_one_click=float((lengths == 1).mean()),
        clicks=tuple(values.tolist()),
        sessions=tuple(sessions.tolist()),
        share_of_sessions=tuple(share_of_sessions.tolist()),
        share_of_clicks=tuple(share_of_clicks.tolist()),
    )


def _session_span(session: Ints, tables: list[pa.Table]) -> SessionSpan:
    """How long sessions last.

    Args:
        session: Code of each row's session.
        tables: The rows: the first and last click of a session on a day.
    """
    first, last = np.full(session.max() + 1, np.iinfo(np.int64).max), np.zeros(session.max() + 1, np.int64)
    np.minimum.at(first, session, np.concatenate([table.column("at_us_min").to_numpy() for table in tables]))
    np.maximum.at(last, session, np.concatenate([table.column("at_us_max").to_numpy() for table in tables]))
    hours = np.sort(last - first) / _HOUR_US
    needed = [int(np.ceil(round(q * len(hours), 6))) - 1 for q in QUANTILES]
    return SessionSpan(
        quantiles_hours={str(q): round(float(hours[i]), 3) for q, i in zip(QUANTILES, needed, strict=True)},
        share_over_24_hours=float(np.mean(hours > LONG_HOURS)),
    )


def _popularity(support: Ints) -> Popularity:
    falling = np.sort(support)[::-1]
    ranks = _spaced(len(falling))
    cumulative = np.cumsum(falling) / falling.sum()
    top = {str(percent): float(cumulative[max(len(falling) * percent // 100, 1) - 1]) for percent in (1, 10)}
    return Popularity(
        rank=tuple(ranks.tolist()),
        share=tuple((falling[ranks - 1] / falling.sum()).tolist()),
        cumulative_share=tuple(cumulative[ranks - 1].tolist()),
        share_of_top_percent=top,
    )


def _support(support: Ints) -> Support:
    rising = np.sort(support)
    at_least = _spaced(int(rising[-1]))
    below = np.searchsorted(rising, at_least)
    clicks_below = np.concatenate([[0], np.cumsum(rising)])[below]
    return Support(
        at_least=tuple(at_least.tolist()),
        items=tuple((len(rising) - below).tolist()),
        share_of_clicks=tuple((1 - clicks_below / rising.sum()).tolist()),
    )


def _spaced(n: int) -> Ints:
    """Whole numbers from 1 to n: all of the small ones, ever fewer of the large ones."""
    return np.unique(np.geomspace(1, n, _MAX_POINTS).round().astype(np.int64))
