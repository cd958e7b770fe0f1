"""Cleansing and splitting of a window, written once for pandas in memory and for engines beyond it (Narwhals).

Frames have the columns `session` and `item` (ids or integer codes) and `clicked_at` (microseconds since 1970, UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import narwhals as nw

Frame = nw.DataFrame[Any]


@dataclass(frozen=True)
class CleansingPass:
    """What was left after one round of both rules."""

    clicks: int
    sessions: int
    items: int


@dataclass(frozen=True)
class TooLong:
    """Sessions that were longer than allowed, and how many clicks they lost."""

    sessions: int
    clicks_lost: int


def limit_length(frame: Frame, *, longest: int, action: Literal["drop", "cut"]) -> tuple[Frame, TooLong]:
    """Drops sessions of more than `longest` clicks, or cuts them to their first `longest` clicks (ties in time: by item).

    A session that was cut ends with the last click that it keeps, so that click's day decides which part it comes into.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`.
        longest: Most clicks of a session.
        action: What becomes of longer sessions.
    """
    is_long = nw.len().over("session") > longest
    n_sessions = frame.filter(is_long)["session"].n_unique()
    if not n_sessions:
        return frame, TooLong(0, 0)
    before = len(frame)
    if action == "drop":
        frame = frame.filter(~is_long)
    else:
        # Narwhals 2.29 numbers rows of pandas wrongly unless they are in the order asked for.
        frame = frame.sort("session", "clicked_at", "item")
        frame = frame.filter(nw.col("item").cum_count().over("session", order_by=("clicked_at", "item")) <= longest)
    return frame, TooLong(n_sessions, before - len(frame))


def cleanse(frame: Frame, *, shortest: int, least_click: int) -> tuple[Frame, list[CleansingPass]]:
    """Drops sessions shorter than `shortest` and items clicked less than `least_click` times, until neither rule drops a row.

    What is left is the largest part of the frame that keeps both rules, so it doesn't depend on which rule goes first.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`.
        shortest: Fewest clicks of a session.
        least_click: Fewest clicks of an item.

    Returns:
        The rows that are left (none, when the rules leave none), and a record per pass; the last pass dropped nothing.
    """
    passes: list[CleansingPass] = []
    while True:
        before = len(frame)
        frame = frame.filter(nw.len().over("session") >= shortest)
        frame = frame.filter(nw.len().over("item") >= least_click)
        passes.append(CleansingPass(len(frame), frame["session"].n_unique(), frame["item"].n_unique()))
        if len(frame) == before:
            return frame, passes


def split(frame: Frame, *, validation_start_us: int, test_start_us: int) -> dict[str, Frame]:
    """Tells sessions apart by their last click; no session is in two parts.

    Args:
        frame: Cleansed clicks.
        validation_start_us: Where the day before the test day starts, microseconds since 1970.
        test_start_us: Where the test day starts.

    Returns:
        `test` (last click on the test day), `validation` (on the day before) and `train` (earlier). In each, sessions
        follow each other by their first click (ties: by session), and clicks by time (ties: by item).
    """
    frame = frame.with_columns(
        first=nw.col("clicked_at").min().over("session"), last=nw.col("clicked_at").max().over("session")
    )
    frame = frame.sort("first", "session", "clicked_at", "item")
    last = nw.col("last")
    conditions = {
        "train": last < validation_start_us,
        "validation": (last >= validation_start_us) & (last < test_start_us),
        "test": last >= test_start_us,
    }
    return {name: frame.filter(condition).drop("first", "last") for name, condition in conditions.items()}
