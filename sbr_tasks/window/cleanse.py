"""Cleansing and splitting of a window, written once for pandas in memory and for engines beyond it (Narwhals).

Frames have the columns `session` and `item` (ids or integer codes) and `clicked_at` (microseconds since 1970, UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw

Frame = nw.DataFrame[Any]


@dataclass(frozen=True)
class CleansingPass:
    """What was left after one round of both rules."""

    clicks: int
    sessions: int
    items: int


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
