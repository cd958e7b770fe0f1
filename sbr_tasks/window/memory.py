"""Splits and cleanses a window in memory, by counting integer codes with NumPy.

`cleanse.py` is the specification: both give the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbr_tasks.settings import WindowSettings
from sbr_tasks.window.cleanse import MIN_CLICKS, Counts, Level, TooLong, cleanse_by_levels
from sbr_tasks.window.parts import Cleansing, levels_to_try
from sbr_tasks.window.ragged import BLOCK, offsets_of
from sbr_tasks.window.sessions import Sessions

_Number = TypeVar("_Number", bound=np.number[Any])


def limit_coded(clicks: Sessions, *, longest: int, action: Literal["drop", "cut"]) -> tuple[Sessions, TooLong]:
    """Drops sessions of more than `longest` clicks, or cuts them to their first `longest` clicks; see `limit_length`."""
    lengths = clicks.lengths
    is_long = lengths > longest
    if not is_long.any():
        return clicks, TooLong(0, 0)
    if action == "drop":
        limited = clicks.where(~is_long)
    else:
        limited = clicks.take(np.arange(clicks.n_sessions), np.minimum(lengths, longest))
    return limited, TooLong(int(is_long.sum()), clicks.n_clicks - limited.n_clicks)


def cleanse_coded(clicks: Sessions, *, shortest: int, least_click: int) -> tuple[Sessions, list[Counts]]:
    """Drops short sessions and rare items until neither rule drops a click; see `cleanse`.

    Counts are updated incrementally, so a pass that drops little is fast.

    Args:
        clicks: The clicks; their arrays are overwritten.
        shortest: Minimum number of clicks of a session.
        least_click: Minimum number of clicks of an item.

    Returns:
        The remaining clicks, with sessions in the same order, and the counts after each pass; the last pass dropped nothing.
    """
    items, lengths, support = clicks.items, clicks.lengths, clicks.support
    session = np.repeat(np.arange(clicks.n_sessions, dtype=np.int32), lengths)
    kept = np.ones(clicks.n_clicks, bool)
    n_clicks = clicks.n_clicks
    passes: list[Counts] = []
    rules = ((session, lengths, shortest, items, support), (items, support, least_click, session, lengths))
    while True:
        before = n_clicks
        for codes, counts, minimum, other_codes, other_counts in rules:
            is_rare = (counts > 0) & (counts < minimum)
            if is_rare.any():
                dropped = np.flatnonzero(kept & is_rare[codes])
                kept[dropped] = False
                np.subtract(other_counts, np.bincount(other_codes[dropped], minlength=len(other_counts)), out=other_counts)
                counts[is_rare] = 0
                n_clicks -= len(dropped)
        passes.append(Counts(n_clicks, int(np.count_nonzero(lengths)), int(np.count_nonzero(support))))
        if n_clicks == before:
            break
    remains = lengths > 0
    session_ids = clicks.session_ids and clicks.session_ids.filter(pa.array(remains))
    columns = (_compacted(items, kept), _compacted(clicks.at_us, kept))
    return Sessions(offsets_of(lengths[remains]), *columns, clicks.catalog, session_ids=session_ids), passes


def cleanse_part(clicks: Sessions, window: WindowSettings, test: Sessions | None) -> tuple[Sessions, Cleansing]:
    """Limits the length of sessions and cleanses, as the settings say.

    Args:
        clicks: The clicks; their arrays are overwritten.
        window: The settings.
        test: The test part. If it is given and cleansing drops a lot, lower values of `least_click` are counted as well.
    """
    before, too_long, levels = counts_of_coded(clicks), None, [window.least_click]
    if window.longest is not None:
        clicks, too_long = limit_coded(clicks, longest=window.longest, action=window.longest_action)
    if test is not None:
        levels = list(levels_to_try(clicks.catalog.array, clicks.support, test, window.least_click))
    kept, passes, counted = cleanse_coded_by_levels(clicks, shortest=window.shortest, levels=levels)
    return kept, Cleansing(before, too_long, passes, counted)


def fair_items(train: Sessions, window: WindowSettings) -> int:
    """How many items cleansing would have kept of the training part alone, if the whole window was cleansed.

    It is enough to cleanse the rest of the training part: cleansing more clicks together never removes more.
    """
    copy = train.take(np.arange(train.n_sessions))
    _, passes = cleanse_coded(copy, shortest=window.shortest, least_click=window.least_click)
    return passes[-1].items


def cleanse_coded_by_levels(
    clicks: Sessions, *, shortest: int, levels: Iterable[int]
) -> tuple[Sessions, list[Counts], list[Level]]:
    """Cleanses with increasing values of `least_click`; see `cleanse_by_levels`.

    Args:
        clicks: The clicks; their arrays are overwritten.
        shortest: Minimum number of clicks of a session.
        levels: Increasing values of `least_click`.
    """
    return cleanse_by_levels(
        clicks,
        levels,
        lambda remaining, least_click: cleanse_coded(remaining, shortest=shortest, least_click=least_click),
        clicked_items,
    )


def _compacted(values: npt.NDArray[_Number], kept: npt.NDArray[np.bool_]) -> npt.NDArray[_Number]:
    """The kept values, moved to the front of the same array."""
    n = 0
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK][kept[start : start + BLOCK]]
        values[n : n + len(block)] = block
        n += len(block)
    return values[:n]


def split_coded(clicks: Sessions, *, validation_start_us: int, test_start_us: int) -> dict[str, Sessions]:
    """Splits sessions by day; see `split`.

    Args:
        clicks: Sessions in ascending order of their ids.
        validation_start_us: Where the validation day starts, microseconds since 1970.
        test_start_us: Where the test day starts.

    Returns:
        The parts of `record.PARTS`, with sessions in the same order.
    """
    starts, lengths = clicks.offsets[:-1], clicks.lengths
    before_validation, before_test = (
        np.add.reduceat(clicks.at_us < start_us, starts, dtype=np.int64) for start_us in (validation_start_us, test_start_us)
    )
    kept = {
        "train": before_validation,
        "validation": np.where(before_test > before_validation, before_test, 0),
        "test": np.where(lengths > before_test, lengths, 0),
        "refit": before_test,
    }
    parts = {}
    for name, n_clicks in kept.items():
        which = np.flatnonzero(n_clicks >= MIN_CLICKS)
        parts[name] = clicks.take(which, n_clicks[which])
    return parts


def in_order_coded(clicks: Sessions) -> Sessions:
    """Sorts sessions by their first click; they must be sorted by id, for ties. See `in_order`."""
    return clicks.take(np.argsort(clicks.at_us[clicks.offsets[:-1]], kind="stable"))


def counts_of_coded(clicks: Sessions) -> Counts:
    """Counts clicks, sessions and items with clicks."""
    return Counts(clicks.n_clicks, clicks.n_sessions, int(np.count_nonzero(clicks.support)))


def clicked_items(clicks: Sessions) -> pa.Array:
    """The ids of the items with clicks."""
    return clicks.catalog.array.filter(pa.array(clicks.support > 0))
