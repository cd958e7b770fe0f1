"""Splitting and cleansing of a window that fits into memory, on integer codes: what `cleanse.py` does, by counting in NumPy.

`cleanse.py` is the measure: both give the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbr_tasks.settings import WindowSettings
from sbr_tasks.window.cleanse import MIN_CLICKS, Counts, Level, TooLong, cleanse_by_levels
from sbr_tasks.window.coded import BLOCK, CodedClicks
from sbr_tasks.window.parts import Cleansing, levels_to_try
from sbr_tasks.window.ragged import offsets_of

_Number = TypeVar("_Number", bound=np.number[Any])


def limit_coded(clicks: CodedClicks, *, longest: int, action: Literal["drop", "cut"]) -> tuple[CodedClicks, TooLong]:
    """Drops sessions of more than `longest` clicks, or cuts them to their first ones; see `limit_length`."""
    lengths = clicks.lengths
    is_long = lengths > longest
    if not is_long.any():
        return clicks, TooLong(0, 0)
    if action == "drop":
        limited = clicks.take_sessions(np.flatnonzero(~is_long))
    else:
        limited = clicks.take_runs(clicks.offsets[:-1], np.minimum(lengths, longest), clicks.session_ids)
    return limited, TooLong(int(is_long.sum()), clicks.n_clicks - limited.n_clicks)


def cleanse_coded(clicks: CodedClicks, *, shortest: int, least_click: int) -> tuple[CodedClicks, list[Counts]]:
    """Drops short sessions and rare items until neither rule drops a click; see `cleanse`.

    Counts are kept up with what is dropped, so that a pass that drops little costs little.

    Args:
        clicks: Used up: what is left takes the place of it in memory.
        shortest: Fewest clicks of a session.
        least_click: Fewest clicks of an item.

    Returns:
        What is left, sessions in the same order, and what each pass left; the last pass dropped nothing.
    """
    items, lengths, support = clicks.items, clicks.lengths, clicks.support
    session = np.repeat(np.arange(clicks.n_sessions, dtype=np.int32), lengths)
    kept = np.ones(clicks.n_clicks, bool)
    left = clicks.n_clicks
    passes: list[Counts] = []
    rules = ((session, lengths, shortest, items, support), (items, support, least_click, session, lengths))
    while True:
        before = left
        for codes, counts, least, other_codes, other_counts in rules:
            few = (counts > 0) & (counts < least)
            if few.any():
                gone = np.flatnonzero(kept & few[codes])
                kept[gone] = False
                np.subtract(other_counts, np.bincount(other_codes[gone], minlength=len(other_counts)), out=other_counts)
                counts[few] = 0
                left -= len(gone)
        passes.append(Counts(left, int(np.count_nonzero(lengths)), int(np.count_nonzero(support))))
        if left == before:
            break
    whole = lengths > 0
    session_ids = clicks.session_ids.filter(pa.array(whole))
    left_over = (_moved_up(items, kept), _moved_up(clicks.at_us, kept))
    return CodedClicks(offsets_of(lengths[whole]), *left_over, session_ids, clicks.item_ids), passes


def cleanse_part(clicks: CodedClicks, window: WindowSettings, test: CodedClicks | None) -> tuple[CodedClicks, Cleansing]:
    """Limits and cleanses as the settings say.

    Args:
        clicks: Used up: what is left takes the place of it in memory.
        window: Says what is kept.
        test: With the test part, lower values of `least_click` are tried where the one that is set costs much.
    """
    before, too_long, levels = counts_of_coded(clicks), None, [window.least_click]
    if window.longest is not None:
        clicks, too_long = limit_coded(clicks, longest=window.longest, action=window.longest_action)
    if test is not None:
        levels = list(levels_to_try(clicks.item_ids, clicks.support, test, window.least_click))
    kept, passes, found = cleanse_coded_by_levels(clicks, shortest=window.shortest, levels=levels)
    return kept, Cleansing(before, too_long, passes, found)


def fair_items(train: CodedClicks, window: WindowSettings) -> int:
    """How many items cleansing would keep of the training part alone, where the whole window was cleansed.

    What is left of the training clicks then is what is left of that part now: cleansing more clicks never removes more.
    """
    whole = train.take_sessions(np.arange(train.n_sessions))
    _, passes = cleanse_coded(whole, shortest=window.shortest, least_click=window.least_click)
    return passes[-1].items


def cleanse_coded_by_levels(
    clicks: CodedClicks, *, shortest: int, levels: Iterable[int]
) -> tuple[CodedClicks, list[Counts], list[Level]]:
    """Cleanses with one `least_click` after another; see `cleanse_by_levels`.

    Args:
        clicks: Used up.
        shortest: Fewest clicks of a session.
        levels: Rising values of `least_click`.
    """
    return cleanse_by_levels(
        clicks,
        levels,
        lambda left, least_click: cleanse_coded(left, shortest=shortest, least_click=least_click),
        clicked_items,
    )


def _moved_up(values: npt.NDArray[_Number], kept: npt.NDArray[np.bool_]) -> npt.NDArray[_Number]:
    """The kept values, in the place of the first ones."""
    n = 0
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK][kept[start : start + BLOCK]]
        values[n : n + len(block)] = block
        n += len(block)
    return values[:n]


def split_coded(clicks: CodedClicks, *, validation_start_us: int, test_start_us: int) -> dict[str, CodedClicks]:
    """Splits sessions by day, each part seeing them as they were when its days were over; see `split`.

    Args:
        clicks: Sessions in ascending order of their ids.
        validation_start_us: Where the validation day starts, microseconds since 1970.
        test_start_us: Where the test day starts.

    Returns:
        `train`, `validation` and `test`, sessions in the same order.
    """
    starts, lengths = clicks.offsets[:-1], clicks.lengths
    before_validation, before_test = (
        np.add.reduceat(clicks.at_us < start_us, starts, dtype=np.int64) for start_us in (validation_start_us, test_start_us)
    )
    kept = {
        "train": before_validation,
        "validation": np.where(before_test > before_validation, before_test, 0),
        "test": np.where(lengths > before_test, lengths, 0),
    }
    parts = {}
    for name, n_clicks in kept.items():
        which = np.flatnonzero(n_clicks >= MIN_CLICKS)
        parts[name] = clicks.take_runs(starts[which], n_clicks[which], clicks.session_ids.take(pa.array(which)))
    return parts


def in_order_coded(clicks: CodedClicks) -> CodedClicks:
    """Sorts sessions, which are in ascending order of their ids, by their first click; see `in_order`."""
    return clicks.take_sessions(np.argsort(clicks.at_us[clicks.offsets[:-1]], kind="stable"))


def counts_of_coded(clicks: CodedClicks) -> Counts:
    """Counts clicks, sessions and the items that are clicked."""
    return Counts(clicks.n_clicks, clicks.n_sessions, int(np.count_nonzero(clicks.support)))


def clicked_items(clicks: CodedClicks) -> pa.Array:
    """The distinct ids of the items that are clicked."""
    return clicks.item_ids.filter(pa.array(clicks.support > 0))
