"""Cleansing and splitting of a window that fits into memory, on integer codes: what `cleanse.py` does, by counting in NumPy.

`cleanse.py` is the measure: both give the same rows in the same order.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbr_tasks.window.cleanse import CleansingPass, TooLong
from sbr_tasks.window.coded import BLOCK, CodedClicks, offsets_of

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


def cleanse_coded(clicks: CodedClicks, *, shortest: int, least_click: int) -> tuple[CodedClicks, list[CleansingPass]]:
    """Drops short sessions and rare items until neither rule drops a click; see `cleanse`.

    Counts are kept up with what is dropped, so that a pass that drops little costs little.

    Args:
        clicks: Used up: what is left takes the place of it in memory.
        shortest: Fewest clicks of a session.
        least_click: Fewest clicks of an item.

    Returns:
        What is left, sessions in the same order, and a record per pass; the last pass dropped nothing.
    """
    items, lengths, support = clicks.items, clicks.lengths, clicks.support
    session = np.repeat(np.arange(clicks.n_sessions, dtype=np.int32), lengths)
    kept = np.ones(clicks.n_clicks, bool)
    left = clicks.n_clicks
    passes: list[CleansingPass] = []
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
        passes.append(CleansingPass(left, int(np.count_nonzero(lengths)), int(np.count_nonzero(support))))
        if left == before:
            break
    whole = lengths > 0
    session_ids = clicks.session_ids.filter(pa.array(whole))
    left_over = (_moved_up(items, kept), _moved_up(clicks.at_us, kept))
    return CodedClicks(offsets_of(lengths[whole]), *left_over, session_ids, clicks.item_ids), passes


def _moved_up(values: npt.NDArray[_Number], kept: npt.NDArray[np.bool_]) -> npt.NDArray[_Number]:
    """The kept values, in the place of the first ones."""
    n = 0
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK][kept[start : start + BLOCK]]
        values[n : n + len(block)] = block
        n += len(block)
    return values[:n]


def split_coded(clicks: CodedClicks, *, validation_start_us: int, test_start_us: int) -> dict[str, CodedClicks]:
    """Tells sessions apart by their last click; see `split`.

    Args:
        clicks: Cleansed clicks, sessions in ascending order of their ids.
        validation_start_us: Where the day before the test day starts, microseconds since 1970.
        test_start_us: Where the test day starts.

    Returns:
        `train`, `validation` and `test`, sessions of each by their first click (ties: by session id).
    """
    first, last = clicks.at_us[clicks.offsets[:-1]], clicks.at_us[clicks.offsets[1:] - 1]
    order = np.argsort(first, kind="stable")
    part = np.searchsorted([validation_start_us, test_start_us], last, side="right")[order]
    return {name: clicks.take_sessions(order[part == i]) for i, name in enumerate(("train", "validation", "test"))}
